//! Addresses of a namespace's links, as the kernel shows them.
//!
//! Who calls: the plugin's CHECK (are the pod's addresses there, none tentative: A7, C4), the agent (the node's own addresses).

use ipnetwork::IpNetwork;
use netlink_packet_route::address::AddressMessage;

use crate::error::Result;
use crate::netlink::{Netlink, RTM_GETADDR, RTM_NEWADDR};
use crate::wire::attribute::Attributes;
use crate::wire::batch::{Batch, F_DUMP};
use crate::wire::message::Message;

/// Bytes of `struct ifaddrmsg`: family u8, prefix length u8, flags u8, scope u8, index u32.
const HEADER: usize = 8;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_TENTATIVE: u32 = 0x40;

/// An address of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressInfo {
    /// The link.
    pub index: u32,
    /// With its prefix length.
    pub address: IpNetwork,
    /// IPv6: not usable yet, or never (duplicate address detection is underway or failed).
    pub tentative: bool,
}

impl Netlink {
    /// All addresses of this namespace, both families.
    pub fn list_addresses(&mut self) -> Result<Vec<AddressInfo>> {
        let request = |batch: &mut Batch| {
            batch.push(RTM_GETADDR, F_DUMP, &AddressMessage::default());
        };
        self.dump(request, address_from, || "list addresses".into())
    }
}

pub(crate) fn address_from(message: Message<'_>) -> Option<AddressInfo> {
    if message.kind != RTM_NEWADDR {
        return None;
    }
    let header: [u8; HEADER] = message.payload.get(..HEADER)?.try_into().ok()?;
    let attributes = Attributes::after(message.payload, HEADER);
    // On a point-to-point link IFA_ADDRESS is the far end; IFA_LOCAL is ours wherever it is there.
    let ip = attributes
        .find_kind(IFA_LOCAL)
        .or(attributes.find_kind(IFA_ADDRESS))?
        .ip()?;
    // IFA_FLAGS carries all 32 bits of which the header has room for 8.
    let flags = attributes
        .find_kind(IFA_FLAGS)
        .and_then(|flags| flags.u32())
        .unwrap_or(u32::from(header[2]));
    Some(AddressInfo {
        index: u32::from_ne_bytes([header[4], header[5], header[6], header[7]]),
        address: IpNetwork::new(ip, header[1]).ok()?,
        tentative: flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED) != 0,
    })
}
