//! Address management for one node: which pod holds which address, in files that survive any crash.
//!
//! [`IpamConfig`] reads the `ipam` object of a network configuration as host-local spells it; [`Ipam`] is the store of
//! one network. Linked into the plugin `slash32`, read by the agent, and wrapped by the stand-alone plugin
//! `slash32-ipam` (this crate's binary).
//!
//! What holds at any moment, also after SIGKILL, a full disk, or a power cut (each is a test):
//! 1. No address has two holders. 2. No address is lost for good. 3. The address free the longest goes out first.
//! 4. A key gets all its addresses or none. 5. A file that cannot be read blocks only its own address.
//!
//! How, in the order of writing: the holder's file says which addresses it takes (`owners/<hash>`), then they leave the
//! free list, then each gets its claim (`addresses/<ip>`, a hard link to the holder's file: complete from its first
//! moment, and never over another's). Release goes backwards. Whatever a crash leaves between the two is named by the
//! holder's file, and is put right by the next release, allocation or GC of that key.

mod allocate;
mod choose;
mod claim;
mod config;
mod error;
mod inspect;
mod lines;
mod mark;
mod network;
mod number;
mod queue;
mod range;
mod release;
mod request;
mod retain;
mod store;

pub use allocate::{Allocation, Lease};
pub use claim::{Claim, Holder};
pub use config::IpamConfig;
pub use error::{IpamError, NO_CLAIM_CODE, UNFULFILLABLE_CODE};
pub use inspect::Usage;
pub use network::Ipam;
pub use range::{Range, RangeSet};
