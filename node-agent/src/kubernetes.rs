//! The API server as source of Nodes, and what the agent writes there: the condition NetworkUnavailable of this node's
//! Node, and Events about what a user must act upon. Everything behind `Waker::set_view` is the same code as with a
//! file. All of it runs on `run`'s one thread; nothing in the reconcile thread ever waits for the API server.
//!
//! ```text
//! access (credentials, connection) -> watch (list, follow, resume) -> store (slim Nodes) -> Waker
//!                                  \-> report (condition, event)  <- Shared (readiness, problems)
//! ```

use crate::problem::{Problem, ProblemKind};
use crate::settings::Settings;
use crate::status::Shared;
use crate::view::ClusterView;
use crate::wake::Waker;
use access::Access;
use report::Reporter;
use std::sync::Arc;
use watch::Watch;

mod access;
mod backoff;
mod condition;
mod event;
mod failure;
mod list;
mod node;
mod report;
mod store;
mod watch;

/// The source, not connected yet.
#[derive(Debug, Clone)]
pub(crate) struct Kubernetes {
    access: Access,
    node: Box<str>,
}

impl Kubernetes {
    /// `Err` where neither a setting nor the pod's surroundings name an API server.
    pub(crate) fn from_settings(settings: &Settings) -> Result<Kubernetes, Problem> {
        let access = Access::from_settings(settings).ok_or_else(|| {
            Problem::new(
                ProblemKind::Api,
                "no source of Nodes: in a pod of the cluster the service account is used, elsewhere set kubeconfig \
                 (--kubeconfig, SLASH32_KUBECONFIG), or nodesFile (--nodes-file, SLASH32_NODES_FILE) to a file as \
                 'kubectl get nodes -o yaml' prints it",
            )
        })?;
        Ok(Kubernetes {
            access,
            node: settings.node_name.as_str().into(),
        })
    }

    /// All Nodes once, for `run --once`.
    pub(crate) async fn read_view(&self) -> Result<ClusterView, Problem> {
        let read = async {
            let client = self.access.connect().await?;
            list::list(&client, &self.node).await
        };
        match read.await {
            Ok((store, _)) => Ok(store.view()),
            Err(failure) => Err(failure.problem(self.access.url(), "list nodes", None)),
        }
    }

    /// Watches and reports until the process ends.
    pub(crate) async fn run(self, waker: Arc<Waker>, shared: Arc<Shared>) {
        let (own, of_own) = tokio::sync::watch::channel(None);
        let reporter = Reporter::new(self.access.clone(), &self.node, shared.clone(), of_own);
        let watch = Watch::new(self.access, &self.node, waker, shared, own);
        tokio::join!(watch.run(), reporter.run());
    }
}
