//! Frees what belongs to pods that are no more: records whose link is gone, and claims of addresses without a record.
//! Runtimes forget a DEL now and then, and containerd never calls GC (GC6). A grace period stands between finding and
//! freeing, counted by the monotonic clock from when we first saw it; a record of another boot needs none, since no pod
//! outlives its boot. Only claims that the plugin itself holds are touched, never those of a foreign main plugin.

use crate::desired::ports::port_entry;
use crate::facts::Facts;
use crate::problem::{Problem, ProblemKind};
use dataplane::error::KernelError;
use dataplane::hostport::PortEntry;
use ipam::{Claim, Holder, Ipam};
use node_state::StateDir;
use node_state::record::{AttachmentKey, AttachmentRecord};
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// Since when each suspect has been one. Forgotten with the process: an agent that restarts waits anew.
#[derive(Debug, Default)]
pub(crate) struct Leaks {
    records: HashMap<AttachmentKey, Instant>,
    claims: HashMap<(Store, IpAddr), Instant>,
}

/// The store of one network: (data directory, network).
type Store = (PathBuf, String);

/// Takes host ports out of the packet filter, by value, under the host-port lock.
pub(crate) type RemovePorts<'a> =
    dyn FnMut(&[PortEntry], &[IpAddr]) -> Result<(), KernelError> + 'a;

/// Where to look and how long to wait.
#[derive(Debug)]
pub(crate) struct LeakContext<'a> {
    pub(crate) state: &'a StateDir,
    pub(crate) network: &'a str,
    pub(crate) boot_id: &'a str,
    pub(crate) grace: Duration,
    pub(crate) now: Instant,
}

/// What was freed, and what could not be.
#[derive(Debug, Default)]
pub(crate) struct Freed {
    pub(crate) records: usize,
    pub(crate) addresses: usize,
    pub(crate) problems: Vec<Problem>,
}

// ===== choosing (pure) =====

impl Leaks {
    /// Records whose time is up.
    fn choose_records<'a>(
        &mut self,
        context: &LeakContext<'_>,
        records: &'a [AttachmentRecord],
        facts: &Facts,
    ) -> Vec<&'a AttachmentRecord> {
        let other_boot = |record: &AttachmentRecord| record.boot_id != context.boot_id;
        let suspects: Vec<&AttachmentRecord> = records
            .iter()
            .filter(|record| other_boot(record) || facts.find_link(&record.host_link).is_none())
            .collect();
        let keys: BTreeSet<&AttachmentKey> = suspects.iter().map(|record| &record.key).collect();
        self.records.retain(|key, _| keys.contains(key));
        suspects
            .into_iter()
            .filter(|record| {
                let since = *self
                    .records
                    .entry(record.key.clone())
                    .or_insert(context.now);
                other_boot(record) || context.now.duration_since(since) >= context.grace
            })
            .collect()
    }

    /// Addresses whose claim has had no record for the grace period.
    fn choose_claims(
        &mut self,
        context: &LeakContext<'_>,
        store: &Store,
        claims: &[Claim],
        keys: &BTreeSet<&AttachmentKey>,
    ) -> BTreeSet<IpAddr> {
        let orphans: BTreeSet<IpAddr> = claims
            .iter()
            .filter(|claim| is_orphan(claim, keys))
            .map(|claim| claim.address)
            .collect();
        self.claims
            .retain(|(of, address), _| of != store || orphans.contains(address));
        orphans
            .into_iter()
            .filter(|address| {
                let since = *self
                    .claims
                    .entry((store.clone(), *address))
                    .or_insert(context.now);
                context.now.duration_since(since) >= context.grace
            })
            .collect()
    }
}

/// A claim that the plugin made and no record speaks for. An unreadable claim names nobody: the store itself deals with it.
fn is_orphan(claim: &Claim, keys: &BTreeSet<&AttachmentKey>) -> bool {
    claim.holder == Some(Holder::Slash32)
        && claim
            .owner
            .as_ref()
            .is_some_and(|owner| !keys.contains(owner))
}

// ===== freeing =====

