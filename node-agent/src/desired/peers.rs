//! The routes to one peer: its podCIDRs through its InternalIP of the same family where a link of this node reaches it,
//! through the tunnel otherwise, or always. Decided per peer and per family; one that cannot be reached is a problem,
//! never an obstacle to others. Pure.

use super::{Desired, PRIORITY_UNREACHABLE};
use crate::facts::Facts;
use crate::problem::{Problem, ProblemKind};
use crate::settings::Settings;
use crate::settings::encapsulation::{Mode, When};
use crate::view::NodeView;
use dataplane::names::TABLE_MAIN;
use dataplane::route::{RouteKey, RouteKind, RouteLookup, RouteSpec};
use ipnetwork::IpNetwork;
use std::net::IpAddr;

/// Adds the peer's routes, or says why it has none.
pub(super) fn compute_peer(
    settings: &Settings,
    node: &NodeView,
    facts: &Facts,
    desired: &mut Desired,
) {
    for cidr in &node.pod_cidrs {
        match compute_route(settings, node, *cidr, facts, desired) {
            Ok(Some(route)) => {
                desired.routes.insert(route.key.clone(), route);
            }
            Ok(None) => {}
            Err(problem) => desired.problems.push(problem.about(&node.name)),
        }
    }
}

/// Traffic to an own address that no pod holds is refused at once. Without this it would follow the default route, come
/// back from the router, and circle until its TTL is used up.
pub(super) fn unreachable(cidr: IpNetwork) -> RouteSpec {
    RouteSpec {
        key: RouteKey {
            dst: cidr,
            table: TABLE_MAIN,
            priority: PRIORITY_UNREACHABLE,
        },
        kind: RouteKind::Unreachable,
        via: None,
        dev: None,
        onlink: false,
        mtu: None,
        src: None,
    }
}

/// `None`: without an address of the family `view` has complained already, and without its device a tunnel's route waits.
fn compute_route(
    settings: &Settings,
    node: &NodeView,
    cidr: IpNetwork,
    facts: &Facts,
    desired: &mut Desired,
) -> Result<Option<RouteSpec>, Problem> {
    if let Some((network, link)) = facts.find_own_network(&cidr) {
        return Err(Problem::new(
            ProblemKind::CidrConflict,
            format!(
                "node {}: podCIDR {cidr} overlaps {network} on this node's link {link}; it gets no route here",
                node.name
            ),
        ));
    }
    let address = node.address_of_family(cidr.is_ipv6());
    let carries = desired
        .tunnel
        .as_ref()
        .is_some_and(|tunnel| tunnel.carries(cidr.is_ipv6()));
    let always = carries && settings.encapsulation.when == When::Always;
    if let Some(address) = address.filter(|_| !always) {
        let way = find_way(node, address, facts);
        match way {
            Ok(way) if way.via.is_none() => {
                return Ok(Some(direct(cidr, address, way.dev, facts, desired)));
            }
            Err(problem) if !carries => return Err(problem),
            Ok(_) if !carries => return Err(off_link(settings, node, address)),
            _ => {}
        }
    }
    let Some(tunnel) = desired.tunnel.as_mut().filter(|_| carries) else {
        return Ok(None);
    };
    let underlay = tunnel.underlay_of(node)?;
    find_way(node, underlay, facts)?;
    tunnel.route_to(node, cidr, underlay)
}

/// On the link. Its MTU is that of pods, where tunnels have made that smaller than the link's: this node's own packets
/// to a pod would else be too large for the last step.
fn direct(
    cidr: IpNetwork,
    address: IpAddr,
    dev: u32,
    facts: &Facts,
    desired: &Desired,
) -> RouteSpec {
    let smaller = |mtu: &u32| {
        let link = facts.links.get(&dev);
        desired.tunnel.is_some() && link.is_some_and(|link| *mtu < link.mtu)
    };
    RouteSpec {
        key: RouteKey::main(cidr),
        kind: RouteKind::Unicast,
        via: Some(address),
        dev: Some(dev),
        onlink: false,
        mtu: desired.mtu.filter(smaller),
        src: None,
    }
}

/// The kernel's way to an address of a peer, or why there is none that can be used.
fn find_way<'a>(
    node: &NodeView,
    address: IpAddr,
    facts: &'a Facts,
) -> Result<&'a RouteLookup, Problem> {
    let name = &node.name;
    let refuse = |text: String| Err(Problem::new(ProblemKind::OffLink, text));
    match facts.ways.get(&address) {
        Some(Ok(way)) if way.local => refuse(format!(
            "node {name} ({address}) has an address of this node"
        )),
        Some(Ok(way)) => Ok(way),
        Some(Err(reason)) => refuse(format!(
            "node {name} ({address}) cannot be reached: {reason}"
        )),
        None => refuse(format!(
            "node {name} ({address}): the way to it is not known yet"
        )),
    }
}

fn off_link(settings: &Settings, node: &NodeView, address: IpAddr) -> Problem {
    let advice = match settings.encapsulation.mode {
        Mode::Ipip => "IPIP carries IPv4 only: set encapsulation to vxlan on all nodes",
        Mode::Vxlan => "and this node has no address for a tunnel",
        Mode::None => "set encapsulation to ipip or vxlan on all nodes",
    };
    Problem::new(
        ProblemKind::OffLink,
        format!(
            "node {} ({address}) is not on a link of this node; {advice}",
            node.name
        ),
    )
}
