//! What can go wrong in the plugin, and the CNI code of each.

use cni_spec::error::{CniError, ErrorCode};
use dataplane::error::KernelError;
use ipam::IpamError;
use node_state::StateError;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{key} is {value}: {reason}")]
    Config {
        key: &'static str,
        value: String,
        reason: String,
    },
    #[error("CNI_NETNS={path}: {reason}")]
    Netns { path: PathBuf, reason: String },
    /// A1: what is there stays untouched.
    #[error(
        "{what} exists already: this attachment was made before; call DEL first, or choose another CNI_IFNAME"
    )]
    AlreadyAttached { what: String },
    #[error("host port {port} is taken by {owner}; remove that pod or choose another port")]
    HostPortTaken { port: String, owner: String },
    #[error(
        "neither table inet slash32 nor chain SLASH32-HOSTPORTS is in the kernel, so host ports cannot be forwarded: slash32-agent has not run since the node started; see its log"
    )]
    NoTable,
    #[error(
        "the agent has not completed a pass since the node started ({reason}); see the log of slash32-agent on this node"
    )]
    AgentNotReady { reason: String },
    /// I14: a Node gets its podCIDR some time after it joined.
    #[error(
        "ipam.ranges is empty: this node has no pod CIDR yet; slash32-agent writes it into the network configuration, see its log"
    )]
    NoRanges,
    #[error("pods cannot be attached now: {reason}")]
    Unavailable { reason: String },
    #[error("check: {what}")]
    Damaged { what: String },
    /// An error document of a delegated plugin: passed on with its own code (A3).
    #[error("{}", .0.msg)]
    Delegated(CniError),
    #[error("IPAM plugin {plugin}: {reason}")]
    Delegate { plugin: String, reason: String },
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Ipam(#[from] IpamError),
    #[error(transparent)]
    Protocol(#[from] CniError),
    /// DEL, GC and an undo go on after a failure and report everything (D2, GC4).
    #[error("{}", join(.0))]
    Several(Vec<Error>),
}

fn join(errors: &[Error]) -> String {
    errors
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

impl Error {
    /// `Ok` for none, the error itself for one, all of them otherwise.
    pub(crate) fn gather(mut errors: Vec<Error>) -> Result<(), Error> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Error::Several(errors)),
        }
    }
}

impl Error {
    /// Exhaustive on purpose: a new kind of error must be given its code here.
    fn code(&self) -> ErrorCode {
        match self {
            Error::Config { .. } => ErrorCode::InvalidConfig,
            Error::Netns { .. } => ErrorCode::InvalidNetns,
            Error::AlreadyAttached { .. } => ErrorCode::Plugin(100),
            Error::HostPortTaken { .. } => ErrorCode::Plugin(101),
            Error::Damaged { .. } => ErrorCode::Plugin(102),
            Error::Delegate { .. } => ErrorCode::Plugin(103),
            Error::Kernel(_) => ErrorCode::Plugin(104),
            Error::NoTable | Error::NoRanges => ErrorCode::TryAgainLater,
            Error::AgentNotReady { .. } | Error::Unavailable { .. } => ErrorCode::NotAvailable,
            Error::Delegated(inner) | Error::Protocol(inner) => inner.code,
            Error::State(inner) => state_code(inner),
            Error::Ipam(inner) => inner.code(),
            // The first is the one that the others followed from.
            Error::Several(errors) => errors.first().map_or(ErrorCode::Internal, Error::code),
        }
    }
}

impl From<Error> for CniError {
    fn from(error: Error) -> CniError {
        let details = match &error {
            Error::Delegated(inner) | Error::Protocol(inner) => inner.details.clone(),
            _ => None,
        };
        CniError {
            code: error.code(),
            msg: error.to_string(),
            details,
        }
    }
}

fn state_code(error: &StateError) -> ErrorCode {
    match error {
        StateError::LockTimeout { .. } => ErrorCode::TryAgainLater,
        _ => ErrorCode::Io,
    }
}
