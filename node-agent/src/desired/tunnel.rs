//! The tunnel of this node: one device, this node's addresses on it, and what it has to know of each peer. Everything is
//! derived from node addresses, so that two nodes that see the same Nodes agree without a word. Pure.

use crate::facts::Facts;
use crate::problem::{Problem, ProblemKind};
use crate::settings::Settings;
use crate::settings::encapsulation::{ChecksumOffload, Mode, Underlay};
use crate::view::{ClusterView, NodeView};
use dataplane::names::{IPIP_LINK, VXLAN_LINK};
use dataplane::route::{RouteKey, RouteKind, RouteSpec};
use dataplane::tunnel::{Entry, EntryKey, TunnelInfo, TunnelKind, TunnelSpec};
use ipnetwork::IpNetwork;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What is known of no link: Ethernet's.
const MTU_UNKNOWN: u32 = 1500;
/// RFC 8200, section 5.
const LEAST_IPV6_MTU: u32 = 1280;

/// The device and all that stands on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tunnel {
    pub(crate) spec: TunnelSpec,
    /// This node's own, again: masquerading takes the address of the device through which a packet leaves.
    pub(crate) addresses: Vec<IpAddr>,
    /// Permanent, by the kernel's key.
    pub(crate) entries: BTreeMap<EntryKey, Entry>,
    pub(crate) checksum_offload: ChecksumOffload,
    pub(crate) filter: TunnelFilter,
    /// Who may send encapsulated packets.
    pub(crate) peers: Vec<IpAddr>,
    /// `None` while the device is not there: then it has no routes either.
    index: Option<u32>,
    /// Whether outer packets are IPv6.
    underlay_v6: bool,
    strict_underlay: bool,
}

/// Which packets are the tunnel's, for the rule that drops those of strangers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TunnelFilter {
    /// Protocol 4.
    Ipip {
        /// `None`: whatever no other device takes.
        local: Option<Ipv4Addr>,
        /// Far ends of other people's IPIP devices.
        others: Vec<Ipv4Addr>,
    },
    /// By UDP port and VNI.
    Vxlan { port: u16, vni: u32 },
}

/// Without entries; `compute_peer` adds them. `None` where the mode is off, or this node has no address for it.
pub(super) fn plan_tunnel(
    settings: &Settings,
    view: &ClusterView,
    own: &NodeView,
    facts: &Facts,
    link_mtu: Option<u32>,
    problems: &mut Vec<Problem>,
) -> Option<Tunnel> {
    let wish = &settings.encapsulation;
    let (kind, name, local) = match wish.mode {
        Mode::None => return None,
        Mode::Ipip => {
            let local = own_underlay(own, false, problems)?;
            let bound = wish.ipip_device != IPIP_LINK;
            let IpAddr::V4(v4) = local else { return None };
            let kind = TunnelKind::Ipip {
                local: bound.then_some(v4),
            };
            (kind, wish.ipip_device.as_str(), local)
        }
        Mode::Vxlan => {
            let local = own_underlay(own, underlay_is_v6(wish.vxlan_underlay, own), problems)?;
            let kind = TunnelKind::Vxlan {
                vni: wish.vxlan_vni,
                port: wish.vxlan_port,
                local,
                mac: compute_mac(local),
            };
            (kind, VXLAN_LINK, local)
        }
    };
    let ipip = wish.mode == Mode::Ipip;
    let mtu = link_mtu
        .unwrap_or(MTU_UNKNOWN)
        .saturating_sub(kind.overhead());
    complain_of_small_mtu(own, mtu, &kind, problems);
    let filter = match &kind {
        TunnelKind::Ipip { local } => TunnelFilter::Ipip {
            local: *local,
            others: other_far_ends(facts, name),
        },
        TunnelKind::Vxlan { vni, port, .. } => TunnelFilter::Vxlan {
            port: *port,
            vni: *vni,
        },
    };
    let addresses = [false, true]
        .into_iter()
        .filter_map(|v6| own.address_of_family(v6))
        .filter(|address| facts.find_holder(*address).is_some() && !(ipip && address.is_ipv6()));
    Some(Tunnel {
        spec: TunnelSpec {
            name: name.into(),
            kind,
            mtu,
        },
        addresses: addresses.collect(),
        entries: BTreeMap::new(),
        checksum_offload: wish.vxlan_checksum_offload,
        filter,
        peers: compute_peers(view, own),
        index: facts.find_link(name),
        underlay_v6: local.is_ipv6(),
        strict_underlay: wish.vxlan_underlay != Underlay::Auto,
    })
}

impl Tunnel {
    /// Bytes that the device adds to an inner packet.
    pub(crate) fn overhead(&self) -> u32 {
        self.spec.kind.overhead()
    }

    /// Whether pods of this family can travel through it.
    pub(super) fn carries(&self, v6: bool) -> bool {
        !v6 || matches!(self.spec.kind, TunnelKind::Vxlan { .. })
    }

    /// Where outer packets to this node go, or why there is nowhere.
    pub(super) fn underlay_of(&self, node: &NodeView) -> Result<IpAddr, Problem> {
        let name = &node.name;
        let word = |v6: bool| if v6 { "IPv6" } else { "IPv4" };
        let refuse = |text: String| Err(Problem::new(ProblemKind::OffLink, text));
        let Some(address) = node.address_of_family(self.underlay_v6) else {
            return refuse(format!(
                "node {name} has no {} InternalIP, and this node's tunnel runs over {0}; vxlanUnderlay sets the family for all nodes",
                word(self.underlay_v6)
            ));
        };
        // The peer comes to its own choice from its own addresses; both ends must come to the same one.
        let vxlan = matches!(self.spec.kind, TunnelKind::Vxlan { .. });
        let theirs = underlay_is_v6(Underlay::Auto, node);
        if vxlan && !self.strict_underlay && theirs != self.underlay_v6 {
            return refuse(format!(
                "node {name} tunnels over {}, this node over {}; vxlanUnderlay sets the family for all nodes",
                word(theirs),
                word(self.underlay_v6)
            ));
        }
        Ok(address)
    }

