//! Does the kernel forward at all, and does it let in what peers send?

use super::Verdict;
use crate::commands::doctor::finding::Finding;
use crate::commands::doctor::sight::Sight;
use crate::facts::is_pod_link;
use dataplane::route::question::RouteVerdict;
use std::collections::BTreeSet;

/// RTPROT_RA.
const PROTOCOL_RA: u8 = 9;

fn has_v6(sight: &Sight) -> bool {
    sight
        .look
        .desired()
        .is_some_and(|desired| desired.has_ipv6())
}

pub(super) fn check_forwarding(sight: &Sight) -> Verdict {
    let mut keys = vec!["net/ipv4/ip_forward"];
    if has_v6(sight) {
        keys.push("net/ipv6/conf/all/forwarding");
    }
    let mut findings = Vec::new();
    for key in keys {
        match sight.sysctls.get(key) {
            Some("0") => findings.push(Finding::error(
                format!("forwarding is off ({key} = 0): no packet leaves or reaches a pod"),
                format!(
                    "sysctl -w {}=1 (the agent does so every resyncInterval; look in /etc/sysctl.d for who turns it off)",
                    key.replace('/', ".")
                ),
            )),
            Some(_) => {}
            None => return Err(format!("{key} cannot be read (procSys?)")),
        }
    }
    Ok(findings)
}

pub(super) fn check_rp_filter(sight: &Sight) -> Verdict {
    let mut findings = Vec::new();
    for check in sight.sources.as_ref().map_err(Clone::clone)? {
        if check.verdict == RouteVerdict::WrongLink {
            findings.push(Finding::error(
                format!(
                    "reverse-path filtering drops packets from pods of {} that come in by {}: the way back to them is another",
                    check.cidr, check.link
                ),
                format!(
                    "sysctl -w net.ipv4.conf.all.rp_filter=2 net.ipv4.conf.{}.rp_filter=2, and remove the route that leads elsewhere",
                    check.link
                ),
            ));
        }
    }
    let uplinks = uplinks(sight);
    let strict = |link: &&String| sight.sysctls.rp_filter(link) == 1;
    if uplinks.len() > 1 {
        for link in uplinks.iter().filter(strict) {
            findings.push(Finding::warning(
                format!(
                    "reverse-path filtering on {link} is strict (1), and this node has {} links with addresses: answers that leave by another link make it drop in silence",
                    uplinks.len()
                ),
                format!("sysctl -w net.ipv4.conf.all.rp_filter=2 net.ipv4.conf.{link}.rp_filter=2, and write it to /etc/sysctl.d"),
            ));
        }
    }
    Ok(findings)
}

/// Links of this node itself that carry addresses of the world.
fn uplinks(sight: &Sight) -> BTreeSet<String> {
    let addresses = sight.look.facts.addresses.iter();
    let of_world = addresses.filter(|(_, network)| match network.ip() {
        std::net::IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        std::net::IpAddr::V6(_) => false,
    });
    of_world
        .map(|(index, _)| sight.look.link_name(*index))
        .filter(|name| name != "lo" && !is_pod_link(name))
        .collect()
}

pub(super) fn check_router_advertisements(sight: &Sight) -> Verdict {
    if sight.sysctls.get("net/ipv6/conf/all/forwarding") != Some("1") {
        return Ok(Vec::new());
    }
    let learnt = sight
        .look
        .routes
        .iter()
        .filter(|route| route.protocol == PROTOCOL_RA)
        .filter_map(|route| route.spec.dev)
        .map(|index| sight.look.link_name(index));
    let links: BTreeSet<String> = learnt.collect();
    let ignores = |link: &&String| {
        sight
            .sysctls
            .get(&format!("net/ipv6/conf/{link}/accept_ra"))
            == Some("1")
    };
    let findings = links.iter().filter(ignores).map(|link| {
        Finding::error(
            format!("{link} has routes from router advertisements, and ignores new ones since IPv6 forwarding is on: this node loses its default route when they expire"),
            format!("sysctl -w net.ipv6.conf.{link}.accept_ra=2, and write it to /etc/sysctl.d"),
        )
    });
    Ok(findings.collect())
}
