//! Netlink on the wire: messages and attributes as bytes, and the channel that carries them.
//!
//! Shared by route netlink and nfnetlink; nothing here knows what a message means.

pub(crate) mod attribute;
pub(crate) mod batch;
pub(crate) mod channel;
pub(crate) mod message;
