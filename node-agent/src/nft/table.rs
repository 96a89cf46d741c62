//! Keeps table inet slash32 as `render` would write it. The table itself is recognised by its fingerprint, taken right
//! after it was laid; the elements of maps and hairpin sets are compared one by one, since the plugin changes them too.
//! Both sides change elements under the host-port lock, record first: read without it, change only with it.

use super::render::{
    TableModel, describe_entry, hairpin_pods, render_cluster_update, render_table,
};
use crate::desired::ports::Ports;
use dataplane::hostport::{HostPortError, Nfnetlink, PortEntry, PortKey};
use node_state::{StateDir, StateError};
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

/// The plugin holds the lock for microseconds; the agent for one run of nft.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// Another program that writes nftables rules needs a pause of some 30 ms for one of these to be undisturbed.
const LAY_ATTEMPTS: u32 = 5;

/// What went wrong; the table stands as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TableError {
    #[error(transparent)]
    Kernel(#[from] dataplane::error::KernelError),
    #[error(transparent)]
    HostPort(#[from] HostPortError),
    #[error(transparent)]
    State(#[from] StateError),
    /// It was laid, and is not there: another program deletes it.
    #[error("table inet slash32 is gone right after it was laid; another program deletes it")]
    Vanished,
}

/// What `Table::ensure` had to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TableChanges {
    /// The whole table was written.
    pub(crate) laid: bool,
    /// It was written since it was gone or another.
    pub(crate) repaired: bool,
    /// The sets of destinations were written.
    pub(crate) cluster: bool,
    /// Elements added and removed.
    pub(crate) elements: usize,
}

impl TableChanges {
    pub(crate) fn any(self) -> bool {
        self.laid || self.cluster || self.elements > 0
    }
}

/// What we remember of the table that we laid; a fresh process remembers nothing and lays it anew.
#[derive(Debug, Default)]
pub(crate) struct Table {
    laid: Option<Laid>,
}

#[derive(Debug)]
struct Laid {
    fingerprint: u64,
    model: TableModel,
}

impl Table {
    /// Brings the kernel's table to `model`; `ports` reads the records again, for use under the lock.
    pub(crate) fn ensure(
        &mut self,
        program: &str,
        state: &StateDir,
        netfilter: &mut Nfnetlink,
        model: &TableModel,
        ports: &mut dyn FnMut() -> Result<Ports, StateError>,
    ) -> Result<TableChanges, TableError> {
        let seen = netfilter.ruleset_generation()?;
        let there = netfilter.table_fingerprint()?;
        let known = self.laid.as_ref().map(|laid| laid.fingerprint);
        let same_rules = self.laid.as_ref().is_some_and(|laid| {
            laid.model.anti_spoofing == model.anti_spoofing
                && laid.model.masquerade == model.masquerade
        });
        if there.is_none() || there != known || !same_rules {
            self.lay(program, state, netfilter, model, ports)?;
            return Ok(TableChanges {
                laid: true,
                repaired: known.is_some() && same_rules,
                ..TableChanges::default()
            });
        }
        let cluster = self.ensure_cluster(program, netfilter, model)?;
        if cluster && netfilter.ruleset_generation()? != seen.wrapping_add(1) {
            // Somebody wrote as well, and the fingerprint may be of that: the whole table, then.
            self.lay(program, state, netfilter, model, ports)?;
        }
        let elements = ensure_elements(state, netfilter, &model.ports, ports)?;
        Ok(TableChanges {
            cluster,
            elements,
            ..TableChanges::default()
        })
    }

    /// Forgets the table, so that the next `ensure` writes it.
    pub(crate) fn forget(&mut self) {
        self.laid = None;
    }

    fn lay(
        &mut self,
        program: &str,
        state: &StateDir,
        netfilter: &mut Nfnetlink,
        model: &TableModel,
        ports: &mut dyn FnMut() -> Result<Ports, StateError>,
    ) -> Result<(), TableError> {
        self.laid = None;
        let _lock = state.lock_host_ports(LOCK_PATIENCE)?;
        // A pod that came since the model was made has its record; its element would be lost without this look.
        let model = TableModel {
            ports: ports()?,
            ..model.clone()
        };
        let fingerprint = lay_alone(program, netfilter, &render_table(&model))?;
        // The elements are compared with the records each time, not with what was laid.
        self.laid = Some(Laid {
            fingerprint,
            model: TableModel {
                ports: Ports::new(),
                ..model
            },
        });
        Ok(())
    }

    fn ensure_cluster(
        &mut self,
        program: &str,
        netfilter: &mut Nfnetlink,
        model: &TableModel,
    ) -> Result<bool, TableError> {
        let Some(laid) = self
            .laid
            .as_mut()
            .filter(|laid| laid.model.cluster != model.cluster)
        else {
            return Ok(false);
        };
        dataplane::nft::run_script(program, &render_cluster_update(model))?;
        laid.model.cluster.clone_from(&model.cluster);
        laid.fingerprint = netfilter.table_fingerprint()?.ok_or(TableError::Vanished)?;
        Ok(true)
    }
}

/// Lays the table and takes its fingerprint. What another program writes between the two would be taken for ours, for
/// good; so the table is laid again until nobody did. Where somebody never stops writing, the last one has to do.
fn lay_alone(program: &str, netfilter: &mut Nfnetlink, script: &str) -> Result<u64, TableError> {
    let mut attempts = 0;
    loop {
        let before = netfilter.ruleset_generation()?;
        dataplane::nft::run_script(program, script)?;
        let fingerprint = netfilter.table_fingerprint()?;
        attempts += 1;
        let alone = netfilter.ruleset_generation()? == before.wrapping_add(1);
        if alone || attempts == LAY_ATTEMPTS {
            return fingerprint.ok_or(TableError::Vanished);
        }
        tracing::debug!("another program wrote nftables rules meanwhile; laying the table again");
    }
}

// ===== elements =====

/// What is missing and what is too much, for maps and hairpin sets.
#[derive(Debug, Default, PartialEq, Eq)]
struct ElementDiff {
    missing: Vec<PortEntry>,
    stale: Vec<PortEntry>,
    stale_hairpin: Vec<IpAddr>,
}

impl ElementDiff {
    fn len(&self) -> usize {
        self.missing.len() + self.stale.len() + self.stale_hairpin.len()
    }
}

fn diff_elements(wanted: &Ports, there: &[PortEntry], hairpin: &[IpAddr]) -> ElementDiff {
    let there_hairpin: BTreeSet<IpAddr> = hairpin.iter().copied().collect();
    let wanted_hairpin = hairpin_pods(wanted.values());
    let there_by_key: HashMap<&PortKey, &PortEntry> =
        there.iter().map(|entry| (&entry.key, entry)).collect();
    let is_there = |entry: &PortEntry| {
        there_by_key.get(&entry.key) == Some(&entry) && there_hairpin.contains(&entry.pod_ip)
    };
    ElementDiff {
        missing: wanted
            .values()
            .filter(|entry| !is_there(entry))
            .cloned()
            .collect(),
        stale: there
            .iter()
            .filter(|entry| wanted.get(&entry.key) != Some(entry))
            .cloned()
            .collect(),
        stale_hairpin: there_hairpin.difference(&wanted_hairpin).copied().collect(),
    }
}

fn ensure_elements(
    state: &StateDir,
    netfilter: &mut Nfnetlink,
    wanted: &Ports,
    ports: &mut dyn FnMut() -> Result<Ports, StateError>,
) -> Result<usize, TableError> {
    let unlocked = diff_elements(
        wanted,
        &netfilter.list_host_ports()?,
        &netfilter.list_hairpin()?,
    );
    if unlocked.len() == 0 {
        return Ok(0);
    }
    // Most often a plugin was in the middle of its work. Look again with the lock in hand.
    let _lock = state.lock_host_ports(LOCK_PATIENCE)?;
    let wanted = ports()?;
    let diff = diff_elements(
        &wanted,
        &netfilter.list_host_ports()?,
        &netfilter.list_hairpin()?,
    );
    for entry in &diff.stale {
        tracing::info!(
            "removing the host port {}: no pod of this node holds it",
            describe_entry(entry)
        );
    }
    for entry in &diff.missing {
        tracing::info!("putting back the host port {}", describe_entry(entry));
    }
    // Stale ones first: one may sit on the key of a missing one.
    if !diff.stale.is_empty() || !diff.stale_hairpin.is_empty() {
        netfilter.remove_host_ports(&diff.stale, &diff.stale_hairpin)?;
    }
    if !diff.missing.is_empty() {
        netfilter.add_host_ports(&diff.missing)?;
    }
    Ok(diff.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(host_port: u16, pod: &str) -> PortEntry {
        let pod_ip: IpAddr = pod.parse().unwrap();
        PortEntry {
            key: PortKey {
                host_ip: None,
                protocol: 6,
                host_port,
                v6: pod_ip.is_ipv6(),
            },
            pod_ip,
            container_port: 80,
        }
    }

    fn ports(entries: &[PortEntry]) -> Ports {
        entries
            .iter()
            .map(|entry| (entry.key.clone(), entry.clone()))
            .collect()
    }

    #[test]
    fn equal_elements_are_no_difference() {
        let entries = [entry(80, "10.0.0.1"), entry(80, "fd00::1")];
        let hairpin = entries.each_ref().map(|entry| entry.pod_ip);
        assert_eq!(
            diff_elements(&ports(&entries), &entries, &hairpin),
            ElementDiff::default()
        );
    }

    #[test]
    fn a_port_that_points_at_another_pod_is_stale_and_missing() {
        let (mine, taken) = (entry(80, "10.0.0.1"), entry(80, "10.0.0.9"));
        let diff = diff_elements(
            &ports(std::slice::from_ref(&mine)),
            std::slice::from_ref(&taken),
            &[taken.pod_ip],
        );
        assert_eq!(
            diff,
            ElementDiff {
                missing: vec![mine],
                stale_hairpin: vec![taken.pod_ip],
                stale: vec![taken]
            }
        );
    }

    #[test]
    fn a_missing_hairpin_element_brings_the_pods_ports_back() {
        let mine = entry(80, "10.0.0.1");
        let diff = diff_elements(
            &ports(std::slice::from_ref(&mine)),
            std::slice::from_ref(&mine),
            &[],
        );
        assert_eq!(
            diff,
            ElementDiff {
                missing: vec![mine],
                ..ElementDiff::default()
            }
        );
    }

    #[test]
    fn what_nobody_wants_goes() {
        let stale = entry(80, "10.0.0.1");
        let diff = diff_elements(&Ports::new(), std::slice::from_ref(&stale), &[stale.pod_ip]);
        assert_eq!(diff.stale_hairpin, [stale.pod_ip]);
        assert_eq!(diff.stale, [stale]);
    }
}
