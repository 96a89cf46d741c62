//! The messages of the steps inside the pod that no other module has.

use std::net::{IpAddr, Ipv6Addr};

use ipnetwork::IpNetwork;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteMessage, RouteMetric, RouteScope, RouteType,
};

use super::PodRoute;
use super::steps::gateway_of;
use crate::names::{GATEWAY_V4, TABLE_MAIN};
use crate::route::{RouteKey, RouteKind, RouteSpec, encode};

/// `RT_TABLE_LOCAL`.
const TABLE_LOCAL: u32 = 255;

pub(crate) fn no_generated_address(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    let inet6 = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
    message
        .attributes
        .push(LinkAttribute::AfSpecUnspec(vec![inet6]));
    message
}

pub(super) fn address_message(index: u32, ip: IpAddr, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = if ip.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    message.header.prefix_len = prefix;
    message.header.index = index;
    let local = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    message.header.scope = if local {
        AddressScope::Link
    } else {
        AddressScope::Universe
    };
    if ip.is_ipv4() {
        message.attributes.push(AddressAttribute::Local(ip));
    } else {
        message.header.flags = AddressHeaderFlags::Nodad | AddressHeaderFlags::Permanent;
        message.attributes.push(AddressAttribute::Flags(
            AddressFlags::Nodad | AddressFlags::Permanent,
        ));
    }
    message.attributes.push(AddressAttribute::Address(ip));
    message
}

pub(super) fn local_route(index: u32, ip: Ipv6Addr) -> RouteMessage {
    let key = RouteKey {
        table: TABLE_LOCAL,
        ..RouteKey::main(IpNetwork::from(IpAddr::V6(ip)))
    };
    let mut message = encode::new_message(&RouteSpec::on_link(key, index));
    message.header.kind = RouteType::Local;
    message
}

pub(super) fn gateway_route(index: u32) -> RouteMessage {
    let key = RouteKey::main(IpNetwork::from(IpAddr::V4(GATEWAY_V4)));
    encode::new_message(&RouteSpec::on_link(key, index))
}

pub(super) fn route_message(index: u32, route: &PodRoute) -> RouteMessage {
    let via = gateway_of(route);
    let key = RouteKey {
        dst: route.dst,
        table: route.table.unwrap_or(TABLE_MAIN),
        priority: route.priority.unwrap_or_default(),
    };
    // On link: the gateway's own route may be in another table, or lead through the pod's first interface.
    let onlink = via.is_some_and(|via| via.is_ipv4());
    let spec = RouteSpec {
        key,
        kind: RouteKind::Unicast,
        via,
        dev: Some(index),
        onlink,
        mtu: None,
        src: None,
    };
    let mut message = encode::new_message(&spec);
    if let Some(scope) = route.scope {
        message.header.scope = RouteScope::from(scope);
    }
    let metrics: Vec<RouteMetric> = route
        .mtu
        .map(RouteMetric::Mtu)
        .into_iter()
        .chain(route.advmss.map(RouteMetric::Advmss))
        .collect();
    if !metrics.is_empty() {
        message.attributes.push(RouteAttribute::Metrics(metrics));
    }
    message
}
