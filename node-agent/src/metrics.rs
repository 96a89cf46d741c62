//! The metrics of /metrics, OpenMetrics text. Names follow the Prometheus conventions: base units, `_total` for counters,
//! states and kinds as labels. Written by the reconcile thread, read by the HTTP server.

use crate::problem::{Problem, ProblemKind};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::AtomicU64;

/// A gauge for sizes and moments.
type FloatGauge = Gauge<f64, AtomicU64>;

/// `state="..."`
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct StateLabel {
    pub(crate) state: &'static str,
}

/// `kind="..."`
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct KindLabel {
    pub(crate) kind: &'static str,
}

/// Handles to all of them.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) nodes: Gauge,
    pub(crate) nodes_file_last_error: Gauge,
    pub(crate) nodes_file_reads: Family<StateLabel, Counter>,
    pub(crate) api_up: Gauge,
    pub(crate) api_watches: Family<KindLabel, Counter>,
    pub(crate) api_errors: Family<KindLabel, Counter>,
    pub(crate) api_writes: Family<KindLabel, Counter>,
    pub(crate) view_to_kernel: Histogram,
    pub(crate) routes: Family<StateLabel, Gauge>,
    pub(crate) route_changes: Family<KindLabel, Counter>,
    pub(crate) route_repairs: Counter,
    pub(crate) reconcile_duration: Histogram,
    pub(crate) problems: Family<KindLabel, Gauge>,
    pub(crate) ready: Gauge,
    pub(crate) attachments: Gauge,
    pub(crate) host_ports: Gauge,
    pub(crate) ipam_addresses: Family<StateLabel, FloatGauge>,
    pub(crate) table_writes: Family<KindLabel, Counter>,
    pub(crate) tunnel_changes: Counter,
    pub(crate) element_repairs: Counter,
    pub(crate) netlink_overruns: Counter,
    pub(crate) leaks_freed: Family<KindLabel, Counter>,
}

impl Metrics {
    /// All at zero, registered under the prefix `slash32_`.
    pub(crate) fn new() -> Metrics {
        let mut registry = Registry::with_prefix("slash32");
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "Version of the agent", build);
        // From the cheapest pass on an idle node to one that waits for nft on a busy one.
        let duration = Histogram::new([
            0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0,
        ]);
        registry.register_with_unit(
            "reconcile_duration",
            "Time of a whole pass",
            Unit::Seconds,
            duration.clone(),
        );
        let view_to_kernel =
            Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0]);
        registry.register_with_unit(
            "view_to_kernel",
            "Time from the first news of Nodes to the end of the pass that put them into the kernel",
            Unit::Seconds,
            view_to_kernel.clone(),
        );
        Metrics {
            nodes: gauge(&mut registry, "nodes", "Nodes in the view of the cluster"),
            nodes_file_last_error: gauge(
                &mut registry,
                "nodes_file_last_error",
                "1 while the newest content of the file of Nodes is refused",
            ),
            nodes_file_reads: family(
                &mut registry,
                "nodes_file_reads",
                "Readings of the file of Nodes, by result",
            ),
            api_up: gauge(
                &mut registry,
                "api_up",
                "1 while the watch of Nodes at the API server stands",
            ),
            api_watches: family(
                &mut registry,
                "api_watches",
                "Watches of Nodes begun: with a whole list, or resumed where the last one ended",
            ),
            api_errors: family(
                &mut registry,
                "api_errors",
                "Requests to the API server that failed, by kind",
            ),
            api_writes: family(
                &mut registry,
                "api_writes",
                "Node conditions and Events written",
            ),
            view_to_kernel,
            routes: family(
                &mut registry,
                "routes",
                "Routes of peers and pods: wanted, and those of ours that were present",
            ),
            route_changes: family(
                &mut registry,
                "route_changes",
                "Routes added, replaced and removed",
            ),
            route_repairs: counter(
                &mut registry,
                "route_repairs",
                "Routes put right that another program had changed",
            ),
            reconcile_duration: duration,
            problems: family(
                &mut registry,
                "problems",
                "Standing problems; /readyz tells them in words",
            ),
            ready: gauge(&mut registry, "ready", "1 once a whole pass converged"),
            attachments: gauge(&mut registry, "attachments", "Pod interfaces with a record"),
            host_ports: gauge(
                &mut registry,
                "host_ports",
                "Host ports of pods on this node",
            ),
            ipam_addresses: family(
                &mut registry,
                "ipam_addresses",
                "Addresses of this node's podCIDRs: used, free, cooling",
            ),
            table_writes: family(
                &mut registry,
                "nftables_writes",
                "Writes of the nftables table: whole, repaired, destinations",
            ),
            element_repairs: counter(
                &mut registry,
                "nftables_element_repairs",
                "Host-port elements put right",
            ),
            tunnel_changes: counter(
                &mut registry,
                "tunnel_changes",
                "Device, addresses and entries of the tunnel that were put right",
            ),
            netlink_overruns: counter(
                &mut registry,
                "netlink_overruns",
                "Event sockets that overflowed; everything was read again",
            ),
            leaks_freed: family(
                &mut registry,
                "leaks_freed",
                "Records and addresses freed that no pod held",
            ),
            registry,
        }
    }

    /// Every kind has a value, zero included, so that an alert can be written before the first trouble.
    pub(crate) fn set_problems(&self, problems: &[Problem]) {
        for &kind in ProblemKind::ALL {
            let count = problems
                .iter()
                .filter(|problem| problem.kind == kind)
                .count();
            self.problems
                .get_or_create(&KindLabel {
                    kind: kind.as_str(),
                })
                .set(to_i64(count));
        }
    }

    /// One reading of the file of Nodes.
    pub(crate) fn count_reading_of_file(&self, good: bool) {
        let state = if good { "ok" } else { "refused" };
        self.nodes_file_reads
            .get_or_create(&StateLabel { state })
            .inc();
        self.nodes_file_last_error.set(i64::from(!good));
    }

    /// The text for a scrape.
    pub(crate) fn render(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// For gauges; no count here comes near the limit.
pub(crate) fn to_i64(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn gauge(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    let gauge = Gauge::default();
    registry.register(name, help, gauge.clone());
    gauge
}

fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}

fn family<L, M>(registry: &mut Registry, name: &str, help: &str) -> Family<L, M>
where
    L: EncodeLabelSet + Clone + std::hash::Hash + Eq + Send + Sync + std::fmt::Debug + 'static,
    M: Default
        + prometheus_client::metrics::TypedMetric
        + prometheus_client::encoding::EncodeMetric
        + Send
        + Sync
        + std::fmt::Debug
        + 'static,
{
    let family = Family::<L, M>::default();
    registry.register(name, help, family.clone());
    family
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_is_open_metrics_with_our_prefix_and_units() {
        let metrics = Metrics::new();
        metrics.route_repairs.inc();
        metrics.reconcile_duration.observe(0.003);
        metrics.set_problems(&[Problem::new(ProblemKind::OffLink, "x")]);
        let text = metrics.render().unwrap();
        for line in [
            "slash32_route_repairs_total 1",
            "slash32_reconcile_duration_seconds_count 1",
            "slash32_problems{kind=\"off_link\"} 1",
            "slash32_problems{kind=\"kernel\"} 0",
            "slash32_build_info{version=",
            "# EOF",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(
            text.lines()
                .all(|line| line.starts_with('#') || line.starts_with("slash32_"))
        );
    }
}
