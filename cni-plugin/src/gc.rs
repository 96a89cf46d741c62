//! GC: frees what belongs to no listed attachment of this network, here and in the IPAM plugin
//! (GC1-GC6). Other networks, and listed attachments whose namespace is gone, stay untouched.

use crate::config::parse_state_dir;
use crate::context::now_ms;
use crate::del::remove_recorded;
use crate::delegate::Delegation;
use crate::error::Error;
use crate::ipam_driver::configured_data_dir;
use cni_spec::request::NetConf;
use ipam::{Claim, Holder, Ipam};
use node_state::StateDir;
use node_state::record::{AttachmentKey, AttachmentRecord};
use std::collections::HashSet;
use std::time::{Duration, Instant};

pub(crate) fn run(
    conf: &NetConf,
    valid: Option<&[(String, String)]>,
    delegation: &Delegation<'_>,
) -> Result<(), Error> {
    let (started, started_ms) = (Instant::now(), now_ms());
    let Some(valid) = valid else {
        // GC2: libcni has called DEL for what it knows to be stale; without a list we know no more.
        eprintln!("slash32: GC without cni.dev/valid-attachments: nothing was freed");
        return Ok(());
    };
    let state = StateDir::new(parse_state_dir(conf)?);
    let keep: HashSet<AttachmentKey> = valid
        .iter()
        .map(|(container_id, ifname)| AttachmentKey {
            network: conf.name.clone(),
            container_id: container_id.clone(),
            ifname: ifname.clone(),
        })
        .collect();
    let mut errors = Vec::new();

    let (records, unreadable) = state.list_records()?;
    errors.extend(unreadable.into_iter().map(Error::from));
    let (stale, live): (Vec<AttachmentRecord>, Vec<AttachmentRecord>) = records
        .into_iter()
        .filter(|r| r.key.network == conf.name)
        .partition(|r| !keep.contains(&r.key) && !is_younger(r.created_ms, started_ms, now_ms()));
    for record in &stale {
        errors.extend(remove_recorded(&state, record).err());
    }
    errors.extend(free_claims(conf, &state, &keep, &live, started));
    if let Some(plugin) = conf
        .ipam_type
        .as_deref()
        .filter(|plugin| *plugin != crate::config::OWN_IPAM)
    {
        errors.extend(delegation.call(plugin, "GC").err());
    }
    Error::gather(errors)
}

/// Made since this GC began (GC6). What claims to be of the future is of a time before the clock was set back.
fn is_younger(created_ms: u64, started_ms: u64, now_ms: u64) -> bool {
    (started_ms..=now_ms).contains(&created_ms)
}

/// Claims without a record: an ADD that was killed between the two. One that cannot be read
/// belongs to nobody who could be asked; it is freed unless a live attachment has its address.
fn free_claims(
    conf: &NetConf,
    state: &StateDir,
    keep: &HashSet<AttachmentKey>,
    live: &[AttachmentRecord],
    started: Instant,
) -> Vec<Error> {
    let folder = configured_data_dir(conf).unwrap_or_else(|| state.ipam_dir());
    let in_use: HashSet<_> = live
        .iter()
        .flat_map(|record| record.addresses.iter().map(ipnetwork::IpNetwork::ip))
        .collect();
    let (_, errors) = Ipam::open(folder, &conf.name, Holder::Slash32).retain(&|claim: &Claim| {
        let older_than_this_gc = claim
            .age
            .is_none_or(|age| age > started.elapsed() + Duration::from_millis(1));
        let wanted = claim
            .owner
            .as_ref()
            .is_some_and(|owner| keep.contains(owner));
        wanted || in_use.contains(&claim.address) || !older_than_this_gc
    });
    errors.into_iter().map(Error::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_made_since_the_start_is_younger_also_where_the_clock_was_set_back() {
        assert!(is_younger(100, 100, 105) && is_younger(105, 100, 105));
        assert!(!is_younger(99, 100, 105));
        assert!(!is_younger(1_000_000, 100, 105));
    }
}
