//! The elements of the host-port maps and hairpin sets, compared one by one with what the records want, since the plugin
//! changes them too. Read without the host-port lock, changed only with it. Called by `table`.

use super::render::{describe_entry, hairpin_pods};
use super::table::{LOCK_PATIENCE, TableError};
use crate::desired::ports::Ports;
use dataplane::hostport::{Nfnetlink, PortEntry, PortKey};
use node_state::{StateDir, StateError};
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

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

/// The elements as the records want them; how many were changed. `ports` reads the records again, under the lock.
pub(super) fn ensure_elements(
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
