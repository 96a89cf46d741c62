//! API contract of cni-spec (skeleton; the owner of the crate splits it into one file per module and keeps these paths).
#![allow(missing_docs, unused_variables, clippy::todo, clippy::unimplemented)]

pub mod version {
    /// The spec versions that Slash32 speaks, oldest first (Ord is by age).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum SpecVersion { V0_1_0, V0_2_0, V0_3_0, V0_3_1, V0_4_0, V1_0_0, V1_1_0 }
    impl SpecVersion {
        pub const ALL: [SpecVersion; 7] = [Self::V0_1_0, Self::V0_2_0, Self::V0_3_0, Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];
        pub const NEWEST: SpecVersion = Self::V1_1_0;
        pub fn as_str(self) -> &'static str { todo!() }
        /// Exact match (G11); None for anything else.
        pub fn parse(text: &str) -> Option<SpecVersion> { todo!() }
    }
    /// The answer to VERSION (V1): echoes the input's cniVersion where stdin has one.
    pub fn version_document(stdin: &[u8]) -> String { todo!() }
}

pub mod error {
    use crate::version::SpecVersion;
    /// The codes of the spec and of libcni (G16).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum ErrorCode { IncompatibleVersion, UnsupportedField, UnknownContainer, InvalidEnvironment, Io, Decode, InvalidConfig, InvalidNetns, TryAgainLater, NotAvailable, LimitedConnectivity, /// >=100
        Plugin(u32), Internal }
    impl ErrorCode { pub fn number(self) -> u32 { todo!() } }
    /// What a plugin answers when it fails.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct CniError { pub code: ErrorCode, pub msg: String, pub details: Option<String> }
    impl CniError {
        pub fn new(code: ErrorCode, msg: impl Into<String>) -> Self { todo!() }
        pub fn with_details(self, details: impl Into<String>) -> Self { todo!() }
        /// One line of JSON: cniVersion, code, msg, details (G15).
        pub fn to_json(&self, version: SpecVersion) -> String { todo!() }
    }
    impl std::fmt::Display for CniError { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { todo!() } }
    impl std::error::Error for CniError {}
}

pub mod request {
    use crate::{error::CniError, result::{CniResult, Dns}, runtime_config::RuntimeConfig, version::SpecVersion};
    use serde_json::{Map, Value};
    use std::path::PathBuf;

    /// The CNI_* variables as the process found them; empty is absent (G4).
    #[derive(Debug, Clone, Default)]
    pub struct Environment { pub command: Option<String>, pub container_id: Option<String>, pub netns: Option<String>, pub ifname: Option<String>, pub args: Option<String>, pub path: Option<String>, pub netns_override: bool }
    impl Environment { pub fn from_process() -> Self { todo!() } pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Self { todo!() } }

    /// (network name, containerID, ifname): what an attachment is keyed by (spec 0.4.0 and later).
    #[derive(Debug, Clone, PartialEq, Eq, Hash)]
    pub struct AttachmentId { pub network: String, pub container_id: String, pub ifname: String }

    /// CNI_ARGS, parsed (A11).
    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    pub struct CniArgs { pub ip: Vec<std::net::IpAddr>, pub mac: Option<String>, pub pod_namespace: Option<String>, pub pod_name: Option<String>, pub pod_uid: Option<String> }

    /// The network configuration, validated. `raw` is the document as it came, for delegation and for the plugin's own keys.
    #[derive(Debug, Clone)]
    pub struct NetConf {
        pub version: SpecVersion,
        pub name: String,
        pub plugin_type: Option<String>,
        pub raw: Map<String, Value>,
        /// The `ipam` object, {} where absent; `ipam_type` is validated (K4: no path separator).
        pub ipam: Map<String, Value>,
        pub ipam_type: Option<String>,
        pub prev_result: Option<CniResult>,
        pub runtime_config: RuntimeConfig,
        /// args.cni.ips (I7, X7)
        pub args_ips: Vec<String>,
        pub dns: Option<Dns>,
        /// prevResult was present but could not be read: DEL goes on without it (D1), CHECK and ADD fail.
        pub prev_result_error: Option<CniError>,
    }
    impl NetConf { /// A key of the plugin's own, whatever its case (X2/G10).
        pub fn get(&self, key: &str) -> Option<&Value> { todo!() } }

