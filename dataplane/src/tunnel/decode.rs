//! A tunnel's attributes out of `IFLA_LINKINFO`.

use std::net::{IpAddr, Ipv4Addr};

use super::TunnelInfo;
use crate::wire::attribute::{Attribute, Attributes};

const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;

pub(super) const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_GROUP: u16 = 2;
pub(super) const IFLA_VXLAN_LOCAL: u16 = 4;
pub(super) const IFLA_VXLAN_LEARNING: u16 = 7;
pub(super) const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_VXLAN_GROUP6: u16 = 16;
pub(super) const IFLA_VXLAN_LOCAL6: u16 = 17;

pub(super) const IFLA_IPTUN_LOCAL: u16 = 2;
const IFLA_IPTUN_REMOTE: u16 = 3;

/// `None` where the link is no tunnel of a kind that we make.
pub(crate) fn tunnel_from(link_info: &Attribute<'_>) -> Option<TunnelInfo> {
    let kind = link_info.nested().find_kind(IFLA_INFO_KIND)?.string()?;
    let data = link_info.nested().find_kind(IFLA_INFO_DATA)?.nested();
    match kind.as_str() {
        "ipip" => Some(TunnelInfo::Ipip {
            local: v4(data, IFLA_IPTUN_LOCAL),
            remote: v4(data, IFLA_IPTUN_REMOTE),
        }),
        "vxlan" => Some(TunnelInfo::Vxlan {
            vni: data.find_kind(IFLA_VXLAN_ID)?.u32()?,
            port: data.find_kind(IFLA_VXLAN_PORT)?.be16()?,
            local: address(data, IFLA_VXLAN_LOCAL).or_else(|| address(data, IFLA_VXLAN_LOCAL6)),
            learning: data
                .find_kind(IFLA_VXLAN_LEARNING)
                .and_then(|flag| flag.u8())
                .is_some_and(|flag| flag != 0),
            has_default_peer: address(data, IFLA_VXLAN_GROUP)
                .or_else(|| address(data, IFLA_VXLAN_GROUP6))
                .is_some(),
        }),
        _ => None,
    }
}

fn address(data: Attributes<'_>, kind: u16) -> Option<IpAddr> {
    let ip = data.find_kind(kind)?.ip()?;
    (!ip.is_unspecified()).then_some(ip)
}

fn v4(data: Attributes<'_>, kind: u16) -> Option<Ipv4Addr> {
    match address(data, kind)? {
        IpAddr::V4(v4) => Some(v4),
        IpAddr::V6(_) => None,
    }
}
