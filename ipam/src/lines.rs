//! The waiting lines of both families, opened when they are first needed, while the lock is held.

use crate::number::from_ip;
use crate::queue::{Queue, Waiting};
use crate::store::Locked;
use node_state::StateError;
use std::net::IpAddr;

/// The queues of a locked store.
pub(crate) struct Lines<'a> {
    pub(crate) locked: &'a Locked<'a>,
    queues: [Option<Queue<'a>>; 2],
}

impl<'a> Lines<'a> {
    pub(crate) fn new(locked: &'a Locked<'a>) -> Lines<'a> {
        Lines {
            locked,
            queues: [None, None],
        }
    }

    /// The queue of a family.
    pub(crate) fn of(&mut self, v4: bool) -> Result<&mut Queue<'a>, StateError> {
        let slot = &mut self.queues[usize::from(v4)];
        if slot.is_none() {
            *slot = Some(Queue::open(self.locked, v4)?);
        }
        Ok(slot.as_mut().expect("filled above"))
    }

    /// The record of an address, if it waits.
    pub(crate) fn find(&mut self, address: IpAddr) -> Result<Option<Waiting>, StateError> {
        self.of(address.is_ipv4())?.find(from_ip(address))
    }

    /// Puts a released address at the end of its line. Best effort: an address that no line names (full disk) is found
    /// again when the others run out, and a DEL must not fail for the order of later ADDs.
    pub(crate) fn push(&mut self, address: IpAddr) {
        let locked = self.locked;
        let _ = self
            .of(address.is_ipv4())
            .and_then(|queue| queue.push(locked, from_ip(address)));
    }

    /// Takes an address out of its line. Best effort: a record of a claimed address is dropped when it is met.
    pub(crate) fn take(&mut self, address: IpAddr, waiting: Waiting, is_first: bool) {
        let locked = self.locked;
        let _ = self
            .of(address.is_ipv4())
            .and_then(|queue| queue.take(locked, waiting, is_first));
    }
}
