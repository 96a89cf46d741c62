//! Route messages for the kernel.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteScope, RouteType,
    RouteVia,
};

use super::{RouteKey, RouteKind, RouteSpec};
use crate::names::{ROUTE_PROTOCOL, SCOPE_LINK};

/// How many scopes there are between "universe" (0) and "site" (200), free for users (rt_scope_t in linux/rtnetlink.h).
const USER_SCOPES: u8 = 199;

/// A new route of ours that is one of thousands, by as many IPv4 gateways.
///
/// The kernel looks each new route's nexthop up in a hash of them (net/ipv4/fib_semantics.c, fib_info_hashfn) which knows
/// scope, priority and device but not the gateway, so that a cluster's nexthops on one device all share one chain: 5,000
/// routes took 350 ms of kernel time, and take 55 ms with their scopes spread. A scope of 1 to 199 means what 0 means to every
/// look-up that does not ask for more, and is no part of the route's key.
pub(super) fn new_message_of_many(spec: &RouteSpec) -> RouteMessage {
    let mut message = new_message(spec);
    if let (RouteKind::Unicast, Some(IpAddr::V4(via))) = (spec.kind, spec.via) {
        let spread = u32::from(via) % u32::from(USER_SCOPES);
        message.header.scope = RouteScope::from(1 + spread as u8);
    }
    message
}

/// A new route of ours.
pub(crate) fn new_message(spec: &RouteSpec) -> RouteMessage {
    let mut message = keyed_message(&spec.key);
    message.header.kind = match spec.kind {
        RouteKind::Unicast => RouteType::Unicast,
        RouteKind::Unreachable => RouteType::Unreachable,
        RouteKind::Blackhole => RouteType::BlackHole,
    };
    // IPv4 demands that a destination on the link be of scope link; IPv6 has no scopes.
    let on_link = spec.kind == RouteKind::Unicast && spec.via.is_none();
    message.header.scope = RouteScope::from(if on_link { SCOPE_LINK } else { 0 });
    if spec.onlink {
        message.header.flags = RouteFlags::Onlink;
    }
    message.attributes.extend(spec.dev.map(RouteAttribute::Oif));
    message
        .attributes
        .extend(spec.via.map(|via| match (spec.key.dst.is_ipv6(), via) {
            // RFC 5549: IPv4 through an IPv6 next hop, which the kernel wants under another name.
            (false, IpAddr::V6(via)) => RouteAttribute::Via(RouteVia::Inet6(via)),
            (_, via) => RouteAttribute::Gateway(via.into()),
        }));
    message
        .attributes
        .extend(spec.src.map(|src| RouteAttribute::PrefSource(src.into())));
    message.attributes.extend(
        spec.mtu
            .map(|mtu| RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)])),
    );
    message
}

/// Ours with this key, whatever its values: the protocol named, type and scope left open.
pub(super) fn remove_message(key: &RouteKey) -> RouteMessage {
    let mut message = keyed_message(key);
    message.header.scope = RouteScope::NoWhere; // IPv4: any scope
    message
}

/// Key and protocol.
fn keyed_message(key: &RouteKey) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(key.dst.is_ipv6());
    message.header.destination_prefix_length = key.dst.prefix();
    message.header.protocol = ROUTE_PROTOCOL.into();
    if key.dst.prefix() > 0 {
        message
            .attributes
            .push(RouteAttribute::Destination(network(key.dst)));
    }
    set_table(&mut message, key.table);
    if key.priority != 0 {
        message
            .attributes
            .push(RouteAttribute::Priority(key.priority));
    }
    message
}

/// All routes of one table, of one protocol or of all.
pub(super) fn dump_message(v6: bool, table: u32, protocol: Option<u8>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(v6);
    message.header.protocol = protocol.unwrap_or_default().into();
    set_table(&mut message, table);
    message
}

/// The way to one address.
pub(super) fn lookup_message(to: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(to.is_ipv6());
    message.header.destination_prefix_length = if to.is_ipv6() { 128 } else { 32 };
    message
        .attributes
        .push(RouteAttribute::Destination(to.into()));
    message
}

/// The header has room for 8 bits of the table.
fn set_table(message: &mut RouteMessage, table: u32) {
    match u8::try_from(table) {
        Ok(small) => message.header.table = small,
        Err(_) => message.attributes.push(RouteAttribute::Table(table)),
    }
}

fn family(v6: bool) -> AddressFamily {
    if v6 {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    }
}

/// Without host bits: the kernel refuses them.
fn network(dst: IpNetwork) -> RouteAddress {
    dst.network().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::Emitable;

    #[test]
    #[cfg(target_endian = "little")]
    fn a_peers_route_on_the_wire() {
        let spec = RouteSpec {
            key: RouteKey::main("10.1.2.0/24".parse().unwrap()),
            kind: RouteKind::Unicast,
            via: Some("192.0.2.9".parse().unwrap()),
            dev: Some(2),
            onlink: false,
            mtu: None,
            src: None,
        };
        let message = new_message(&spec);
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        let header = [2, 24, 0, 0, 254, 32, 0, 1, 0, 0, 0, 0];
        let dst = [8, 0, 1, 0, 10, 1, 2, 0];
        let oif = [8, 0, 4, 0, 2, 0, 0, 0];
        let gateway = [8, 0, 5, 0, 192, 0, 2, 9];
        assert_eq!(bytes, [&header[..], &dst, &oif, &gateway].concat());
    }

    #[test]
    fn a_removal_always_names_our_protocol() {
        let message = remove_message(&RouteKey::main("fd00::/64".parse().unwrap()));
        assert_eq!(u8::from(message.header.protocol), ROUTE_PROTOCOL);
    }
}
