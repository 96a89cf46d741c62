//! The agent's source of Nodes: a file in the shape that `kubectl get nodes -o yaml` prints.

use anyhow::Result;
use std::fmt::Write as _;
use std::path::Path;

/// What the agent reads of a Node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeEntry {
    /// metadata.name
    pub name: String,
    /// spec.podCIDRs
    pub pod_cidrs: Vec<String>,
    /// status.addresses of type InternalIP
    pub addresses: Vec<String>,
}

impl NodeEntry {
    /// From what a test writes.
    pub fn new(name: &str, pod_cidrs: &[&str], addresses: &[&str]) -> NodeEntry {
        let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        NodeEntry {
            name: name.into(),
            pod_cidrs: own(pod_cidrs),
            addresses: own(addresses),
        }
    }
}

/// The whole file, with the fields of a real Node around those that matter.
pub fn render(nodes: &[NodeEntry]) -> String {
    let mut text = String::from("apiVersion: v1\nitems:\n");
    for node in nodes {
        let _ = write!(text, "{}", render_node(node));
    }
    text.push_str("kind: List\nmetadata:\n  resourceVersion: \"\"\n");
    text
}

fn render_node(node: &NodeEntry) -> String {
    let name = &node.name;
    let cidrs: String = node
        .pod_cidrs
        .iter()
        .map(|cidr| format!("    - {cidr}\n"))
        .collect();
    let first = node.pod_cidrs.first().map_or_else(String::new, |cidr| {
        format!("    podCIDR: {cidr}\n    podCIDRs:\n")
    });
    let addresses: String = node
        .addresses
        .iter()
        .map(|address| format!("    - address: {address}\n      type: InternalIP\n"))
        .collect();
    format!(
        "- apiVersion: v1\n  kind: Node\n  metadata:\n    annotations:\n      node.alpha.kubernetes.io/ttl: \"0\"\n      volumes.kubernetes.io/controller-managed-attach-detach: \"true\"\n    creationTimestamp: \"2026-11-21T08:00:00Z\"\n    labels:\n      kubernetes.io/hostname: {name}\n      kubernetes.io/os: linux\n    name: {name}\n    resourceVersion: \"1234\"\n    uid: 00000000-0000-0000-0000-000000000000\n  spec:\n{first}{cidrs}    providerID: lab://{name}\n  status:\n    addresses:\n{addresses}    - address: {name}\n      type: Hostname\n    allocatable:\n      cpu: \"2\"\n      memory: 24Gi\n      pods: \"110\"\n    conditions:\n    - lastHeartbeatTime: \"2026-11-21T08:00:00Z\"\n      message: kubelet is posting ready status\n      reason: KubeletReady\n      status: \"True\"\n      type: Ready\n    nodeInfo:\n      architecture: amd64\n      kubeletVersion: v1.36.3\n"
    )
}

/// Writes the file as editors and ConfigMaps do: a new file, renamed over the old.
pub fn write(path: &Path, nodes: &[NodeEntry]) -> Result<()> {
    write_text(path, &render(nodes))
}

/// The same for any text, good or bad.
pub fn write_text(path: &Path, text: &str) -> Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, text)?;
    Ok(std::fs::rename(new, path)?)
}
