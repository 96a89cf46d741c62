//! The loop: one plain thread that compares the whole wish with the whole node, whenever something woke it. Events carry
//! nothing that is trusted; they only shorten the wait. First the routes are put right against the last wish (a lost
//! route is traffic lost), then the node is looked at again and the wish computed anew.

use crate::pace::Pace;
use crate::problem::{Problem, ProblemKind};
use crate::settings::Settings;
use crate::status::Shared;
use crate::view::ClusterView;
use crate::wake::{Waker, Wakes};
use node_state::StateDir;
use pass::Memory;
use std::sync::Arc;
use std::time::{Duration, Instant};

mod finish;
mod kernel;
mod pass;
mod pod_links;
mod routes;
mod slow;
mod table;
mod tunnels;

/// The heartbeat, also of an idle thread.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// How long the first pass waits for the first view, before it says that there is none.
const FIRST_VIEW: Duration = Duration::from_secs(1);

/// Passes that `run --once` may need: one to act, one to see that nothing is left to do, some for doubled routes.
const PASSES_OF_ONCE: usize = 5;

/// What one pass came to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Something had to be changed.
    pub(crate) changed: bool,
    /// Something had to be changed although the wish was the same as before: another program's doing.
    pub(crate) repaired: bool,
    pub(crate) problems: Vec<Problem>,
}

impl Outcome {
    /// True where this node's own pods have their network.
    pub(crate) fn converged(&self) -> bool {
        !self
            .problems
            .iter()
            .any(|problem| problem.kind.blocks_ready())
    }
}

/// The thread's state.
#[derive(Debug)]
pub(crate) struct Reconciler {
    settings: Arc<Settings>,
    state: StateDir,
    shared: Arc<Shared>,
    started: Instant,
    view: Option<Arc<ClusterView>>,
    /// The newest answer of the source, where it was a refusal.
    source_problem: Option<Problem>,
    memory: Memory,
}

impl Reconciler {
    pub(crate) fn new(settings: Arc<Settings>, shared: Arc<Shared>) -> Reconciler {
        let state = StateDir::new(settings.state_dir.clone());
        Reconciler {
            settings,
            state,
            shared,
            started: Instant::now(),
            view: None,
            source_problem: None,
            memory: Memory::default(),
        }
    }

    /// Until `Waker::stop`. The kernel stays as it is: an upgrade of the agent must cut nothing off.
    pub(crate) fn run(mut self, waker: &Waker) {
        let mut pace = Pace::new(Instant::now());
        let (mut resync_at, mut retry_at) = (Instant::now() + FIRST_VIEW, None);
        loop {
            self.shared.beat(Instant::now());
            let wakes = waker.wait_until(self.next_look(resync_at, retry_at));
            if wakes.stop {
                return;
            }
            let start = Instant::now();
            let full =
                start >= resync_at || wakes.unknown || retry_at.is_some_and(|at| start >= at);
            if !(full || wakes.any() || self.memory.is_due(start)) {
                continue;
            }
            self.shared.metrics.netlink_overruns.inc_by(wakes.overruns);
            let outcome = self.pass(wakes, full, start);
            waker.watch_tunnel(self.memory.tunnel_link());
            let end = Instant::now();
            if full {
                resync_at = end + self.settings.resync_interval;
            }
            let retry = outcome
                .problems
                .iter()
                .any(|problem| problem.kind.is_retried());
            retry_at = pace.retry_after(retry).map(|delay| end + delay);
            waker.pause(pace.rest(end, end - start, outcome.repaired));
        }
    }

    /// For `run --once`: the last pass's problems, empty where everything is as it should be.
    pub(crate) fn run_once(mut self, view: Result<ClusterView, Problem>) -> Vec<Problem> {
        let mut view = Some(view.map(Arc::new));
        let mut outcome = Outcome::default();
        for _ in 0..PASSES_OF_ONCE {
            let wakes = Wakes {
                view: view.take(),
                ..Wakes::default()
            };
            outcome = self.pass(wakes, true, Instant::now());
            if !outcome.changed {
                break;
            }
        }
        outcome.problems
    }

    fn next_look(&self, resync_at: Instant, retry_at: Option<Instant>) -> Instant {
        let heartbeat = Instant::now() + HEARTBEAT;
        let due = [Some(resync_at), retry_at, self.memory.due_at()];
        due.into_iter().flatten().fold(heartbeat, Instant::min)
    }

    fn pass(&mut self, mut wakes: Wakes, full: bool, start: Instant) -> Outcome {
        let new_view = wakes.view.take();
        let view_changed = new_view.is_some_and(|answer| self.take_view(answer));
        let since = wakes.view_since.take().filter(|_| view_changed);
        if full || !self.memory.plugins_looked_at {
            self.ensure_plugins();
        }
        let mut outcome = match self.view.clone() {
            Some(view) => self.pass_with(&view, &wakes, full, view_changed, start),
            // Nothing is decided, and so nothing deleted, before the first whole view.
            None => Outcome::default(),
        };
        outcome.problems.extend(self.source_problem.clone());
        let plugin_problems = &self.memory.plugin_problems;
        outcome.problems.extend(plugin_problems.iter().cloned());
        let patience_is_over = start >= self.started + FIRST_VIEW;
        if self.view.is_none() && self.source_problem.is_none() && patience_is_over {
            outcome.problems.push(self.no_view_yet());
        }
        let converged = self.view.is_some() && outcome.converged() && self.finish(&mut outcome);
        self.memory.log.note(&outcome.problems);
        self.shared
            .metrics
            .reconcile_duration
            .observe(start.elapsed().as_secs_f64());
        if let Some(since) = since {
            let metrics = &self.shared.metrics;
            metrics
                .view_to_kernel
                .observe(since.elapsed().as_secs_f64());
        }
        self.shared.publish(converged, outcome.problems.clone());
        outcome
    }

    fn no_view_yet(&self) -> Problem {
        match self.settings.nodes_file {
            Some(_) => Problem::new(
                ProblemKind::NodesFile,
                "the file of Nodes has not been read yet",
            ),
            None => Problem::new(
                ProblemKind::Api,
                "the API server has not told its Nodes yet",
            ),
        }
    }

    /// True where the view is another one now. A refusal leaves the old one standing.
    fn take_view(&mut self, answer: Result<Arc<ClusterView>, Problem>) -> bool {
        let metrics = &self.shared.metrics;
        if self.settings.nodes_file.is_some() {
            metrics.count_reading_of_file(answer.is_ok());
        }
        match answer {
            Err(problem) => {
                self.source_problem = Some(problem);
                false
            }
            Ok(view) => {
                self.source_problem = None;
                metrics.nodes.set(crate::metrics::to_i64(view.nodes.len()));
                let changed = self.view.as_ref() != Some(&view);
                if changed {
                    tracing::info!(nodes = view.nodes.len(), "a new view of the cluster");
                }
                self.shared.set_view(view.clone());
                self.view = Some(view);
                changed
            }
        }
    }
}
