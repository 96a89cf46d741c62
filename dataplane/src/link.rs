//! Links: a pod's veth pair ([`VethSpec`]), finding, listing, removing.
//!
//! Who calls: the plugin's ADD, DEL, CHECK and GC; the agent.

use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkFlags, LinkMessage};

use crate::error::Result;
use crate::netlink::{Netlink, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK};
use crate::tunnel::TunnelInfo;
use crate::wire::batch::{Batch, F_DUMP};

mod decode;
mod veth;

pub(crate) use decode::link_from;
pub use veth::{VethObstacle, VethPair, VethSpec};

/// A link as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkInfo {
    /// Interface index in its namespace.
    pub index: u32,
    /// Name in its namespace.
    pub name: String,
    /// `veth`, `ifb`, `vxlan`; `None` for a device of hardware.
    pub kind: Option<String>,
    /// `None` where the link layer is not Ethernet.
    pub mac: Option<[u8; 6]>,
    /// Bytes of an IP packet.
    pub mtu: u32,
    /// Administratively up (`IFF_UP`).
    pub up: bool,
    /// For humans; ours says whose link it is.
    pub alias: Option<String>,
    /// Index of the other end (veth) or of the device below, in its own namespace.
    pub peer_index: Option<u32>,
    /// This namespace's number for the other end's namespace; `None`: the same namespace, -1: it has no number yet.
    pub peer_netns_id: Option<i32>,
    /// What it is made of, where it is a tunnel of a kind that we make.
    pub tunnel: Option<TunnelInfo>,
}

impl Netlink {
    /// The link of this name.
    pub fn find_link(&mut self, name: &str) -> Result<Option<LinkInfo>> {
        if check_name(name).is_err() {
            return Ok(None); // no link can have it
        }
        self.get_link(get_message(0, Some(name)), || format!("find link {name}"))
    }

    /// The link of this index.
    pub fn find_link_by_index(&mut self, index: u32) -> Result<Option<LinkInfo>> {
        self.get_link(get_message(index, None), || {
            format!("find link with index {index}")
        })
    }

    /// All links of this namespace.
    pub fn list_links(&mut self) -> Result<Vec<LinkInfo>> {
        let request = |batch: &mut Batch| {
            batch.push(RTM_GETLINK, F_DUMP, &get_message(0, None));
        };
        self.dump(request, link_from, || "list links".into())
    }

    /// Sets the link administratively up.
    pub fn set_link_up(&mut self, index: u32) -> Result<()> {
        let mut batch = Batch::new();
        batch.push(RTM_SETLINK, 0, &up_message(index));
        self.request(&mut batch, || format!("set link with index {index} up"))
    }

    /// Removes the link of this name, the other end of a veth pair along with it. Absent is done; true when there was one.
    pub fn remove_link(&mut self, name: &str) -> Result<bool> {
        if check_name(name).is_err() {
            return Ok(false);
        }
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.into()));
        let mut batch = Batch::new();
        batch.push(RTM_DELLINK, 0, &message);
        match self.request(&mut batch, || format!("remove link {name}")) {
            Ok(()) => Ok(true),
            Err(error) if error.errno == libc::ENODEV => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn get_link(
        &mut self,
        message: LinkMessage,
        what: impl Fn() -> String,
    ) -> Result<Option<LinkInfo>> {
        let mut found = None;
        let mut batch = Batch::new();
        batch.push(RTM_GETLINK, 0, &message);
        match self.request_with(
            &mut batch,
            &mut |message| found = found.take().or_else(|| link_from(message)),
            what,
        ) {
            Ok(()) => Ok(found),
            Err(error) if error.errno == libc::ENODEV => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A link name that the kernel would take: 1 to 15 bytes.
fn check_name(name: &str) -> std::result::Result<(), ()> {
    if (1..=15).contains(&name.len()) && !name.contains(['/', '\0']) {
        Ok(())
    } else {
        Err(())
    }
}

/// Without counters: a fourth of the bytes.
pub(crate) fn get_message(index: u32, name: Option<&str>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message
        .attributes
        .extend(name.map(|name| LinkAttribute::IfName(name.into())));
    message
        .attributes
        .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    message
}

pub(crate) fn up_message(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_link_can_have_are_known() {
        for name in ["", "sixteen-letters-", "a/b"] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert!(check_name("s32abcdefghijkl").is_ok());
    }
}
