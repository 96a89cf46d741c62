//! A test's own namespace in a cluster, and pods in it that answer whom they see.
//!
//! A pod of [`Space::pods`] runs agnhost's netexec: HTTP on 8080 (/clientip, /hostname, /shell?cmd=...), UDP on 8081
//! ("clientip", "hostname").

use crate::cluster::Cluster;
use crate::cluster::images::AGNHOST;
use crate::machine::Machine;
use crate::wait;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

/// Port of netexec's HTTP.
pub const HTTP: u16 = 8080;
/// Port of netexec's UDP.
pub const UDP: u16 = 8081;

/// A namespace; its removal begins when it is dropped.
#[derive(Debug)]
pub struct Space<'a> {
    /// The cluster that it is in.
    pub cluster: &'a Cluster,
    /// The namespace.
    pub name: String,
}

/// A pod as the API tells it.
#[derive(Debug, Clone)]
pub struct PodInfo {
    /// metadata.name
    pub name: String,
    /// status.podIP
    pub ip: String,
    /// spec.nodeName
    pub node: String,
}

impl<'a> Space<'a> {
    /// Usable when this returns.
    pub fn new(cluster: &'a Cluster, name: &str) -> Result<Space<'a>> {
        cluster.kubectl(&["create", "namespace", name])?;
        let space = Space {
            cluster,
            name: name.into(),
        };
        // Without it the API refuses pods.
        let account = format!("/api/v1/namespaces/{name}/serviceaccounts/default");
        cluster.wait_for(
            "the namespace has its service account",
            crate::cluster::api::PATIENCE,
            |cluster| Ok(cluster.get(&account).is_ok()),
        )?;
        Ok(space)
    }

    /// kubectl apply in the namespace.
    pub fn apply(&self, manifest: &str) -> Result<()> {
        let outcome = self
            .cluster
            .try_kubectl(&["apply", "-n", &self.name, "-f", "-"], manifest)?;
        if !outcome.status.success() {
            bail!("kubectl apply: {}\nof:\n{manifest}", outcome.stderr);
        }
        Ok(())
    }

    /// kubectl in the namespace.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.cluster
            .kubectl(&[&["-n", self.name.as_str()], arguments].concat())
    }

    /// netexec pods that are Ready when this returns: (name, node). Each has a label `app` with its name.
    pub fn pods(&self, wanted: &[(&str, &str)]) -> Result<Vec<PodInfo>> {
        let mut manifest = String::new();
        for (name, node) in wanted {
            let _ = write!(manifest, "---\n{}", render_pod(name, node, ""));
        }
        self.apply(&manifest)?;
        wanted
            .iter()
            .map(|(name, _)| self.await_ready(name))
            .collect()
    }

    /// One, with more of a container's fields in flow style, comma first: `, ports: [{containerPort: 8080}]`.
    pub fn pod_with(&self, name: &str, node: &str, fields: &str) -> Result<PodInfo> {
        self.apply(&render_pod(name, node, fields))?;
        self.await_ready(name)
    }

    /// Until a pod is Ready.
    pub fn await_ready(&self, name: &str) -> Result<PodInfo> {
        self.kubectl(&[
            "wait",
            "--for=condition=Ready",
            &format!("pod/{name}"),
            "--timeout=120s",
        ])
        .with_context(|| self.kubectl(&["describe", "pod", name]).unwrap_or_default())?;
        self.pod(name)
    }

    /// A pod as it stands.
    pub fn pod(&self, name: &str) -> Result<PodInfo> {
        let object = self.get(&format!("pods/{name}"))?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(PodInfo {
            name: name.into(),
            ip: text(&object["status"]["podIP"]),
            node: text(&object["spec"]["nodeName"]),
        })
    }

    /// GET of an object of the core API in the namespace: `pods/web`, `services/web`, `endpoints/web`.
    pub fn get(&self, what: &str) -> Result<Value> {
        self.cluster
            .get(&format!("/api/v1/namespaces/{}/{what}", self.name))
    }

    /// A service's ClusterIP.
    pub fn cluster_ip(&self, service: &str) -> Result<String> {
        let object = self.get(&format!("services/{service}"))?;
        let address = object["spec"]["clusterIP"].as_str();
        Ok(address.context("a service without address")?.to_owned())
    }

