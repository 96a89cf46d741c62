//! The kernel's messages: cutting a datagram, and reading what an error or the end of a dump says.

use super::attribute::{Attributes, align};
use super::batch::MESSAGE_HEADER;
use crate::error::Refusal;

pub(crate) const NLMSG_NOOP: u16 = 1;
pub(crate) const NLMSG_ERROR: u16 = 2;
pub(crate) const NLMSG_DONE: u16 = 3;
pub(crate) const F_DUMP_INTR: u16 = 0x10;
const F_CAPPED: u16 = 0x100;
const F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// One message of the kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) payload: &'a [u8],
}

/// Cuts a datagram into its messages; ends at a malformed one.
pub(crate) fn messages(datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let header = rest.get(..MESSAGE_HEADER)?;
        let word = |at: usize| {
            u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let half = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let length = word(0) as usize;
        let payload = rest.get(MESSAGE_HEADER..length)?;
        rest = rest.get(align(length)..).unwrap_or(&[]);
        Some(Message {
            kind: half(4),
            flags: half(6),
            sequence: word(8),
            payload,
        })
    })
}

/// What an `NLMSG_ERROR` or `NLMSG_DONE` says; `None`: all well.
pub(crate) fn refusal(message: &Message<'_>) -> Option<Refusal> {
    let code = message
        .payload
        .get(..4)
        .map_or(0, |b| i32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
    if code == 0 {
        return None;
    }
    // Behind the errno of an error stands the header of the request (capped by our NETLINK_CAP_ACK), then attributes.
    let header = if message.kind == NLMSG_ERROR {
        4 + MESSAGE_HEADER
    } else {
        4
    };
    let told = message.flags & F_ACK_TLVS != 0
        && (message.kind == NLMSG_DONE || message.flags & F_CAPPED != 0);
    let text = told
        .then(|| Attributes::after(message.payload, header).find_kind(NLMSGERR_ATTR_MSG))
        .flatten()
        .and_then(|attribute| attribute.string());
    Some(Refusal {
        errno: code.checked_neg().unwrap_or(libc::EIO),
        text,
    })
}

#[cfg(test)]
mod tests;
