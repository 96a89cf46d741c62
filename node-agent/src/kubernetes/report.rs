//! Writes what the agent has to say to its Node: the condition, and Events. Woken by a change of the Node, of readiness
//! or of the problems. Connections are made for each writing and not kept: it happens a few times in an agent's life.

use super::access::Access;
use super::backoff::{Backoff, random};
use super::condition::{self, ConditionPace};
use super::event::{self, Ledger};
use super::failure::Failure;
use super::list::within_patience;
use super::node::OwnNode;
use crate::metrics::KindLabel;
use crate::status::Shared;
use axum::http::{Request, header};
use k8s_openapi::jiff::Timestamp;
use serde::de::IgnoredAny;
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch::Receiver;

const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Also for what is forbidden: somebody may apply the ClusterRole yet.
const LAST_RETRY: Duration = Duration::from_secs(300);

/// The state of the writer.
#[derive(Debug)]
pub(super) struct Reporter {
    access: Access,
    node: Box<str>,
    shared: Arc<Shared>,
    own: Receiver<Option<OwnNode>>,
    pace: ConditionPace,
    ledger: Ledger,
    backoff: Backoff,
    /// Failures are told once, and again when they change.
    complaint: Option<String>,
}

impl Reporter {
    pub(super) fn new(
        access: Access,
        node: &str,
        shared: Arc<Shared>,
        own: Receiver<Option<OwnNode>>,
    ) -> Reporter {
        Reporter {
            access,
            node: node.into(),
            shared,
            own,
            pace: ConditionPace::default(),
            ledger: Ledger::new(random()),
            backoff: Backoff::new(FIRST_RETRY, LAST_RETRY),
            complaint: None,
        }
    }

    /// Until the source ends.
    pub(super) async fn run(mut self) {
        let mut retry_at = None;
        loop {
            let now = Instant::now();
            let due = match retry_at.filter(|at| now < *at) {
                Some(at) => Some(at),
                None => match self.turn(now).await {
                    Ok(due) => {
                        retry_at = None;
                        due
                    }
                    Err(()) => {
                        retry_at = Some(now + self.backoff.after_failure(random()));
                        retry_at
                    }
                },
            };
            let timer = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.own.changed() => if changed.is_err() { return },
                () = self.shared.changed.notified() => {}
                () = timer => {}
            }
        }
    }

    /// Writes what is due, and says when something will be.
    async fn turn(&mut self, now: Instant) -> Result<Option<Instant>, ()> {
        // Without the API server there is nothing to write to; `watch` says so already, and tells when it is back.
        let own = self.own.borrow_and_update().clone();
        let Some(own) = own.filter(|_| self.shared.metrics.api_up.get() == 1) else {
            return Ok(None);
        };
        let (ready, problems) = self.shared.standing();
        let mut due = None;
        if ready && !condition::stands(own.network_unavailable.as_ref()) {
            due = Some(self.pace.due(now)).filter(|due| *due > now);
            if due.is_none() {
                self.write_condition(&own).await?;
                self.pace.written(now);
                // Not again before the watch has shown it.
                due = Some(self.pace.due(now));
            }
        }
        let nodes = usize::try_from(self.shared.metrics.nodes.get()).unwrap_or(0);
        let standing = event::select(&problems, &self.node, nodes);
        loop {
            let (telling, again) = self.ledger.next(&standing, nodes, now);
            let Some(telling) = telling else {
                return Ok(due.into_iter().chain(again).min());
            };
            let body = event::render(&telling, &self.node, &own.uid, Timestamp::now());
            let request = Request::post("/apis/events.k8s.io/v1/namespaces/default/events")
                .header(header::CONTENT_TYPE, "application/json");
            self.send("event", "create events", request, &body).await?;
            self.ledger.told(&telling, now);
        }
    }

    async fn write_condition(&mut self, own: &OwnNode) -> Result<(), ()> {
        let body = condition::render_patch(own.network_unavailable.as_ref(), Timestamp::now());
        let request = Request::patch(format!("/api/v1/nodes/{}/status", self.node)).header(
            header::CONTENT_TYPE,
            "application/strategic-merge-patch+json",
        );
        self.send("condition", "patch nodes/status", request, &body)
            .await
    }

    /// `what` is verb and resource, for the message.
    async fn send(
        &mut self,
        kind: &'static str,
        what: &str,
        request: axum::http::request::Builder,
        body: &Value,
    ) -> Result<(), ()> {
        let metrics = &self.shared.metrics;
        match self.try_send(request, body).await {
            Ok(()) => {
                metrics.api_writes.get_or_create(&KindLabel { kind }).inc();
                self.backoff.reset();
                self.complaint = None;
                Ok(())
            }
            Err(failure) => {
                let kind = failure.kind.as_str();
                metrics.api_errors.get_or_create(&KindLabel { kind }).inc();
                let text = failure.problem(self.access.url(), what, None).text;
                if self.complaint.as_ref() != Some(&text) {
                    tracing::warn!("{text}");
                }
                self.complaint = Some(text);
                Err(())
            }
        }
    }

    async fn try_send(
        &self,
        request: axum::http::request::Builder,
        body: &Value,
    ) -> Result<(), Failure> {
        let client = self.access.connect().await?;
        let request = request
            .body(body.to_string().into_bytes())
            .map_err(|error| Failure::of(&kube::Error::HttpError(error)))?;
        let answer = within_patience(client.request::<IgnoredAny>(request));
        answer.await.map(drop)
    }
}
