//! The released addresses, in the order of their release: `released.4` and `released.6`.
//!
//! A header of 40 bytes (magic, head, dead, highest), then records of 24 bytes: the address as a number (16, big
//! endian), the time in ms (8). Records are appended; the head moves over taken ones; one taken from the middle
//! becomes zeros (dead). Every write is one pwrite(2) in place, so a killed process tears none; what a power cut or a
//! full disk tears is the tail, which is cut.
//!
//! The queue says in which order addresses go out, never who holds them: a record of a claimed address is dropped
//! when it is met, and an address that a lost queue no longer names is found again (`choose.rs`).

use crate::claim::now_ms;
use crate::store::{Locked, Store};
use header::{HEADER, Header};
use nix::fcntl::OFlag;
use node_state::StateError;
use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;

mod compact;
mod header;

const RECORD: usize = 24;
/// One read: header and the first 169 records, or 170 more.
const CHUNK: usize = HEADER + 169 * RECORD;
/// With this many waiting, their oldest goes out before addresses that were never used, so that the file stays small
/// even for an IPv6 /64.
pub(crate) const LONG: u64 = 65_536;

/// The queue of one family, open.
pub(crate) struct Queue<'a> {
    store: &'a Store,
    name: &'static str,
    file: Option<File>,
    header: Header,
    /// Number of records, taken ones included.
    tail: u64,
    /// What the first read brought in beyond the header: records from 0.
    first_chunk: Vec<u8>,
}

/// One waiting address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) index: u64,
    pub(crate) number: u128,
}

impl<'a> Queue<'a> {
    /// Opens the queue of a family; one that is missing or makes no sense is empty.
    pub(crate) fn open(store: &'a Store, v4: bool) -> Result<Queue<'a>, StateError> {
        let name = if v4 { "released.4" } else { "released.6" };
        let file = store.folder.open_file(name, OFlag::O_RDWR)?;
        let mut queue = Queue {
            store,
            name,
            file,
            header: Header::default(),
            tail: 0,
            first_chunk: Vec::new(),
        };
        let Some(file) = &queue.file else {
            return Ok(queue);
        };
        let mut chunk = vec![0; CHUNK];
        let read = file
            .read_at(&mut chunk, 0)
            .map_err(|e| queue.error("read", e))?;
        let len = if read < CHUNK {
            read as u64
        } else {
            file.metadata()
                .map_err(|e| queue.error("look at", e))?
                .len()
        };
        let tail = len.saturating_sub(HEADER as u64) / RECORD as u64;
        if let Some(header) = Header::decode(&chunk[..read]).filter(|h| h.head + h.dead <= tail) {
            chunk.truncate(read);
            chunk.drain(..HEADER);
            (queue.header, queue.tail, queue.first_chunk) = (header, tail, chunk);
        }
        Ok(queue)
    }

    /// How many addresses wait.
    pub(crate) fn len(&self) -> u64 {
        self.tail - self.header.head - self.header.dead
    }

    /// Whether the address may be waiting; false spares the search.
    pub(crate) fn may_hold(&self, number: u128) -> bool {
        self.len() > 0 && number <= self.header.highest
    }

    /// Calls `visit` with each waiting address, oldest first, until it returns false.
    pub(crate) fn each(
        &self,
        mut visit: impl FnMut(Waiting) -> Result<bool, StateError>,
    ) -> Result<(), StateError> {
        let mut index = self.header.head;
        while index < self.tail {
            let chunk = self.chunk(index)?;
            let records = chunk.chunks_exact(RECORD);
            if records.len() == 0 {
                return Ok(());
            }
            for record in records {
                let number = u128::from_be_bytes(record[..16].try_into().expect("16 of 24 bytes"));
                if number != 0 && !visit(Waiting { index, number })? {
                    return Ok(());
                }
                index += 1;
            }
        }
        Ok(())
    }

    /// All waiting addresses.
    pub(crate) fn numbers(&self) -> Result<HashSet<u128>, StateError> {
        let mut numbers = HashSet::new();
        self.each(|waiting| {
            numbers.insert(waiting.number);
            Ok(true)
        })?;
        Ok(numbers)
    }

    /// The record of one address, if it waits.
    pub(crate) fn find(&self, number: u128) -> Result<Option<Waiting>, StateError> {
        let mut found = None;
        if self.may_hold(number) {
            self.each(|waiting| {
                found = Some(waiting).filter(|waiting| waiting.number == number);
                Ok(found.is_none())
            })?;
        }
        Ok(found)
    }

    /// The records from `index` on, as many as one read gives.
    fn chunk(&self, index: u64) -> Result<std::borrow::Cow<'_, [u8]>, StateError> {
        let known = index as usize * RECORD;
        if let Some(chunk) = self
            .first_chunk
            .get(known..)
            .filter(|chunk| chunk.len() >= RECORD)
        {
            return Ok(chunk.into());
        }
        let Some(file) = &self.file else {
            return Ok([].as_slice().into());
        };
        let left = self.tail.saturating_sub(index) as usize * RECORD;
        let mut chunk = vec![0; left.min(CHUNK - HEADER)];
        let read = file
            .read_at(&mut chunk, position(index))
            .map_err(|e| self.error("read", e))?;
        chunk.truncate(read);
        Ok(chunk.into())
    }

