//! API contract of node-state (skeleton; the owner splits it into one file per module and keeps these paths).
#![allow(missing_docs, unused_variables, clippy::todo, clippy::unimplemented)]
use std::path::{Path, PathBuf};

/// Errors of this crate, each with path and what was attempted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    #[error("{what} {path}: {source}")]
    Io { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error("read {path}: {reason}")]
    Unreadable { path: PathBuf, reason: String },
    #[error("lock {path}: still held by another process after {waited_ms} ms (see 'lsof {path}')")]
    LockTimeout { path: PathBuf, waited_ms: u64 },
}

/// The folder (default /run/slash32) and the names in it. Creating it: 0700, parents included, refuses a symlink or a folder that another user owns.
#[derive(Debug, Clone)]
pub struct StateDir { root: PathBuf }
impl StateDir {
    pub const DEFAULT: &'static str = "/run/slash32";
    pub fn new(root: impl Into<PathBuf>) -> Self { todo!() }
    pub fn root(&self) -> &Path { todo!() }
    pub fn ensure(&self) -> Result<(), StateError> { todo!() }
    /// True state of writability: creates and removes a probe file (STATUS, S2).
    pub fn probe_writable(&self) -> Result<(), StateError> { todo!() }
}

/// An id of this boot: /proc/sys/kernel/random/boot_id.
pub fn boot_id() -> Result<String, StateError> { todo!() }

pub mod lock {
    use super::*;
    use std::time::Duration;
    /// An advisory flock, freed by the kernel when the process ends (I12).
    #[derive(Debug)]
    pub struct FileLock { _file: std::fs::File }
    impl FileLock { /// Waits at most `patience`, polling.
        pub fn acquire(path: &Path, patience: Duration) -> Result<FileLock, StateError> { todo!() } }
    impl StateDir { /// The lock under which host ports and their nftables elements change; plugin and agent both take it.
        pub fn lock_host_ports(&self, patience: Duration) -> Result<FileLock, StateError> { todo!() } }
}

pub mod record {
    use super::*;
    use ipnetwork::IpNetwork;
    use serde::{Deserialize, Serialize};
    use std::net::IpAddr;

    /// (network, containerID, ifname), and the 12 characters of its hash that name the host's link, the record, the claim's owner.
    #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub struct AttachmentKey { pub network: String, pub container_id: String, pub ifname: String }
    impl AttachmentKey {
        /// 12 lower-case base32 characters of SHA-256 over the three parts, each preceded by its length: 60 bits.
        pub fn hash12(&self) -> String { todo!() }
        /// `s32` + hash12: the host's side of the pod's link (design.md section 3).
        pub fn host_link(&self) -> String { todo!() }
    }

    /// A namespace by (device, inode), never by its path alone.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub struct NetnsId { pub path: PathBuf, pub dev: u64, pub ino: u64 }

    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum PortProtocol { Tcp, Udp, Sctp }

    /// One host port of the pod. `host_ip` None: any address of the node, of the family of `pod_ip`.
    #[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub struct HostPort { pub host_ip: Option<IpAddr>, pub host_port: u16, pub protocol: PortProtocol, pub pod_ip: IpAddr, pub container_port: u16 }

    #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub struct PodRef { pub namespace: String, pub name: String, pub uid: String }

    /// What the plugin knows of one attachment. Written before the kernel is touched, removed last: nothing of ours is ever in the kernel without one.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub struct AttachmentRecord {
        #[serde(flatten)] pub key: AttachmentKey,
        pub boot_id: String,
        pub netns: NetnsId,
        pub host_link: String,
        pub addresses: Vec<IpNetwork>,
        #[serde(default)] pub host_ports: Vec<HostPort>,
        #[serde(default)] pub shaped: bool,
        #[serde(default)] pub mtu: Option<u32>,
        #[serde(default)] pub mac: Option<String>,
        #[serde(default)] pub pod: Option<PodRef>,
        /// "slash32-ipam", or the type that was delegated to
        pub ipam_type: String,
        /// where our own IPAM keeps its claims, when it is not <state>/ipam
        #[serde(default)] pub ipam_data_dir: Option<PathBuf>,
        /// milliseconds since the epoch
        pub created_ms: u64,
    }

    impl StateDir {
        /// Atomic: temporary file in the same folder, then rename. 0600.
        pub fn write_record(&self, record: &AttachmentRecord) -> Result<(), StateError> { todo!() }
        /// None where there is none; Err(Unreadable) for a torn or foreign file.
        pub fn read_record(&self, key: &AttachmentKey) -> Result<Option<AttachmentRecord>, StateError> { todo!() }
        /// Absent is done.
        pub fn remove_record(&self, key: &AttachmentKey) -> Result<(), StateError> { todo!() }
        /// All records; a file that cannot be read is in the second list and never hides the others.
        pub fn list_records(&self) -> Result<(Vec<AttachmentRecord>, Vec<StateError>), StateError> { todo!() }
    }
}

pub mod ready {
    use super::*;
    use serde::{Deserialize, Serialize};
    /// The agent's stamp: a full pass converged since this boot.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub struct ReadyStamp { pub boot_id: String, pub agent_version: String, pub since_ms: u64 }
    impl StateDir {
        pub fn write_ready(&self, stamp: &ReadyStamp) -> Result<(), StateError> { todo!() }
        pub fn read_ready(&self) -> Result<Option<ReadyStamp>, StateError> { todo!() }
        pub fn remove_ready(&self) -> Result<(), StateError> { todo!() }
    }
}

pub mod oplog {
    use super::*;
    use serde::{Deserialize, Serialize};
    /// One line per operation of the plugin, appended with one write(2); the agent reads and truncates. Bounded: at 4 MiB the plugin starts the file anew.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub struct Operation { pub at_ms: u64, pub command: String, pub network: String, pub container_id: String, pub ifname: String, pub duration_us: u64, /// 0 is success
        pub code: u32, #[serde(default, skip_serializing_if = "String::is_empty")] pub error: String }
    impl StateDir {
        /// Best effort by contract: the caller ignores the error.
        pub fn append_operation(&self, op: &Operation) -> Result<(), StateError> { todo!() }
        /// Operations from byte `offset`, and the offset to go on from; starts at 0 again when the file has shrunk.
        pub fn read_operations(&self, offset: u64) -> Result<(Vec<Operation>, u64), StateError> { todo!() }
    }
}
