//! Host ports of one pod: record first, then the kernel's elements, under one lock that the
//! agent takes too (docs/ARCHITECTURE.md, "Host ports"). Elements of the nftables table; on a node whose agent writes
//! iptables, rules of its chains instead.

mod iptables;
mod wanted;

pub(crate) use wanted::compute_host_ports;

use crate::context::LOCK_PATIENCE;
use crate::error::Error;
use dataplane::conntrack;
use dataplane::hostport::{HostPortError, Nfnetlink, PortEntry};
use dataplane::netlink::Netlink;
use iptables::Refilled;
use node_state::StateDir;
use node_state::lock::FileLock;
use node_state::record::{AttachmentKey, AttachmentRecord, HostPort, PortProtocol};
use std::net::IpAddr;
use wanted::{describe_key, entry_of, protocol_number};

/// ADD's part. `record` names the ports; one without them was written before.
pub(crate) fn add(state: &StateDir, record: &AttachmentRecord) -> Result<(), Error> {
    let entries: Vec<PortEntry> = record.host_ports.iter().map(entry_of).collect();
    let _lock = state.lock_host_ports(LOCK_PATIENCE)?;
    let flavours = iptables::read_flavours(state)?;
    let mut nfnetlink = Nfnetlink::open()?;
    let by_nftables = flavours.is_empty() || nfnetlink.has_table()?;
    if by_nftables {
        for port in &record.host_ports {
            clear_the_way(state, &mut nfnetlink, record, port)?;
        }
    }
    if !flavours.is_empty() {
        iptables::clear_the_way(state, record)?;
    }
    state.write_record(record)?;
    if by_nftables {
        add_elements(state, &mut nfnetlink, record, &entries)?;
    }
    if !flavours.is_empty() {
        let refilled = iptables::refill(state, &flavours, &record.host_ports, None)?;
        if refilled == Refilled::Nothing && !by_nftables {
            forget(state, record)?;
            return Err(Error::NoTable);
        }
    }
    flush_stale(&entries)
}

fn add_elements(
    state: &StateDir,
    nfnetlink: &mut Nfnetlink,
    record: &AttachmentRecord,
    entries: &[PortEntry],
) -> Result<(), Error> {
    if let Err(error) = nfnetlink.add_host_ports(entries) {
        // A refusal is forgotten before the lock is given back: else the agent would lay these ports. After any other
        // error they may be in the kernel, and the undo, or DEL, goes by the record.
        if !matches!(error, HostPortError::Kernel(_)) {
            forget(state, record)?;
        }
        return Err(explain(error));
    }
    Ok(())
}

/// Flows that were tracked before the port was forwarded go on as they were, for as long as their client sends. TCP
/// needs no such care, and the look costs a walk over the whole table: a SYN opens a closed connection anew.
fn flush_stale(entries: &[PortEntry]) -> Result<(), Error> {
    let without_handshake: Vec<PortEntry> = entries
        .iter()
        .filter(|entry| entry.key.protocol != protocol_number(PortProtocol::Tcp))
        .cloned()
        .collect();
    if !without_handshake.is_empty() {
        conntrack::flush_stale(&without_handshake, &local_addresses()?)?;
    }
    Ok(())
}

fn forget(state: &StateDir, record: &AttachmentRecord) -> Result<(), Error> {
    Ok(state.write_record(&AttachmentRecord {
        host_ports: Vec::new(),
        ..record.clone()
    })?)
}

fn explain(error: HostPortError) -> Error {
    match error {
        HostPortError::NoTable => Error::NoTable,
        HostPortError::Taken { entry, holder } => Error::HostPortTaken {
            port: describe_key(&entry.key),
            owner: holder.map_or_else(
                || "another pod".into(),
                |(ip, port)| format!("the pod at {ip}, port {port}"),
            ),
        },
        HostPortError::Kernel(error) => error.into(),
    }
}

/// A taken port is an error that names the owner, unless the owner is dead: then its element is
/// what a killed ADD or a DEL that never came left behind, and it goes.
fn clear_the_way(
    state: &StateDir,
    nfnetlink: &mut Nfnetlink,
    record: &AttachmentRecord,
    port: &HostPort,
) -> Result<(), Error> {
    let entry = entry_of(port);
    let holder = match nfnetlink.find_host_port(&entry.key) {
        Err(error) if error.is_not_found() => return Err(Error::NoTable),
        other => other?,
    };
    let Some((pod_ip, container_port)) = holder else {
        return Ok(());
    };
    if pod_ip == entry.pod_ip && container_port == entry.container_port {
        return Ok(());
    }
    let stale = PortEntry {
        key: entry.key.clone(),
        pod_ip,
        container_port,
    };
    if let Some(owner) = find_live_owner(state, record, &stale)? {
        return Err(Error::HostPortTaken {
            port: describe_key(&entry.key),
            owner,
        });
    }
    let stale = [stale];
    nfnetlink.remove_host_ports(&stale, &[])?;
    conntrack::flush_released(&stale)?;
    Ok(())
}

/// The pod that holds an element: its record names it and its link is there.
fn find_live_owner(
    state: &StateDir,
    own: &AttachmentRecord,
    held: &PortEntry,
) -> Result<Option<String>, Error> {
    let (records, _) = state.list_records()?;
    let mut netlink = Netlink::open()?;
    for record in records {
        let holds =
            record.key != own.key && record.host_ports.iter().any(|port| entry_of(port) == *held);
        if holds && netlink.find_link(&record.host_link)?.is_some() {
            return Ok(Some(describe_owner(&record, held)));
        }
    }
    Ok(None)
}

