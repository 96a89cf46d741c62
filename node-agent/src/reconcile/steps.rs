//! The steps of a pass: routes, table, sysctls, leaks, and at the end conflist and ready stamp. Each takes the wish from
//! memory, looks, compares and acts; what cannot be done is a problem and stops no other step.

use super::pass::{Step, kernel_problem};
use super::{Outcome, Reconciler};
use crate::apply::apply_routes;
use crate::conflist::{compute_conflist, ensure_conflist};
use crate::desired::pods::{compute_pod_routes, is_pod_route};
use crate::desired::ports::compute_ports;
use crate::diff::diff_routes;
use crate::leaks::{Freed, LeakContext};
use crate::metrics::{KindLabel, StateLabel, to_i64};
use crate::nft::render::TableModel;
use crate::nft::table::{TableChanges, TableError};
use crate::observe::{now_ms, observe_records};
use crate::problem::{Problem, ProblemKind};
use crate::sysctls::ensure_sysctls;
use dataplane::names::ROUTE_PROTOCOL;
use dataplane::route::RouteInfo;
use ipam::{Holder, Ipam, IpamConfig};
use node_state::ready::ReadyStamp;
use node_state::record::AttachmentRecord;

impl Step<'_> {
    /// Our routes as they are wanted. `settled`: the wish is that of an earlier pass, so a change is a repair.
    pub(super) fn sync_routes(&mut self, settled: bool) -> Result<(), Problem> {
        let owned = self
            .kernel
            .netlink
            .list_own_routes()
            .map_err(kernel_problem)?;
        let boot = self.boot_id()?;
        let memory = &mut self.node.memory;
        let (Some(desired), Some(facts)) = (&memory.desired, &memory.facts) else {
            return Ok(());
        };
        let records: Vec<AttachmentRecord> = memory
            .records
            .iter()
            .filter(|record| record.boot_id == boot)
            .cloned()
            .collect();
        let is_pods = |route: &RouteInfo| is_pod_route(route, facts);
        let keys = |route: &RouteInfo| route.spec.dev.map(|index| (route.spec.key.clone(), index));
        memory
            .seen
            .extend(owned.iter().filter(|route| is_pods(route)).filter_map(keys));
        memory
            .seen
            .retain(|(_, index)| facts.links.contains_key(index));
        let mut wanted = compute_pod_routes(&records, facts, &memory.seen, now_ms());
        wanted.extend(
            desired
                .routes
                .iter()
                .map(|(key, route)| (key.clone(), route.clone())),
        );
        let ops = diff_routes(&wanted, &owned, |route| {
            route.protocol == ROUTE_PROTOCOL && !is_pods(route)
        });
        let applied = apply_routes(&mut self.kernel.netlink, &ops);

        let metrics = &self.node.shared.metrics;
        metrics
            .routes
            .get_or_create(&StateLabel { state: "wanted" })
            .set(to_i64(wanted.len()));
        metrics
            .routes
            .get_or_create(&StateLabel { state: "present" })
            .set(to_i64(owned.len() + applied.added - applied.removed));
        for (kind, count) in [
            ("added", applied.added),
            ("replaced", applied.replaced),
            ("removed", applied.removed),
        ] {
            metrics
                .route_changes
                .get_or_create(&KindLabel { kind })
                .inc_by(count as u64);
        }
        if applied.changed() > 0 {
            self.outcome.changed = true;
            tracing::info!(
                added = applied.added,
                replaced = applied.replaced,
                removed = applied.removed,
                repair = settled,
                "routes changed"
            );
        }
        if settled && applied.changed() > 0 {
            self.outcome.repaired = true;
            metrics.route_repairs.inc_by(applied.changed() as u64);
        }
        self.node.memory.route_problems = applied.problems;
        Ok(())
    }

    /// Our nftables table.
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
                memory.table.forget();
                memory
                    .table_problems
                    .push(Problem::new(ProblemKind::Nftables, error.to_string()));
            }
        }
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
            cluster: desired.cluster.clone(),
            ports,
        };
        let state = &node.state;
        let mut read_again = || {
            let (records, _) = state.list_records()?;
            Ok(compute_ports(&of_boot(&records), facts, now_ms()).0)
        };
        memory.table.ensure(
            &node.settings.nft_program,
            state,
            &mut self.kernel.netfilter,
            &model,
            &mut read_again,
        )
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
            tracing::info!(kind, "wrote the nftables table");
        }
        metrics.element_repairs.inc_by(changes.elements as u64);
    }

    pub(super) fn ensure_sysctls(&mut self) {
        let node = &mut *self.node;
        let (Some(desired), Some(facts)) = (&node.memory.desired, &node.memory.facts) else {
            return;
        };
        let root = &node.settings.proc_sys;
        node.memory.slow_problems =
            ensure_sysctls(root, &mut self.kernel.netlink, facts, desired.has_ipv6());
    }

    pub(super) fn collect_leaks(&mut self) {
        let boot = match self.boot_id() {
            Ok(boot) => boot,
            Err(problem) => return self.node.memory.slow_problems.push(problem),
        };
        let node = &mut *self.node;
        let memory = &mut node.memory;
        let Some(facts) = &memory.facts else { return };
        let context = LeakContext {
            state: &node.state,
            network: &node.settings.network_name,
            boot_id: &boot,
            grace: node.settings.leak_grace_period,
            now: self.now,
        };
        // Read after the links: a record that came since then has its link still to come, and the grace period.
        let (records, _) = observe_records(&node.state);
        let Freed {
            records,
            addresses,
            problems,
        } = memory
            .leaks
            .collect(&context, &mut self.kernel.netfilter, &records, facts);
        let freed = &node.shared.metrics.leaks_freed;
        freed
            .get_or_create(&KindLabel { kind: "record" })
            .inc_by(records as u64);
        freed
            .get_or_create(&KindLabel { kind: "address" })
            .inc_by(addresses as u64);
        memory.slow_problems.extend(problems);
    }

    /// Gauges that are too dear for every pass.
    pub(super) fn measure(&mut self) {
        let node = &*self.node;
        let metrics = &node.shared.metrics;
        metrics.attachments.set(to_i64(node.memory.records.len()));
        let Some(desired) = &node.memory.desired else {
            return;
        };
        let ranges: Vec<_> = desired
            .pod_cidrs
            .iter()
            .map(|cidr| serde_json::json!([{ "subnet": cidr }]))
            .collect();
        let ipam_object =
            serde_json::Map::from_iter([("ranges".to_owned(), serde_json::Value::from(ranges))]);
        let ipam = Ipam::open(
            node.state.ipam_dir(),
            &node.settings.network_name,
            Holder::Slash32,
        );
        if let Ok(usage) =
            IpamConfig::parse(&ipam_object, None).and_then(|config| ipam.usage(&config))
        {
            let set = |state, value| {
                metrics
                    .ipam_addresses
                    .get_or_create(&StateLabel { state })
                    .set(value)
            };
            set("used", usage.used as f64);
            set("free", usage.free as f64);
            set("cooling", usage.cooling as f64);
        }
    }

    fn boot_id(&mut self) -> Result<String, Problem> {
        if let Some(boot) = &self.node.memory.boot_id {
            return Ok(boot.clone());
        }
        let boot = node_state::boot_id()
            .map_err(|error| Problem::new(ProblemKind::State, error.to_string()))?;
        self.node.memory.boot_id = Some(boot.clone());
        Ok(boot)
    }
}

