//! Neighbours: permanent on both sides of a pod's link, so that nobody ever asks by ARP or NDP.
//!
//! Who calls: `pod_side` (the messages), the plugin's CHECK and the agent (the list).

use std::net::IpAddr;

use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, route::RouteType};

use crate::error::Result;
use crate::netlink::{Netlink, RTM_GETNEIGH, RTM_NEWNEIGH};
use crate::wire::attribute::Attributes;
use crate::wire::batch::{Batch, F_DUMP};
use crate::wire::message::Message;

/// Bytes of `struct ndmsg`: family u8, pad, index u32 at 4, state u16 at 8, flags u8, type u8.
const HEADER: usize = 12;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_PERMANENT: u16 = 0x80;

/// A neighbour of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeighbourInfo {
    /// The link.
    pub index: u32,
    /// Whose hardware address it is.
    pub address: IpAddr,
    /// `None` while unresolved.
    pub mac: Option<[u8; 6]>,
    /// Set by hand, never resolved and never forgotten.
    pub permanent: bool,
}

impl Netlink {
    /// The neighbours of one link, both families.
    pub fn list_neighbours(&mut self, index: u32) -> Result<Vec<NeighbourInfo>> {
        let request = |batch: &mut Batch| {
            let mut message = NeighbourMessage::default();
            // A strict dump takes the link as an attribute only, never from the header.
            message.attributes.push(NeighbourAttribute::IfIndex(index));
            batch.push(RTM_GETNEIGH, F_DUMP, &message);
        };
        let found = self.dump(request, neighbour_from, || {
            format!("list neighbours of link with index {index}")
        })?;
        Ok(found
            .into_iter()
            .filter(|neighbour| neighbour.index == index)
            .collect())
    }
}

/// "`address` on this link is `mac`, for good."
pub(crate) fn permanent_message(index: u32, address: IpAddr, mac: [u8; 6]) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.header.kind = RouteType::Unicast;
    let destination = match address {
        IpAddr::V4(v4) => NeighbourAddress::Inet(v4),
        IpAddr::V6(v6) => NeighbourAddress::Inet6(v6),
    };
    message
        .attributes
        .push(NeighbourAttribute::Destination(destination));
    message
        .attributes
        .push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
    message
}

pub(crate) fn neighbour_from(message: Message<'_>) -> Option<NeighbourInfo> {
    if message.kind != RTM_NEWNEIGH {
        return None;
    }
    let header: [u8; HEADER] = message.payload.get(..HEADER)?.try_into().ok()?;
    let attributes = Attributes::after(message.payload, HEADER);
    Some(NeighbourInfo {
        index: u32::from_ne_bytes([header[4], header[5], header[6], header[7]]),
        address: attributes.find_kind(NDA_DST)?.ip()?,
        mac: attributes.find_kind(NDA_LLADDR).and_then(|mac| mac.mac()),
        permanent: u16::from_ne_bytes([header[8], header[9]]) & NUD_PERMANENT != 0,
    })
}
