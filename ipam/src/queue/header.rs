//! The first 40 bytes of a queue: magic (8), head (8), dead (8), highest (16), big endian.

const MAGIC: u64 = u64::from_be_bytes(*b"S32FREE1");
pub(super) const HEADER: usize = 40;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Header {
    /// The first record that may still be waiting.
    pub(super) head: u64,
    /// Zeroed records from the head on.
    pub(super) dead: u64,
    /// No address above this one was ever released: tells most walks that they need not search here.
    pub(super) highest: u128,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(&MAGIC.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.head.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.dead.to_be_bytes());
        bytes[24..].copy_from_slice(&self.highest.to_be_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Header> {
        let number = |from: usize| {
            Some(u64::from_be_bytes(
                bytes.get(from..from + 8)?.try_into().ok()?,
            ))
        };
        let highest = u128::from_be_bytes(bytes.get(24..HEADER)?.try_into().ok()?);
        let header = Header {
            head: number(8)?,
            dead: number(16)?,
            highest,
        };
        (number(0)? == MAGIC && header.head.checked_add(header.dead).is_some()).then_some(header)
    }
}