    fn error(&self, what: &'static str, source: std::io::Error) -> StateError {
        StateError::from_io(what, self.store.folder.path_of(self.name), source)
    }

    // ===== changes: the caller holds the lock =====

    /// Takes a waiting address out; `is_first` says that nothing waits before it. The record is looked for again where
    /// the queue was compacted since the caller saw it.
    pub(crate) fn take(
        &mut self,
        _lock: &Locked<'_>,
        seen: Waiting,
        is_first: bool,
    ) -> Result<(), StateError> {
        let stands = self.chunk(seen.index)?.get(..16) == Some(&seen.number.to_be_bytes());
        let found = if stands {
            Some(seen)
        } else {
            self.find(seen.number)?
        };
        let (Some(waiting), Some(file)) = (found, &self.file) else {
            return Ok(());
        };
        if is_first && stands {
            // The dead between head and here are passed with it.
            let passed = waiting.index - self.header.head;
            self.header.head = waiting.index + 1;
            self.header.dead = self.header.dead.saturating_sub(passed);
        } else {
            file.write_all_at(&[0; RECORD], position(waiting.index))
                .map_err(|e| self.error("write", e))?;
            self.header.dead += 1;
            if let Some(known) = self.first_chunk.get_mut(waiting.index as usize * RECORD..) {
                let end = known.len().min(RECORD);
                known[..end].fill(0);
            }
        }
        self.write_header()
    }

    /// Appends a released address.
    pub(crate) fn push(&mut self, locked: &Locked<'_>, number: u128) -> Result<(), StateError> {
        if self.is_wasteful() {
            self.compact(locked)?;
        }
        let record = [&number.to_be_bytes()[..], &now_ms().to_be_bytes()[..]].concat();
        if self.tail == 0 && self.header == Header::default() {
            return self.create(number, &record);
        }
        if number > self.header.highest {
            // Before the record, so that no crash leaves a waiting address above the highest.
            self.header.highest = number;
            self.write_header()?;
        }
        let Some(file) = &self.file else {
            return Ok(());
        };
        if let Err(e) = file.write_all_at(&record, position(self.tail)) {
            // A torn record would be cut anyway; a full disk must not keep half of one.
            let _ = file.set_len(position(self.tail));
            return Err(self.error("append to", e));
        }
        self.tail += 1;
        Ok(())
    }

    /// A new queue, or one whose header made no sense.
    fn create(&mut self, number: u128, record: &[u8]) -> Result<(), StateError> {
        self.header.highest = number;
        let content = [&self.header.encode()[..], record].concat();
        self.store
            .folder
            .write_locked(self.name, ".released.new", &content)?;
        self.file = self.store.folder.open_file(self.name, OFlag::O_RDWR)?;
        self.first_chunk = record.to_vec();
        self.tail = 1;
        Ok(())
    }

    fn write_header(&self) -> Result<(), StateError> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        file.write_all_at(&self.header.encode(), 0)
            .map_err(|e| self.error("write", e))
    }
}

fn position(index: u64) -> u64 {
    HEADER as u64 + index * RECORD as u64
}

#[cfg(test)]
mod tests;
