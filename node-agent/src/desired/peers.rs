//! The routes to one peer: its podCIDRs through its InternalIP of the same family, direct where a link of this node
//! reaches it. Decided per peer and per family; one that cannot be reached is a problem, never an obstacle to others.
//! Pure.

use super::{Desired, PRIORITY_UNREACHABLE};
use crate::facts::Facts;
use crate::problem::{Problem, ProblemKind};
use crate::view::NodeView;
use dataplane::names::TABLE_MAIN;
use dataplane::route::{RouteKey, RouteKind, RouteSpec};
use ipnetwork::IpNetwork;
use std::net::IpAddr;

/// Adds the peer's routes, or says why it has none.
pub(super) fn compute_peer(node: &NodeView, facts: &Facts, desired: &mut Desired) {
    for cidr in &node.pod_cidrs {
        // Without an address of the family: `view` has complained already.
        let Some(address) = node.address_of_family(cidr.is_ipv6()) else {
            continue;
        };
        match compute_route(node, *cidr, address, facts) {
            Ok(route) => {
                desired.routes.insert(route.key.clone(), route);
            }
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

fn compute_route(
    node: &NodeView,
    cidr: IpNetwork,
    address: IpAddr,
    facts: &Facts,
) -> Result<RouteSpec, Problem> {
    let name = &node.name;
    if let Some((network, link)) = facts.find_own_network(&cidr) {
        return Err(Problem::new(
            ProblemKind::CidrConflict,
            format!(
                "node {name}: podCIDR {cidr} overlaps {network} on this node's link {link}; it gets no route here"
            ),
        ));
    }
    let off_link = |text: String| Err(Problem::new(ProblemKind::OffLink, text));
    match facts.ways.get(&address) {
        Some(Ok(way)) if way.local => off_link(format!(
            "node {name} ({address}) has an address of this node"
        )),
        Some(Ok(way)) if way.via.is_some() => off_link(format!(
            "node {name} ({address}) is not on a link of this node; tunnels are not available yet"
        )),
        Some(Ok(way)) => Ok(RouteSpec {
            key: RouteKey::main(cidr),
            kind: RouteKind::Unicast,
            via: Some(address),
            dev: Some(way.dev),
            onlink: false,
            mtu: None,
            src: None,
        }),
        Some(Err(reason)) => off_link(format!(
            "node {name} ({address}) cannot be reached: {reason}"
        )),
        None => off_link(format!(
            "node {name} ({address}): the way to it is not known yet"
        )),
    }
}
