//! DEL: idempotent, needs no namespace, goes on after a failure and reports everything (D1-D9).
//!
//! The order keeps a killed DEL harmless: first what leads traffic to the pod, then the link
//! (its routes and neighbours go with it), then the address, which nobody may get before the
//! old link is gone, and the record last, so that the agent can finish what was begun.

use crate::config::{OWN_IPAM, parse_state_dir};
use crate::context::{key_of, shaper_link};
use crate::delegate::Delegation;
use crate::error::Error;
use crate::host_ports;
use crate::ipam_driver::IpamDriver;
use cni_spec::request::Attachment;
use dataplane::netlink::Netlink;
use ipam::{Holder, Ipam};
use node_state::StateDir;
use node_state::record::{AttachmentKey, AttachmentRecord};
use std::net::IpAddr;

pub(crate) fn run(attachment: &Attachment, delegation: &Delegation<'_>) -> Result<(), Error> {
    let state = StateDir::new(parse_state_dir(&attachment.conf)?);
    let key = key_of(&attachment.id);
    // A record that cannot be read is no reason to leave the rest behind: what it said is then
    // told from the request and the names.
    let record = state.read_record(&key).unwrap_or(None);
    let ipam = IpamDriver::for_removal(attachment, &state, record.as_ref(), delegation);
    let mut errors = Vec::new();
    match &record {
        Some(record) if record.host_ports.is_empty() => {}
        Some(record) => errors.extend(host_ports::release(&state, record).err()),
        None => {
            errors.extend(release_unrecorded_ports(&state, attachment, ipam.as_ref().ok()).err())
        }
    }
    if remove_links(&key, &mut errors) {
        errors.extend(ipam.and_then(|ipam| ipam.release()).err());
    }
    if errors.is_empty() {
        errors.extend(state.remove_record(&key).err().map(Error::from));
    }
    Error::gather(errors)
}

/// Never added, deleted already, or the record was lost.
fn release_unrecorded_ports(
    state: &StateDir,
    attachment: &Attachment,
    ipam: Option<&IpamDriver<'_>>,
) -> Result<(), Error> {
    if attachment.conf.runtime_config.port_mappings.is_empty() {
        return Ok(());
    }
    match host_ports::compute_host_ports(&attachment.conf, &known_addresses(attachment, ipam)) {
        Ok(ports) if !ports.is_empty() => host_ports::remove_locked(state, &ports),
        // No address, so nothing of this attachment's can be in the maps.
        _ => Ok(()),
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

/// Absent is done. False where a link may still be there: its address is then not given back.
fn remove_links(key: &AttachmentKey, errors: &mut Vec<Error>) -> bool {
    let mut netlink = match Netlink::open() {
        Ok(netlink) => netlink,
        Err(error) => {
            errors.push(error.into());
            return false;
        }
    };
    let before = errors.len();
    for name in [shaper_link(key), key.host_link()] {
        errors.extend(netlink.remove_link(&name).err().map(Error::from));
    }
    errors.len() == before
}

/// GC's way to the same end, from the record alone; a delegated IPAM plugin gets its own GC.
pub(crate) fn remove_recorded(state: &StateDir, record: &AttachmentRecord) -> Result<(), Error> {
    let mut errors = Vec::new();
    if !record.host_ports.is_empty() {
        errors.extend(host_ports::release(state, record).err());
    }
    if remove_links(&record.key, &mut errors) && record.ipam_type == OWN_IPAM {
        let folder = record
            .ipam_data_dir
            .clone()
            .unwrap_or_else(|| state.root().join("ipam"));
        errors.extend(
            Ipam::open(folder, &record.key.network, Holder::Slash32)
                .release(&record.key)
                .err()
                .map(Error::from),
        );
    }
    if errors.is_empty() {
        errors.extend(state.remove_record(&record.key).err().map(Error::from));
    }
    Error::gather(errors)
}
