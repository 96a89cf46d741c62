//! The step that puts the packet filter right: our rules, by whichever back-end, and the way through other people's.

use super::pass::Step;
use crate::cidr;
use crate::desired::ports::compute_ports;
use crate::metrics::{KindLabel, to_i64};
use crate::netfilter::Hands;
use crate::nft::render::TableModel;
use crate::nft::table::{TableChanges, TableError};
use crate::observe::now_ms;
use crate::problem::{Problem, ProblemKind};
use ipnetwork::IpNetwork;
use node_state::record::AttachmentRecord;

impl Step<'_> {
    /// Our rules.
    pub(super) fn sync_table(&mut self) {
        self.node.memory.table_problems.clear();
        let result = self.try_sync_table();
        let memory = &mut self.node.memory;
        match result {
            Ok(changes) if changes.any() => {
                self.outcome.changed = true;
                self.outcome.repaired |= changes.repaired || changes.elements > 0;
                self.count_table(changes);
            }
            Ok(_) => {}
            Err(error) => {
                memory.netfilter.forget();
                memory
                    .table_problems
                    .push(Problem::new(ProblemKind::Nftables, error.to_string()));
            }
        }
    }

    /// The way through the filters of others, where it is closed.
    pub(super) fn open_forward(&mut self) {
        self.node.memory.forward_problems.clear();
        let node = &mut *self.node;
        let mut hands = Hands {
            settings: &node.settings,
            state: &node.state,
            nfnetlink: &mut self.kernel.netfilter,
        };
        match node.memory.netfilter.ensure_forward(&mut hands) {
            Ok(changed) => self.outcome.changed |= changed,
            Err(error) => node
                .memory
                .forward_problems
                .push(Problem::new(ProblemKind::ForeignFilter, error.to_string())),
        }
        self.node.memory.note_netfilter_look(self.now);
    }

    fn try_sync_table(&mut self) -> Result<TableChanges, TableError> {
        let boot = node_state::boot_id()?;
        let node = &mut *self.node;
        let memory = &mut node.memory;
        let (Some(desired), Some(facts)) = (&memory.desired, &memory.facts) else {
            return Ok(TableChanges::default());
        };
        let of_boot = |records: &[AttachmentRecord]| -> Vec<AttachmentRecord> {
            records
                .iter()
                .filter(|record| record.boot_id == boot)
                .cloned()
                .collect()
        };
        let (ports, conflicts) = compute_ports(&of_boot(&memory.records), facts, now_ms());
        node.shared.metrics.host_ports.set(to_i64(ports.len()));
        memory.table_problems.extend(conflicts);
        let model = TableModel {
            anti_spoofing: node.settings.anti_spoofing,
            masquerade: node.settings.masquerade.enabled,
            own: compute_own(&desired.pod_cidrs, &memory.records),
            cluster: desired.cluster.clone(),
            tunnel: desired.tunnel.as_ref().map(|tunnel| tunnel.filter.clone()),
            tunnel_peers: desired
                .tunnel
                .as_ref()
                .map(|tunnel| tunnel.peers.clone())
                .unwrap_or_default(),
            ports,
        };
        let state = &node.state;
        let mut read_again = || {
            let (records, _) = state.list_records()?;
            Ok(compute_ports(&of_boot(&records), facts, now_ms()).0)
        };
        let mut hands = Hands {
            settings: &node.settings,
            state,
            nfnetlink: &mut self.kernel.netfilter,
        };
        memory.netfilter.ensure(&mut hands, &model, &mut read_again)
    }

    fn count_table(&self, changes: TableChanges) {
        let metrics = &self.node.shared.metrics;
        let writes = [
            ("whole", changes.laid && !changes.repaired),
            ("repair", changes.repaired),
            ("destinations", changes.cluster),
        ];
        for (kind, _) in writes.into_iter().filter(|(_, done)| *done) {
            metrics
                .table_writes
                .get_or_create(&KindLabel { kind })
                .inc();
            tracing::info!(kind, "wrote the packet filter rules");
        }
        metrics.element_repairs.inc_by(changes.elements as u64);
    }
}

/// What pods of this node have their addresses from: its podCIDRs, and single addresses that another IPAM plugin gave.
fn compute_own(pod_cidrs: &[IpNetwork], records: &[AttachmentRecord]) -> Vec<IpNetwork> {
    let addresses = records.iter().flat_map(|record| &record.addresses);
    let others = addresses
        .map(IpNetwork::ip)
        .filter(|ip| !pod_cidrs.iter().any(|cidr| cidr.contains(*ip)))
        .map(cidr::host);
    cidr::merge(pod_cidrs.iter().copied().chain(others).collect())
}