impl Leaks {
    /// One round: records first, so that their claims are freed with them.
    pub(crate) fn collect(
        &mut self,
        context: &LeakContext<'_>,
        remove_ports: &mut RemovePorts<'_>,
        records: &[AttachmentRecord],
        facts: &Facts,
    ) -> Freed {
        let mut freed = Freed::default();
        let mut gone: BTreeSet<&AttachmentKey> = BTreeSet::new();
        for record in self.choose_records(context, records, facts) {
            match free_record(context, remove_ports, record, facts) {
                Ok(addresses) => {
                    tracing::info!(
                        container = record.key.container_id,
                        interface = record.key.ifname,
                        addresses,
                        "freed the record of a pod that is gone"
                    );
                    freed.records += 1;
                    freed.addresses += addresses;
                    gone.insert(&record.key);
                }
                Err(reason) => freed.problems.push(Problem::new(
                    ProblemKind::Record,
                    format!(
                        "free the record of container {}: {reason}",
                        record.key.container_id
                    ),
                )),
            }
        }
        let keys: BTreeSet<&AttachmentKey> = records
            .iter()
            .map(|record| &record.key)
            .filter(|key| !gone.contains(key))
            .collect();
        for store in list_stores(context, records) {
            self.free_claims(context, &store, &keys, &mut freed);
        }
        freed
    }

    fn free_claims(
        &mut self,
        context: &LeakContext<'_>,
        store: &Store,
        keys: &BTreeSet<&AttachmentKey>,
        freed: &mut Freed,
    ) {
        let complain = |error: ipam::IpamError| {
            Problem::new(ProblemKind::Record, format!("network {}: {error}", store.1))
        };
        let ipam = Ipam::open(&store.0, &store.1, Holder::Slash32);
        let claims = match ipam.claims() {
            Ok(claims) => claims,
            Err(error) => return freed.problems.push(complain(error)),
        };
        let chosen = self.choose_claims(context, store, &claims, keys);
        if chosen.is_empty() {
            return;
        }
        // Judged again under the store's lock: an ADD may have taken the address since.
        let (released, errors) =
            ipam.retain(&|claim| !(chosen.contains(&claim.address) && is_orphan(claim, keys)));
        for address in &released {
            tracing::info!(%address, network = store.1, "freed an address that no pod holds");
        }
        freed.addresses += released.len();
        freed.problems.extend(errors.into_iter().map(complain));
    }
}

/// Ports, addresses, then the record: nothing of ours is ever left without one. Looks at the record again under the lock.
fn free_record(
    context: &LeakContext<'_>,
    remove_ports: &mut RemovePorts<'_>,
    record: &AttachmentRecord,
    facts: &Facts,
) -> Result<usize, String> {
    let said = |error: &dyn std::error::Error| error.to_string();
    let _lock = context
        .state
        .lock_host_ports(LOCK_PATIENCE)
        .map_err(|error| said(&error))?;
    match context
        .state
        .read_record(&record.key)
        .map_err(|error| said(&error))?
    {
        // DEL was faster.
        None => return Ok(0),
        Some(now) if now != *record => return Err("it has changed meanwhile".to_owned()),
        Some(_) => {}
    }
    let entries: Vec<PortEntry> = record.host_ports.iter().map(port_entry).collect();
    if !entries.is_empty() && facts.find_link(&record.host_link).is_none() {
        let pods: BTreeSet<IpAddr> = entries.iter().map(|entry| entry.pod_ip).collect();
        let pods: Vec<IpAddr> = pods.into_iter().collect();
        remove_ports(&entries, &pods).map_err(|error| said(&error))?;
    }
    let store = store_of(context, record);
    let ipam = Ipam::open(&store.0, &store.1, Holder::Slash32);
    let released = ipam.release(&record.key).map_err(|error| said(&error))?;
    context
        .state
        .remove_record(&record.key)
        .map_err(|error| said(&error))?;
    Ok(released.len())
}

fn store_of(context: &LeakContext<'_>, record: &AttachmentRecord) -> Store {
    let data_dir = record
        .ipam_data_dir
        .clone()
        .unwrap_or_else(|| context.state.ipam_dir());
    (data_dir, record.key.network.clone())
}

/// Every store that may hold claims of ours: our network, those in the default folder, those that records name.
fn list_stores(context: &LeakContext<'_>, records: &[AttachmentRecord]) -> BTreeSet<Store> {
    let default = context.state.ipam_dir();
    let mut stores: BTreeSet<Store> = records
        .iter()
        .map(|record| store_of(context, record))
        .collect();
    stores.extend(
        list_networks(&default)
            .into_iter()
            .map(|network| (default.clone(), network)),
    );
    stores.insert((default, context.network.to_owned()));
    stores
}

/// Folders of networks; what is not one is left alone.
fn list_networks(data_dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(data_dir) else {
        return Vec::new();
    };
    let folders = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

#[cfg(test)]
mod tests;
