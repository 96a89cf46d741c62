//! Why an address was not handed out, or not taken back.

use cni_spec::error::{CniError, ErrorCode};
use node_state::StateError;
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
        /// The key in the `ipam` object, as a path: `ranges[0][1].rangeStart`.
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

/// The code of [`IpamError::Unfulfillable`]: ours, since the specification has none for it (G16).
pub const UNFULFILLABLE_CODE: u32 = 100;
/// The code of [`IpamError::NoClaim`].
pub const NO_CLAIM_CODE: u32 = 101;

impl From<IpamError> for CniError {
    /// The CNI code of each error (G16): 11 where a later try may succeed, 7 for the configuration, 5 for files.
    fn from(error: IpamError) -> CniError {
        let code = match &error {
            IpamError::Exhausted { .. } | IpamError::State(StateError::LockTimeout { .. }) => {
                ErrorCode::TryAgainLater
            }
            IpamError::Unfulfillable { .. } => ErrorCode::Plugin(UNFULFILLABLE_CODE),
            IpamError::Config { .. } => ErrorCode::InvalidConfig,
            IpamError::NoClaim { .. } => ErrorCode::Plugin(NO_CLAIM_CODE),
            IpamError::State(_) => ErrorCode::Io,
        };
        CniError::new(code, error.to_string())
    }
}
