//! What ADD has done so far, undone in reverse when it fails (A4, A9).
//!
//! A guard, not a memory: each step is registered before it is taken, and undoing one that did
//! not happen is harmless, since every removal is idempotent.

use crate::error::Error;
use crate::host_ports::{self, Released};
use crate::ipam_driver::IpamDriver;
use dataplane::netlink::Netlink;
use node_state::StateDir;
use node_state::record::{AttachmentKey, AttachmentRecord};

pub(crate) enum Step<'a> {
    Addresses(&'a IpamDriver<'a>),
    Record,
    Link(String),
    HostPorts(Box<AttachmentRecord>),
}

pub(crate) struct Undo<'a> {
    state: &'a StateDir,
    key: &'a AttachmentKey,
    steps: Vec<Step<'a>>,
}

impl<'a> Undo<'a> {
    pub(crate) fn new(state: &'a StateDir, key: &'a AttachmentKey) -> Self {
        Undo {
            state,
            key,
            steps: Vec::new(),
        }
    }

    pub(crate) fn register(&mut self, step: Step<'a>) {
        self.steps.push(step);
    }

    /// Forgets every step: what they made has become another's.
    pub(crate) fn disarm(&mut self) {
        self.steps.clear();
    }

    /// What could not be undone is part of the error: DEL will have to do it, and goes by record and claim for
    /// that. So these stay as soon as something in the kernel stays.
    pub(crate) fn roll_back(self, cause: Error) -> Error {
        let mut errors = vec![cause];
        // To the end: see `Released::finish`.
        let mut locks = Vec::new();
        for step in self.steps.into_iter().rev() {
            let outcome = match step {
                Step::Record | Step::Addresses(_) if errors.len() > 1 => Ok(()),
                Step::Addresses(ipam) => ipam.release(),
                Step::Record => self.state.remove_record(self.key).map_err(Error::from),
                Step::Link(name) => remove_link(&name),
                Step::HostPorts(record) => {
                    let released = host_ports::release(self.state, &record);
                    let finished = released.and_then(Released::finish);
                    finished.map(|lock| locks.extend(lock))
                }
            };
            errors.extend(outcome.err());
        }
        if errors.len() == 1 {
            errors.remove(0)
        } else {
            Error::Several(errors)
        }
    }
}

fn remove_link(name: &str) -> Result<(), Error> {
    Netlink::open()?.remove_link(name)?;
    Ok(())
}
