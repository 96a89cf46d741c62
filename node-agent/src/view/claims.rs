//! Which Node a podCIDR belongs to when two claim it. The first by name keeps it: every node of the cluster decides the
//! same from the same Nodes, without memory, and nothing flaps. Pure; part of building the view.

use super::NodeView;
use crate::cidr;
use crate::problem::{Problem, ProblemKind};
use ipnetwork::IpNetwork;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

/// Takes from `nodes` (sorted by name) every podCIDR that overlaps one kept before it or holds a node's address.
pub(super) fn settle_pod_cidrs(nodes: &mut [NodeView]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let addresses = NodeAddresses::of(nodes);
    let mut kept = Kept::default();
    for node in nodes {
        let (mut good, name) = (Vec::with_capacity(node.pod_cidrs.len()), node.name.clone());
        for cidr in &node.pod_cidrs {
            if let Some((other, owner)) = kept.find_overlapping(cidr) {
                problems.push(conflict(&name, format!(
                    "node {name}: podCIDR {cidr} overlaps {other} of node {owner}; it stays with {owner}, {name} gets no route for it"
                )));
            } else if let Some((address, owner)) = addresses.find_inside(cidr) {
                problems.push(conflict(&name, format!(
                    "node {name}: podCIDR {cidr} holds the address {address} of node {owner}; it gets no route"
                )));
            } else {
                kept.insert(*cidr, &name);
                good.push(*cidr);
            }
        }
        node.pod_cidrs = good.into();
    }
    problems
}

fn conflict(name: &str, text: String) -> Problem {
    Problem::new(ProblemKind::CidrConflict, text).about(name)
}

/// The podCIDRs given out so far. They never overlap, so only the neighbours of a new one can.
#[derive(Default)]
struct Kept {
    by_start: BTreeMap<(bool, IpAddr), (IpNetwork, Box<str>)>,
}

impl Kept {
    fn find_overlapping(&self, cidr: &IpNetwork) -> Option<(IpNetwork, &str)> {
        let start = (cidr.is_ipv6(), cidr.network());
        let before = self.by_start.range(..=start).next_back();
        let after = self.by_start.range(start..).next();
        let mut neighbours = before.into_iter().chain(after).map(|(_, value)| value);
        neighbours
            .find(|(other, _)| cidr::overlap(other, cidr))
            .map(|(other, owner)| (*other, owner.as_ref()))
    }

    fn insert(&mut self, cidr: IpNetwork, owner: &str) {
        self.by_start
            .insert((cidr.is_ipv6(), cidr.network()), (cidr, owner.into()));
    }
}

/// All node addresses in order, to ask whether one lies inside a network.
struct NodeAddresses {
    sorted: BTreeMap<(bool, IpAddr), usize>,
    names: Vec<Box<str>>,
}

impl NodeAddresses {
    fn of(nodes: &[NodeView]) -> NodeAddresses {
        let names: Vec<Box<str>> = nodes.iter().map(|node| node.name.clone()).collect();
        let owned = nodes
            .iter()
            .enumerate()
            .flat_map(|(at, node)| node.addresses.iter().map(move |address| (*address, at)));
        NodeAddresses {
            sorted: owned
                .map(|(address, at)| ((address.is_ipv6(), address), at))
                .collect(),
            names,
        }
    }

    fn find_inside(&self, cidr: &IpNetwork) -> Option<(IpAddr, &str)> {
        let ((_, address), at) = self
            .sorted
            .range((cidr.is_ipv6(), cidr.network())..)
            .next()?;
        cidr.contains(*address)
            .then(|| (*address, self.names[*at].as_ref()))
    }
}

/// An address that two Nodes claim: at most one of them can be reached by it.
pub(super) fn complain_of_shared_addresses(nodes: &[NodeView]) -> Vec<Problem> {
    let mut first: HashMap<IpAddr, &str> = HashMap::new();
    let mut problems = Vec::new();
    for node in nodes {
        for address in &node.addresses {
            if let Some(other) = first
                .insert(*address, &node.name)
                .filter(|other| *other != node.name.as_ref())
            {
                let text = format!(
                    "nodes {other} and {} both have the InternalIP {address}",
                    node.name
                );
                problems.push(Problem::new(ProblemKind::InvalidNode, text).about(&node.name));
            }
        }
    }
    problems
}
