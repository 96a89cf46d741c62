//! Addresses as numbers: both families in one u128, IPv4 as IPv4-mapped IPv6 (RFC 4291 section 2.5.5.2).
//!
//! Order and distance are those of the addresses, so that ranges are plain intervals. IPv6 ranges that hold mapped
//! addresses are refused by the configuration: they mean nothing on a wire.

use std::net::{IpAddr, Ipv6Addr};

/// The address as a number.
pub(crate) fn from_ip(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_ipv6_mapped()),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// The number as an address.
pub(crate) fn to_ip(number: u128) -> IpAddr {
    Ipv6Addr::from(number).to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_address_family_and_order() {
        for text in [
            "0.0.0.1",
            "10.244.1.255",
            "255.255.255.255",
            "::1",
            "fd00::",
            "ffff::ffff",
        ] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(to_ip(from_ip(address)), address);
        }
        let number = from_ip("10.0.0.255".parse().unwrap());
        assert_eq!(to_ip(number + 1), "10.0.1.0".parse::<IpAddr>().unwrap());
    }
}
