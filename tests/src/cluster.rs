//! A real Kubernetes cluster of three nodes (cp, worker1, worker2), each in namespaces and cgroups of its own on the
//! lab's network: etcd, API server, controller manager, scheduler, and on each node containerd, runc, kubelet, kube-proxy.
//!
//! ```no_run
//! # use slash32_tests::{cluster::{Cluster, Options, node_init, run::Run}, enter};
//! # use std::sync::Arc;
//! if let Some(code) = node_init::run_if_asked() { std::process::exit(0); }
//! enter::enter().unwrap();
//! let run = Arc::new(Run::begin().unwrap());
//! let cluster = Cluster::start(&run, Options::default()).unwrap();
//! println!("{}", cluster.kubectl(&["get", "nodes"]).unwrap());
//! ```

pub mod addresses;
pub mod api;
pub mod cgroups;
pub mod component;
mod components;
pub mod conformance;
pub mod dump;
pub mod host;
pub mod image;
pub mod images;
mod network;
pub mod node_init;
pub mod pki;
pub mod pod_network;
mod reboot;
pub mod run;
mod seed;
pub mod space;
mod start;

use crate::lab::Lab;
use anyhow::{Context, Result};
use host::Host;
use run::Run;
use std::path::PathBuf;
use std::sync::Arc;

/// Pods' addresses; each node gets a /24 of it.
pub const CLUSTER_CIDR: &str = "10.244.0.0/16";
/// Services' addresses.
pub const SERVICE_CIDR: &str = "10.96.0.0/16";
/// CoreDNS' service.
pub const DNS_ADDRESS: &str = "10.96.0.10";

/// How the nodes stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Topology {
    /// All on one link.
    #[default]
    Flat,
    /// worker2 behind a router that knows no pod CIDR.
    Split,
}

/// kube-proxy's back-end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum KubeProxyMode {
    /// Kubernetes' newer one.
    #[default]
    Nftables,
    /// The default of old clusters.
    Iptables,
}

/// Which container runtime: they differ in STATUS and in how a conflist is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Containerd {
    /// 1.6, Debian 12's.
    #[default]
    V1,
    /// 2.x, of a newer Debian.
    V2,
}

/// What gives pods their network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Network {
    /// Ours: image imported, manifest applied, as a user does it.
    #[default]
    Slash32,
    /// The reference plugins ptp and host-local, with static routes: what ours is compared with.
    Ptp,
}

/// A kind of cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Options {
    /// Flat or split.
    pub topology: Topology,
    /// nftables or iptables.
    pub kube_proxy: KubeProxyMode,
    /// 1.6 or 2.x.
    pub containerd: Containerd,
    /// Ours or ptp.
    pub network: Network,
}

/// A cluster that is up. Dropping it ends and removes all of it.
#[derive(Debug)]
pub struct Cluster {
    /// What it was started with.
    pub options: Options,
    /// cp, worker1, worker2.
    pub hosts: Vec<Host>,
    /// Links, router, internet, client.
    pub lab: Lab,
    /// Why each node was not Ready when all components ran and no network was installed yet: (node, message of its
    /// Ready condition).
    pub before_network: Vec<(String, String)>,
    /// Seconds from the start to each stage.
    pub stages: Vec<(String, f64)>,
    admin: PathBuf,
    run: Arc<Run>,
}

impl Cluster {
    /// A node by name.
    pub fn host(&self, name: &str) -> Result<&Host> {
        self.hosts
            .iter()
            .find(|host| host.name == name)
            .with_context(|| format!("no node {name}"))
    }

    /// The control plane's node.
    pub fn control_plane(&self) -> &Host {
        &self.hosts[0]
    }

    /// The nodes that take ordinary pods.
    pub fn workers(&self) -> &[Host] {
        &self.hosts[1..]
    }

    /// Where kubectl finds the cluster.
    pub fn kubeconfig(&self) -> PathBuf {
        self.admin.join("admin.conf")
    }

    /// The run that it belongs to.
    pub fn run(&self) -> &Run {
        &self.run
    }
}

/// The folder of Kubernetes' programs: SLASH32_K8S_TOOLS.
pub fn tools() -> Result<PathBuf> {
    let folder = PathBuf::from(std::env::var_os("SLASH32_K8S_TOOLS").context(
        "SLASH32_K8S_TOOLS is not set: run 'make e2e', or name the folder that scripts/build-k8s-tools.sh filled",
    )?);
    for program in [
        "etcd",
        "kube-apiserver",
        "kubelet",
        "kubectl",
        "coredns",
        "agnhost",
    ] {
        anyhow::ensure!(
            folder.join(program).is_file(),
            "{} is missing: scripts/build-k8s-tools.sh makes it",
            folder.join(program).display()
        );
    }
    Ok(folder)
}

/// The folder of a containerd: SLASH32_CONTAINERD/v1 or v2.
fn runtime(version: Containerd) -> Result<PathBuf> {
    let folder = PathBuf::from(std::env::var_os("SLASH32_CONTAINERD").context(
        "SLASH32_CONTAINERD is not set: run 'make e2e', or name the folder that scripts/fetch-containerd.sh filled",
    )?);
    Ok(folder.join(match version {
        Containerd::V1 => "v1",
        Containerd::V2 => "v2",
    }))
}
