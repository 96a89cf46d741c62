//! Ranges and range sets: which addresses may be handed out at all. Pure.
//!
//! Never handed out: the network and the broadcast address of an IPv4 subnet (except in /31, RFC 3021, and /32), the
//! subnet-router anycast address of an IPv6 subnet (RFC 4291 section 2.6.1; except in /127, RFC 6164, and /128), and a
//! gateway that the configuration names. No gateway is assumed: with /32 routing none is needed (the pod's next hop is
//! link-local), so no address is lost to one. `slash32-ipam` as a stand-alone plugin asks for host-local's habit.

use crate::number::{from_ip, to_ip};
use ipnetwork::IpNetwork;
use std::net::IpAddr;

/// ::ffff:0.0.0.0 to ::ffff:255.255.255.255.
const MAPPED_FIRST: u128 = 0xffff_0000_0000;
const MAPPED_LAST: u128 = 0xffff_ffff_ffff;

/// One address of each set goes to a pod. The ranges of a set are of one family and do not overlap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeSet {
    /// Tried in this order while they have addresses that were never used.
    pub ranges: Vec<Range>,
}

/// `first` to `last` of `subnet`, both included, without `gateway`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The subnet, its host bits zero.
    pub subnet: IpNetwork,
    /// The first address that may be handed out.
    pub first: IpAddr,
    /// The last one.
    pub last: IpAddr,
    /// The gateway, where one was configured; need not lie in the subnet.
    pub gateway: Option<IpAddr>,
}

impl Range {
    /// The range of a subnet, narrowed by `start` and `end`; never wider than what may be handed out.
    /// Errors say what is wrong, as (key, reason).
    pub fn new(
        subnet: IpNetwork,
        start: Option<IpAddr>,
        end: Option<IpAddr>,
        gateway: Option<IpAddr>,
    ) -> Result<Range, (&'static str, String)> {
        if subnet.ip() != subnet.network() {
            let reason = format!(
                "{subnet} has host bits set; the network is {}/{}",
                subnet.network(),
                subnet.prefix()
            );
            return Err(("subnet", reason));
        }
        if !is_unicast(&subnet) {
            return Err((
                "subnet",
                format!("{subnet} holds addresses that no pod can have"),
            ));
        }
        for (key, value) in [("rangeStart", start), ("rangeEnd", end)] {
            if let Some(value) = value.filter(|value| !subnet.contains(*value)) {
                return Err((key, format!("{value} does not lie in the subnet {subnet}")));
            }
        }
        if let Some(gateway) = gateway.filter(|gateway| gateway.is_ipv4() != subnet.is_ipv4()) {
            return Err((
                "gateway",
                format!("{gateway} is not of the family of {subnet}"),
            ));
        }
        let (lowest, highest) = usable(&subnet);
        let first = start.map_or(lowest, |start| from_ip(start).max(lowest));
        let last = end.map_or(highest, |end| from_ip(end).min(highest));
        if first > last {
            let (first, last) = (start.unwrap_or(to_ip(first)), end.unwrap_or(to_ip(last)));
            return Err((
                "rangeEnd",
                format!("no address can be handed out from {first} to {last} of {subnet}"),
            ));
        }
        Ok(Range {
            subnet,
            first: to_ip(first),
            last: to_ip(last),
            gateway,
        })
    }

    /// Whether it may hand this address out.
    pub fn serves(&self, address: IpAddr) -> bool {
        self.spans(address) && self.gateway != Some(address)
    }

    /// Whether the address lies between first and last, gateway or not.
    pub(crate) fn spans(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.first.is_ipv4() && self.first <= address && address <= self.last
    }

    /// How many addresses it can hand out; `u128::MAX` where that does not fit.
    pub fn capacity(&self) -> u128 {
        let all = (self.last_number() - self.first_number()).saturating_add(1);
        all - u128::from(self.gateway.is_some_and(|gateway| self.spans(gateway)))
    }

    pub(crate) fn first_number(&self) -> u128 {
        from_ip(self.first)
    }

    pub(crate) fn last_number(&self) -> u128 {
        from_ip(self.last)
    }

    pub(crate) fn overlaps(&self, other: &Range) -> bool {
        self.first_number() <= other.last_number() && other.first_number() <= self.last_number()
    }
}

impl RangeSet {
    /// The range that may hand this address out.
    pub fn range_of(&self, address: IpAddr) -> Option<&Range> {
        self.ranges.iter().find(|range| range.serves(address))
    }

    pub(crate) fn is_ipv4(&self) -> bool {
        self.ranges
            .first()
            .is_some_and(|range| range.subnet.is_ipv4())
    }

    /// "10.244.1.1-10.244.1.254", several joined by commas, as host-local prints them.
    pub fn describe(&self) -> String {
        let ranges: Vec<String> = self
            .ranges
            .iter()
            .map(|range| format!("{}-{}", range.first, range.last))
            .collect();
        ranges.join(",")
    }
}

/// Why none of the sets hands this address out; for people.
pub(crate) fn why_not_served(sets: &[RangeSet], address: IpAddr) -> String {
    let mut ranges = sets.iter().flat_map(|set| &set.ranges);
    if ranges.clone().any(|range| range.gateway == Some(address)) {
        return "it is the gateway".to_owned();
    }
    if let Some(range) = ranges.find(|range| range.subnet.contains(address)) {
        let number = from_ip(address);
        let (lowest, highest) = usable(&range.subnet);
        if number < lowest {
            return format!("it is the network address of {}", range.subnet);
        }
        if number > highest {
            return format!("it is the broadcast address of {}", range.subnet);
        }
    }
    let all: Vec<String> = sets.iter().map(RangeSet::describe).collect();
    format!("it lies in none of the ranges {}", all.join(" and "))
}

/// No unspecified, loopback or multicast address in it, nor one that stands for an IPv4 address (see `number.rs`).
fn is_unicast(subnet: &IpNetwork) -> bool {
    let (network, broadcast) = (from_ip(subnet.network()), from_ip(subnet.broadcast()));
    let refused = |ip: IpAddr| ip.is_unspecified() || ip.is_loopback() || ip.is_multicast();
    let mapped = subnet.is_ipv6() && network <= MAPPED_LAST && broadcast >= MAPPED_FIRST;
    !mapped && !refused(subnet.network()) && !refused(subnet.broadcast())
}

/// The lowest and the highest address of a subnet that a pod can have.
fn usable(subnet: &IpNetwork) -> (u128, u128) {
    let (network, broadcast) = (from_ip(subnet.network()), from_ip(subnet.broadcast()));
    match subnet {
        IpNetwork::V4(v4) if v4.prefix() < 31 => (network + 1, broadcast - 1),
        IpNetwork::V6(v6) if v6.prefix() < 127 => (network + 1, broadcast),
        _ => (network, broadcast),
    }
}

#[cfg(test)]
mod tests;
