//! What a claim says, and how the agent sees it.
//!
//! One JSON object per holder: `{network, containerId, ifname, bootId, holder, createdMs, addresses}`. It is the file
//! `owners/<hash12>`, and each `addresses/<ip>` is a hard link to it. So a claim names its owner by its own content (D5),
//! is never half-written, and one file's write covers both families.

use node_state::record::AttachmentKey;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::time::Duration;

/// Who asks: tells the agent which claims it may reclaim (those of "slash32", never those of a foreign main plugin).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Holder {
    /// The plugin `slash32`, with this crate linked in: each claim has an attachment record beside it.
    Slash32,
    /// `slash32-ipam` under a foreign main plugin: no record; only DEL and GC end such a claim.
    Standalone,
}

/// A claim as it stands on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The address, from the claim's name.
    pub address: IpAddr,
    /// None: the file cannot be read.
    pub owner: Option<AttachmentKey>,
    /// None: the file cannot be read.
    pub holder: Option<Holder>,
    /// The boot in which it was made.
    pub boot_id: Option<String>,
    /// Since it was made (of an unreadable one: last written), by the wall clock; zero if the clock went back.
    pub age: Option<Duration>,
}

/// The content of a holder's file, and so of its claims.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Holding {
    #[serde(flatten)]
    pub(crate) key: AttachmentKey,
    pub(crate) boot_id: String,
    pub(crate) holder: Holder,
    pub(crate) created_ms: u64,
    pub(crate) addresses: Vec<IpAddr>,
}

/// A holder's file or a claim, as found.
#[derive(Debug)]
pub(crate) enum Found {
    Absent,
    /// Empty or no JSON of ours: torn by a power cut, or somebody else's.
    Torn,
    Held(Holding),
}

impl Found {
    pub(crate) fn holding(self) -> Option<Holding> {
        match self {
            Found::Held(holding) => Some(holding),
            Found::Absent | Found::Torn => None,
        }
    }

    pub(crate) fn is_of(&self, key: &AttachmentKey) -> bool {
        matches!(self, Found::Held(holding) if holding.key == *key)
    }
}

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> u64 {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since_epoch.map_or(0, |since| since.as_millis() as u64)
}
