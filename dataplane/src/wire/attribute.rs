//! Netlink attributes: a tolerant reader and a writer.
//!
//! The reader stops at the first malformed attribute instead of failing, and knows no attribute by itself: an unknown one, or
//! one that has grown in a newer kernel, is the caller's to skip. The writer pads with zeros; the kernel answers EINVAL to
//! rubbish in padding.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `NLA_F_NESTED`.
pub(crate) const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;
const HEADER: usize = 4;

/// Rounds up to the 4 bytes of netlink's alignment.
pub(crate) const fn align(length: usize) -> usize {
    (length + 3) & !3
}

/// One attribute as it was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attribute<'a> {
    pub(crate) kind: u16,
    pub(crate) value: &'a [u8],
}

impl<'a> Attribute<'a> {
    pub(crate) fn u8(&self) -> Option<u8> {
        self.value.first().copied()
    }

    /// A 32-bit number in the host's byte order (route netlink).
    pub(crate) fn u32(&self) -> Option<u32> {
        Some(u32::from_ne_bytes(self.value.get(..4)?.try_into().ok()?))
    }

    /// A 16-bit number in network byte order (conntrack).
    pub(crate) fn be16(&self) -> Option<u16> {
        Some(u16::from_be_bytes(self.value.get(..2)?.try_into().ok()?))
    }

    /// A 32-bit number in network byte order (nfnetlink).
    pub(crate) fn be32(&self) -> Option<u32> {
        Some(u32::from_be_bytes(self.value.get(..4)?.try_into().ok()?))
    }

    /// A string without its closing NUL.
    pub(crate) fn string(&self) -> Option<String> {
        let end = self
            .value
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(self.value.len());
        Some(String::from_utf8_lossy(&self.value[..end]).into_owned())
    }

    pub(crate) fn mac(&self) -> Option<[u8; 6]> {
        self.value.try_into().ok()
    }

    /// An address; its family follows from its length.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        ip_from_bytes(self.value)
    }

    pub(crate) fn nested(&self) -> Attributes<'a> {
        Attributes(self.value)
    }
}

/// 4 or 16 bytes as an address.
pub(crate) fn ip_from_bytes(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::V4(Ipv4Addr::from(v4)));
    }
    <[u8; 16]>::try_from(bytes)
        .ok()
        .map(|v6| IpAddr::V6(Ipv6Addr::from(v6)))
}

/// An address as 4 or 16 bytes.
pub(crate) fn ip_to_bytes(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// Walks over attributes; ends at the first malformed one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// The attributes of `payload` behind a fixed header of `header` bytes.
    pub(crate) fn after(payload: &'a [u8], header: usize) -> Attributes<'a> {
        Attributes(payload.get(align(header)..).unwrap_or(&[]))
    }

    /// The first attribute of this kind.
    pub(crate) fn find_kind(mut self, kind: u16) -> Option<Attribute<'a>> {
        self.find(|attribute| attribute.kind == kind)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let header = self.0.get(..HEADER)?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & TYPE_MASK;
        let value = self.0.get(HEADER..length)?;
        self.0 = self.0.get(align(length)..).unwrap_or(&[]);
        Some(Attribute { kind, value })
    }
}

/// Appends one attribute.
pub(crate) fn put(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    nest_as(out, kind, |out| out.extend_from_slice(value));
}

/// Appends a string attribute with its closing NUL.
pub(crate) fn put_string(out: &mut Vec<u8>, kind: u16, value: &str) {
    nest_as(out, kind, |out| {
        out.extend_from_slice(value.as_bytes());
        out.push(0);
    });
}

/// Appends a nested attribute whose content `fill` writes.
pub(crate) fn nest(out: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    nest_as(out, kind | NESTED, fill);
}

fn nest_as(out: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    fill(out);
    let length =
        u16::try_from(out.len() - start).expect("callers keep every attribute under 64 KiB");
    out[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    out[start + 2..start + HEADER].copy_from_slice(&kind.to_ne_bytes());
    out.resize(start + align(usize::from(length)), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn attributes_are_padded_with_zeros_and_nested_ones_flagged() {
        let mut out = Vec::new();
        nest(&mut out, 2, |out| put_string(out, 1, "ab"));
        assert_eq!(out, [12, 0, 2, 0x80, 7, 0, 1, 0, b'a', b'b', 0, 0]);
    }

    #[test]
    fn what_was_written_is_read_back() {
        let mut out = Vec::new();
        put(&mut out, 7, &[1, 2, 3, 4, 5]);
        nest(&mut out, 9, |out| put(out, 3, &8_u32.to_ne_bytes()));
        let read: Vec<_> = Attributes(&out).collect();
        assert_eq!(
            read[0],
            Attribute {
                kind: 7,
                value: &[1, 2, 3, 4, 5]
            }
        );
        assert_eq!(read[1].nested().find_kind(3).and_then(|a| a.u32()), Some(8));
        assert_eq!(read.len(), 2);
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic_and_the_walk_ends(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Attributes::after(&bytes, 16).count() <= bytes.len() / HEADER + 1);
            for attribute in Attributes(&bytes) {
                let _ = (attribute.u32(), attribute.string(), attribute.ip(), attribute.mac());
                let _ = attribute.nested().count();
            }
        }
    }
}
