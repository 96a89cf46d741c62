//! The step that puts routes right: those of peers and those of pods, in one comparison.

use super::pass::{Step, kernel_problem};
use crate::apply::{Applied, apply_routes};
use crate::desired::pods::{compute_pod_routes, is_pod_route};
use crate::diff::diff_routes;
use crate::metrics::{KindLabel, StateLabel, to_i64};
use crate::observe::now_ms;
use crate::problem::Problem;
use dataplane::names::ROUTE_PROTOCOL;
use dataplane::route::RouteInfo;
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

        let wanted = wanted.len();
        self.count_routes(wanted, owned.len(), &applied, settled);
        self.node.memory.route_problems = applied.problems;
        Ok(())
    }

    fn count_routes(&mut self, wanted: usize, before: usize, applied: &Applied, settled: bool) {
        let metrics = &self.node.shared.metrics;
        let present = (before + applied.added).saturating_sub(applied.removed);
        for (state, count) in [("wanted", wanted), ("present", present)] {
            metrics
                .routes
                .get_or_create(&StateLabel { state })
                .set(to_i64(count));
        }
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
        if applied.changed() == 0 {
            return;
        }
        self.outcome.changed = true;
        if settled {
            self.outcome.repaired = true;
            metrics.route_repairs.inc_by(applied.changed() as u64);
        }
        tracing::info!(
            added = applied.added,
            replaced = applied.replaced,
            removed = applied.removed,
            repair = settled,
            "routes changed"
        );
    }
}
