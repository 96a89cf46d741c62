//! The other Nodes and the ways to them: what is wanted, and what the kernel has. Pure.

use crate::diff::matches;
use crate::look::Look;
use crate::view::NodeView;
use dataplane::route::{RouteInfo, RouteKey, RouteKind, RouteSpec};
use ipnetwork::IpNetwork;
use serde::Serialize;
use std::net::IpAddr;

/// One podCIDR of one peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Peer {
    /// Name of the Node; absent where only the kernel knows of it.
    pub(crate) node: Option<String>,
    pub(crate) address: Option<IpAddr>,
    #[serde(rename = "podCIDR")]
    pub(crate) pod_cidr: IpNetwork,
    pub(crate) way: PeerWay,
    pub(crate) link: Option<String>,
    /// Of a packet to its pods, in bytes.
    pub(crate) mtu: Option<u32>,
    pub(crate) route: RouteState,
}

/// How packets get there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PeerWay {
    /// Through a link that both nodes are on.
    Direct,
    /// In IP packets between the nodes.
    Ipip,
    /// In VXLAN between the nodes.
    Vxlan,
    /// There is none.
    None,
}

/// Of the route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RouteState {
    /// As it should be.
    Present,
    /// Ours, but not as it should be.
    Different,
    /// Wanted, and not there.
    Missing,
    /// None can be made; the problems say why.
    Unwanted,
    /// There, and nobody knows whether it should be.
    Unchecked,
}

/// By name of the Node, IPv4 first.
pub(super) fn compute_peers(look: &Look) -> Vec<Peer> {
    match (&look.view, look.desired()) {
        (Some(view), Some(_)) => {
            let others = view
                .nodes
                .iter()
                .filter(|node| *node.name != *look.node_name);
            others
                .flat_map(|node| node.pod_cidrs.iter().map(|cidr| peer(look, node, *cidr)))
                .collect()
        }
        _ => peers_by_routes(look),
    }
}

fn peer(look: &Look, node: &NodeView, cidr: IpNetwork) -> Peer {
    let wanted = look
        .desired()
        .and_then(|desired| desired.routes.get(&RouteKey::main(cidr)));
    let there = look
        .own_routes()
        .find(|route| route.spec.key.dst == cidr && route.spec.kind == RouteKind::Unicast);
    let state = match (wanted, there) {
        (None, _) => RouteState::Unwanted,
        (Some(_), None) => RouteState::Missing,
        (Some(wanted), Some(there)) if matches(wanted, there) => RouteState::Present,
        (Some(_), Some(_)) => RouteState::Different,
    };
    let route = there.map(|there| &there.spec).or(wanted);
    let mut peer = describe(look, cidr, route);
    peer.node = Some(node.name.to_string());
    peer.address = node.address_of_family(cidr.is_ipv6());
    peer.route = state;
    peer
}

/// Without Nodes, the kernel's routes of protocol 32 tell of peers.
fn peers_by_routes(look: &Look) -> Vec<Peer> {
    let to_peer = |route: &&RouteInfo| {
        let pod = route
            .spec
            .dev
            .is_some_and(|index| look.facts.is_pod_link(index));
        route.spec.kind == RouteKind::Unicast && !pod
    };
    look.own_routes()
        .filter(to_peer)
        .map(|route| {
            let mut peer = describe(look, route.spec.key.dst, Some(&route.spec));
            peer.address = route.spec.via;
            peer
        })
        .collect()
}

fn describe(look: &Look, cidr: IpNetwork, route: Option<&RouteSpec>) -> Peer {
    let link = route
        .and_then(|route| route.dev)
        .and_then(|index| look.links.iter().find(|link| link.index == index));
    let way = match (route, link.and_then(|link| link.kind.as_deref())) {
        (None, _) => PeerWay::None,
        (Some(_), Some("ipip" | "ip6tnl" | "sit")) => PeerWay::Ipip,
        (Some(_), Some("vxlan")) => PeerWay::Vxlan,
        (Some(_), _) => PeerWay::Direct,
    };
    let route_mtu = route.and_then(|route| route.mtu);
    Peer {
        node: None,
        address: None,
        pod_cidr: cidr,
        way,
        link: link.map(|link| link.name.clone()),
        mtu: route_mtu.or(link.map(|link| link.mtu)),
        route: RouteState::Unchecked,
    }
}