    /// The port on each node of a service's n-th port.
    pub fn node_port(&self, service: &str, number: usize) -> Result<u16> {
        let object = self.get(&format!("services/{service}"))?;
        let port = object["spec"]["ports"][number]["nodePort"].as_u64();
        Ok(u16::try_from(port.context("a service without node port")?)?)
    }

    /// Runs a command in a pod.
    pub fn exec(&self, pod: &str, arguments: &[&str]) -> Result<String> {
        self.cluster.exec(&self.name, pod, arguments)
    }

    /// What curl in a pod gets from a URL within 5 s.
    pub fn fetch(&self, pod: &str, url: &str) -> Result<String> {
        self.exec(pod, &["curl", "-sS", "--fail", "--max-time", "5", url])
    }

    /// The address that a netexec saw when it was asked from a pod at `host:port`.
    pub fn seen_from(&self, pod: &str, host: &str, port: u16) -> Result<String> {
        let answer = self.fetch(pod, &url(host, port, "/clientip"))?;
        strip_port(&answer)
    }

    /// The same, until kube-proxy has heard of the service: for 30 s.
    pub fn await_seen_from(&self, pod: &str, host: &str, port: u16) -> Result<String> {
        let mut seen = None;
        let mut last = String::new();
        let waited = self.cluster.wait_for(
            &format!("{host}:{port} answers {pod}"),
            Duration::from_secs(30),
            |_| {
                match self.seen_from(pod, host, port) {
                    Ok(address) => seen = Some(address),
                    Err(error) => last = format!("{error:#}"),
                }
                Ok(seen.is_some())
            },
        );
        waited.context(last)?;
        seen.context("no answer")
    }
}

/// The address that a netexec saw when it was asked from a machine of the lab (or a node) at `host:port`; an error after 5 s
/// without an answer.
pub fn seen_from_outside(machine: &Machine, host: &str, port: u16) -> Result<String> {
    let address = url(host, port, "/clientip");
    let answer = machine.read(&["curl", "-sS", "--fail", "--max-time", "5", &address])?;
    strip_port(&answer)
}

/// The same for 30 s, until somebody answers.
pub fn await_seen_from_outside(machine: &Machine, host: &str, port: u16) -> Result<String> {
    let mut seen = None;
    let mut last = String::new();
    let what = format!("{host}:{port} answers {}", machine.name);
    let waited = wait::until(&what, Duration::from_secs(30), || {
        match seen_from_outside(machine, host, port) {
            Ok(address) => seen = Some(address),
            Err(error) => last = format!("{error:#}"),
        }
        Ok(seen.is_some())
    });
    waited.context(last)?;
    seen.context("no answer")
}

impl Drop for Space<'_> {
    fn drop(&mut self) {
        let deleted = self
            .cluster
            .kubectl(&["delete", "namespace", &self.name, "--wait=false"]);
        if let Err(error) = deleted {
            eprintln!("e2e: {error:#}");
        }
    }
}

/// An address as it stands in a URL.
pub fn url(host: &str, port: u16, path: &str) -> String {
    if host.contains(':') {
        format!("http://[{host}]:{port}{path}")
    } else {
        format!("http://{host}:{port}{path}")
    }
}

/// `10.0.0.1:4711` and `[fd00::1]:4711` without the port.
fn strip_port(answer: &str) -> Result<String> {
    let (address, _) = answer
        .trim()
        .rsplit_once(':')
        .with_context(|| format!("not an address with port: {answer:?}"))?;
    let bare = address.trim_matches(['[', ']']);
    bare.parse::<IpAddr>()
        .with_context(|| format!("not an address: {answer:?}"))?;
    Ok(bare.to_owned())
}

/// Short ends: netexec does not hear SIGTERM as process 1 would.
fn render_pod(name: &str, node: &str, fields: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 1
  tolerations: [{{operator: Exists}}]
  containers:
  - {{name: netexec, image: \"{AGNHOST}\", imagePullPolicy: Never, args: [netexec], readinessProbe: {{httpGet: {{path: /hostname, port: 8080}}, periodSeconds: 1}}{fields}}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_taken_off_addresses_of_both_families() {
        assert_eq!(strip_port("10.0.0.1:4711\n").unwrap(), "10.0.0.1");
        assert_eq!(strip_port("[fd00::1]:4711").unwrap(), "fd00::1");
        assert!(strip_port("no").is_err());
    }
}
