//! The step that puts the tunnel right, before the routes that lead through it.

use super::pass::{Step, kernel_problem};
use crate::desired::tunnel::Tunnel;
use crate::problem::Problem;
use crate::sysctls::ensure_tunnel_sysctls;
use crate::tunnel::{TunnelChanges, ensure_tunnel, remove_other_tunnels, sweep_tunnel};

impl Step<'_> {
    /// The device and all that routes need of it. True where the device was made: then routes do not know it yet.
    /// `settled`: the wish is that of an earlier pass, so a change is a repair.
    pub(super) fn sync_tunnel(&mut self, settled: bool) -> bool {
        self.node.memory.tunnel_problems.clear();
        let Some(wanted) = self.wanted_tunnel() else {
            return false;
        };
        let there = self.node.memory.facts.as_ref();
        let missing = there.is_none_or(|facts| facts.find_link(&wanted.spec.name).is_none());
        if missing {
            // Whom the device may hear has to be decided before it can hear anybody.
            self.sync_table();
        }
        let result = ensure_tunnel(&mut self.kernel.netlink, &wanted);
        let made = result.as_ref().is_ok_and(|done| done.made);
        if let Some(facts) = self.node.memory.facts.as_ref().filter(|_| made) {
            let problems = ensure_tunnel_sysctls(&self.node.settings.proc_sys, facts, &wanted);
            self.node.memory.tunnel_problems.extend(problems);
        }
        self.note_tunnel(&wanted, result, settled);
        made
    }

    /// What is too much on it, after the routes.
    pub(super) fn sweep_tunnel(&mut self, settled: bool) {
        let Some(wanted) = self.wanted_tunnel() else {
            return;
        };
        let result = sweep_tunnel(&mut self.kernel.netlink, &wanted);
        self.note_tunnel(&wanted, result, settled);
    }

    fn wanted_tunnel(&self) -> Option<Tunnel> {
        self.node.memory.desired.as_ref()?.tunnel.clone()
    }

    fn note_tunnel(
        &mut self,
        wanted: &Tunnel,
        result: Result<TunnelChanges, Problem>,
        settled: bool,
    ) {
        let (problems, made, changes) = match result {
            Ok(done) => (done.problems, done.made, done.changes),
            Err(problem) => (vec![problem], false, 0),
        };
        self.node.memory.tunnel_problems.extend(problems);
        if !made && changes == 0 {
            return;
        }
        self.outcome.changed = true;
        self.outcome.repaired |= settled;
        let metrics = &self.node.shared.metrics;
        metrics.tunnel_changes.inc_by(changes.max(1) as u64);
        let link = &*wanted.spec.name;
        tracing::info!(link, changes, repair = settled, "tunnel changed");
    }

    /// After the routes have left it.
    pub(super) fn remove_other_tunnels(&mut self) -> Result<(), Problem> {
        let keep = &self.node.settings.encapsulation;
        let removed =
            remove_other_tunnels(&mut self.kernel.netlink, Some(keep)).map_err(kernel_problem)?;
        for what in &removed {
            self.outcome.changed = true;
            tracing::info!("removed {what}: another mode's");
        }
        Ok(())
    }
}
