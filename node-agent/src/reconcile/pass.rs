//! One pass over a known view, as a sequence of steps, and what is remembered between passes. Memory is for speed only:
//! a fresh process does the same with none.

use super::kernel::Kernel;
use super::{Outcome, Reconciler};
use crate::desired::pods::SeenRoutes;
use crate::desired::{Desired, compute_desired, peer_addresses};
use crate::facts::Facts;
use crate::leaks::Leaks;
use crate::netfilter::Netfilter;
use crate::observe::{observe_links, observe_records, observe_ways};
use crate::problem::{Problem, ProblemKind, ProblemLog};
use crate::view::ClusterView;
use crate::wake::Wakes;
use dataplane::error::KernelError;
use node_state::record::AttachmentRecord;
use std::time::{Duration, Instant};

/// A route that changed may move the way to a peer. With thousands of peers, asking costs tens of milliseconds: not more
/// often than this. Links and addresses count at once.
const WAYS_INTERVAL: Duration = Duration::from_secs(1);
/// Looking at iptables starts programs that read everybody's rules: not more often than this, whatever happens.
const DEAR_LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The legacy kernel tells nobody of changes: how long one of them may go unseen.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// What the last pass left.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) kernel: Option<Kernel>,
    pub(super) facts: Option<Facts>,
    pub(super) desired: Option<Desired>,
    /// Of this boot and of others.
    pub(super) records: Vec<AttachmentRecord>,
    pub(super) record_problems: Vec<Problem>,
    pub(super) boot_id: Option<String>,
    pub(super) seen: SeenRoutes,
    pub(super) netfilter: Netfilter,
    pub(super) leaks: Leaks,
    pub(super) log: ProblemLog,
    /// Problems of steps that not every pass takes, until their next turn.
    pub(super) slow_problems: Vec<Problem>,
    pub(super) table_problems: Vec<Problem>,
    pub(super) forward_problems: Vec<Problem>,
    pub(super) route_problems: Vec<Problem>,
    pub(super) tunnel_problems: Vec<Problem>,
    pub(super) plugin_problems: Vec<Problem>,
    pub(super) plugins_looked_at: bool,
    /// Why the wish is not that of the newest view: this node's own Node. The old wish stands.
    undecided: Option<Problem>,
    /// When the ways to peers may have moved, and are to be asked for again.
    ways_due: Option<Instant>,
    ways_asked: Option<Instant>,
    /// When the packet filter is to be looked at, and was.
    netfilter_due: Option<Instant>,
    netfilter_seen: Option<Instant>,
}

impl Memory {
    /// The next moment at which the memory itself asks for a pass.
    pub(super) fn due_at(&self) -> Option<Instant> {
        [self.ways_due, self.netfilter_due]
            .into_iter()
            .flatten()
            .min()
    }

    /// Index of the tunnel's link, where there is one.
    pub(super) fn tunnel_link(&self) -> Option<u32> {
        let tunnel = self.desired.as_ref()?.tunnel.as_ref()?;
        self.facts.as_ref()?.find_link(&tunnel.spec.name)
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due_at().is_some_and(|due| now >= due)
    }

    /// True where other people's tables are to be looked at in this pass, and ours where that is as dear; else a later one
    /// may be set.
    fn wants_dear_look(&mut self, wakes: &Wakes, now: Instant) -> bool {
        let own = self.netfilter.looks_are_dear() && (wakes.links || wakes.table);
        if own || wakes.shared_table {
            let soon = self
                .netfilter_seen
                .map_or(now, |seen| seen + DEAR_LOOK_INTERVAL);
            self.netfilter_due = Some(self.netfilter_due.map_or(soon, |due| due.min(soon)));
        }
        self.netfilter_due.is_some_and(|due| now >= due)
    }

    pub(super) fn note_netfilter_look(&mut self, now: Instant) {
        self.netfilter_seen = Some(now);
        self.netfilter_due = self.netfilter.must_poll().then(|| now + POLL_INTERVAL);
    }
}

impl Reconciler {
    /// Never fails as a whole: what went wrong is in the outcome, and the sockets are opened anew next time.
    pub(super) fn pass_with(
        &mut self,
        view: &ClusterView,
        wakes: &Wakes,
        full: bool,
        view_changed: bool,
        now: Instant,
    ) -> Outcome {
        let mut outcome = Outcome {
            problems: view.problems.clone(),
            ..Outcome::default()
        };
        let kernel = match self.memory.kernel.take().map_or_else(Kernel::open, Ok) {
            Ok(kernel) => kernel,
            Err(error) => {
                outcome
                    .problems
                    .push(Problem::new(ProblemKind::Kernel, error.to_string()));
                return outcome;
            }
        };
        let mut step = Step {
            node: self,
            kernel,
            outcome,
            now,
        };
        match step.run(view, wakes, full, view_changed) {
            Ok(()) => {
                let Step {
                    kernel, outcome, ..
                } = step;
                self.memory.kernel = Some(kernel);
                outcome
            }
            Err(problem) => {
                let mut outcome = step.outcome;
                outcome.problems.push(problem);
                outcome
            }
        }
    }
}

/// A pass under way.
pub(super) struct Step<'a> {
    pub(super) node: &'a mut Reconciler,
    pub(super) kernel: Kernel,
    pub(super) outcome: Outcome,
    pub(super) now: Instant,
}