fn describe_owner(record: &AttachmentRecord, held: &PortEntry) -> String {
    let pod = record.pod.as_ref().map_or_else(String::new, |pod| {
        format!("pod {}/{}, ", pod.namespace, pod.name)
    });
    format!(
        "{pod}container {} ({}, port {})",
        record.key.container_id, held.pod_ip, held.container_port
    )
}

/// Ports that are out of the maps, with what is better done once the pod's link is gone.
#[must_use = "connections that were tracked through the ports are still to be cut"]
pub(crate) struct Released {
    entries: Vec<PortEntry>,
    /// Open for as long as this lives: closing it waits for the kernel to dispose of the elements (one RCU grace
    /// period, some 20 ms), which the removal of the link waits for anyway.
    _nfnetlink: Nfnetlink,
    /// Where the record still names the ports: to be held until the record is gone, or the agent lays them again.
    lock: Option<FileLock>,
}

impl Released {
    /// Cuts the connections that went through the ports. The link is gone: no packet can track them anew. What is
    /// returned is to be kept until the record is removed.
    pub(crate) fn finish(self) -> Result<Option<FileLock>, Error> {
        conntrack::flush_released(&self.entries)?;
        Ok(self.lock)
    }
}

/// DEL's part, on the record as ADD wrote it: the elements go first, then the record forgets
/// them, both under the lock, so the agent cannot lay them again in between. Where the record cannot be written (a full
/// disk must not keep pods from going) the lock is held until the record goes.
pub(crate) fn release(state: &StateDir, record: &AttachmentRecord) -> Result<Released, Error> {
    let lock = state.lock_host_ports(LOCK_PATIENCE)?;
    refill_without(state, &record.host_ports, Some(&record.key))?;
    let released = remove(&record.host_ports)?;
    let forgotten = forget(state, record).is_ok();
    Ok(Released {
        lock: (!forgotten).then_some(lock),
        ..released
    })
}

/// The same without a record to go by. What another attachment's record names is that one's: it may have got the
/// address as well as the port since (D5).
pub(crate) fn release_unrecorded(state: &StateDir, ports: &[HostPort]) -> Result<Released, Error> {
    let _lock = state.lock_host_ports(LOCK_PATIENCE)?;
    let (records, _) = state.list_records()?;
    let recorded = |port: &HostPort| {
        records
            .iter()
            .any(|record| record.host_ports.contains(port))
    };
    let ports: Vec<HostPort> = ports
        .iter()
        .filter(|port| !recorded(port))
        .cloned()
        .collect();
    refill_without(state, &ports, None)?;
    remove(&ports)
}

/// Chains of iptables, where there are any, without what is leaving.
fn refill_without(
    state: &StateDir,
    ports: &[HostPort],
    leaving: Option<&AttachmentKey>,
) -> Result<(), Error> {
    let flavours = iptables::read_flavours(state)?;
    if !flavours.is_empty() {
        iptables::refill(state, &flavours, ports, leaving)?;
    }
    Ok(())
}

/// Removes elements that are still these pods' own. A table that is gone holds nothing (D1).
fn remove(ports: &[HostPort]) -> Result<Released, Error> {
    let entries: Vec<PortEntry> = ports.iter().map(entry_of).collect();
    let mut pods: Vec<IpAddr> = ports.iter().map(|port| port.pod_ip).collect();
    pods.sort_unstable();
    pods.dedup();
    let mut nfnetlink = Nfnetlink::open()?;
    match nfnetlink.remove_host_ports(&entries, &pods) {
        // A kernel without nftables says otherwise than one without the table; it holds none either.
        Err(error) if !error.is_not_found() && nfnetlink.has_table()? => return Err(error.into()),
        _ => {}
    }
    Ok(Released {
        entries,
        _nfnetlink: nfnetlink,
        lock: None,
    })
}

/// CHECK's part: each element is in the kernel with this pod's value (C4).
pub(crate) fn check(state: &StateDir, ports: &[HostPort]) -> Result<(), Error> {
    if ports.is_empty() {
        return Ok(());
    }
    let flavours = iptables::read_flavours(state)?;
    let mut nfnetlink = Nfnetlink::open()?;
    let by_nftables = flavours.is_empty() || nfnetlink.has_table()?;
    for port in ports {
        let entry = entry_of(port);
        let damaged = |found: String| Error::Damaged {
            what: format!(
                "host port {} leads to {found} instead of {} port {}; the agent repairs its rules within seconds where it runs",
                describe_key(&entry.key),
                entry.pod_ip,
                entry.container_port
            ),
        };
        let found = if by_nftables {
            nfnetlink.find_host_port(&entry.key)
        } else {
            let found = iptables::find(&flavours, &entry.key)?;
            Ok(found.map(|entry| (entry.pod_ip, entry.container_port)))
        };
        match found {
            Ok(Some((ip, port))) if ip == entry.pod_ip && port == entry.container_port => {}
            Ok(Some((ip, port))) => return Err(damaged(format!("{ip} port {port}"))),
            Ok(None) => return Err(damaged("nothing".into())),
            Err(error) if error.is_not_found() => {
                return Err(damaged("nothing (table inet slash32 is gone)".into()));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn local_addresses() -> Result<Vec<IpAddr>, Error> {
    Ok(Netlink::open()?
        .list_addresses()?
        .into_iter()
        .map(|info| info.address.ip())
        .collect())
}