impl Reconciler {
    /// After a pass that converged: the ready stamp, then the conflist, which lets pods come. True when both stand.
    pub(super) fn finish(&mut self, outcome: &mut Outcome) -> bool {
        let Some(desired) = &self.memory.desired else {
            return false;
        };
        if let Err(error) = self.ensure_ready() {
            outcome
                .problems
                .push(Problem::new(ProblemKind::State, error.to_string()));
            return false;
        }
        match ensure_conflist(&self.settings, &compute_conflist(&self.settings, desired)) {
            Ok(written) => {
                if written {
                    tracing::info!(
                        file = self.settings.cni_conf_name,
                        mtu = desired.mtu,
                        "wrote the CNI configuration"
                    );
                }
                true
            }
            Err(error) => {
                outcome
                    .problems
                    .push(Problem::new(ProblemKind::State, error.to_string()));
                false
            }
        }
    }

    /// Says since when; a stamp of this boot that is there already keeps its moment.
    fn ensure_ready(&self) -> Result<(), node_state::StateError> {
        let boot_id = node_state::boot_id()?;
        let agent_version = env!("CARGO_PKG_VERSION").to_owned();
        let there = self
            .state
            .read_ready()
            .ok()
            .flatten()
            .filter(|stamp| stamp.boot_id == boot_id);
        if there
            .as_ref()
            .is_some_and(|stamp| stamp.agent_version == agent_version)
        {
            return Ok(());
        }
        let since_ms = there.map_or_else(now_ms, |stamp| stamp.since_ms);
        self.state.write_ready(&ReadyStamp {
            boot_id,
            agent_version,
            since_ms,
        })
    }
}
