//! The end of a pass that converged: the ready stamp and the conflist, in this order, since the conflist lets pods come.

use super::{Outcome, Reconciler};
use crate::conflist::{compute_conflist, ensure_conflist};
use crate::observe::now_ms;
use crate::problem::{Problem, ProblemKind};
use node_state::ready::ReadyStamp;

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
