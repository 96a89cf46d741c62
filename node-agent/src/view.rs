//! The cluster as the agent sees it: Nodes with their podCIDRs and addresses, valid, whatever source they came from.
//! Validation is per Node: one that cannot be used is a problem in words, and the others go on. Pure.

use crate::cidr;
use crate::nodes::RawNode;
use crate::problem::{Problem, ProblemKind};
use ipnetwork::IpNetwork;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

mod claims;

/// One Node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeView {
    pub(crate) name: Box<str>,
    /// At most one of a family; never overlapping those of another Node. Empty while none is assigned.
    pub(crate) pod_cidrs: Box<[IpNetwork]>,
    /// The InternalIPs, in the Node's order: the first of a family is the one that is routed to.
    pub(crate) addresses: Box<[IpAddr]>,
}

impl NodeView {
    /// The address through which pods of this family are reached.
    pub(crate) fn address_of_family(&self, v6: bool) -> Option<IpAddr> {
        self.addresses
            .iter()
            .copied()
            .find(|address| address.is_ipv6() == v6)
    }
}

/// All Nodes, by name, and what is wrong with some of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ClusterView {
    pub(crate) nodes: Vec<NodeView>,
    pub(crate) problems: Vec<Problem>,
}

impl ClusterView {
    /// Judges what a source says. Sorted by name, so that the same Nodes are the same view in whatever order they come.
    pub(crate) fn from_nodes<'a>(raw: impl IntoIterator<Item = &'a RawNode>) -> ClusterView {
        let mut problems = Vec::new();
        let mut nodes: BTreeMap<&str, NodeView> = BTreeMap::new();
        for raw in raw {
            let Some(name) = raw.metadata.name.as_deref().filter(|name| !name.is_empty()) else {
                problems.push(invalid("a Node has no metadata.name and is left out"));
                continue;
            };
            let node = read_node(name, raw, &mut problems);
            if nodes.insert(name, node).is_some() {
                let text = format!("node {name} is there twice; the last one counts");
                problems.push(invalid(text).about(name));
            }
        }
        let mut nodes: Vec<NodeView> = nodes.into_values().collect();
        problems.extend(claims::complain_of_shared_addresses(&nodes));
        problems.extend(claims::settle_pod_cidrs(&mut nodes));
        // The same complaint of two copies of a Node is one.
        let problems: BTreeSet<Problem> = problems.into_iter().collect();
        ClusterView {
            nodes,
            problems: problems.into_iter().collect(),
        }
    }

    /// The Node of this name.
    pub(crate) fn find(&self, name: &str) -> Option<&NodeView> {
        self.nodes
            .binary_search_by(|node| node.name.as_ref().cmp(name))
            .ok()
            .map(|at| &self.nodes[at])
    }
}

fn invalid(text: impl Into<String>) -> Problem {
    Problem::new(ProblemKind::InvalidNode, text)
}

fn read_node(name: &str, raw: &RawNode, all_problems: &mut Vec<Problem>) -> NodeView {
    let problems = &mut Vec::new();
    let node = NodeView {
        name: name.into(),
        pod_cidrs: read_pod_cidrs(name, raw, problems).into(),
        addresses: read_addresses(name, raw, problems).into(),
    };
    if node.pod_cidrs.is_empty() {
        problems.push(invalid(format!(
            "node {name} has no podCIDR; it gets no route (is the controller manager run with --allocate-node-cidrs?)"
        )));
    }
    for cidr in &node.pod_cidrs {
        if node.address_of_family(cidr.is_ipv6()).is_none() {
            problems.push(invalid(format!(
                "node {name} has podCIDR {cidr} but no InternalIP of that family"
            )));
        }
    }
    all_problems.extend(problems.drain(..).map(|problem| problem.about(name)));
    node
}

fn read_pod_cidrs(name: &str, raw: &RawNode, problems: &mut Vec<Problem>) -> Vec<IpNetwork> {
    let spec = &raw.spec;
    let written = if spec.pod_cidrs.is_empty() {
        spec.pod_cidr.as_slice()
    } else {
        &spec.pod_cidrs[..]
    };
    let mut cidrs: Vec<IpNetwork> = Vec::with_capacity(written.len());
    for text in written {
        match cidr::parse_cidr(text) {
            Err(reason) => {
                problems.push(invalid(format!("node {name}: podCIDR {text:?} {reason}")))
            }
            Ok(cidr) if cidr.prefix() == 0 => {
                problems.push(invalid(format!(
                    "node {name}: podCIDR {cidr} would be everything; it is left out"
                )));
            }
            Ok(cidr) if cidrs.iter().any(|other| other.is_ipv6() == cidr.is_ipv6()) => {
                problems.push(invalid(format!(
                    "node {name}: second podCIDR {cidr} of one family is left out"
                )));
            }
            Ok(cidr) => cidrs.push(cidr),
        }
    }
    cidrs
}

fn read_addresses(name: &str, raw: &RawNode, problems: &mut Vec<Problem>) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for raw in raw
        .status
        .addresses
        .iter()
        .filter(|raw| raw.kind.as_ref() == "InternalIP")
    {
        match raw.address.parse::<IpAddr>() {
            Ok(address) if is_node_address(address) => addresses.push(address),
            _ => problems.push(invalid(format!(
                "node {name}: InternalIP {:?} is not an address of a node",
                raw.address
            ))),
        }
    }
    addresses
}

/// Routing to these would be wrong on every node but one.
fn is_node_address(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || link_local)
}

#[cfg(test)]
mod tests;
