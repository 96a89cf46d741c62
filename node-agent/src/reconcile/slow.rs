//! The steps of the slow timer: plugins, sysctls, leaks, gauges that are too dear for every pass.

use super::Reconciler;
use super::pass::Step;
use crate::desired::tunnel::Tunnel;
use crate::leaks::{Freed, LeakContext};
use crate::metrics::{KindLabel, StateLabel, to_i64};
use crate::observe::observe_records;
use crate::plugins::ensure_plugins;
use crate::problem::{Problem, ProblemKind};
use crate::sysctls::{ensure_sysctls, ensure_tunnel_sysctls};
use dataplane::hostport::PortEntry;
use ipam::{Holder, Ipam, IpamConfig};
use std::net::IpAddr;

impl Reconciler {
    /// Needs no view of the cluster: pods may come and go by a newer plugin already.
    pub(super) fn ensure_plugins(&mut self) {
        let (written, problems) = ensure_plugins(&self.settings);
        for plugin in written {
            tracing::info!(plugin, "installed the plugin");
        }
        self.memory.plugin_problems = problems;
        self.memory.plugins_looked_at = true;
    }
}

impl Step<'_> {
    pub(super) fn ensure_sysctls(&mut self) {
        let node = &mut *self.node;
        let (Some(desired), Some(facts)) = (&node.memory.desired, &node.memory.facts) else {
            return;
        };
        let root = &node.settings.proc_sys;
        node.memory.slow_problems = ensure_sysctls(root, &mut self.kernel.netlink, facts, desired);
        // Before the tunnel is made there is nothing to set; making it sets it.
        let there = |tunnel: &&Tunnel| facts.find_link(&tunnel.spec.name).is_some();
        if let Some(tunnel) = desired.tunnel.as_ref().filter(there) {
            let problems = ensure_tunnel_sysctls(root, facts, tunnel);
            node.memory.slow_problems.extend(problems);
        }
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
        let (netfilter, nfnetlink) = (&memory.netfilter, &mut self.kernel.netfilter);
        let mut remove_ports = |entries: &[PortEntry], pods: &[IpAddr]| {
            netfilter.remove_ports(nfnetlink, entries, pods)
        };
        let Freed {
            records,
            addresses,
            problems,
        } = memory
            .leaks
            .collect(&context, &mut remove_ports, &records, facts);
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

    pub(super) fn boot_id(&mut self) -> Result<String, Problem> {
        if let Some(boot) = &self.node.memory.boot_id {
            return Ok(boot.clone());
        }
        let boot = node_state::boot_id()
            .map_err(|error| Problem::new(ProblemKind::State, error.to_string()))?;
        self.node.memory.boot_id = Some(boot.clone());
        Ok(boot)
    }
}
