//! The host's routes of pods: /32 and /128 to a pod's link. The plugin makes them; the agent mends one that was lost and
//! never takes one away whose record lives. What it must not do is to be faster than a plugin that is still working:
//! that one would then meet its own route as a stranger's. Pure.

use super::Routes;
use crate::cidr;
use crate::facts::Facts;
use dataplane::names::{HOST_LINK_PREFIX, SHAPER_LINK_PREFIX};
use dataplane::pod_side::HostSideSpec;
use dataplane::route::{RouteInfo, RouteKey, RouteSpec};
use ipnetwork::IpNetwork;
use node_state::record::AttachmentRecord;
use std::collections::{BTreeSet, HashMap};

/// An ADD that takes longer than this is dead: the runtime has given it up long before.
pub(crate) const SETTLED_AFTER_MS: u64 = 60_000;

/// Routes of pods that were there once, with their link: a later pod with the same address has another.
pub(crate) type SeenRoutes = BTreeSet<(RouteKey, u32)>;

/// The routes of pods that ought to be there: the record is of this boot, its link is there, and the plugin is done:
/// either the route has been `seen` before, or the record is old.
pub(crate) fn compute_pod_routes(
    records: &[AttachmentRecord],
    facts: &Facts,
    seen: &SeenRoutes,
    now_ms: u64,
) -> Routes {
    let mut routes = Routes::new();
    let holders = count_holders(records, facts);
    for record in records {
        let Some(index) = facts.find_link(&record.host_link) else {
            continue;
        };
        // Of the future is a record whose clock was set back since: it is no younger for that.
        let settled = now_ms.abs_diff(record.created_ms) > SETTLED_AFTER_MS;
        for address in &record.addresses {
            let route = RouteSpec::on_link(RouteKey::main(cidr::host(address.ip())), index);
            // During a DEL the address may be another pod's already, while the link still goes down: hands off.
            let alone = holders.get(&route.key.dst) == Some(&1);
            if alone && (settled || seen.contains(&(route.key.clone(), index))) {
                routes.insert(route.key.clone(), route);
            }
        }
    }
    routes
}

/// The host's sides of pods that somebody set down. A link that no record speaks for is nobody's to raise.
pub(crate) fn compute_raised(records: &[AttachmentRecord], facts: &Facts) -> Vec<HostSideSpec> {
    let spec = |record: &AttachmentRecord| {
        let index = facts.find_link(&record.host_link)?;
        Some(HostSideSpec {
            index: facts.down.get(&index).copied()?,
            addresses: record
                .addresses
                .iter()
                .map(|address| address.ip())
                .collect(),
            pod_mac: parse_mac(record.mac.as_deref()?)?,
        })
    };
    records.iter().filter_map(spec).collect()
}

/// Shapers of pods that somebody set down: all that the pod sends is lost there.
pub(crate) fn compute_raised_shapers(records: &[AttachmentRecord], facts: &Facts) -> Vec<u32> {
    let shaper = |record: &AttachmentRecord| {
        let suffix = record.host_link.strip_prefix(HOST_LINK_PREFIX)?;
        let index = facts.find_link(&format!("{SHAPER_LINK_PREFIX}{suffix}"))?;
        facts.down.get(&index).copied()
    };
    records.iter().filter_map(shaper).collect()
}

/// As the plugin writes it: six octets in hexadecimal with colons.
fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let octets: Option<Vec<u8>> = text
        .split(':')
        .map(|octet| u8::from_str_radix(octet, 16).ok())
        .collect();
    octets?.try_into().ok()
}

/// True for a route of ours that belongs to a pod's link: the plugin's, not ours to sweep. A link that the facts do not
/// know is a pod's that was made since they were read: a route never outlives its link.
pub(crate) fn is_pod_route(route: &RouteInfo, facts: &Facts) -> bool {
    let of_pod = |index| facts.is_pod_link(index) || !facts.links.contains_key(&index);
    cidr::is_host(&route.spec.key.dst) && route.spec.dev.is_some_and(of_pod)
}

fn count_holders(records: &[AttachmentRecord], facts: &Facts) -> HashMap<IpNetwork, usize> {
    let mut holders = HashMap::new();
    let linked = records
        .iter()
        .filter(|record| facts.find_link(&record.host_link).is_some());
    for address in linked.flat_map(|record| &record.addresses) {
        *holders.entry(cidr::host(address.ip())).or_default() += 1;
    }
    holders
}
