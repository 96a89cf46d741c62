//! The pcap file format (draft-ietf-opsawg-pcap), with nanoseconds. Pure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Timestamps have nanoseconds; written in the byte order of this machine, which the reader sees by it.
const MAGIC: u32 = 0xa1b2_3c4d;
const VERSION: [u16; 2] = [2, 4];
/// LINKTYPE_ETHERNET.
const ETHERNET: u32 = 1;

/// Of the file.
pub(super) fn header(snaplen: u32) -> Vec<u8> {
    let mut bytes = MAGIC.to_ne_bytes().to_vec();
    bytes.extend(VERSION.iter().flat_map(|part| part.to_ne_bytes()));
    // Two reserved fields.
    bytes.extend([0; 8]);
    bytes.extend(snaplen.to_ne_bytes());
    bytes.extend(ETHERNET.to_ne_bytes());
    bytes
}

/// One packet, cut to `snaplen`.
pub(super) fn record(frame: &[u8], time: SystemTime, snaplen: u32) -> Vec<u8> {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
    let kept = length.min(snaplen);
    let mut bytes = Vec::with_capacity(16 + kept as usize);
    // The format ends in 2106.
    for number in [since.as_secs() as u32, since.subsec_nanos(), kept, length] {
        bytes.extend(number.to_ne_bytes());
    }
    bytes.extend(&frame[..kept as usize]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_a_header_of_24_bytes_and_records_of_16_and_the_packet() {
        assert_eq!(header(96).len(), 24);
        let time = UNIX_EPOCH + Duration::new(7, 9);
        let bytes = record(&[1; 100], time, 96);
        assert_eq!(bytes.len(), 16 + 96);
        let numbers: Vec<u32> = bytes[..16]
            .chunks(4)
            .map(|four| u32::from_ne_bytes(four.try_into().unwrap()))
            .collect();
        assert_eq!(numbers, [7, 9, 96, 100]);
    }
}
