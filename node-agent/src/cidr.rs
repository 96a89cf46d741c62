//! CIDRs as people write them: parsing that says what is wrong, and the set arithmetic (overlap, containment,
//! merging) which view, desired and the nftables sets share. Pure; the settings and the Nodes are read with it.

use ipnetwork::IpNetwork;
use std::net::IpAddr;

/// Parses `10.244.1.0/24` or a single address. The error says what to write instead.
///
/// Host bits are refused rather than cut off: `10.244.1.7/24` is more often a slip than a wish, and a route or an
/// exclusion wider than what was meant is found late.
pub(crate) fn parse_cidr(text: &str) -> Result<IpNetwork, String> {
    let cidr: IpNetwork = text
        .trim()
        .parse()
        .map_err(|_| "not a CIDR (such as 10.244.1.0/24 or fd00:10:244::/64)".to_owned())?;
    let network = canonical(cidr);
    if network != cidr {
        return Err(format!(
            "has bits set after its prefix length; did you mean {network}?"
        ));
    }
    Ok(cidr)
}

/// The same network with its host bits cleared.
pub(crate) fn canonical(cidr: IpNetwork) -> IpNetwork {
    IpNetwork::new(cidr.network(), cidr.prefix()).unwrap_or(cidr)
}

/// A single address as /32 or /128.
pub(crate) fn host(address: IpAddr) -> IpNetwork {
    IpNetwork::from(address)
}

/// True where the two share an address.
pub(crate) fn overlap(a: &IpNetwork, b: &IpNetwork) -> bool {
    a.is_ipv4() == b.is_ipv4() && (a.contains(b.network()) || b.contains(a.network()))
}

/// True for /32 and /128.
pub(crate) fn is_host(cidr: &IpNetwork) -> bool {
    cidr.prefix() == if cidr.is_ipv4() { 32 } else { 128 }
}

/// Sorted, without duplicates and without networks that lie inside another of the list.
pub(crate) fn merge(mut cidrs: Vec<IpNetwork>) -> Vec<IpNetwork> {
    // Sorted by first address, the wider one first: whatever is inside another then follows it directly, or follows
    // others that are inside it too.
    cidrs.sort_by_key(|cidr| (cidr.is_ipv6(), cidr.network(), cidr.prefix()));
    let mut merged: Vec<IpNetwork> = Vec::with_capacity(cidrs.len());
    for cidr in cidrs {
        if !merged.last().is_some_and(|last| overlap(last, &cidr)) {
            merged.push(cidr);
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> IpNetwork {
        parse_cidr(text).unwrap()
    }

    #[test]
    fn a_cidr_with_host_bits_is_refused_with_the_one_that_was_meant() {
        assert!(
            parse_cidr("10.244.1.7/24")
                .unwrap_err()
                .contains("did you mean 10.244.1.0/24?")
        );
        assert!(parse_cidr("fd00::1/64").unwrap_err().contains("fd00::/64"));
    }

    #[test]
    fn nonsense_is_refused_with_an_example() {
        for text in [
            "",
            "10.244.1.0/33",
            "10.244.1",
            "ten",
            "10.0.0.0/8,10.1.0.0/16",
        ] {
            assert!(
                parse_cidr(text).unwrap_err().contains("10.244.1.0/24"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_single_address_is_a_host_network() {
        assert!(is_host(&cidr("192.0.2.1")));
        assert!(is_host(&cidr("fd00::1")));
        assert!(!is_host(&cidr("192.0.2.0/31")));
    }

    #[test]
    fn merge_drops_duplicates_and_what_lies_inside_another() {
        let all = [
            "10.0.1.0/24",
            "10.0.0.0/16",
            "fd00::/64",
            "10.0.1.0/24",
            "10.0.1.128/25",
            "10.1.0.0/16",
            "fd00::/48",
        ];
        let merged = merge(all.iter().map(|text| cidr(text)).collect());
        assert_eq!(
            merged,
            ["10.0.0.0/16", "10.1.0.0/16", "fd00::/48"].map(cidr)
        );
    }

    #[test]
    fn families_never_overlap() {
        assert!(!overlap(&cidr("0.0.0.0/0"), &cidr("::/0")));
        assert!(overlap(&cidr("10.0.0.0/8"), &cidr("10.1.0.0/16")));
        assert!(overlap(&cidr("10.1.0.0/16"), &cidr("10.0.0.0/8")));
        assert!(!overlap(&cidr("10.1.0.0/16"), &cidr("10.2.0.0/16")));
    }
}