impl Step<'_> {
    fn run(
        &mut self,
        view: &ClusterView,
        wakes: &Wakes,
        full: bool,
        view_changed: bool,
    ) -> Result<(), Problem> {
        let first = self.node.memory.desired.is_none();
        // Not before a tunnel that somebody set down is up again.
        let tunnel_first = wakes.links && self.node.memory.tunnel_link().is_some();
        if wakes.routes && !first && !tunnel_first {
            self.sync_routes(true)?;
        }
        let slow = full || first;
        let dear_look = slow || self.node.memory.wants_dear_look(wakes, self.now);
        let cheap = !self.node.memory.netfilter.looks_are_dear();
        let look = dear_look || cheap && (wakes.links || wakes.table);
        if look && !(slow || wakes.links) {
            self.read_records();
        }
        let changed = self.refresh(view, wakes, slow, view_changed)?;
        if slow {
            self.ensure_sysctls();
        }
        if slow || wakes.links {
            self.raise_pod_links()?;
        }
        let tunnel = slow || changed || wakes.links || wakes.entries;
        if tunnel && self.sync_tunnel(!changed) {
            self.look_again(view)?;
        }
        if slow || changed || wakes.links {
            self.sync_routes(!changed)?;
        }
        if tunnel {
            self.sweep_tunnel(!changed);
        }
        if changed || look {
            self.sync_table();
        }
        if dear_look {
            self.open_forward();
        }
        if slow {
            self.remove_other_tunnels()?;
            self.collect_leaks();
            self.measure();
        }
        let memory = &self.node.memory;
        let standing = memory.record_problems.iter().chain(&memory.slow_problems);
        let standing = standing
            .chain(&memory.table_problems)
            .chain(&memory.forward_problems)
            .chain(&memory.route_problems)
            .chain(&memory.tunnel_problems)
            .chain(&memory.undecided);
        let standing = standing.chain(memory.desired.iter().flat_map(|desired| &desired.problems));
        self.outcome.problems.extend(standing.cloned());
        Ok(())
    }

    /// Looks at the node and computes the wish again, as far as either may have changed. True where the wish did.
    fn refresh(
        &mut self,
        view: &ClusterView,
        wakes: &Wakes,
        full: bool,
        view_changed: bool,
    ) -> Result<bool, Problem> {
        if wakes.routes {
            let last = self.node.memory.ways_asked.unwrap_or(self.now);
            self.node
                .memory
                .ways_due
                .get_or_insert(last + WAYS_INTERVAL);
        }
        let due = self.node.memory.ways_due;
        let ways_due = full || due.is_some_and(|due| self.now >= due);
        if !(ways_due || view_changed || wakes.links) {
            return Ok(false);
        }
        self.read_records();
        let mut facts = observe_links(&mut self.kernel.netlink).map_err(kernel_problem)?;
        let old = self.node.memory.facts.take();
        match old
            .as_ref()
            .filter(|old| !ways_due && old.same_underlay(&facts))
        {
            // One Node more in thousands is one question more.
            Some(old) => {
                facts.ways.clone_from(&old.ways);
                if view_changed {
                    self.ask_new_ways(view, &mut facts)?;
                }
            }
            None => {
                self.ask_new_ways(view, &mut facts)?;
                self.node.memory.ways_due = None;
                self.node.memory.ways_asked = Some(self.now);
            }
        }
        // Links of pods decide nothing about Nodes.
        let same = !view_changed
            && old.is_some_and(|old| old.same_underlay(&facts) && old.ways == facts.ways);
        let memory = &mut self.node.memory;
        let facts = memory.facts.insert(facts);
        if same && memory.undecided.is_none() && memory.desired.is_some() {
            return Ok(false);
        }
        match compute_desired(&self.node.settings, view, facts) {
            Ok(desired) => {
                let changed = memory.desired.as_ref() != Some(&desired);
                if memory.desired.as_ref().map(|old| &old.addresses) != Some(&desired.addresses) {
                    tell_addresses(&desired, facts);
                }
                (memory.desired, memory.undecided) = (Some(desired), None);
                Ok(changed)
            }
            Err(problem) => {
                memory.undecided = Some(problem);
                Ok(false)
            }
        }
    }

    /// The same wish once more, now that the tunnel's device has an index.
    fn look_again(&mut self, view: &ClusterView) -> Result<(), Problem> {
        let mut facts = observe_links(&mut self.kernel.netlink).map_err(kernel_problem)?;
        let memory = &mut self.node.memory;
        if let Some(old) = memory.facts.take() {
            facts.ways = old.ways;
        }
        let facts = memory.facts.insert(facts);
        if let Ok(desired) = compute_desired(&self.node.settings, view, facts) {
            memory.desired = Some(desired);
        }
        Ok(())
    }

    fn ask_new_ways(&mut self, view: &ClusterView, facts: &mut Facts) -> Result<(), Problem> {
        let peers = peer_addresses(&self.node.settings, view);
        observe_ways(&mut self.kernel.netlink, facts, &peers).map_err(kernel_problem)
    }

    fn read_records(&mut self) {
        let (records, problems) = observe_records(&self.node.state);
        self.node.memory.records = records;
        self.node.memory.record_problems = problems;
    }
}

/// A node may have many addresses: this says which of them peers send to, and where it is.
fn tell_addresses(desired: &Desired, facts: &Facts) {
    for address in &desired.addresses {
        let link = facts.find_holder(*address).map(|(_, link)| &*link.name);
        tracing::info!(%address, link = link.unwrap_or("none"), "this node's address");
    }
}

pub(super) fn kernel_problem(error: KernelError) -> Problem {
    Problem::new(ProblemKind::Kernel, error.to_string())
}
