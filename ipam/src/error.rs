//! Why an address was not handed out, or not taken back.

use node_state::record::AttachmentKey;
use std::net::IpAddr;
use std::path::PathBuf;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IpamError {
    /// The pool is full (I6). The words are host-local's: operators' tooling looks for them.
    #[error("no IP addresses available in range set: {ranges}")]
    Exhausted {
        /// "first-last", several joined by commas.
        ranges: String,
    },
    /// A requested address cannot be had (I7).
    #[error("requested address {address}: {reason}")]
    Unfulfillable {
        /// The address asked for.
        address: IpAddr,
        /// Out of range, reserved, or by whom it is held.
        reason: String,
    },
    /// The configuration makes no sense.
    #[error("ipam {key}: {reason}")]
    Config {
        /// The key in the `ipam` object, as a path: "ranges[0][1].rangeStart".
        key: String,
        /// What is wrong with its value.
        reason: String,
    },
    /// CHECK met a key without addresses (I9).
    #[error("no claim of container {} interface {} of network {} in {dir}", key.container_id, key.ifname, key.network)]
    NoClaim {
        /// Whose claim was looked for.
        key: AttachmentKey,
        /// The network's folder.
        dir: PathBuf,
    },
    /// A file or a lock of the store.
    #[error(transparent)]
    State(#[from] node_state::StateError),
}

impl IpamError {
    pub(crate) fn config(key: impl Into<String>, reason: impl Into<String>) -> IpamError {
        IpamError::Config {
            key: key.into(),
            reason: reason.into(),
        }
    }
}
