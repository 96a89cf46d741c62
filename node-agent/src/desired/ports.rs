//! The host ports that ought to be in the table's maps, from the attachment records. Pure.

use crate::facts::Facts;
use crate::problem::{Problem, ProblemKind};
use dataplane::hostport::{PortEntry, PortKey};
use node_state::record::{AttachmentRecord, HostPort, PortProtocol};
use std::collections::BTreeMap;

/// A record is written before its link is made: for this long its ports are wanted without one.
const LINK_EXPECTED_WITHIN_MS: u64 = 30_000;

/// Wanted entries by the key of the map.
pub(crate) type Ports = BTreeMap<PortKey, PortEntry>;

/// Entries of all records of this boot whose pod is there. Of two that claim one port, the older record keeps it.
pub(crate) fn compute_ports(
    records: &[AttachmentRecord],
    facts: &Facts,
    now_ms: u64,
) -> (Ports, Vec<Problem>) {
    let mut sorted: Vec<&AttachmentRecord> = records
        .iter()
        .filter(|record| {
            facts.find_link(&record.host_link).is_some()
                || now_ms.abs_diff(record.created_ms) < LINK_EXPECTED_WITHIN_MS
        })
        .collect();
    sorted.sort_by_key(|record| (record.created_ms, &record.key));
    let (mut ports, mut problems) = (Ports::new(), Vec::new());
    for record in sorted {
        for entry in record.host_ports.iter().map(port_entry) {
            if let Some(holder) = ports.get(&entry.key).filter(|holder| **holder != entry) {
                problems.push(conflict(record, &entry, holder));
            } else {
                ports.insert(entry.key.clone(), entry);
            }
        }
    }
    (ports, problems)
}

/// The element of one host port of a record.
pub(crate) fn port_entry(port: &HostPort) -> PortEntry {
    PortEntry {
        key: PortKey {
            host_ip: port.host_ip,
            protocol: match port.protocol {
                PortProtocol::Tcp => 6,
                PortProtocol::Udp => 17,
                PortProtocol::Sctp => 132,
            },
            host_port: port.host_port,
            v6: port.pod_ip.is_ipv6(),
        },
        pod_ip: port.pod_ip,
        container_port: port.container_port,
    }
}

fn conflict(record: &AttachmentRecord, entry: &PortEntry, holder: &PortEntry) -> Problem {
    let pod = record.pod.as_ref().map_or_else(
        || format!("container {}", record.key.container_id),
        |pod| format!("pod {}/{}", pod.namespace, pod.name),
    );
    Problem::new(
        ProblemKind::HostPortConflict,
        format!(
            "host port {} of {pod} ({}) is held by {}:{}; the older one keeps it",
            entry.key.host_port, entry.pod_ip, holder.pod_ip, holder.container_port
        ),
    )
}
