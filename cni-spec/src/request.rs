//! A request: environment and stdin, validated as far as it can be without touching the system (G1-G16).
//!
//! `slash32` and `slash32-ipam` call [`parse_request`] once, at their start, and act only on what it returns. What belongs to
//! the system (whether CNI_NETNS is a namespace, and another than ours: G18) they check themselves.

mod args;
mod attachments;
mod conf;
mod environment;
mod parse;
mod stdin;

#[cfg(test)]
mod tests;

pub use args::CniArgs;
pub use conf::NetConf;
pub use environment::{Environment, search_path};
pub use parse::parse_request;
pub use stdin::read_stdin;

use crate::{address::parse_ip_or_cidr, error::CniError, version::SpecVersion};
use std::{net::IpAddr, path::PathBuf};

/// What an attachment is keyed by (spec 0.4.0 and later). All three are validated, but of any length: hash them for a file
/// name (G5).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AttachmentId {
    /// The network's name.
    pub network: String,
    /// CNI_CONTAINERID.
    pub container_id: String,
    /// CNI_IFNAME, at most 15 bytes.
    pub ifname: String,
}

/// What ADD, CHECK and DEL are about.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// Its key.
    pub id: AttachmentId,
    /// CNI_NETNS, byte for byte; always there on ADD and CHECK.
    pub netns: Option<PathBuf>,
    /// CNI_ARGS. Empty on DEL where they are malformed.
    pub args: CniArgs,
    /// The network configuration.
    pub conf: NetConf,
}

impl Attachment {
    /// The addresses asked for (I7): those of the `ips` capability, else of `args.cni.ips`, else of CNI_ARGS; never of two of
    /// them (A11). An entry of `args.cni.ips` that is no address is passed over, since `args` is never an error (X7).
    pub fn requested_ips(&self) -> Vec<IpAddr> {
        if !self.conf.runtime_config.ips.is_empty() {
            return self
                .conf
                .runtime_config
                .ips
                .iter()
                .map(|net| net.ip())
                .collect();
        }
        let noted: Vec<IpAddr> = self
            .conf
            .args_ips
            .iter()
            .filter_map(|text| parse_ip_or_cidr(text))
            .map(|net| net.ip())
            .collect();
        if noted.is_empty() {
            self.args.ip.clone()
        } else {
            noted
        }
    }
}

/// A request that may be acted on.
#[derive(Debug, Clone)]
pub enum Request {
    /// Make the attachment. Its `prev_result_error` is None.
    Add(Attachment),
    /// Compare it with prevResult, which is there.
    Check(Attachment),
    /// Remove what is left of it; only its key can be relied on (D1).
    Del(Attachment),
    /// Remove what belongs to no attachment of `valid`.
    Gc {
        /// The network configuration.
        conf: NetConf,
        /// (containerID, ifname) of each attachment to be kept; None where the key is absent: then nothing may be removed (GC2).
        valid: Option<Vec<(String, String)>>,
    },
    /// Could an ADD be served?
    Status {
        /// The network configuration.
        conf: NetConf,
    },
    /// The document to print.
    Version(String),
    /// CNI_COMMAND unset: print the about line on stderr, exit 0 (G2).
    About,
}

/// An error, and the version in which to word it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{error}")]
pub struct Refusal {
    /// What is wrong.
    #[source]
    pub error: CniError,
    /// The configuration's version where it is one of ours, else the newest.
    pub version: SpecVersion,
}
