//! Writing the queue anew without what was taken, so that it stays as long as what waits.

use super::header::{HEADER, Header};
use super::{CHUNK, LONG, Queue, RECORD};
use crate::store::Locked;
use nix::fcntl::OFlag;
use node_state::StateError;

/// Below this, waste does not matter: 24 KiB.
const WASTE: u64 = 1024;

impl Queue<'_> {
    /// More taken records than waiting ones; or far too many waiting (ranges that no configuration names any more
    /// leave theirs behind).
    pub(super) fn is_wasteful(&self) -> bool {
        let taken = self.header.head + self.header.dead;
        (taken > WASTE && taken * 2 > self.tail) || self.len() > 4 * LONG
    }

    /// Keeps the newest 2 x 65,536: an older one is of no order any more, and is found again when addresses run out.
    pub(super) fn compact(&mut self, _locked: &Locked<'_>) -> Result<(), StateError> {
        let mut skip = self.len().saturating_sub(2 * LONG);
        let header = Header {
            highest: self.header.highest,
            ..Header::default()
        };
        let mut content = header.encode().to_vec();
        let mut index = self.header.head;
        while index < self.tail {
            let chunk = self.chunk(index)?;
            if chunk.len() < RECORD {
                break;
            }
            for record in chunk.chunks_exact(RECORD) {
                index += 1;
                let waits = record[..16].iter().any(|byte| *byte != 0);
                if waits && skip > 0 {
                    skip -= 1;
                } else if waits {
                    content.extend_from_slice(record);
                }
            }
        }
        self.store
            .folder
            .write_locked(self.name, ".released.new", &content)?;
        self.file = self.store.folder.open_file(self.name, OFlag::O_RDWR)?;
        self.header = header;
        self.tail = ((content.len() - HEADER) / RECORD) as u64;
        content.drain(..HEADER);
        content.truncate(CHUNK - HEADER);
        self.first_chunk = content;
        Ok(())
    }
}
