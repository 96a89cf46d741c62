//! A pod: a namespace of its own, attached by a real ADD of the built plugin.

use crate::machine::{Machine, Outcome};
use crate::node::Node;
use anyhow::{Context, Result, bail};
use serde_json::Value;

/// An attached pod. Dropping it removes nothing: DEL is what is under test.
#[derive(Debug, Clone)]
pub struct Pod {
    /// Container ID and name.
    pub name: String,
    /// Its network.
    pub machine: Machine,
    /// The result of ADD.
    pub result: Value,
    /// What the plugin was given.
    pub request: Value,
    node: Node,
}

impl Pod {
    /// Namespace and ADD (eth0).
    pub fn add(node: &Node, name: &str, request: Value) -> Result<Pod> {
        let machine = Machine::new(&format!("{}-{name}", node.machine.name))?;
        let mut pod = Pod {
            name: name.into(),
            machine,
            result: Value::Null,
            request,
            node: node.clone(),
        };
        let outcome = pod.call("ADD")?;
        if !outcome.status.success() {
            pod.machine.remove()?;
            bail!(
                "ADD of {name} on {}: {}{}",
                node.name,
                outcome.stdout,
                outcome.stderr
            );
        }
        pod.result = serde_json::from_str(&outcome.stdout)
            .with_context(|| format!("ADD answered {:?}", outcome.stdout))?;
        Ok(pod)
    }

    /// Any verb for this pod, with prevResult once there is one.
    pub fn call(&self, verb: &str) -> Result<Outcome> {
        let mut request = self.request.clone();
        if !self.result.is_null() {
            request["prevResult"] = self.result.clone();
        }
        self.node.call(
            verb,
            &self.name,
            &self.machine.netns().to_string_lossy(),
            "eth0",
            &request,
        )
    }

    /// DEL, which must succeed, and the namespace removed after it, as runtimes do.
    pub fn del(self) -> Result<()> {
        let outcome = self.call("DEL")?;
        if !outcome.status.success() {
            bail!("DEL of {}: {}{}", self.name, outcome.stdout, outcome.stderr);
        }
        self.machine.remove()
    }

    /// The pod's addresses as the result names them, without prefix length.
    pub fn addresses(&self) -> Vec<String> {
        let ips = self.result["ips"].as_array().cloned().unwrap_or_default();
        ips.iter()
            .filter_map(|ip| ip["address"].as_str()?.split('/').next().map(str::to_owned))
            .collect()
    }

    /// The first IPv4 address.
    pub fn v4(&self) -> String {
        self.addresses()
            .into_iter()
            .find(|address| !address.contains(':'))
            .unwrap_or_default()
    }

    /// The first IPv6 address.
    pub fn v6(&self) -> String {
        self.addresses()
            .into_iter()
            .find(|address| address.contains(':'))
            .unwrap_or_default()
    }

    /// The link on the host.
    pub fn host_link(&self) -> String {
        self.result["interfaces"][0]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}
