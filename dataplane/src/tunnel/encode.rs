//! Messages that make and change a tunnel device.

use std::net::IpAddr;

use super::decode::{
    IFLA_IPTUN_LOCAL, IFLA_VXLAN_ID, IFLA_VXLAN_LEARNING, IFLA_VXLAN_LOCAL, IFLA_VXLAN_LOCAL6,
    IFLA_VXLAN_PORT,
};
use super::{TunnelKind, TunnelSpec};
use crate::wire::attribute::{ip_to_bytes, nest, put, put_string};

const IFF_UP: u32 = 1;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_IPTUN_PMTUDISC: u16 = 10;

/// `struct ifinfomsg`: family u8, pad u8, type u16, index i32, flags u32, change u32.
fn header(out: &mut Vec<u8>, index: u32, flags: u32, change: u32) {
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&index.to_ne_bytes());
    out.extend_from_slice(&flags.to_ne_bytes());
    out.extend_from_slice(&change.to_ne_bytes());
}

/// A new device, down: up is told apart, after its IPv6 address generation was turned off.
pub(super) fn create(out: &mut Vec<u8>, spec: &TunnelSpec) {
    header(out, 0, 0, 0);
    put_string(out, IFLA_IFNAME, &spec.name);
    put(out, IFLA_MTU, &spec.mtu.to_ne_bytes());
    if let TunnelKind::Vxlan { mac, .. } = &spec.kind {
        put(out, IFLA_ADDRESS, mac);
    }
    nest(out, IFLA_LINKINFO, |out| {
        put_string(out, IFLA_INFO_KIND, spec.kind.as_str());
        nest(out, IFLA_INFO_DATA, |out| data(out, &spec.kind));
    });
}

fn data(out: &mut Vec<u8>, kind: &TunnelKind) {
    match kind {
        TunnelKind::Ipip { local } => {
            if let Some(local) = local {
                put(out, IFLA_IPTUN_LOCAL, &local.octets());
                put(out, IFLA_IPTUN_PMTUDISC, &[1]);
            }
        }
        TunnelKind::Vxlan {
            vni, port, local, ..
        } => {
            put(out, IFLA_VXLAN_ID, &vni.to_ne_bytes());
            let attribute = match local {
                IpAddr::V4(_) => IFLA_VXLAN_LOCAL,
                IpAddr::V6(_) => IFLA_VXLAN_LOCAL6,
            };
            put(out, attribute, &ip_to_bytes(*local));
            put(out, IFLA_VXLAN_LEARNING, &[0]);
            put(out, IFLA_VXLAN_PORT, &port.to_be_bytes());
        }
    }
}

/// Values that can change on a living device: the MTU, and where they are given the MAC and up or down.
pub(super) fn change(
    out: &mut Vec<u8>,
    index: u32,
    mtu: Option<u32>,
    mac: Option<[u8; 6]>,
    up: Option<bool>,
) {
    let flags = if up == Some(true) { IFF_UP } else { 0 };
    header(out, index, flags, if up.is_some() { IFF_UP } else { 0 });
    if let Some(mtu) = mtu {
        put(out, IFLA_MTU, &mtu.to_ne_bytes());
    }
    if let Some(mac) = mac {
        put(out, IFLA_ADDRESS, &mac);
    }
}
