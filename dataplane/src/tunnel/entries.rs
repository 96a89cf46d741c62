//! A tunnel's permanent entries: neighbours (which MAC has this next hop?) and, for VXLAN, forwarding entries (behind which
//! node is this MAC?). Both are the kernel's neighbour messages, told apart by family, and keyed as the kernel keys them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::error::{Refusal, Result};
use crate::netlink::{Netlink, RTM_DELNEIGH, RTM_GETNEIGH, RTM_NEWNEIGH};
use crate::wire::attribute::{Attributes, ip_to_bytes, put};
use crate::wire::batch::{Batch, F_CREATE, F_DUMP, F_REPLACE};
use crate::wire::message::Message;

/// Bytes of `struct ndmsg`: family u8, pad, index u32 at 4, state u16 at 8, flags u8, type u8.
const HEADER: usize = 12;
const AF_BRIDGE: u8 = 7;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_IFINDEX: u16 = 8;
const NUD_PERMANENT: u16 = 0x80;
/// The entry is of the device itself, not of a bridge above it.
const NTF_SELF: u8 = 2;
/// Messages of one `send`.
const CHUNK: usize = 200;

/// The kernel's own key within one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EntryKey {
    /// A next hop.
    Neighbour(IpAddr),
    /// A MAC behind a VXLAN link.
    Forwarding([u8; 6]),
}

/// One entry of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Entry {
    /// "`address` has this `mac`."
    Neighbour {
        /// Next hop.
        address: IpAddr,
        /// Of the peer's tunnel device.
        mac: [u8; 6],
    },
    /// "`mac` is behind `node`."
    Forwarding {
        /// Of the peer's tunnel device.
        mac: [u8; 6],
        /// Underlay address of the peer.
        node: IpAddr,
    },
}

impl Entry {
    /// As the kernel keys it.
    pub fn key(&self) -> EntryKey {
        match self {
            Self::Neighbour { address, .. } => EntryKey::Neighbour(*address),
            Self::Forwarding { mac, .. } => EntryKey::Forwarding(*mac),
        }
    }
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Neighbour { address, mac } => write!(f, "neighbour {address} at {}", text(*mac)),
            Self::Forwarding { mac, node } => {
                write!(f, "forwarding entry {} to {node}", text(*mac))
            }
        }
    }
}

fn text(mac: [u8; 6]) -> String {
    let bytes: Vec<String> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(":")
}

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryOp {
    /// Made, or put in the place of what has the key.
    Set(Entry),
    /// Absent is done.
    Remove(Entry),
}

impl Netlink {
    /// The permanent entries of a link, of all families, and whatever else stands under a forwarding key: on a link that is
    /// ours all of them are.
    pub fn list_entries(&mut self, index: u32) -> Result<Vec<Entry>> {
        let mut found = Vec::new();
        for family in [0, AF_BRIDGE] {
            let request = |batch: &mut Batch| {
                batch.push_with(RTM_GETNEIGH, F_DUMP, |out| {
                    out.extend_from_slice(&[0; HEADER]);
                    let start = out.len() - HEADER;
                    out[start] = family;
                    // A strict dump takes the link as an attribute only.
                    put(out, NDA_IFINDEX, &index.to_ne_bytes());
                });
            };
            let parse = |message: Message<'_>| entry_from(message, index);
            found.extend(self.dump(request, parse, || {
                format!("list neighbours and forwarding entries of link with index {index}")
            })?);
        }
        Ok(found)
    }

    /// Applies the steps in order, batched; the kernel goes on after one that fails. One result per step, in order.
    pub fn apply_entries(&mut self, index: u32, ops: &[EntryOp]) -> Vec<Result<()>> {
        let mut results = Vec::with_capacity(ops.len());
        for chunk in ops.chunks(CHUNK) {
            let mut batch = Batch::new();
            for op in chunk {
                push(&mut batch, index, op);
            }
            results.extend(self.send_entries(chunk, &mut batch));
        }
        results
    }

