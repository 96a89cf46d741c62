//! What the reconcile thread publishes: heartbeat, readiness, problems, metrics. The HTTP server shows it, and the
//! Kubernetes source writes it to this node's Node.

use crate::metrics::{KindLabel, Metrics, to_i64};
use crate::problem::Problem;
use crate::report::{AgentReport, Repairs, ReportedNode, ReportedProblem};
use crate::view::ClusterView;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The reconcile thread beats at least every few seconds, also when it has nothing to do. The longest step that it takes
/// is bounded below this (a run of nft, a lock).
const ALIVE_WITHIN: Duration = Duration::from_secs(60);

/// Shared by the threads.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) metrics: Metrics,
    started: Instant,
    status: Mutex<Status>,
    /// Told when readiness or problems change. A value of tokio that needs no runtime on this side.
    pub(crate) changed: tokio::sync::Notify,
}

#[derive(Debug)]
struct Status {
    heartbeat: Instant,
    /// Once true it stays: a later problem is shown, and does not take a node out of service whose pods run.
    ready: bool,
    /// Why it is not ready.
    waiting_for: String,
    problems: Vec<Problem>,
    /// The reconcile thread's own, shared: not a copy.
    view: Option<Arc<ClusterView>>,
}

impl Shared {
    pub(crate) fn new(now: Instant) -> Shared {
        let status = Status {
            heartbeat: now,
            ready: false,
            waiting_for: "the first pass".into(),
            problems: Vec::new(),
            view: None,
        };
        Shared {
            metrics: Metrics::new(),
            started: now,
            status: Mutex::new(status),
            changed: tokio::sync::Notify::new(),
        }
    }

    /// The reconcile thread lives.
    pub(crate) fn beat(&self, now: Instant) {
        self.lock().heartbeat = now;
    }

    /// The outcome of a pass; `converged` makes it ready for good.
    pub(crate) fn publish(&self, converged: bool, problems: Vec<Problem>) {
        self.metrics.set_problems(&problems);
        let mut status = self.lock();
        if (converged && !status.ready) || status.problems != problems {
            self.changed.notify_one();
        }
        status.ready |= converged;
        status.waiting_for = problems
            .iter()
            .find(|problem| problem.kind.blocks_ready())
            .or(problems.first())
            .map_or_else(
                || "the first view of the cluster".to_owned(),
                ToString::to_string,
            );
        status.problems = problems;
        self.metrics.ready.set(to_i64(usize::from(status.ready)));
    }

    /// Whether a whole pass has converged, and what stands against it.
    pub(crate) fn standing(&self) -> (bool, Vec<Problem>) {
        let status = self.lock();
        (status.ready, status.problems.clone())
    }

    /// For /healthz: (alive, text).
    pub(crate) fn health(&self, now: Instant) -> (bool, String) {
        let age = now.saturating_duration_since(self.lock().heartbeat);
        if age < ALIVE_WITHIN {
            (true, "ok\n".to_owned())
        } else {
            (
                false,
                format!(
                    "the reconcile thread has not moved for {} s\n",
                    age.as_secs()
                ),
            )
        }
    }

    /// For /readyz: (ready, text), with every standing problem.
    pub(crate) fn readiness(&self) -> (bool, String) {
        let status = self.lock();
        let mut text = if status.ready {
            "ready\n".to_owned()
        } else {
            format!("not ready: waiting for {}\n", status.waiting_for)
        };
        for problem in &status.problems {
            let _ = writeln!(text, "problem: {problem}");
        }
        (status.ready, text)
    }

    /// The Nodes in force.
    pub(crate) fn set_view(&self, view: Arc<ClusterView>) {
        self.lock().view = Some(view);
    }

    /// For /status.
    pub(crate) fn report(&self, now: Instant) -> AgentReport {
        let (ready, waiting_for, problems, view) = {
            let status = self.lock();
            (
                status.ready,
                status.waiting_for.clone(),
                status.problems.iter().map(ReportedProblem::from).collect(),
                status.view.clone(),
            )
        };
        let repaired = KindLabel { kind: "repair" };
        AgentReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: now.saturating_duration_since(self.started).as_secs(),
            ready,
            waiting_for: if ready { String::new() } else { waiting_for },
            problems,
            repairs: Repairs {
                routes: self.metrics.route_repairs.get(),
                table: self.metrics.table_writes.get_or_create(&repaired).get(),
                host_ports: self.metrics.element_repairs.get(),
                overruns: self.metrics.netlink_overruns.get(),
            },
            nodes: view.map(|view| view.nodes.iter().map(ReportedNode::from).collect()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::ProblemKind;

    #[test]
    fn readiness_comes_with_the_first_convergence_and_stays() {
        let shared = Shared::new(Instant::now());
        assert!(!shared.readiness().0);
        let problem = Problem::new(ProblemKind::OwnNode, "node a is not among the Nodes");
        shared.publish(false, vec![problem.clone()]);
        let (ready, text) = shared.readiness();
        assert!(
            !ready && text.contains("node a is not among the Nodes"),
            "{text}"
        );
        shared.publish(true, vec![]);
        assert_eq!(shared.readiness(), (true, "ready\n".to_owned()));
        shared.publish(false, vec![problem]);
        let (ready, text) = shared.readiness();
        assert!(ready && text.contains("problem: own_node"), "{text}");
    }

    #[test]
    fn a_thread_that_stands_still_is_told() {
        let start = Instant::now();
        let shared = Shared::new(start);
        assert!(shared.health(start).0);
        let (alive, text) = shared.health(start + Duration::from_secs(61));
        assert!(!alive && text.contains("61 s"));
    }
}
