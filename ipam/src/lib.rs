//! API contract of ipam (skeleton; the owner splits it into one file per module and keeps these paths).
#![allow(missing_docs, unused_variables, clippy::todo, clippy::unimplemented)]
use ipnetwork::IpNetwork;
use node_state::record::AttachmentKey;
use std::net::IpAddr;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IpamError {
    #[error("no IP addresses available in range set: {ranges}")]
    Exhausted { ranges: String },
    #[error("requested address {address}: {reason}")]
    Unfulfillable { address: IpAddr, reason: String },
    #[error("ipam {key}: {reason}")]
    Config { key: String, reason: String },
    #[error("no claim of {key:?} in {dir}")]
    NoClaim { key: AttachmentKey, dir: PathBuf },
    #[error(transparent)]
    State(#[from] node_state::StateError),
}

/// The `ipam` object of the configuration, validated: range sets as host-local spells them (ranges, subnet, rangeStart, rangeEnd, gateway, exclude?), routes, dataDir.
#[derive(Debug, Clone)]
pub struct IpamConfig { pub sets: Vec<RangeSet>, pub routes: Vec<(IpNetwork, Option<IpAddr>)>, pub data_dir: Option<PathBuf> }
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeSet { pub ranges: Vec<Range> }
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range { pub subnet: IpNetwork, pub first: IpAddr, pub last: IpAddr, pub gateway: Option<IpAddr> }
impl IpamConfig {
    /// `ip_ranges` is the ipRanges capability, which replaces `ranges` (X-series). Keys in any case.
    pub fn parse(ipam: &serde_json::Map<String, serde_json::Value>, ip_ranges: Option<&serde_json::Value>) -> Result<IpamConfig, IpamError> { todo!() }
}

/// One address as handed out: /32 or /128 for slash32; `subnet` is the range's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease { pub address: IpAddr, pub subnet: IpNetwork, pub gateway: Option<IpAddr> }

/// Who asks: tells the agent which claims it may reclaim (those of "slash32", never those of a foreign main plugin).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder { Slash32, Standalone }

/// The store of one network: `<data_dir>/<network>/`.
#[derive(Debug)]
pub struct Ipam { dir: PathBuf, holder: Holder }

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage { pub used: u64, pub free: u128, /// released since boot and waiting in the queue
    pub cooling: u64 }

/// A claim as it stands on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim { pub address: IpAddr, /// None: the file cannot be read
    pub owner: Option<AttachmentKey>, pub holder: Option<Holder>, pub boot_id: Option<String>, pub age: Option<std::time::Duration> }

impl Ipam {
    pub fn open(data_dir: impl Into<PathBuf>, network: &str, holder: Holder) -> Ipam { todo!() }
    /// One address of each set, all or none; `requested` first where it lies in a set. Idempotent per key: an existing claim of the key is returned as it is (A4, I3) with `fresh` false.
    pub fn allocate(&self, key: &AttachmentKey, config: &IpamConfig, requested: &[IpAddr]) -> Result<Allocation, IpamError> { todo!() }
    /// Absent is done. Only claims whose content names `key` (D5).
    pub fn release(&self, key: &AttachmentKey) -> Result<Vec<IpAddr>, IpamError> { todo!() }
    /// The addresses of `key` (CHECK, I9).
    pub fn find(&self, key: &AttachmentKey) -> Result<Vec<IpAddr>, IpamError> { todo!() }
    pub fn claims(&self) -> Result<Vec<Claim>, IpamError> { todo!() }
    /// GC: releases what `keep` refuses; goes on after an error, returns all of them.
    pub fn retain(&self, keep: &dyn Fn(&Claim) -> bool) -> (Vec<IpAddr>, Vec<IpamError>) { todo!() }
    pub fn usage(&self, config: &IpamConfig) -> Result<Usage, IpamError> { todo!() }
}
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation { pub leases: Vec<Lease>, /// false: the key held them already
    pub fresh: bool }