    fn send_entries(&mut self, chunk: &[EntryOp], batch: &mut Batch) -> Vec<Result<()>> {
        let mut refused: BTreeMap<usize, Refusal> =
            match self.channel.exchange(batch, &mut |_, _| {}) {
                Ok(refused) => refused.into_iter().collect(),
                Err(refusal) => {
                    let all = chunk.iter();
                    return all
                        .map(|op| Err(refusal.clone().during(describe(op))))
                        .collect();
                }
            };
        let result = |(i, op)| match refused.remove(&i) {
            Some(refusal) if matches!(op, &EntryOp::Remove(_)) && refusal.errno == libc::ENOENT => {
                Ok(())
            }
            Some(refusal) => Err(refusal.during(describe(op))),
            None => Ok(()),
        };
        chunk.iter().enumerate().map(result).collect()
    }
}

fn push(batch: &mut Batch, index: u32, op: &EntryOp) {
    match op {
        EntryOp::Set(entry) => batch.push_with(RTM_NEWNEIGH, F_CREATE | F_REPLACE, |out| {
            encode(out, index, entry);
        }),
        EntryOp::Remove(entry) => batch.push_with(RTM_DELNEIGH, 0, |out| encode(out, index, entry)),
    };
}

fn encode(out: &mut Vec<u8>, index: u32, entry: &Entry) {
    let (family, flags) = match entry {
        Entry::Neighbour {
            address: IpAddr::V4(_),
            ..
        } => (libc::AF_INET as u8, 0),
        Entry::Neighbour {
            address: IpAddr::V6(_),
            ..
        } => (libc::AF_INET6 as u8, 0),
        Entry::Forwarding { .. } => (AF_BRIDGE, NTF_SELF),
    };
    out.extend_from_slice(&[family, 0, 0, 0]);
    out.extend_from_slice(&index.to_ne_bytes());
    out.extend_from_slice(&NUD_PERMANENT.to_ne_bytes());
    out.extend_from_slice(&[flags, 0]);
    let (mac, address) = match entry {
        Entry::Neighbour { address, mac } => (mac, address),
        Entry::Forwarding { mac, node } => (mac, node),
    };
    put(out, NDA_LLADDR, mac);
    put(out, NDA_DST, &ip_to_bytes(*address));
}

fn describe(op: &EntryOp) -> String {
    match op {
        EntryOp::Set(entry) => format!("set {entry}"),
        EntryOp::Remove(entry) => format!("remove {entry}"),
    }
}

fn entry_from(message: Message<'_>, index: u32) -> Option<Entry> {
    if message.kind != RTM_NEWNEIGH {
        return None;
    }
    let header: [u8; HEADER] = message.payload.get(..HEADER)?.try_into().ok()?;
    if u32::from_ne_bytes([header[4], header[5], header[6], header[7]]) != index {
        return None;
    }
    let attributes = Attributes::after(message.payload, HEADER);
    let mac = attributes.find_kind(NDA_LLADDR)?.mac()?;
    let address = attributes.find_kind(NDA_DST)?.ip()?;
    if header[0] == AF_BRIDGE {
        return Some(Entry::Forwarding { mac, node: address });
    }
    let permanent = u16::from_ne_bytes([header[8], header[9]]) & NUD_PERMANENT != 0;
    permanent.then_some(Entry::Neighbour { address, mac })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn a_forwarding_entry_on_the_wire() {
        let mut out = Vec::new();
        let entry = Entry::Forwarding {
            mac: [2, 0, 0, 0, 0, 7],
            node: "192.0.2.7".parse().unwrap(),
        };
        encode(&mut out, 9, &entry);
        let header = [7, 0, 0, 0, 9, 0, 0, 0, 0x80, 0, 2, 0];
        let mac = [10, 0, 2, 0, 2, 0, 0, 0, 0, 7, 0, 0];
        let node = [8, 0, 1, 0, 192, 0, 2, 7];
        assert_eq!(out, [&header[..], &mac, &node].concat());
        assert_eq!(
            entry.to_string(),
            "forwarding entry 02:00:00:00:00:07 to 192.0.2.7"
        );
    }
}
