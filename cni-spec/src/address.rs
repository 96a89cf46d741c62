//! Addresses as text: IP, IP with prefix length, MAC. Strict where std and ipnetwork are lenient.
//!
//! ipnetwork also takes `10.0.0.0/255.255.255.0` and a bare address for a network; Go, which reads what we write, takes neither.

use ipnetwork::IpNetwork;
use std::net::IpAddr;

/// An IP address; an IPv4-mapped IPv6 address is the IPv4 address that it means, as in Go.
pub fn parse_ip(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>()
        .ok()
        .map(|address| address.to_canonical())
}

/// `address/prefix length`; the address keeps its host bits.
pub fn parse_cidr(text: &str) -> Option<IpNetwork> {
    let (address, prefix) = text.split_once('/')?;
    if prefix.is_empty() || prefix.len() > 3 || !prefix.bytes().all(|digit| digit.is_ascii_digit())
    {
        return None;
    }
    let written: IpAddr = address.parse().ok()?;
    let prefix: u8 = prefix.parse().ok()?;
    let canonical = written.to_canonical();
    let prefix = if written.is_ipv6() && canonical.is_ipv4() {
        prefix.checked_sub(96)?
    } else {
        prefix
    };
    IpNetwork::new(canonical, prefix).ok()
}

/// An address with or without a prefix length; without, it is a /32 or /128.
pub fn parse_ip_or_cidr(text: &str) -> Option<IpNetwork> {
    if text.contains('/') {
        parse_cidr(text)
    } else {
        parse_ip(text).map(IpNetwork::from)
    }
}

/// A MAC address that a single interface can have: six bytes in the notations that Go takes (`aa:bb:..`, `aa-bb-..`,
/// `aabb.ccdd.eeff`), neither multicast nor all zero, since the kernel refuses both.
pub fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let (separator, digits) = match text.as_bytes().get(2)? {
        b':' => (':', 2),
        b'-' => ('-', 2),
        _ => ('.', 4),
    };
    let mut mac = [0; 6];
    let mut bytes = mac.iter_mut();
    for group in text.split(separator) {
        if group.len() != digits || !group.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        for start in (0..digits).step_by(2) {
            *bytes.next()? = u8::from_str_radix(&group[start..start + 2], 16).ok()?;
        }
    }
    let usable = bytes.next().is_none() && mac[0] & 1 == 0 && mac != [0; 6];
    usable.then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_keep_their_host_bits() {
        assert_eq!(
            parse_cidr("10.1.2.3/24")
                .map(|net| net.to_string())
                .as_deref(),
            Some("10.1.2.3/24")
        );
        assert_eq!(
            parse_cidr("fd00::1/64")
                .map(|net| net.to_string())
                .as_deref(),
            Some("fd00::1/64")
        );
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for text in [
            "10.0.0.0",
            "10.0.0.0/255.0.0.0",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "/8",
            "10.0.0/8",
            "010.0.0.0/8",
            "fd00::/129",
            "fe80::1%eth0/64",
            "",
        ] {
            assert_eq!(parse_cidr(text), None, "{text:?}");
        }
        assert_eq!(
            parse_ip_or_cidr("10.0.0.7").map(|net| net.prefix()),
            Some(32)
        );
        assert_eq!(
            parse_ip_or_cidr("fd00::7").map(|net| net.prefix()),
            Some(128)
        );
        assert_eq!(parse_ip_or_cidr("10.0.0.7/x"), None);
    }

    #[test]
    fn ipv4_mapped_addresses_mean_ipv4() {
        assert_eq!(parse_ip("::ffff:10.0.0.1"), parse_ip("10.0.0.1"));
        assert_eq!(parse_cidr("::ffff:10.0.0.1/120"), parse_cidr("10.0.0.1/24"));
        assert_eq!(parse_cidr("::ffff:10.0.0.1/64"), None);
    }

    #[test]
    fn x5_macs_in_all_notations_of_go() {
        let expected = Some([0xc2, 0xb0, 0x57, 0x49, 0x47, 0xf1]);
        for text in ["c2:b0:57:49:47:f1", "C2-B0-57-49-47-F1", "c2b0.5749.47f1"] {
            assert_eq!(parse_mac(text), expected, "{text}");
        }
    }

    #[test]
    fn x5_macs_that_no_interface_can_have_are_refused() {
        for text in [
            "",
            "c2",
            "c2:b0:57:49:47",
            "c2:b0:57:49:47:f1:00",
            "c2:b0:57:49:47:g1",
            "c2:b0:57-49:47:f1",
            "c2b0574947f1",
            "c2:+0:57:49:47:f1",
            "01:00:5e:00:00:01",
            "00:00:00:00:00:00",
            "ff:ff:ff:ff:ff:ff",
            "é:é:é",
        ] {
            assert_eq!(parse_mac(text), None, "{text:?}");
        }
    }
}
