//! What a test asks of the cluster's API: by kubectl, as a user does, and by plain GET where it polls (a kubectl takes
//! a tenth of a second of a core each time).

use crate::cluster::{Cluster, tools};
use crate::machine::{Outcome, finish};
use crate::wait;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::process::Command;
use std::time::Duration;

/// What a pod may take to become Ready, or to go.
pub const PATIENCE: Duration = Duration::from_secs(120);

impl Cluster {
    /// kubectl from outside the cluster, as its administrator; its standard output, trimmed.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let outcome = self.try_kubectl(arguments, "")?;
        succeeded(&format!("kubectl {}", arguments.join(" ")), outcome)
    }

    /// The same with an input, whatever the end.
    pub fn try_kubectl(&self, arguments: &[&str], stdin: &str) -> Result<Outcome> {
        finish(
            self.kubectl_command(arguments)?,
            stdin.as_bytes(),
            PATIENCE * 2,
        )
    }

    /// For what goes on running (port-forward, logs -f).
    pub fn kubectl_command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = self.lab.client.command(tools()?.join("kubectl"));
        command
            .arg(format!("--kubeconfig={}", self.kubeconfig().display()))
            .arg("--cache-dir=/run/admin/cache")
            .args(arguments);
        Ok(command)
    }

    /// kubectl apply -f -
    pub fn apply(&self, manifest: &str) -> Result<()> {
        let outcome = self.try_kubectl(&["apply", "-f", "-"], manifest)?;
        succeeded("kubectl apply", outcome)
            .with_context(|| format!("of:\n{manifest}"))
            .map(drop)
    }

    /// Runs a command in a pod's first container.
    pub fn exec(&self, namespace: &str, pod: &str, arguments: &[&str]) -> Result<String> {
        let mut all = vec!["exec", "-n", namespace, pod, "--"];
        all.extend(arguments);
        self.kubectl(&all)
    }

    /// GET of a path of the API, as text.
    pub fn get_text(&self, path: &str) -> Result<String> {
        let server = &self.control_plane().node.addresses()[0];
        let mut command = self.lab.client.command("curl");
        command
            .args(["-sS", "--fail-with-body", "--max-time", "20", "--cacert"])
            .arg(self.kubeconfig().with_file_name("ca.crt"))
            .args(["-H", "Authorization: Bearer token-admin"])
            .arg(format!("https://{server}:6443{path}"));
        let outcome = finish(command, b"", crate::machine::PATIENCE)?;
        succeeded(&format!("GET {path}"), outcome)
    }

    /// GET of a path of the API.
    pub fn get(&self, path: &str) -> Result<Value> {
        let text = self.get_text(path)?;
        serde_json::from_str(&text).with_context(|| format!("answer to GET {path}: {text}"))
    }

    /// Polls, and ends early with the log of a component that has ended.
    pub fn wait_for(
        &self,
        what: &str,
        patience: Duration,
        mut ready: impl FnMut(&Cluster) -> Result<bool>,
    ) -> Result<()> {
        wait::until(what, patience, || {
            for host in &self.hosts {
                host.expect_alive()?;
            }
            let is_ready = ready(self)?;
            if !is_ready {
                std::thread::sleep(Duration::from_millis(100));
            }
            Ok(is_ready)
        })
        .map(drop)
    }

    /// A node's Ready condition: whether it is, and its message. None while the node has not told.
    pub fn readiness(&self, node: &str) -> Result<Option<(bool, String)>> {
        let Some(object) = self.find_node(node)? else {
            return Ok(None);
        };
        let conditions = object["status"]["conditions"].as_array().cloned();
        let ready = conditions
            .unwrap_or_default()
            .into_iter()
            .find(|condition| condition["type"] == "Ready");
        Ok(ready.map(|condition| {
            let message = condition["message"].as_str().unwrap_or_default();
            (condition["status"] == "True", message.to_owned())
        }))
    }

    /// A node's pod CIDR, once it has one.
    pub fn pod_cidr(&self, node: &str) -> Result<Option<String>> {
        let object = self.find_node(node)?;
        Ok(object.and_then(|object| object["spec"]["podCIDR"].as_str().map(str::to_owned)))
    }

    fn find_node(&self, name: &str) -> Result<Option<Value>> {
        let list = self.get("/api/v1/nodes")?;
        let nodes = list["items"].as_array().cloned().unwrap_or_default();
        Ok(nodes
            .into_iter()
            .find(|node| node["metadata"]["name"] == name))
    }

    /// Until kubectl calls a Deployment or DaemonSet rolled out.
    pub fn await_rollout(&self, namespace: &str, what: &str) -> Result<()> {
        self.kubectl(&["rollout", "status", "-n", namespace, what, "--timeout=180s"])
            .map(drop)
    }

    /// Until a node is Ready, or not.
    pub fn await_readiness(&self, node: &str, wanted: bool) -> Result<()> {
        self.wait_for(
            &format!("node {node} has Ready={wanted}"),
            PATIENCE,
            |cluster| {
                Ok(cluster
                    .readiness(node)?
                    .is_some_and(|(ready, _)| ready == wanted))
            },
        )
    }
}

fn succeeded(what: &str, outcome: Outcome) -> Result<String> {
    if !outcome.status.success() {
        bail!(
            "{what} ended with {}: {}{}",
            outcome.status,
            outcome.stdout,
            outcome.stderr
        );
    }
    Ok(outcome.stdout.trim().to_owned())
}
