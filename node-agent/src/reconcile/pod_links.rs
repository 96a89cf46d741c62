//! The step that sets the host's sides of pods up again where another program set them down. Their routes went with that;
//! the step after this one makes them anew.

use super::pass::{Step, kernel_problem};
use crate::desired::pods::{compute_raised, compute_raised_shapers};
use crate::problem::Problem;
use node_state::record::AttachmentRecord;

impl Step<'_> {
    pub(super) fn raise_pod_links(&mut self) -> Result<(), Problem> {
        let boot = self.boot_id()?;
        let memory = &self.node.memory;
        let Some(facts) = memory.facts.as_ref().filter(|facts| !facts.down.is_empty()) else {
            return Ok(());
        };
        let records: Vec<AttachmentRecord> = memory
            .records
            .iter()
            .filter(|record| record.boot_id == boot)
            .cloned()
            .collect();
        let sides = compute_raised(&records, facts);
        let shapers = compute_raised_shapers(&records, facts);
        let netlink = &mut self.kernel.netlink;
        let raised = sides
            .iter()
            .map(|spec| (spec.index, netlink.raise_host_side(spec)));
        let mut raised: Vec<_> = raised.collect();
        raised.extend(
            shapers
                .iter()
                .map(|index| (*index, netlink.set_link_up(*index))),
        );
        for (index, result) in raised {
            match result {
                Ok(()) => {
                    let link = facts
                        .links
                        .get(&index)
                        .map_or("", |link| link.name.as_ref());
                    tracing::info!(link, "set a pod's link up again that somebody set down");
                    (self.outcome.changed, self.outcome.repaired) = (true, true);
                }
                // A DEL was faster.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(kernel_problem(error)),
            }
        }
        Ok(())
    }
}
