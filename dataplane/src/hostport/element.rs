//! Elements of our maps and sets as bytes, and back. Pure.
//!
//! A concatenation is laid as nftables does it: each part in network byte order, padded with zeros to 4 bytes.

use std::net::IpAddr;

use super::{PortEntry, PortKey};
use crate::names::{
    MAP_HOSTPORTS4, MAP_HOSTPORTS4_ANY, MAP_HOSTPORTS6, MAP_HOSTPORTS6_ANY, SET_HAIRPIN4,
    SET_HAIRPIN6,
};
use crate::wire::attribute::{ip_from_bytes, ip_to_bytes};

/// One element of one of our maps or sets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Element {
    pub(super) set: &'static str,
    pub(super) key: Vec<u8>,
    /// Empty in a set.
    pub(super) value: Vec<u8>,
}

/// A host-port map: its name, whether its key begins with the host's address, its family.
#[derive(Debug, Clone, Copy)]
pub(super) struct PortMap {
    pub(super) name: &'static str,
    given_address: bool,
    v6: bool,
}

pub(super) const PORT_MAPS: [PortMap; 4] = [
    PortMap {
        name: MAP_HOSTPORTS4,
        given_address: true,
        v6: false,
    },
    PortMap {
        name: MAP_HOSTPORTS6,
        given_address: true,
        v6: true,
    },
    PortMap {
        name: MAP_HOSTPORTS4_ANY,
        given_address: false,
        v6: false,
    },
    PortMap {
        name: MAP_HOSTPORTS6_ANY,
        given_address: false,
        v6: true,
    },
];
pub(super) const HAIRPIN_SETS: [&str; 2] = [SET_HAIRPIN4, SET_HAIRPIN6];

/// The element of an entry; `None` where its addresses are not of one family.
pub(super) fn port_element(entry: &PortEntry) -> Option<Element> {
    if entry.pod_ip.is_ipv6() != entry.key.v6 {
        return None;
    }
    let mut value = ip_to_bytes(entry.pod_ip);
    value.extend_from_slice(&port_to_bytes(entry.container_port));
    Some(Element {
        value,
        ..key_element(&entry.key)?
    })
}

/// The element of a key, without its value; `None` where host address and family do not fit.
pub(super) fn key_element(key: &PortKey) -> Option<Element> {
    if key.host_ip.is_some_and(|ip| ip.is_ipv6() != key.v6) {
        return None;
    }
    let map = PORT_MAPS
        .iter()
        .find(|map| map.v6 == key.v6 && map.given_address == key.host_ip.is_some())?;
    let mut bytes = key.host_ip.map(ip_to_bytes).unwrap_or_default();
    bytes.extend_from_slice(&[key.protocol, 0, 0, 0]);
    bytes.extend_from_slice(&port_to_bytes(key.host_port));
    Some(Element {
        set: map.name,
        key: bytes,
        value: Vec::new(),
    })
}

/// `pod . pod`: it reaches itself.
pub(super) fn hairpin_element(pod: IpAddr) -> Element {
    let set = if pod.is_ipv4() {
        SET_HAIRPIN4
    } else {
        SET_HAIRPIN6
    };
    Element {
        set,
        key: ip_to_bytes(pod).repeat(2),
        value: Vec::new(),
    }
}

/// `None` where the bytes are not of our layout.
pub(super) fn entry_from(map: &PortMap, element: &Element) -> Option<PortEntry> {
    let address = match (map.given_address, map.v6) {
        (false, _) => 0,
        (true, false) => 4,
        (true, true) => 16,
    };
    let (host, rest) = element.key.split_at_checked(address)?;
    let [protocol, _, _, _, high, low, _, _] = *<&[u8; 8]>::try_from(rest).ok()?;
    let (pod_ip, container_port) = target_from(&element.value)?;
    let host_ip = if map.given_address {
        Some(ip_from_bytes(host)?)
    } else {
        None
    };
    let key = PortKey {
        host_ip,
        protocol,
        host_port: u16::from_be_bytes([high, low]),
        v6: map.v6,
    };
    (pod_ip.is_ipv6() == map.v6).then_some(PortEntry {
        key,
        pod_ip,
        container_port,
    })
}

/// Address and port of a map's value.
pub(super) fn target_from(value: &[u8]) -> Option<(IpAddr, u16)> {
    let (ip, port) = value.split_at_checked(value.len().checked_sub(4)?)?;
    Some((ip_from_bytes(ip)?, u16::from_be_bytes([port[0], port[1]])))
}

pub(super) fn hairpin_from(element: &Element) -> Option<IpAddr> {
    let (from, to) = element.key.split_at(element.key.len() / 2);
    if from == to {
        ip_from_bytes(from)
    } else {
        None
    }
}

fn port_to_bytes(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(host_ip: Option<&str>, v6: bool) -> PortKey {
        PortKey {
            host_ip: host_ip.map(|ip| ip.parse().unwrap()),
            protocol: 6,
            host_port: 8080,
            v6,
        }
    }

    #[test]
    fn each_part_of_a_concatenation_takes_whole_words() {
        let entry = PortEntry {
            key: key(Some("192.0.2.1"), false),
            pod_ip: "10.1.0.5".parse().unwrap(),
            container_port: 80,
        };
        let element = port_element(&entry).unwrap();
        assert_eq!(element.set, "hostports4");
        assert_eq!(element.key, [192, 0, 2, 1, 6, 0, 0, 0, 0x1f, 0x90, 0, 0]);
        assert_eq!(element.value, [10, 1, 0, 5, 0, 80, 0, 0]);
    }

    #[test]
    fn the_map_follows_from_address_and_family() {
        let set = |key: &PortKey| key_element(key).map(|element| element.set);
        assert_eq!(set(&key(None, false)), Some("hostports4-any"));
        assert_eq!(set(&key(None, true)), Some("hostports6-any"));
        assert_eq!(set(&key(Some("2001:db8::1"), true)), Some("hostports6"));
        assert_eq!(
            set(&key(Some("2001:db8::1"), false)),
            None,
            "families differ"
        );
    }

    proptest! {
        #[test]
        fn what_was_laid_is_read_back(host in any::<Option<[u8; 16]>>(), v6: bool, pod: [u8; 16], protocol: u8, ports: (u16, u16)) {
            let ip = |bytes: [u8; 16]| ip_from_bytes(if v6 { &bytes } else { &bytes[..4] }).unwrap();
            let key = PortKey { host_ip: host.map(ip), protocol, host_port: ports.0, v6 };
            let entry = PortEntry { key, pod_ip: ip(pod), container_port: ports.1 };
            let element = port_element(&entry).unwrap();
            let map = PORT_MAPS.iter().find(|map| map.name == element.set).unwrap();
            prop_assert_eq!(entry_from(map, &element), Some(entry));
            prop_assert_eq!(hairpin_from(&hairpin_element(ip(pod))), Some(ip(pod)));
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..48), value in proptest::collection::vec(any::<u8>(), 0..24)) {
            for map in &PORT_MAPS {
                let _ = entry_from(map, &Element { set: map.name, key: bytes.clone(), value: value.clone() });
            }
            let _ = hairpin_from(&Element { set: SET_HAIRPIN4, key: bytes, value });
        }
    }
}
