//! Attachment records: what the plugin knows of one pod's link, so that DEL, GC and the agent need nothing else.
//!
//! `attachments/<host link>.json`, one file per attachment. Written before the kernel is touched, removed last:
//! nothing of ours is ever in the kernel without one. How they are stored is in `record/store.rs`.

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use std::path::PathBuf;

mod store;

/// RFC 4648 base32, lower case.
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// (network, containerID, ifname), and the 12 characters of its hash that name the host's link, the record, the
/// claim's owner.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttachmentKey {
    /// The network's name (the conflist's `name`).
    pub network: String,
    /// CNI_CONTAINERID.
    pub container_id: String,
    /// CNI_IFNAME: the link's name inside the pod.
    pub ifname: String,
}

impl AttachmentKey {
    /// 12 lower-case base32 characters of SHA-256 over the three parts, each preceded by its length (8 bytes, big
    /// endian, so that no two keys make one text): 60 bits. With a million attachments on one node, the chance that
    /// any two share a name is 1 in 2 million.
    pub fn hash12(&self) -> String {
        let mut hash = Sha256::new();
        for part in [&self.network, &self.container_id, &self.ifname] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        let digest = hash.finalize();
        let head = digest
            .iter()
            .take(8)
            .fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
        (0..12)
            .map(|i| BASE32[(head >> (59 - 5 * i) & 31) as usize] as char)
            .collect()
    }

    /// `s32` + hash12: the host's side of the pod's link, the 15 characters that a name of a link may have.
    pub fn host_link(&self) -> String {
        format!("s32{}", self.hash12())
    }
}

/// A namespace by (device, inode), never by its path alone: paths are reused, bind mounts come in two spellings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetnsId {
    /// CNI_NETNS as it was given.
    pub path: PathBuf,
    /// `st_dev` of the namespace's file.
    pub dev: u64,
    /// `st_ino` of the namespace's file.
    pub ino: u64,
}

/// The protocols that a host port may have (X3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// One host port of the pod. `host_ip` None: any address of the node, of the family of `pod_ip`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostPort {
    /// The node's address that it is bound to.
    pub host_ip: Option<IpAddr>,
    /// The port on the node.
    pub host_port: u16,
    /// Its protocol.
    pub protocol: PortProtocol,
    /// Where it leads to.
    pub pod_ip: IpAddr,
    /// The port in the pod.
    pub container_port: u16,
}

/// The Kubernetes pod, as CNI_ARGS names it; for people, never for decisions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodRef {
    /// K8S_POD_NAMESPACE.
    pub namespace: String,
    /// K8S_POD_NAME.
    pub name: String,
    /// K8S_POD_UID.
    pub uid: String,
}

/// What the plugin knows of one attachment. Written before the kernel is touched, removed last: nothing of ours is
/// ever in the kernel without one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttachmentRecord {
    /// Whose it is.
    #[serde(flatten)]
    pub key: AttachmentKey,
    /// The boot in which it was made; of another boot, nothing of it is in the kernel any more.
    pub boot_id: String,
    /// The pod's namespace.
    pub netns: NetnsId,
    /// The host's side of the link.
    pub host_link: String,
    /// The pod's addresses, /32 or /128.
    pub addresses: Vec<IpNetwork>,
    /// Its host ports.
    #[serde(default)]
    pub host_ports: Vec<HostPort>,
    /// Whether its link is shaped (X4).
    #[serde(default)]
    pub shaped: bool,
    /// The link's MTU, where one was set.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// The MAC of the pod's side, as text.
    #[serde(default)]
    pub mac: Option<String>,
    /// The pod, where the runtime named it.
    #[serde(default)]
    pub pod: Option<PodRef>,
    /// "slash32-ipam", or the type that was delegated to.
    pub ipam_type: String,
    /// Where our own IPAM keeps its claims, when it is not `<state>/ipam`.
    #[serde(default)]
    pub ipam_data_dir: Option<PathBuf>,
    /// Milliseconds since the epoch.
    pub created_ms: u64,
}

#[cfg(test)]
mod tests;
