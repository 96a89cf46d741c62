//! Host ports: elements of the maps and hairpin sets of table `inet slash32`, by nfnetlink, one transaction a call.
//!
//! The agent lays the table as text; the plugin adds and removes its own pod's elements, which takes microseconds however many
//! there are. The kernel ignores the value when an element is deleted, so a removal reads first and takes only what still has
//! the wanted value; the caller's lock (plugin and agent share it) makes read and delete one step.

use std::net::IpAddr;

use crate::error::{KernelError, Refusal, Result};
use crate::wire::batch::{Batch, F_CREATE, F_DUMP};
use crate::wire::channel::Channel;
use crate::wire::message::Message;

mod element;
mod entry;
mod fingerprint;
mod message;
mod table;

use element::{
    Element, HAIRPIN_SETS, PORT_MAPS, entry_from, hairpin_element, hairpin_from, key_element,
    port_element,
};
pub use entry::{HostPortError, PortEntry, PortKey};
use entry::{describe, describe_all, mixed_families};

/// Keys that are read with one send: their answers fit the socket's default buffer.
const READ_CHUNK: usize = 100;
/// How often a removal is tried again when somebody else removed an element between our reading and our removing.
const REMOVE_ATTEMPTS: u32 = 5;

/// A netfilter socket.
#[derive(Debug)]
pub struct Nfnetlink {
    channel: Channel,
}

impl Nfnetlink {
    /// Opens a socket in the calling thread's namespace.
    pub fn open() -> Result<Nfnetlink> {
        let channel = crate::nfnetlink::open()
            .map_err(|e| KernelError::from_io("open a netfilter socket", &e))?;
        Ok(Nfnetlink { channel })
    }

    /// Adds all entries and the hairpin elements of their pods, or none. An identical element that is there is fine.
    pub fn add_host_ports(
        &mut self,
        entries: &[PortEntry],
    ) -> std::result::Result<(), HostPortError> {
        let what = || format!("add host ports {}", describe_all(entries));
        let ports = entries
            .iter()
            .map(|entry| port_element(entry).ok_or_else(|| mixed_families(entry)));
        let mut elements = ports.collect::<Result<Vec<Element>>>()?;
        elements.extend(entries.iter().map(|entry| hairpin_element(entry.pod_ip)));
        elements.sort();
        elements.dedup();
        match self.transact(message::NEWSETELEM, F_CREATE, &elements) {
            Ok(()) => Ok(()),
            Err(refusal) if refusal.errno == libc::ENOENT => Err(HostPortError::NoTable),
            Err(refusal) if refusal.errno == libc::EEXIST => {
                Err(self.find_taken(entries, refusal.during(what())))
            }
            Err(refusal) => Err(refusal.during(what()).into()),
        }
    }

    /// Removes those elements that still lead where the entry says, and the hairpin elements of `hairpin_pods`; under the
    /// caller's lock. Absent, the whole table included, is done.
    pub fn remove_host_ports(
        &mut self,
        entries: &[PortEntry],
        hairpin_pods: &[IpAddr],
    ) -> Result<()> {
        let what = || format!("remove host ports {}", describe_all(entries));
        let mut wanted: Vec<Element> = entries.iter().filter_map(port_element).collect();
        wanted.extend(hairpin_pods.iter().map(|pod| hairpin_element(*pod)));
        wanted.sort();
        wanted.dedup();
        for _ in 0..REMOVE_ATTEMPTS {
            let values = self
                .read(&wanted)
                .map_err(|refusal| refusal.during(what()))?;
            let ours = wanted
                .iter()
                .zip(values)
                .filter(|(element, value)| value.as_ref() == Some(&element.value));
            let ours: Vec<Element> = ours.map(|(element, _)| element.clone()).collect();
            match self.transact(message::DELSETELEM, 0, &ours) {
                Ok(()) => return Ok(()),
                Err(refusal) if refusal.errno == libc::ENOENT => continue,
                Err(refusal) => return Err(refusal.during(what())),
            }
        }
        Err(KernelError::other(
            what(),
            "somebody else removes elements of our table at the same time",
        ))
    }

