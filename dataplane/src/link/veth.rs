//! A pod's veth pair, made by one message: the peer already in its final namespace with its final name, MTU and MAC.
//!
//! No rename, no move, no moment at which a pod's link lies under a foreign name. Who calls: the plugin's ADD.

use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_core::DefaultNla;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo as LinkKind, LinkMessage,
};

use super::LinkInfo;
use super::decode::link_from;
use crate::error::{KernelError, Result};
use crate::netlink::{Netlink, RTM_NEWLINK, RTM_SETLINK};
use crate::netns::Netns;
use crate::wire::attribute::{nest, put};
use crate::wire::batch::{Batch, F_CREATE, F_ECHO, F_EXCL};

/// `IFALIASZ - 1` of linux/if.h, less the NUL that netlink-packet-route appends and the kernel counts.
const MAX_ALIAS: usize = 254;
/// linux/if_link.h, linux/ip.h: settings of a link of one family, by number.
const IFLA_AF_SPEC: u16 = 26;
const AF_INET: u16 = 2;
const IFLA_INET_CONF: u16 = 1;
const IPV4_DEVCONF_ARP_IGNORE: u16 = 19;
/// Of arp_ignore: "do not reply for all local addresses" (Documentation/networking/ip-sysctl).
const NEVER: u32 = 8;

/// A pair to be made.
#[derive(Debug, Clone)]
pub struct VethSpec<'a> {
    /// Name of the host's side ([`crate::names::HOST_LINK_PREFIX`] and a hash).
    pub host_name: &'a str,
    /// MAC of the host's side ([`crate::names::HOST_MAC`]).
    pub host_mac: [u8; 6],
    /// For humans: the owner. Cut to 255 bytes.
    pub alias: Option<&'a str>,
    /// Name inside the pod (`CNI_IFNAME`).
    pub pod_name: &'a str,
    /// `None`: the kernel chooses one at random.
    pub pod_mac: Option<[u8; 6]>,
    /// Where the pod's end is made.
    pub pod_netns: &'a Netns,
    /// MTU of both ends; `None`: the kernel's 1500.
    pub mtu: Option<u32>,
}

/// Indexes of both ends, each in its own namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VethPair {
    /// In the namespace of the socket.
    pub host_index: u32,
    /// In the pod's namespace.
    pub pod_index: u32,
}

/// What stands in the way of a pair (EEXIST).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VethObstacle {
    /// The host's name is taken: of the same key, so a leftover of ours, or a foreign device with our name.
    HostLink(LinkInfo),
    /// The pod has an interface of that name already: ADD must fail and touch nothing (A1).
    PodInterface(LinkInfo),
}

impl Netlink {
    /// Makes the pair, the host's side up. EEXIST: a name is taken, the text says which and [`Netlink::find_veth_obstacle`]
    /// tells it to a program; nothing was made then.
    pub fn create_veth(&mut self, spec: &VethSpec<'_>) -> Result<VethPair> {
        let what = || {
            let mtu = spec
                .mtu
                .map(|mtu| format!(", mtu {mtu}"))
                .unwrap_or_default();
            format!(
                "create veth {} (host) with peer {} (pod){mtu}",
                spec.host_name, spec.pod_name
            )
        };
        let mut echo = None;
        let mut batch = Batch::new();
        // ECHO tells both indexes without another question; kernels before 6.2 or so do not echo.
        batch.push(RTM_NEWLINK, F_CREATE | F_EXCL | F_ECHO, &veth_message(spec));
        self.request_with(
            &mut batch,
            &mut |message| echo = echo.take().or_else(|| link_from(message)),
            what,
        )
        .map_err(|error| self.name_the_obstacle(error, spec))?;
        let pair = self.pair_of(spec, echo)?;
        self.finish_host_side(pair.host_index, spec.alias)?;
        Ok(pair)
    }

    /// After EEXIST of [`Netlink::create_veth`]: which of the two names is taken. `None`: neither any more.
    pub fn find_veth_obstacle(&mut self, spec: &VethSpec<'_>) -> Result<Option<VethObstacle>> {
        let inside = Netlink::open_in(spec.pod_netns)?.find_link(spec.pod_name)?;
        if let Some(link) = inside {
            return Ok(Some(VethObstacle::PodInterface(link)));
        }
        Ok(self.find_link(spec.host_name)?.map(VethObstacle::HostLink))
    }

