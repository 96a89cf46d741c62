//! What the kernel of this node ought to hold, computed from the view, the facts, the records and the settings. Pure:
//! values in, values out. `diff` compares it with what is there.

use crate::cidr;
use crate::facts::Facts;
use crate::problem::{Problem, ProblemKind};
use crate::settings::encapsulation::Mode;
use crate::settings::{MtuSetting, Settings};
use crate::view::{ClusterView, NodeView};
use dataplane::route::{RouteKey, RouteSpec};
use ipnetwork::IpNetwork;
use std::collections::BTreeMap;
use std::net::IpAddr;
use tunnel::{Tunnel, plan_tunnel};

pub(crate) mod peers;
pub(crate) mod pods;
pub(crate) mod ports;
pub(crate) mod tunnel;

/// Worse than any route that somebody would make on purpose.
pub(crate) const PRIORITY_UNREACHABLE: u32 = 4096;

/// Wanted routes under the kernel's own key.
pub(crate) type Routes = BTreeMap<RouteKey, RouteSpec>;

/// The whole wish, as far as Nodes decide it; host ports and pods' routes come from the records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Desired {
    /// Peers' podCIDRs, and this node's own as unreachable.
    pub(crate) routes: Routes,
    /// Destinations that see a pod's own address.
    pub(crate) cluster: Vec<IpNetwork>,
    /// This node's own, those that peers send to: one of each family.
    pub(crate) addresses: Vec<IpAddr>,
    /// Of this node, IPv4 first, as the conflist wants its ranges.
    pub(crate) pod_cidrs: Vec<IpNetwork>,
    /// `None`: the node's address is on no link, and the plugin decides.
    pub(crate) mtu: Option<u32>,
    /// `None` where no tunnel is wanted, or none is possible.
    pub(crate) tunnel: Option<Tunnel>,
    pub(crate) problems: Vec<Problem>,
}

impl Desired {
    /// True where this node carries IPv6 pods.
    pub(crate) fn has_ipv6(&self) -> bool {
        self.pod_cidrs.iter().any(IpNetwork::is_ipv6)
    }
}

/// The addresses of peers whose ways `compute_desired` will ask for.
pub(crate) fn peer_addresses(settings: &Settings, view: &ClusterView) -> Vec<IpAddr> {
    let own = settings.node_name.as_str();
    let peers = view.nodes.iter().filter(|node| node.name.as_ref() != own);
    let both = settings.encapsulation.mode != Mode::None;
    let mut wanted: Vec<IpAddr> = peers
        .filter(|node| !node.pod_cidrs.is_empty())
        .flat_map(|node| {
            let of_pods = |v6| node.pod_cidrs.iter().any(|cidr| cidr.is_ipv6() == v6);
            [false, true]
                .into_iter()
                .filter(move |v6| both || of_pods(*v6))
                .filter_map(|v6| node.address_of_family(v6))
        })
        .collect();
    wanted.sort_unstable();
    wanted.dedup();
    wanted
}

/// `Err` where nothing can be decided: then nothing may be changed either.
pub(crate) fn compute_desired(
    settings: &Settings,
    view: &ClusterView,
    facts: &Facts,
) -> Result<Desired, Problem> {
    let own = find_own_node(settings, view)?;
    let mut desired = Desired {
        pod_cidrs: own.pod_cidrs.to_vec(),
        addresses: [false, true]
            .into_iter()
            .filter_map(|v6| own.address_of_family(v6))
            .collect(),
        cluster: compute_cluster(settings, view),
        ..Desired::default()
    };
    desired.pod_cidrs.sort_by_key(IpNetwork::is_ipv6);
    let link_mtu = find_link_mtu(own, facts);
    desired.tunnel = plan_tunnel(settings, view, own, facts, link_mtu, &mut desired.problems);
    let overhead = desired.tunnel.as_ref().map_or(0, Tunnel::overhead);
    desired.mtu = compute_mtu(settings, own, link_mtu, overhead, &mut desired.problems);
    for node in view.nodes.iter().filter(|node| node.name != own.name) {
        peers::compute_peer(settings, node, facts, &mut desired);
    }
    // Last, so that they win should a peer's route ever have the same key.
    for cidr in &own.pod_cidrs {
        let route = peers::unreachable(*cidr);
        desired.routes.insert(route.key.clone(), route);
        complain_of_own_networks(own, cidr, facts, &mut desired.problems);
    }
    Ok(desired)
}