    #[derive(Debug, Clone)]
    pub struct Attachment { pub id: AttachmentId, pub netns: Option<PathBuf>, pub args: CniArgs, pub conf: NetConf }

    /// A request that may be acted on: everything that can be refused without touching the system has been (G1-G16).
    #[derive(Debug, Clone)]
    pub enum Request {
        Add(Attachment), Check(Attachment), Del(Attachment),
        /// valid: None where the key is absent (GC2)
        Gc { conf: NetConf, valid: Option<Vec<(String, String)>> },
        Status { conf: NetConf },
        /// The document to print.
        Version(String),
        /// CNI_COMMAND unset: print the about line on stderr, exit 0 (G2).
        About,
    }
    /// An error, and the version in which to word it.
    #[derive(Debug, Clone)]
    pub struct Refusal { pub error: CniError, pub version: SpecVersion }
    /// Validates environment and stdin. Pure: `netns` identity (G18) is the plugin's own check.
    pub fn parse_request(env: &Environment, stdin: &[u8]) -> Result<Request, Refusal> { todo!() }
    /// CNI_PATH split at ':', empty entries dropped.
    pub fn search_path(env: &Environment) -> Vec<PathBuf> { todo!() }
}

pub mod result {
    use crate::{error::CniError, version::SpecVersion};
    use ipnetwork::IpNetwork;
    use serde_json::Value;
    use std::net::IpAddr;
    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    pub struct CniResult { pub interfaces: Vec<Interface>, pub ips: Vec<IpConfig>, pub routes: Vec<Route>, pub dns: Dns }
    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    pub struct Interface { pub name: String, pub mac: Option<String>, pub mtu: Option<u32>, pub sandbox: Option<String>, pub socket_path: Option<String>, pub pci_id: Option<String> }
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct IpConfig { pub address: IpNetwork, pub gateway: Option<IpAddr>, pub interface: Option<usize> }
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Route { pub dst: IpNetwork, pub gw: Option<IpAddr>, pub mtu: Option<u32>, pub advmss: Option<u32>, pub priority: Option<u32>, pub table: Option<u32>, pub scope: Option<u8> }
    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    pub struct Dns { pub nameservers: Vec<String>, pub domain: Option<String>, pub search: Vec<String>, pub options: Vec<String> }
    impl CniResult {
        /// The document for `version` (table 1.1); an error where it cannot be said in that version.
        pub fn to_value(&self, version: SpecVersion) -> Result<Value, CniError> { todo!() }
        pub fn to_json(&self, version: SpecVersion) -> Result<String, CniError> { todo!() }
        /// Reads a result of the given version (a prevResult; an IPAM plugin's answer); `cniVersion` inside wins where present.
        pub fn from_value(value: &Value, version: SpecVersion) -> Result<CniResult, CniError> { todo!() }
    }
}

pub mod runtime_config {
    use ipnetwork::IpNetwork;
    use std::net::IpAddr;
    /// runtimeConfig, keys in any case (X2); absent is not asked for (X1).
    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    pub struct RuntimeConfig {
        pub port_mappings: Vec<PortMapping>, pub bandwidth: Option<Bandwidth>,
        /// `ips`: an address, with or without a prefix length
        pub ips: Vec<IpNetwork>,
        pub mac: Option<[u8; 6]>,
        /// ipRanges: replaces `ipam.ranges`, same shape, unparsed here
        pub ip_ranges: Option<serde_json::Value>, pub dns: Option<crate::result::Dns>,
    }
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Protocol { Tcp, Udp, Sctp }
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct PortMapping { pub host_ip: Option<IpAddr>, pub host_port: u16, pub container_port: u16, pub protocol: Protocol }
    /// Bits per second and bits (X4); 0 is unlimited.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
    pub struct Bandwidth { pub ingress_rate: u64, pub ingress_burst: u64, pub egress_rate: u64, pub egress_burst: u64 }
}

pub mod conflist {
    use serde_json::Value;
    /// What the agent writes into the conflist (K1-K4).
    #[derive(Debug, Clone)]
    pub struct ConflistSpec { pub name: String, pub mtu: Option<u32>, /// one set per family, from Node.spec.podCIDRs
        pub ranges: Vec<Vec<ipnetwork::IpNetwork>>, pub state_dir: Option<String>, /// further plugins of the chain, verbatim
        pub chained: Vec<Value> }
    pub fn render_conflist(spec: &ConflistSpec) -> String { todo!() }
}
