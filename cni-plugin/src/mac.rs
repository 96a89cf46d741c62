//! MAC addresses of pods: as asked for, or derived from the attachment.
//!
//! A derived address is known before the link exists, so the host's permanent neighbour entry
//! needs no look-up afterwards; and it is the same when the same attachment is made again.

use crate::error::Error;
use node_state::record::AttachmentKey;

pub(crate) type Mac = [u8; 6];

/// Locally administered, unicast (IEEE 802c): second-lowest bit of the first octet set, lowest clear.
pub(crate) fn derive_mac(key: &AttachmentKey) -> Mac {
    let mut bits = [0u8; 6];
    for (position, character) in key.hash12().bytes().enumerate() {
        // Two characters (10 bits of the hash) are folded into each octet.
        let octet = &mut bits[position / 2];
        *octet = octet.wrapping_mul(37).wrapping_add(character);
    }
    bits[0] = (bits[0] & 0xfc) | 0x02;
    bits
}

pub(crate) fn format_mac(mac: Mac) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

/// `aa:bb:cc:dd:ee:ff`; multicast and all-zero addresses are refused, since no link takes them.
pub(crate) fn parse_mac(source: &'static str, text: &str) -> Result<Mac, Error> {
    let refuse = || Error::Config {
        key: source,
        value: text.into(),
        reason: "must be a unicast MAC address, for example \"02:00:00:00:00:01\"".into(),
    };
    let mut mac = [0u8; 6];
    let mut parts = text.split(':');
    for octet in &mut mac {
        let part = parts
            .next()
            .filter(|part| part.len() == 2)
            .ok_or_else(refuse)?;
        *octet = u8::from_str_radix(part, 16).map_err(|_| refuse())?;
    }
    if parts.next().is_some() {
        return Err(refuse());
    }
    check_unicast(source, mac)
}

pub(crate) fn check_unicast(source: &'static str, mac: Mac) -> Result<Mac, Error> {
    if mac[0] & 1 == 1 || mac == [0; 6] {
        return Err(Error::Config {
            key: source,
            value: format_mac(mac),
            reason: "must be a unicast MAC address other than all zeros".into(),
        });
    }
    Ok(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(container_id: &str) -> AttachmentKey {
        AttachmentKey {
            network: "net".into(),
            container_id: container_id.into(),
            ifname: "eth0".into(),
        }
    }

    #[test]
    fn a_derived_mac_is_local_unicast_and_stable() {
        let mac = derive_mac(&key("a"));
        assert_eq!(mac[0] & 0b11, 0b10);
        assert_eq!(mac, derive_mac(&key("a")));
        assert_ne!(mac, derive_mac(&key("b")));
    }

    #[test]
    fn ten_thousand_attachments_get_ten_thousand_macs() {
        let macs: std::collections::HashSet<Mac> = (0..10_000)
            .map(|n| derive_mac(&key(&n.to_string())))
            .collect();
        assert_eq!(macs.len(), 10_000);
    }

    #[test]
    fn a_mac_reads_back_as_it_was_written_and_nonsense_is_refused() {
        assert_eq!(
            parse_mac("mac", "02:ab:CD:00:00:01").unwrap(),
            [2, 0xab, 0xcd, 0, 0, 1]
        );
        for wrong in [
            "",
            "02:00:00:00:00",
            "02:00:00:00:00:01:02",
            "2:0:0:0:0:1",
            "zz:00:00:00:00:01",
            "01:00:00:00:00:01",
            "00:00:00:00:00:00",
            "ff:ff:ff:ff:ff:ff",
        ] {
            let error = parse_mac("mac", wrong).unwrap_err().to_string();
            assert!(error.contains("mac"), "{error}");
        }
    }
}
