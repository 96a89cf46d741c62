//! What the kernel of this node ought to hold, computed from the view, the facts, the records and the settings. Pure:
//! values in, values out. `diff` compares it with what is there.

use crate::cidr;
use crate::facts::Facts;
use crate::problem::{Problem, ProblemKind};
use crate::settings::{MtuSetting, Settings};
use crate::view::{ClusterView, NodeView};
use dataplane::route::{RouteKey, RouteSpec};
use ipnetwork::IpNetwork;
use std::collections::BTreeMap;
use std::net::IpAddr;

pub(crate) mod peers;
pub(crate) mod pods;
pub(crate) mod ports;

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
    /// Of this node, IPv4 first, as the conflist wants its ranges.
    pub(crate) pod_cidrs: Vec<IpNetwork>,
    /// `None`: the node's address is on no link, and the plugin decides.
    pub(crate) mtu: Option<u32>,
    pub(crate) problems: Vec<Problem>,
}

impl Desired {
    /// True where this node carries IPv6 pods.
    pub(crate) fn has_ipv6(&self) -> bool {
        self.pod_cidrs.iter().any(IpNetwork::is_ipv6)
    }
}

/// The addresses of peers whose ways `compute_desired` will ask for.
pub(crate) fn peer_addresses(view: &ClusterView, own: &str) -> Vec<IpAddr> {
    let peers = view.nodes.iter().filter(|node| node.name.as_ref() != own);
    let mut wanted: Vec<IpAddr> = peers
        .flat_map(|node| {
            node.pod_cidrs
                .iter()
                .filter_map(|cidr| node.address_of_family(cidr.is_ipv6()))
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
        cluster: compute_cluster(settings, view),
        ..Desired::default()
    };
    desired.pod_cidrs.sort_by_key(IpNetwork::is_ipv6);
    desired.mtu = compute_mtu(settings, own, facts, &mut desired.problems);
    for node in view.nodes.iter().filter(|node| node.name != own.name) {
        peers::compute_peer(node, facts, &mut desired);
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
fn compute_mtu(
    settings: &Settings,
    own: &NodeView,
    facts: &Facts,
    problems: &mut Vec<Problem>,
) -> Option<u32> {
    if let MtuSetting::Fixed(bytes) = settings.mtu {
        return Some(bytes);
    }
    let links = own
        .addresses
        .iter()
        .filter_map(|address| facts.find_holder(*address));
    let mtu = links.map(|(_, link)| link.mtu).min();
    if mtu.is_none() {
        let addresses: Vec<String> = own.addresses.iter().map(ToString::to_string).collect();
        problems.push(Problem::new(ProblemKind::InvalidNode, format!(
            "no link of this node holds an InternalIP of its Node ({}); the MTU of pods stays at the plugin's default (set mtu)",
            if addresses.is_empty() { "it has none".to_owned() } else { addresses.join(", ") }
        )));
    }
    // A node address on lo (MTU 65,536) says nothing of the way: the links towards peers do.
    let too_large = mtu.is_some_and(|mtu| mtu > LARGEST_MTU);
    if too_large { facts.ways_mtu() } else { mtu }
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