    /// The route of one podCIDR to a peer, and the entries that it needs. `None` while the device is not there.
    pub(super) fn route_to(
        &mut self,
        node: &NodeView,
        cidr: IpNetwork,
        underlay: IpAddr,
    ) -> Result<Option<RouteSpec>, Problem> {
        let via = match self.spec.kind {
            TunnelKind::Ipip { .. } => underlay,
            TunnelKind::Vxlan { .. } => self.add_entries(node, cidr, underlay)?,
        };
        let Some(index) = self.index else {
            return Ok(None);
        };
        let src = self
            .addresses
            .iter()
            .copied()
            .find(|address| address.is_ipv6() == cidr.is_ipv6());
        Ok(Some(RouteSpec {
            key: RouteKey::main(cidr),
            kind: RouteKind::Unicast,
            via: Some(via),
            dev: Some(index),
            // No network of the device holds an IPv4 next hop; a link-local one needs no such leave.
            onlink: via.is_ipv4(),
            mtu: None,
            src,
        }))
    }

    fn add_entries(
        &mut self,
        node: &NodeView,
        cidr: IpNetwork,
        underlay: IpAddr,
    ) -> Result<IpAddr, Problem> {
        let mac = compute_mac(underlay);
        let forwarding = Entry::Forwarding {
            mac,
            node: underlay,
        };
        let taken = self
            .entries
            .get(&forwarding.key())
            .filter(|there| **there != forwarding);
        if let Some(there) = taken {
            return Err(Problem::new(
                ProblemKind::OffLink,
                format!(
                    "node {} ({underlay}) has the same tunnel MAC as another: {there}; it gets no route here",
                    node.name
                ),
            ));
        }
        let v4 = node.address_of_family(false).filter(|_| cidr.is_ipv4());
        let address = v4.unwrap_or(IpAddr::V6(link_local(mac)));
        for entry in [forwarding, Entry::Neighbour { address, mac }] {
            self.entries.insert(entry.key(), entry);
        }
        Ok(address)
    }
}

fn own_underlay(own: &NodeView, v6: bool, problems: &mut Vec<Problem>) -> Option<IpAddr> {
    let address = own.address_of_family(v6);
    if address.is_none() {
        problems.push(Problem::new(
            ProblemKind::OffLink,
            format!(
                "this node's Node {} has no {} InternalIP, over which tunnels run; peers on other links get no route",
                own.name,
                if v6 { "IPv6" } else { "IPv4" }
            ),
        ));
    }
    address
}

fn underlay_is_v6(setting: Underlay, node: &NodeView) -> bool {
    match setting {
        Underlay::Auto => node.address_of_family(false).is_none(),
        Underlay::Ipv4 => false,
        Underlay::Ipv6 => true,
    }
}

fn complain_of_small_mtu(own: &NodeView, mtu: u32, kind: &TunnelKind, problems: &mut Vec<Problem>) {
    let v6_pods = own.pod_cidrs.iter().any(IpNetwork::is_ipv6);
    if v6_pods && mtu < LEAST_IPV6_MTU {
        problems.push(Problem::new(
            ProblemKind::InvalidNode,
            format!(
                "the link of this node's address leaves an MTU of {mtu} inside the tunnel ({} bytes of overhead); IPv6 needs {LEAST_IPV6_MTU}",
                kind.overhead()
            ),
        ));
    }
}

/// All addresses of all other Nodes: a node with several may send from any of them.
fn compute_peers(view: &ClusterView, own: &NodeView) -> Vec<IpAddr> {
    let others = view.nodes.iter().filter(|node| node.name != own.name);
    let mut peers: Vec<IpAddr> = others
        .flat_map(|node| node.addresses.iter().copied())
        .collect();
    peers.sort_unstable();
    peers.dedup();
    peers
}

fn other_far_ends(facts: &Facts, own_device: &str) -> Vec<Ipv4Addr> {
    let others = facts
        .links
        .values()
        .filter(|link| link.name.as_ref() != own_device);
    let mut ends: Vec<Ipv4Addr> = others
        .filter_map(|link| match link.tunnel {
            Some(TunnelInfo::Ipip { remote, .. }) => remote,
            _ => None,
        })
        .collect();
    ends.sort_unstable();
    ends.dedup();
    ends
}

/// The MAC of a node's VXLAN device, of its underlay address. IPv4 addresses fit in whole, so that two can never meet; of
/// IPv6 it is a hash of 40 bits. Both locally administered, unicast, and told apart by the first byte.
pub(crate) fn compute_mac(underlay: IpAddr) -> [u8; 6] {
    match underlay {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            [0x32, 0x32, a, b, c, d]
        }
        IpAddr::V6(v6) => {
            let hash = Sha256::digest(v6.octets());
            [0x36, hash[0], hash[1], hash[2], hash[3], hash[4]]
        }
    }
}

/// EUI-64, RFC 4291 appendix A: the address that the kernel itself would give to a device with this MAC.
pub(crate) fn link_local(mac: [u8; 6]) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    let words = [
        u16::from_be_bytes([a ^ 2, b]),
        u16::from_be_bytes([c, 0xff]),
        u16::from_be_bytes([0xfe, d]),
        u16::from_be_bytes([e, f]),
    ];
    Ipv6Addr::new(0xfe80, 0, 0, 0, words[0], words[1], words[2], words[3])
}

#[cfg(test)]
mod tests;
