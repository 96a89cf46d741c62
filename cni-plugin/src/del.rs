//! DEL: idempotent, needs no namespace, goes on after a failure and reports everything (D1-D9).
//!
//! The order keeps a killed DEL harmless: first what leads traffic to the pod, then the link
//! (its routes and neighbours go with it), then the address, which nobody may get before the
//! old link is gone, and the record last, so that the agent can finish what was begun.

use crate::config::{OWN_IPAM, parse_state_dir};
use crate::context::{key_of, shaper_link};
use crate::delegate::Delegation;
use crate::error::Error;
use crate::host_ports::{self, Released};
use crate::ipam_driver::IpamDriver;
use cni_spec::request::Attachment;
use dataplane::netlink::Netlink;
use ipam::{Holder, Ipam};
use node_state::record::{AttachmentKey, AttachmentRecord};
use node_state::{StateDir, StateError};
use std::net::IpAddr;

pub(crate) fn run(attachment: &Attachment, delegation: &Delegation<'_>) -> Result<(), Error> {
    let state = StateDir::new(parse_state_dir(&attachment.conf)?);
    let key = key_of(&attachment.id);
    // A torn record is no reason to leave the rest behind: what it said is then told from the request and the names.
    // One that could not be read this time is: it may name host ports, which must be gone before the address is free.
    let (record, unread) = match state.read_record(&key) {
        Ok(record) => (record, None),
        Err(StateError::Unreadable { .. }) => (None, None),
        Err(error) => (None, Some(error)),
    };
    let ipam = IpamDriver::for_removal(attachment, &state, record.as_ref(), delegation);
    let ports = match (&record, unread) {
        (_, Some(error)) => Err(error.into()),
        (Some(record), None) => release_ports(&state, record),
        (None, None) => release_unrecorded_ports(&state, attachment, ipam.as_ref().ok()),
    };
    detach(&state, &key, ports, || ipam.and_then(|ipam| ipam.release()))
}

/// What DEL and GC have in common, once the ports are out of the maps: links, tracked connections, addresses, record.
fn detach(
    state: &StateDir,
    key: &AttachmentKey,
    ports: Result<Option<Released>, Error>,
    release_addresses: impl FnOnce() -> Result<(), Error>,
) -> Result<(), Error> {
    let mut errors = Vec::new();
    let released = ports.unwrap_or_else(|error| {
        errors.push(error);
        None
    });
    errors.extend(remove_links(key).err());
    let _lock = released.and_then(|released| {
        let lock = released.finish();
        lock.unwrap_or_else(|error| {
            errors.push(error);
            None
        })
    });
    // An address that a link, a host port or a tracked connection may still lead to is not given back: the record stays,
    // and the next DEL, GC or the agent finishes.
    if errors.is_empty() {
        errors.extend(release_addresses().err());
    }
    if errors.is_empty() {
        errors.extend(state.remove_record(key).err().map(Error::from));
    }
    Error::gather(errors)
}

fn release_ports(state: &StateDir, record: &AttachmentRecord) -> Result<Option<Released>, Error> {
    if record.host_ports.is_empty() {
        return Ok(None);
    }
    host_ports::release(state, record).map(Some)
}

/// Never added, deleted already, or the record was lost.
fn release_unrecorded_ports(
    state: &StateDir,
    attachment: &Attachment,
    ipam: Option<&IpamDriver<'_>>,
) -> Result<Option<Released>, Error> {
    if attachment.conf.runtime_config.port_mappings.is_empty() {
        return Ok(None);
    }
    match host_ports::compute_host_ports(&attachment.conf, &known_addresses(attachment, ipam)) {
        Ok(ports) if !ports.is_empty() => host_ports::release_unrecorded(state, &ports).map(Some),
        // No address, so nothing of this attachment's can be in the maps.
        _ => Ok(None),
    }
}

/// By claim, else by prevResult: host ports are removed only where they lead to one of these.
fn known_addresses(attachment: &Attachment, ipam: Option<&IpamDriver<'_>>) -> Vec<IpAddr> {
    let held = ipam.map(IpamDriver::held).unwrap_or_default();
    if !held.is_empty() {
        return held;
    }
    attachment
        .conf
        .prev_result
        .as_ref()
        .map(|result| result.ips.iter().map(|ip| ip.address.ip()).collect())
        .unwrap_or_default()
}

/// Absent is done.
fn remove_links(key: &AttachmentKey) -> Result<(), Error> {
    let mut netlink = Netlink::open()?;
    let removed = [shaper_link(key), key.host_link()].map(|name| netlink.remove_link(&name));
    Error::gather(
        removed
            .into_iter()
            .filter_map(Result::err)
            .map(Error::from)
            .collect(),
    )
}

/// GC's way to the same end, from the record alone; a delegated IPAM plugin gets its own GC.
pub(crate) fn remove_recorded(state: &StateDir, record: &AttachmentRecord) -> Result<(), Error> {
    detach(state, &record.key, release_ports(state, record), || {
        if record.ipam_type != OWN_IPAM {
            return Ok(());
        }
        let folder = record
            .ipam_data_dir
            .clone()
            .unwrap_or_else(|| state.ipam_dir());
        Ipam::open(folder, &record.key.network, Holder::Slash32).release(&record.key)?;
        Ok(())
    })
}
