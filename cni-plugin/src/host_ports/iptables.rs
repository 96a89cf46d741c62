//! Host ports on a node whose agent writes iptables: the chains are refilled whole from the attachment records, so that
//! nothing has to be read first and nothing stale can stay. Costs a start of iptables-restore for each family.
//!
//! Which flavours hold our chains the agent has written into the state folder (docs/decisions/0006). Both at once, and the
//! nftables table beside them, happen while an agent moves from one to another: then all are kept alike.

use super::wanted::{describe_key, entry_of};
use super::{describe_owner, explain};
use crate::error::Error;
use dataplane::conntrack;
use dataplane::hostport::{HostPortError, PortEntry, PortKey};
use dataplane::iptables::Flavour;
use dataplane::iptables::ports::{list_ports, replace_ports};
use dataplane::netlink::Netlink;
use node_state::record::{AttachmentKey, AttachmentRecord, HostPort};
use node_state::{StateDir, StateError};
use std::collections::{BTreeMap, HashSet};

/// The flavours that may hold chains of ours. Under the host-port lock.
pub(super) fn read_flavours(state: &StateDir) -> Result<Vec<Flavour>, Error> {
    let words = state.read_netfilter()?;
    words
        .iter()
        .map(|word| {
            Flavour::parse(word).ok_or_else(|| {
                let path = state.root().join("netfilter");
                let reason = format!("{word:?} is no kind of iptables that this plugin knows; install the plugin of the agent's version");
                StateError::Unreadable { path, reason }.into()
            })
        })
        .collect()
}

/// Records of attachments whose link is there, oldest first.
fn list_live(state: &StateDir) -> Result<(Vec<AttachmentRecord>, Vec<AttachmentRecord>), Error> {
    let (mut records, _) = state.list_records()?;
    let links: HashSet<String> = Netlink::open()?
        .list_links()?
        .into_iter()
        .map(|link| link.name)
        .collect();
    records.sort_by(|a, b| (a.created_ms, &a.key).cmp(&(b.created_ms, &b.key)));
    Ok(records
        .into_iter()
        .partition(|record| links.contains(&record.host_link)))
}

/// A port of a live pod is an error that names it; connections to the dead that held one are cut.
pub(super) fn clear_the_way(state: &StateDir, own: &AttachmentRecord) -> Result<(), Error> {
    let wanted: Vec<PortEntry> = own.host_ports.iter().map(entry_of).collect();
    let (live, dead) = list_live(state)?;
    let held = |record: &AttachmentRecord| -> Option<PortEntry> {
        let others = record.host_ports.iter().map(entry_of);
        others.into_iter().find(|entry| {
            wanted
                .iter()
                .any(|mine| mine.key == entry.key && mine != entry)
        })
    };
    for record in live.iter().filter(|record| record.key != own.key) {
        if let Some(entry) = held(record) {
            return Err(Error::HostPortTaken {
                port: describe_key(&entry.key),
                owner: describe_owner(record, &entry),
            });
        }
    }
    let stale: Vec<PortEntry> = dead.iter().filter_map(held).collect();
    conntrack::flush_released(&stale)?;
    Ok(())
}

/// Refills the chains of these families: ports of all live records but those of `leaving`.
pub(super) fn refill(
    state: &StateDir,
    flavours: &[Flavour],
    ports: &[HostPort],
    leaving: Option<&AttachmentKey>,
) -> Result<Refilled, Error> {
    let (live, _) = list_live(state)?;
    let staying = live.iter().filter(|record| Some(&record.key) != leaving);
    let mut entries: BTreeMap<PortKey, PortEntry> = BTreeMap::new();
    for entry in staying.flat_map(|record| &record.host_ports).map(entry_of) {
        entries.entry(entry.key.clone()).or_insert(entry);
    }
    let entries: Vec<PortEntry> = entries.into_values().collect();
    let mut refilled = Refilled::Nothing;
    for flavour in flavours {
        for v6 in [false, true] {
            if ports.iter().all(|port| port.pod_ip.is_ipv6() != v6) {
                continue;
            }
            match replace_ports(*flavour, v6, &entries) {
                Ok(()) => refilled = Refilled::Chains,
                Err(HostPortError::NoTable) => {}
                Err(error) => return Err(explain(error)),
            }
        }
    }
    Ok(refilled)
}

/// Whether there were chains to refill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refilled {
    Chains,
    Nothing,
}

/// Where a port leads by the chains of any flavour; `None`: nowhere.
pub(super) fn find(flavours: &[Flavour], key: &PortKey) -> Result<Option<PortEntry>, Error> {
    for flavour in flavours {
        let there = list_ports(*flavour, key.v6)?.unwrap_or_default();
        if let Some(entry) = there.into_iter().find(|entry| entry.key == *key) {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}