    /// Where the port leads now.
    pub fn find_host_port(&mut self, key: &PortKey) -> Result<Option<(IpAddr, u16)>> {
        let what = || format!("find {}", describe(key));
        let Some(element) = key_element(key) else {
            return Err(KernelError::new(what(), libc::EINVAL));
        };
        let values = self
            .read(&[element])
            .map_err(|refusal| refusal.during(what()))?;
        Ok(values
            .into_iter()
            .next()
            .flatten()
            .and_then(|value| element::target_from(&value)))
    }

    /// All elements of the four maps.
    pub fn list_host_ports(&mut self) -> std::result::Result<Vec<PortEntry>, HostPortError> {
        let mut entries = Vec::new();
        for map in PORT_MAPS {
            entries.extend(
                self.list(map.name)?
                    .iter()
                    .filter_map(|element| entry_from(&map, element)),
            );
        }
        Ok(entries)
    }

    /// The pods of both hairpin sets.
    pub fn list_hairpin(&mut self) -> std::result::Result<Vec<IpAddr>, HostPortError> {
        let mut pods = Vec::new();
        for set in HAIRPIN_SETS {
            pods.extend(self.list(set)?.iter().filter_map(hairpin_from));
        }
        Ok(pods)
    }

    fn list(&mut self, set: &'static str) -> std::result::Result<Vec<Element>, HostPortError> {
        let request = |batch: &mut Batch| message::push_get_set(batch, set, F_DUMP);
        // One message holds many elements.
        let parse = |message: Message<'_>| Some(message::elements_from(&message, set));
        match self.channel.dump(request, parse) {
            Ok(found) => Ok(found.into_iter().flatten().collect()),
            Err(refusal) if refusal.errno == libc::ENOENT => Err(HostPortError::NoTable),
            Err(refusal) => Err(refusal
                .during(format!("list {set} of table inet slash32"))
                .into()),
        }
    }

    /// The present value of each element's key; `None`: it is not there.
    fn read(&mut self, wanted: &[Element]) -> std::result::Result<Vec<Option<Vec<u8>>>, Refusal> {
        let mut values = Vec::with_capacity(wanted.len());
        for chunk in wanted.chunks(READ_CHUNK) {
            let mut batch = Batch::new();
            for element in chunk {
                message::push_get_element(&mut batch, element);
            }
            let mut found = vec![None; chunk.len()];
            let refused = self
                .channel
                .exchange(&mut batch, &mut |position, message| {
                    found[position] = message::elements_from(&message, chunk[position].set)
                        .pop()
                        .map(|found| found.value);
                })?;
            if let Some((_, refusal)) = refused
                .into_iter()
                .find(|(_, refusal)| refusal.errno != libc::ENOENT)
            {
                return Err(refusal);
            }
            values.append(&mut found);
        }
        Ok(values)
    }

    /// All elements in one transaction.
    fn transact(
        &mut self,
        kind: u16,
        flags: u16,
        elements: &[Element],
    ) -> std::result::Result<(), Refusal> {
        let mut batch = crate::nfnetlink::transaction(|batch| {
            message::push_elements(batch, kind, flags, elements)
        });
        let refused = self.channel.exchange(&mut batch, &mut |_, _| {})?;
        match refused.into_iter().next() {
            Some((_, refusal)) => Err(refusal),
            None => Ok(()),
        }
    }

    /// After EEXIST: which entry it was.
    fn find_taken(&mut self, entries: &[PortEntry], error: KernelError) -> HostPortError {
        for entry in entries {
            match self.find_host_port(&entry.key) {
                Ok(Some(holder)) if holder != (entry.pod_ip, entry.container_port) => {
                    return HostPortError::Taken {
                        entry: entry.clone(),
                        holder: Some(holder),
                    };
                }
                Ok(_) => {}
                Err(error) => return error.into(),
            }
        }
        match entries {
            [entry] => HostPortError::Taken {
                entry: entry.clone(),
                holder: None,
            },
            _ => error.into(),
        }
    }
}

/// What this module makes of any message: an entry that is understood is written as it was read.
#[cfg(any(test, fuzzing))]
pub(crate) fn decode_any(message: &crate::wire::message::Message<'_>) {
    fingerprint::hash_any(message);
    for map in &PORT_MAPS {
        for element in message::elements_from(message, map.name) {
            if let Some(entry) = entry_from(map, &element) {
                let _ = (port_element(&entry), describe(&entry.key));
            }
        }
    }
    for set in HAIRPIN_SETS {
        let elements = message::elements_from(message, set);
        let _ = elements.iter().filter_map(hairpin_from).count();
    }
}
