//! The sysctls without which a node forwards nothing. Read first, written only where they differ. accept_ra comes before
//! IPv6 forwarding: a node that forwards ignores router advertisements unless accept_ra is 2, and would lose its own
//! default route some minutes later. Called by `reconcile` on the slow timer.

use crate::desired::Desired;
use crate::desired::tunnel::Tunnel;
use crate::facts::{Facts, is_pod_link};
use crate::problem::{Problem, ProblemKind};
use dataplane::error::KernelError;
use dataplane::names::TABLE_MAIN;
use dataplane::netlink::Netlink;
use dataplane::sysctl::{ensure_sysctl, read_sysctl};
use std::collections::BTreeSet;
use std::path::Path;

/// RTPROT_RA: routes that the kernel made from router advertisements.
const PROTOCOL_RA: u8 = 9;

/// Forwarding of both families, as far as this node has them.
pub(crate) fn ensure_sysctls(
    root: &Path,
    netlink: &mut Netlink,
    facts: &Facts,
    desired: &Desired,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut ensure = |key: &str, value: &str| match ensure_sysctl(root, key, value) {
        Ok(true) => tracing::info!("set sysctl {key} = {value}"),
        Ok(false) => {}
        Err(error) => problems.push(complaint(&error)),
    };
    ensure("net/ipv4/ip_forward", "1");
    if !desired.has_ipv6() {
        return problems;
    }
    match find_links_that_accept_routes(root, netlink, facts, desired) {
        Ok(links) => links.iter().for_each(|link| ensure(&accept_ra(link), "2")),
        // Forwarding goes on all the same: pods without IPv6 are the greater harm.
        Err(error) => tracing::warn!("accept_ra is left as it is: {error}"),
    }
    ensure("net/ipv6/conf/all/forwarding", "1");
    problems
}

/// The tunnel's device and the links of this node's own addresses must filter by the reverse path loosely, where they do:
/// between a node and a pod of a peer one direction goes through the tunnel and the other one does not. The kernel takes
/// the larger of a link's own value and `all`, and 2 is loose.
pub(crate) fn ensure_tunnel_sysctls(root: &Path, facts: &Facts, tunnel: &Tunnel) -> Vec<Problem> {
    let key = |link: &str| format!("net/ipv4/conf/{link}/rp_filter");
    let value = |link: &str| read_sysctl(root, &key(link)).unwrap_or_default();
    let of_all = value("all");
    let holders = tunnel.addresses.iter();
    let holders = holders.filter_map(|address| facts.find_holder(*address));
    let mut links: BTreeSet<&str> = holders.map(|(_, link)| link.name.as_ref()).collect();
    links.insert(&tunnel.spec.name);
    let strict = |link: &&&str| of_all.clone().max(value(link)) == "1";
    let ensure = |link: &str| match ensure_sysctl(root, &key(link), "2") {
        Ok(changed) => {
            if changed {
                tracing::info!(
                    "set sysctl {} = 2: strict filtering would drop half of what goes through the tunnel",
                    key(link)
                );
            }
            None
        }
        Err(error) => Some(complaint(&error)),
    };
    let strict: Vec<&str> = links.iter().filter(strict).copied().collect();
    strict.into_iter().filter_map(ensure).collect()
}

fn accept_ra(link: &str) -> String {
    // A VLAN's name may hold a dot; '/' separates, and no link's name holds one.
    format!("net/ipv6/conf/{link}/accept_ra")
}

/// Links where the kernel itself learns routes and where forwarding would end that: accept_ra 1, and a route to show for
/// it, or this node's address where forwarding is still off: its first advertisement may be yet to come. The table is read
/// only where there is a link with accept_ra 1 at all.
fn find_links_that_accept_routes(
    root: &Path,
    netlink: &mut Netlink,
    facts: &Facts,
    desired: &Desired,
) -> Result<Vec<String>, KernelError> {
    let accepts =
        |link: &str| read_sysctl(root, &accept_ra(link)).is_ok_and(|value| value.trim() == "1");
    let candidates: Vec<(u32, &str)> = facts
        .links
        .iter()
        .map(|(index, link)| (*index, link.name.as_ref()))
        .filter(|(_, name)| !is_pod_link(name) && *name != "lo" && accepts(name))
        .collect();
    if candidates.is_empty() {
        return Ok(Vec::new());
    }
    let routes = netlink.list_routes(TABLE_MAIN)?;
    let learnt: BTreeSet<u32> = routes
        .iter()
        .filter(|route| route.protocol == PROTOCOL_RA)
        .filter_map(|route| route.spec.dev)
        .collect();
    let holders = desired.addresses.iter();
    let own: BTreeSet<u32> = holders
        .filter_map(|address| facts.find_holder(*address))
        .map(|(index, _)| index)
        .collect();
    let listens = |index: &u32, link: &str| {
        let forwards = read_sysctl(root, &format!("net/ipv6/conf/{link}/forwarding"));
        own.contains(index) && forwards.is_ok_and(|value| value == "0")
    };
    Ok(candidates
        .into_iter()
        .filter(|(index, link)| learnt.contains(index) || listens(index, link))
        .map(|(_, name)| name.to_owned())
        .collect())
}

fn complaint(error: &KernelError) -> Problem {
    let advice = if error.is_permission() {
        " (mount the host's /proc/sys writable, and name it in procSys)"
    } else {
        ""
    };
    Problem::new(ProblemKind::Sysctl, format!("{error}{advice}"))
}
