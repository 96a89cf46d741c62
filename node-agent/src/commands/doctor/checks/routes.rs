//! Nodes and routes: what the cluster says, what the kernel has, and who stands in the way.

use super::Verdict;
use crate::commands::doctor::finding::Finding;
use crate::commands::doctor::sight::Sight;
use crate::commands::doctor::sight::paths::WayCheck;
use crate::diff::diff_routes;
use crate::look::Look;
use crate::problem::{Problem, ProblemKind};
use dataplane::names::ROUTE_PROTOCOL;
use dataplane::route::question::RouteVerdict;
use dataplane::route::{RouteInfo, RouteKind, RouteOp};

/// Of the view and of the wish, of this kind.
fn problems(look: &Look, kind: ProblemKind) -> impl Iterator<Item = &Problem> {
    let of_view = look.view.iter().flat_map(|view| &view.problems);
    let of_wish = look
        .desired()
        .into_iter()
        .flat_map(|desired| &desired.problems);
    of_view
        .chain(of_wish)
        .filter(move |problem| problem.kind == kind)
}

fn without_nodes() -> String {
    "no Nodes are known: no file of Nodes is set, and no agent answers".to_owned()
}

pub(super) fn check_nodes(sight: &Sight) -> Verdict {
    let mut findings = Vec::new();
    match &sight.look.wish {
        None => return Err(without_nodes()),
        Some(Err(problem)) => findings.push(Finding::error(
            problem.text.clone(),
            "kubectl get node NAME -o yaml: it needs spec.podCIDR (kube-controller-manager --allocate-node-cidrs), and its name must be the agent's nodeName",
        )),
        Some(Ok(_)) => {}
    }
    for problem in problems(&sight.look, ProblemKind::OffLink) {
        findings.push(Finding::error(
            problem.text.clone(),
            "give both nodes a way to each other on one link, or set encapsulation (docs/settings.md)",
        ));
    }
    // The own node's address has a check of its own.
    let others = problems(&sight.look, ProblemKind::InvalidNode)
        .filter(|problem| !problem.text.starts_with("no link of this node"));
    findings.extend(others.map(|problem| {
        Finding::warning(
            problem.text.clone(),
            "correct the Node: podCIDRs come from kube-controller-manager, addresses from kubelet (--node-ip)",
        )
    }));
    Ok(findings)
}

pub(super) fn check_pod_cidrs(sight: &Sight) -> Verdict {
    if sight.look.view.is_none() {
        return Err(without_nodes());
    }
    let conflicts = problems(&sight.look, ProblemKind::CidrConflict);
    Ok(conflicts
        .map(|problem| {
            Finding::error(
                problem.text.clone(),
                "choose a pod network (--cluster-cidr) that no link, no Node and no other network of yours uses; a Node keeps its podCIDR until it is deleted and joins again",
            )
        })
        .collect())
}

pub(super) fn check_node_address(sight: &Sight) -> Verdict {
    let look = &sight.look;
    let view = look.view.as_ref().ok_or_else(without_nodes)?;
    let Some(own) = view.find(&look.node_name) else {
        return Err(format!("node {} is not among the Nodes", look.node_name));
    };
    let wrong = own
        .addresses
        .iter()
        .filter(|address| look.facts.find_holder(**address).is_none());
    Ok(wrong
        .map(|address| {
            Finding::error(
                format!("the InternalIP {address} of this node's Node is on none of its links: the other nodes send this node's pods' packets to nobody"),
                "set kubelet's --node-ip to an address of this node, and restart kubelet",
            )
        })
        .collect())
}

pub(super) fn check_routes(sight: &Sight) -> Verdict {
    let look = &sight.look;
    let desired = look.desired().ok_or_else(without_nodes)?;
    let owned: Vec<RouteInfo> = look.own_routes().cloned().collect();
    let of_pods = |route: &RouteInfo| crate::desired::pods::is_pod_route(route, &look.facts);
    let ops = diff_routes(&desired.routes, &owned, |route| {
        route.protocol == ROUTE_PROTOCOL && !of_pods(route)
    });
    let cure = "start the agent, which puts it right within milliseconds; if it runs, its log says why it cannot";
    Ok(ops
        .iter()
        .map(|op| match op {
            RouteOp::Add(route) => Finding::error(
                format!("the route '{}' is missing", named(look, &route.to_string())),
                cure,
            ),
            RouteOp::Replace(route) => Finding::error(
                format!(
                    "the route '{}' is there with other values",
                    named(look, &route.to_string())
                ),
                cure,
            ),
            RouteOp::Remove(route) => Finding::warning(
                format!(
                    "the route '{}' of ours leads to a Node that is no more",
                    named(look, &route.to_string())
                ),
                cure,
            ),
        })
        .collect())
}

