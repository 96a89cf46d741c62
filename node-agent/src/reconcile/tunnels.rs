//! The step that puts the tunnel right, before the routes that lead through it.

use super::pass::{Step, kernel_problem};
use crate::problem::Problem;
use crate::sysctls::ensure_tunnel_sysctls;
use crate::tunnel::{ensure_tunnel, remove_other_tunnels};

impl Step<'_> {
    /// The device and all that stands on it. True where the device was made: then routes do not know it yet.
    /// `settled`: the wish is that of an earlier pass, so a change is a repair.
    pub(super) fn sync_tunnel(&mut self, settled: bool) -> bool {
        let Some(wanted) = self
            .node
            .memory
            .desired
            .as_ref()
            .and_then(|desired| desired.tunnel.clone())
        else {
            self.node.memory.tunnel_problems.clear();
            return false;
        };
        let there = self.node.memory.facts.as_ref();
        let missing = there.is_none_or(|facts| facts.find_link(&wanted.spec.name).is_none());
        if missing {
            // Whom the device may hear has to be decided before it can hear anybody.
            self.sync_table();
        }
        let (mut problems, made, changes) = match ensure_tunnel(&mut self.kernel.netlink, &wanted) {
            Ok(done) => (done.problems, done.made, done.changes),
            Err(problem) => (vec![problem], false, 0),
        };
        if made || missing {
            let root = &self.node.settings.proc_sys;
            problems.extend(ensure_tunnel_sysctls(root, &wanted.spec.name));
        }
        self.node.memory.tunnel_problems = problems;
        if made || changes > 0 {
            self.outcome.changed = true;
            self.outcome.repaired |= settled;
            self.node
                .shared
                .metrics
                .tunnel_changes
                .inc_by(u64::try_from(changes).unwrap_or(u64::MAX).max(1));
            tracing::info!(
                link = &*wanted.spec.name,
                changes,
                repair = settled,
                "tunnel changed"
            );
        }
        made
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