fn find_own_node<'a>(settings: &Settings, view: &'a ClusterView) -> Result<&'a NodeView, Problem> {
    let complain = |text: String| Problem::new(ProblemKind::OwnNode, text);
    let name = &settings.node_name;
    let node = view.find(name).ok_or_else(|| {
        complain(format!(
            "node {name} is not among the {} Nodes; waiting for it (is nodeName right? SLASH32_NODE_NAME or NODE_NAME sets it)",
            view.nodes.len()
        ))
    })?;
    if node.pod_cidrs.is_empty() {
        return Err(complain(format!(
            "this node's Node {name} has no usable podCIDR yet; waiting for it"
        )));
    }
    Ok(node)
}

fn compute_cluster(settings: &Settings, view: &ClusterView) -> Vec<IpNetwork> {
    let mut cluster = settings.cluster_cidrs.clone();
    cluster.extend(&settings.masquerade.exclude);
    for node in &view.nodes {
        cluster.extend(node.pod_cidrs.iter());
        cluster.extend(node.addresses.iter().map(|address| cidr::host(*address)));
    }
    cidr::merge(cluster)
}

/// RFC 791: an IPv4 packet has at most this many bytes; veth takes no more (ETH_MAX_MTU in linux/if_ether.h).
const LARGEST_MTU: u32 = 65_535;

/// The smallest MTU of the links that carry this node's addresses: a pod's link has one MTU for both families.
fn find_link_mtu(own: &NodeView, facts: &Facts) -> Option<u32> {
    let links = own
        .addresses
        .iter()
        .filter_map(|address| facts.find_holder(*address));
    let mtu = links.map(|(_, link)| link.mtu).min();
    // A node address on lo (MTU 65,536) says nothing of the way: the links towards peers do.
    let too_large = mtu.is_some_and(|mtu| mtu > LARGEST_MTU);
    if too_large { facts.ways_mtu() } else { mtu }
}

/// The link's, less what a tunnel adds: any two pods may have one between them.
fn compute_mtu(
    settings: &Settings,
    own: &NodeView,
    link_mtu: Option<u32>,
    overhead: u32,
    problems: &mut Vec<Problem>,
) -> Option<u32> {
    if let MtuSetting::Fixed(bytes) = settings.mtu {
        return Some(bytes);
    }
    if link_mtu.is_none() {
        let addresses: Vec<String> = own.addresses.iter().map(ToString::to_string).collect();
        problems.push(Problem::new(ProblemKind::InvalidNode, format!(
            "no link of this node holds an InternalIP of its Node ({}); the MTU of pods stays at the plugin's default (set mtu)",
            if addresses.is_empty() { "it has none".to_owned() } else { addresses.join(", ") }
        )));
    }
    link_mtu.map(|mtu| mtu.saturating_sub(overhead))
}

/// An own podCIDR that covers a network of the host would hand out addresses that are taken.
fn complain_of_own_networks(
    own: &NodeView,
    cidr: &IpNetwork,
    facts: &Facts,
    problems: &mut Vec<Problem>,
) {
    if let Some((network, link)) = facts.find_own_network(cidr) {
        problems.push(Problem::new(ProblemKind::CidrConflict, format!(
            "this node's podCIDR {cidr} ({}) overlaps {network} on its link {link}; pods may get addresses that are in use",
            own.name
        )));
    }
}

#[cfg(test)]
mod tests;