    /// What the kernel ignores while it creates a link: an alias, and that ARP is never answered. A pod needs no answer, since
    /// its gateway is a permanent neighbour; and each question that is answered makes the kernel remember who asked, so that
    /// a pod could fill the node's neighbour table.
    fn finish_host_side(&mut self, index: u32, alias: Option<&str>) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message
            .attributes
            .extend(alias.map(|alias| LinkAttribute::IfAlias(cut_to(alias, MAX_ALIAS).into())));
        let mut conf = Vec::new();
        nest(&mut conf, AF_INET, |out| {
            nest(out, IFLA_INET_CONF, |out| {
                put(out, IPV4_DEVCONF_ARP_IGNORE, &NEVER.to_ne_bytes());
            });
        });
        message
            .attributes
            .push(LinkAttribute::Other(DefaultNla::new(IFLA_AF_SPEC, conf)));
        let mut batch = Batch::new();
        batch.push(RTM_SETLINK, 0, &message);
        self.request(&mut batch, || {
            format!("set alias ({alias:?}) and arp_ignore of link with index {index}")
        })
    }

    /// For humans, and for us to know a link again. The kernel ignores an alias while it creates a link, so this is a message
    /// of its own.
    pub fn set_alias(&mut self, index: u32, alias: &str) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message
            .attributes
            .push(LinkAttribute::IfAlias(cut_to(alias, MAX_ALIAS).into()));
        let mut batch = Batch::new();
        batch.push(RTM_SETLINK, 0, &message);
        self.request(&mut batch, || {
            format!("set alias of link with index {index} to {alias:?}")
        })
    }

    /// Both indexes, from the echo or by asking where this kernel did not echo.
    fn pair_of(&mut self, spec: &VethSpec<'_>, echo: Option<LinkInfo>) -> Result<VethPair> {
        let gone =
            |name: &str| KernelError::new(format!("find link {name} just created"), libc::ENODEV);
        let host = match echo {
            Some(host) => host,
            None => self
                .find_link(spec.host_name)?
                .ok_or_else(|| gone(spec.host_name))?,
        };
        let pod_index = match host.peer_index {
            Some(index) => index,
            None => {
                let pod = Netlink::open_in(spec.pod_netns)?.find_link(spec.pod_name)?;
                pod.ok_or_else(|| gone(spec.pod_name))?.index
            }
        };
        Ok(VethPair {
            host_index: host.index,
            pod_index,
        })
    }

    fn name_the_obstacle(&mut self, mut error: KernelError, spec: &VethSpec<'_>) -> KernelError {
        if error.is_exists() {
            match self.find_veth_obstacle(spec) {
                Ok(Some(VethObstacle::PodInterface(_))) => {
                    error.message = format!("the pod already has an interface {}", spec.pod_name);
                }
                Ok(Some(VethObstacle::HostLink(link))) => {
                    let alias = link
                        .alias
                        .map(|alias| format!(" ({alias})"))
                        .unwrap_or_default();
                    error.message = format!("the host already has a link {}{alias}", link.name);
                }
                _ => {}
            }
        }
        error
    }
}

/// The longest start of `text` of at most `limit` bytes that ends between two characters.
fn cut_to(text: &str, limit: usize) -> &str {
    let end = (0..=limit.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0);
    &text[..end]
}

fn veth_message(spec: &VethSpec<'_>) -> LinkMessage {
    let mut peer = LinkMessage::default();
    peer.attributes
        .push(LinkAttribute::IfName(spec.pod_name.into()));
    peer.attributes
        .push(LinkAttribute::NetNsFd(spec.pod_netns.as_fd().as_raw_fd()));
    peer.attributes
        .extend(spec.pod_mac.map(|mac| LinkAttribute::Address(mac.to_vec())));
    peer.attributes.extend(spec.mtu.map(LinkAttribute::Mtu));
    peer.attributes.extend(one_queue());

    let mut host = LinkMessage::default();
    // The pod's end cannot be made up here: veth_open runs before the pair is tied (ENOTCONN).
    host.header.flags = LinkFlags::Up;
    host.header.change_mask = LinkFlags::Up;
    host.attributes
        .push(LinkAttribute::IfName(spec.host_name.into()));
    host.attributes
        .push(LinkAttribute::Address(spec.host_mac.to_vec()));
    host.attributes.extend(spec.mtu.map(LinkAttribute::Mtu));
    host.attributes.extend(one_queue());
    host.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkKind::Kind(InfoKind::Veth),
        LinkKind::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    host
}

/// veth uses one queue of each kind unless told otherwise, but allocates one per possible CPU, registers all with sysfs and
/// takes all but one away again: on a node of 64 cores that costs more than the rest.
fn one_queue() -> [LinkAttribute; 2] {
    [LinkAttribute::NumTxQueues(1), LinkAttribute::NumRxQueues(1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_is_cut_between_characters() {
        assert_eq!(cut_to("abc", 255), "abc");
        let long = "ä".repeat(200);
        assert_eq!(cut_to(&long, 255).len(), 254);
        assert_eq!(cut_to("", 255), "");
    }
}
