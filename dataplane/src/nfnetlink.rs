//! What nftables and conntrack messages have in common, and the numbers of both.

use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;

use crate::wire::attribute::align;
use crate::wire::batch::Batch;
use crate::wire::channel::Channel;

/// Bytes of `struct nfgenmsg`: family u8, version u8, res_id be16.
pub(crate) const HEADER: usize = 4;
pub(crate) const NFPROTO_INET: u8 = 1;
pub(crate) const NFPROTO_IPV4: u8 = 2;
pub(crate) const NFPROTO_IPV6: u8 = 10;
pub(crate) const SUBSYS_CTNETLINK: u16 = 1;
pub(crate) const SUBSYS_NFTABLES: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

/// Opens a socket of the calling thread's namespace.
pub(crate) fn open() -> io::Result<Channel> {
    Channel::open(NETLINK_NETFILTER)
}

/// Appends a request of a subsystem.
pub(crate) fn push(
    batch: &mut Batch,
    kind: u16,
    flags: u16,
    family: u8,
    fill: impl FnOnce(&mut Vec<u8>),
) {
    batch.push_with(kind, flags, |out| {
        out.extend_from_slice(&[family, 0, 0, 0]);
        debug_assert_eq!(align(out.len()), out.len(), "attributes start aligned");
        fill(out);
    });
}

/// One nftables transaction of what `fill` appends: all or nothing.
pub(crate) fn transaction(fill: impl FnOnce(&mut Batch)) -> Batch {
    let mut batch = Batch::new();
    let subsystem = SUBSYS_NFTABLES.to_be_bytes();
    let marker = |out: &mut Vec<u8>| out.extend_from_slice(&[0, 0, subsystem[0], subsystem[1]]);
    batch.push_with(BATCH_BEGIN, 0, marker);
    fill(&mut batch);
    batch.push_with(BATCH_END, 0, marker);
    batch.mark_transaction();
    batch
}
