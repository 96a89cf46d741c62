//! Several netlink requests in one buffer, for one `send`.
//!
//! Only the last request asks for an acknowledgement: the kernel answers a failed request in any case, in order, so the last
//! one's answer tells that all others went well. A kernel goes on after a failed request: a batch is no transaction.

use netlink_packet_core::Emitable;

use super::attribute::align;

/// Bytes of `struct nlmsghdr`.
pub(crate) const MESSAGE_HEADER: usize = 16;
pub(crate) const F_REQUEST: u16 = 0x1;
pub(crate) const F_ACK: u16 = 0x4;
/// Tell us the object that was made.
pub(crate) const F_ECHO: u16 = 0x8;
/// `NLM_F_ROOT | NLM_F_MATCH`.
pub(crate) const F_DUMP: u16 = 0x300;
pub(crate) const F_REPLACE: u16 = 0x100;
pub(crate) const F_EXCL: u16 = 0x200;
pub(crate) const F_CREATE: u16 = 0x400;

/// Requests, one behind the other, not numbered yet.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    starts: Vec<usize>,
    /// Closed by a message that older kernels do not answer (`NFNL_MSG_BATCH_END`).
    transaction: bool,
}

impl Batch {
    pub(crate) fn new() -> Batch {
        Batch::default()
    }

    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    /// Appends a message of `netlink-packet-route`.
    pub(crate) fn push(&mut self, kind: u16, flags: u16, message: &impl Emitable) -> &mut Batch {
        self.push_with(kind, flags, |out| {
            // Zeroed first: not every emitter writes its padding.
            let start = out.len();
            out.resize(start + message.buffer_len(), 0);
            message.emit(&mut out[start..]);
        })
    }

    /// Appends a message whose payload `fill` writes.
    pub(crate) fn push_with(
        &mut self,
        kind: u16,
        flags: u16,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> &mut Batch {
        let start = self.bytes.len();
        self.starts.push(start);
        self.bytes.extend_from_slice(&[0; MESSAGE_HEADER]);
        fill(&mut self.bytes);
        let length = u32::try_from(self.bytes.len() - start).expect("a request is far below 4 GiB");
        self.bytes.resize(align(self.bytes.len()), 0);
        let header = &mut self.bytes[start..start + MESSAGE_HEADER];
        header[0..4].copy_from_slice(&length.to_ne_bytes());
        header[4..6].copy_from_slice(&kind.to_ne_bytes());
        header[6..8].copy_from_slice(&(flags | F_REQUEST).to_ne_bytes());
        self
    }

    /// The batch is one nftables transaction: it begins with one message and ends with another of no content.
    pub(crate) fn mark_transaction(&mut self) {
        self.transaction = true;
    }

    pub(crate) fn is_transaction(&self) -> bool {
        self.transaction
    }

    /// The request whose answer tells that all is done: the last one with content. `None`: there is none.
    pub(crate) fn answered(&self) -> Option<usize> {
        let last = self.starts.len().checked_sub(1)?;
        if self.transaction {
            last.checked_sub(1).filter(|position| *position > 0)
        } else {
            Some(last)
        }
    }

    /// Numbers the requests from `first` on and lets the last one ask for an acknowledgement. A dump asks for none: its end is
    /// told by `NLMSG_DONE`.
    pub(crate) fn number(&mut self, first: u32) -> &[u8] {
        let mut sequence = first;
        for start in &self.starts {
            self.bytes[start + 8..start + 12].copy_from_slice(&sequence.to_ne_bytes());
            sequence = sequence.wrapping_add(1);
        }
        if let Some(last) = self
            .answered()
            .and_then(|position| self.starts.get(position))
        {
            let flags = &mut self.bytes[last + 6..last + 8];
            let asked = u16::from_ne_bytes([flags[0], flags[1]]);
            if asked & F_DUMP != F_DUMP {
                flags.copy_from_slice(&(asked | F_ACK).to_ne_bytes());
            }
        }
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn requests_are_aligned_numbered_and_only_the_last_asks_for_an_answer() {
        let mut batch = Batch::new();
        batch
            .push_with(24, F_CREATE, |out| out.extend_from_slice(&[9]))
            .push_with(25, 0, |_| {});
        let bytes = batch.number(7).to_vec();
        assert_eq!(
            bytes[..20],
            [17, 0, 0, 0, 24, 0, 1, 4, 7, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0]
        );
        assert_eq!(
            bytes[20..],
            [16, 0, 0, 0, 25, 0, 5, 0, 8, 0, 0, 0, 0, 0, 0, 0]
        );
    }
}
