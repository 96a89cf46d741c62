//! A link out of the kernel's `RTM_NEWLINK`: only the attributes that we use.

use super::LinkInfo;
use crate::netlink::RTM_NEWLINK;
use crate::tunnel::tunnel_from;
use crate::wire::attribute::{Attribute, Attributes};
use crate::wire::message::Message;

/// Bytes of `struct ifinfomsg`: family u8, pad u8, type u16, index i32, flags u32, change u32.
const HEADER: usize = 16;
const IFF_UP: u32 = 1;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_INFO_KIND: u16 = 1;

/// `None` where the message is no link.
pub(crate) fn link_from(message: Message<'_>) -> Option<LinkInfo> {
    if message.kind != RTM_NEWLINK {
        return None;
    }
    let word = |at: usize| {
        Some(u32::from_ne_bytes(
            message.payload.get(at..at + 4)?.try_into().ok()?,
        ))
    };
    let mut link = LinkInfo {
        index: word(4)?,
        name: String::new(),
        kind: None,
        mac: None,
        mtu: 0,
        up: word(8)? & IFF_UP != 0,
        alias: None,
        peer_index: None,
        peer_netns_id: None,
        tunnel: None,
    };
    for attribute in Attributes::after(message.payload, HEADER) {
        take(&mut link, &attribute);
    }
    Some(link)
}

fn take(link: &mut LinkInfo, attribute: &Attribute<'_>) {
    match attribute.kind {
        IFLA_ADDRESS => link.mac = attribute.mac(),
        IFLA_IFNAME => link.name = attribute.string().unwrap_or_default(),
        IFLA_MTU => link.mtu = attribute.u32().unwrap_or_default(),
        IFLA_LINK => link.peer_index = attribute.u32().filter(|index| *index != 0),
        IFLA_LINKINFO => {
            link.kind = attribute
                .nested()
                .find_kind(IFLA_INFO_KIND)
                .and_then(|kind| kind.string());
            link.tunnel = tunnel_from(attribute);
        }
        IFLA_IFALIAS => link.alias = attribute.string(),
        IFLA_LINK_NETNSID => link.peer_netns_id = attribute.u32().map(u32::cast_signed),
        _ => {}
    }
}
