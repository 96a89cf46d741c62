//! Routes out of the kernel's `RTM_NEWROUTE`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::question::MatchedRoute;
use super::{RouteInfo, RouteKey, RouteKind, RouteLookup, RouteSpec};
use crate::netlink::RTM_NEWROUTE;
use crate::wire::attribute::{Attributes, ip_from_bytes};
use crate::wire::message::Message;

/// Bytes of `struct rtmsg`: family, dst_len, src_len, tos, table, protocol, scope, type (u8 each), flags u32.
const HEADER: usize = 12;
const AF_INET6: u8 = 10;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTAX_MTU: u16 = 2;

const RTN_UNICAST: u8 = 1;
const RTN_LOCAL: u8 = 2;
const RTN_BLACKHOLE: u8 = 6;
const RTN_UNREACHABLE: u8 = 7;

const RTNH_F_DEAD: u32 = 1;
const RTNH_F_ONLINK: u32 = 4;
const RTNH_F_LINKDOWN: u32 = 16;

/// Header and attributes of one route.
struct Raw<'a> {
    header: [u8; HEADER],
    attributes: Attributes<'a>,
}

impl<'a> Raw<'a> {
    fn read(message: Message<'a>) -> Option<Raw<'a>> {
        if message.kind != RTM_NEWROUTE {
            return None;
        }
        let header = message.payload.get(..HEADER)?.try_into().ok()?;
        Some(Raw {
            header,
            attributes: Attributes::after(message.payload, HEADER),
        })
    }

    fn flags(&self) -> u32 {
        u32::from_ne_bytes([
            self.header[8],
            self.header[9],
            self.header[10],
            self.header[11],
        ])
    }

    fn ip(&self, kind: u16) -> Option<IpAddr> {
        self.attributes.find_kind(kind)?.ip()
    }

    fn number(&self, kind: u16) -> Option<u32> {
        self.attributes.find_kind(kind)?.u32()
    }

    /// `RTA_GATEWAY`, or `RTA_VIA` for a next hop of the other family (behind its u16 family).
    fn via(&self) -> Option<IpAddr> {
        self.ip(RTA_GATEWAY)
            .or_else(|| ip_from_bytes(self.attributes.find_kind(RTA_VIA)?.value.get(2..)?))
    }

    fn mtu(&self) -> Option<u32> {
        self.attributes
            .find_kind(RTA_METRICS)?
            .nested()
            .find_kind(RTAX_MTU)?
            .u32()
    }

    fn dst(&self) -> Option<IpNetwork> {
        let any = if self.header[0] == AF_INET6 {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        } else {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        };
        IpNetwork::new(self.ip(RTA_DST).unwrap_or(any), self.header[1]).ok()
    }
}

/// `None` where the message is no route, or one of a type that we do not know (local, multicast, prohibit, throw).
pub(super) fn route_from(message: Message<'_>) -> Option<RouteInfo> {
    let raw = Raw::read(message)?;
    let kind = match raw.header[7] {
        RTN_UNICAST => RouteKind::Unicast,
        RTN_BLACKHOLE => RouteKind::Blackhole,
        RTN_UNREACHABLE => RouteKind::Unreachable,
        _ => return None,
    };
    let key = RouteKey {
        dst: raw.dst()?,
        table: raw.number(RTA_TABLE).unwrap_or(u32::from(raw.header[4])),
        priority: raw.number(RTA_PRIORITY).unwrap_or_default(),
    };
    let spec = RouteSpec {
        key,
        kind,
        via: raw.via(),
        // IPv6 shows lo as the link of a route that has none.
        dev: raw.number(RTA_OIF).filter(|_| kind == RouteKind::Unicast),
        onlink: raw.flags() & RTNH_F_ONLINK != 0,
        mtu: raw.mtu(),
        src: raw.ip(RTA_PREFSRC),
    };
    let usable = raw.flags() & (RTNH_F_DEAD | RTNH_F_LINKDOWN) == 0;
    Some(RouteInfo {
        spec,
        protocol: raw.header[5],
        scope: raw.header[6],
        usable,
    })
}

/// The answer to a look-up of one address.
pub(super) fn lookup_from(message: Message<'_>) -> Option<RouteLookup> {
    let raw = Raw::read(message)?;
    Some(RouteLookup {
        dev: raw.number(RTA_OIF)?,
        via: raw.via(),
        src: raw.ip(RTA_PREFSRC),
        local: raw.header[7] == RTN_LOCAL,
        mtu: raw.mtu(),
    })
}

/// The route that a look-up with RTM_F_FIB_MATCH found.
pub(super) fn matched_from(message: Message<'_>) -> Option<MatchedRoute> {
    let raw = Raw::read(message)?;
    Some(MatchedRoute {
        dst: raw.dst()?,
        table: raw.number(RTA_TABLE).unwrap_or(u32::from(raw.header[4])),
        protocol: raw.header[5],
        priority: raw.number(RTA_PRIORITY).unwrap_or_default(),
    })
}