/// `dev #2` with the link's name.
fn named(look: &Look, route: &str) -> String {
    match route.split_once("dev #") {
        None => route.to_owned(),
        Some((before, after)) => {
            let (number, rest) = after.split_once(' ').unwrap_or((after, ""));
            let name = number
                .parse()
                .map_or_else(|_| number.to_owned(), |index| look.link_name(index));
            format!("{before}dev {name} {rest}").trim_end().to_owned()
        }
    }
}

/// The kernel's answer differs from the route that is wanted and there: somebody's route or rule comes first.
pub(super) fn check_shadows(sight: &Sight) -> Verdict {
    let ways = sight.ways.as_ref().map_err(Clone::clone)?;
    sight.look.desired().ok_or_else(without_nodes)?;
    let mut findings: Vec<Finding> = Vec::new();
    for way in ways {
        // A missing one is told by its own check.
        let there = sight
            .look
            .own_routes()
            .any(|route| route.spec.key == way.wanted.key);
        if let (true, Some(finding)) = (there, shadow(sight, way))
            && !findings.iter().any(|other| other.text == finding.text)
        {
            findings.push(finding);
        }
    }
    findings.extend(inside_own(sight));
    Ok(findings)
}

fn shadow(sight: &Sight, way: &WayCheck) -> Option<Finding> {
    let cure = "remove that route or rule (ip route, ip rule), or give the pods another network; ours is not touched by it, and foreign ones are never touched by us";
    let cidr = way.wanted.key.dst;
    match &way.verdict {
        RouteVerdict::Goes(lookup, matched) => {
            let same = Some(lookup.dev) == way.wanted.dev && lookup.via == way.wanted.via;
            if same {
                return None;
            }
            let by = matched.as_ref().map_or_else(String::new, |route| {
                format!(
                    " by the route {} of table {} (protocol {}, metric {})",
                    route.dst, route.table, route.protocol, route.priority
                )
            });
            let via = lookup
                .via
                .map_or_else(String::new, |via| format!(" via {via}"));
            Some(Finding::error(
                format!(
                    "packets to pods of {cidr} do not take our route: they go out by {}{via}{by}",
                    sight.look.link_name(lookup.dev)
                ),
                cure,
            ))
        }
        RouteVerdict::NoWay(reason) => Some(Finding::error(
            format!(
                "packets to pods of {cidr} (asked: {}) are refused although our route is there: {reason}",
                way.asked
            ),
            cure,
        )),
        RouteVerdict::WrongLink => None,
    }
}

/// Foreign routes inside this node's own podCIDR: a pod that gets such an address is not reached.
fn inside_own(sight: &Sight) -> Vec<Finding> {
    let look = &sight.look;
    let own = look.desired().map(|desired| desired.pod_cidrs.clone());
    let inside = |route: &&RouteInfo| {
        let key = &route.spec.key.dst;
        let mut own = own.iter().flatten();
        route.protocol != ROUTE_PROTOCOL
            && own.any(|cidr| {
                cidr.is_ipv4() == key.is_ipv4()
                    && cidr.contains(key.network())
                    && key.prefix() >= cidr.prefix()
            })
            && !route
                .spec
                .dev
                .is_some_and(|index| look.facts.is_pod_link(index))
    };
    look.routes
        .iter()
        .filter(inside)
        .map(|route| {
            let kind = match route.spec.kind {
                RouteKind::Unicast => "leads elsewhere",
                RouteKind::Unreachable | RouteKind::Blackhole => "forbids",
            };
            Finding::error(
                format!("the route '{}' (protocol {}) of another owner {kind} addresses of this node's own pods", named(look, &route.spec.to_string()), route.protocol),
                "remove it (ip route del ...): it is often what another CNI plugin or VPN left",
            )
        })
        .collect()
}
