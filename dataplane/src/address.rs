//! Addresses of a namespace's links, as the kernel shows them.
//!
//! Who calls: the plugin's CHECK (are the pod's addresses there, none tentative: A7, C4), the agent (the node's own addresses).

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_route::address::AddressMessage;

use crate::error::Result;
use crate::netlink::{Netlink, RTM_DELADDR, RTM_GETADDR, RTM_NEWADDR};
use crate::wire::attribute::{Attributes, ip_to_bytes, put, put_string};
use crate::wire::batch::{Batch, F_CREATE, F_DUMP, F_EXCL};
use crate::wire::message::Message;

/// Bytes of `struct ifaddrmsg`: family u8, prefix length u8, flags u8, scope u8, index u32.
const HEADER: usize = 8;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_LABEL: u16 = 3;
const IFA_FLAGS: u16 = 8;
const IFA_F_NODAD: u32 = 0x02;
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
    /// IPv4 only: the link's name, unless somebody wrote another.
    pub label: Option<String>,
}

impl Netlink {
    /// All addresses of this namespace, both families.
    pub fn list_addresses(&mut self) -> Result<Vec<AddressInfo>> {
        let request = |batch: &mut Batch| {
            batch.push(RTM_GETADDR, F_DUMP, &AddressMessage::default());
        };
        self.dump(request, address_from, || "list addresses".into())
    }

    /// Gives a link one more address, as a /32 or /128 without duplicate address detection. Present is done. `label`, for IPv4
    /// only, begins with the link's name.
    pub fn ensure_address(&mut self, index: u32, ip: IpAddr, label: Option<&str>) -> Result<()> {
        let mut batch = Batch::new();
        batch.push_with(RTM_NEWADDR, F_CREATE | F_EXCL, |out| {
            encode(out, index, ip);
            put(out, IFA_FLAGS, &IFA_F_NODAD.to_ne_bytes());
            if let Some(label) = label.filter(|_| ip.is_ipv4()) {
                put_string(out, IFA_LABEL, label);
            }
        });
        match self.request(&mut batch, || {
            format!("add address {ip} to link with index {index}")
        }) {
            Err(error) if error.is_exists() => Ok(()),
            other => other,
        }
    }

    /// Takes an address that [`Netlink::ensure_address`] gave. Absent is done.
    pub fn remove_address(&mut self, index: u32, ip: IpAddr) -> Result<()> {
        let mut batch = Batch::new();
        batch.push_with(RTM_DELADDR, 0, |out| encode(out, index, ip));
        match self.request(&mut batch, || {
            format!("remove address {ip} from link with index {index}")
        }) {
            Err(error) if error.is_not_found() => Ok(()),
            other => other,
        }
    }
}

/// Header and address, the prefix as long as the address.
fn encode(out: &mut Vec<u8>, index: u32, ip: IpAddr) {
    let (family, length) = match ip {
        IpAddr::V4(_) => (libc::AF_INET, 32),
        IpAddr::V6(_) => (libc::AF_INET6, 128),
    };
    out.extend_from_slice(&[family as u8, length, 0, 0]);
    out.extend_from_slice(&index.to_ne_bytes());
    for kind in [IFA_LOCAL, IFA_ADDRESS] {
        put(out, kind, &ip_to_bytes(ip));
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
        label: attributes
            .find_kind(IFA_LABEL)
            .and_then(|label| label.string()),
        tentative: flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED) != 0,
    })
}
