//! Pods of this node: links, routes, addresses, and what nobody speaks for.

use super::Verdict;
use crate::cidr;
use crate::commands::doctor::finding::Finding;
use crate::commands::doctor::sight::Sight;
use crate::commands::words;
use crate::desired::pods::SETTLED_AFTER_MS;
use crate::facts::is_pod_link;
use std::collections::BTreeSet;

/// Of the addresses that a range has.
const NEARLY_FULL_PERCENT: u128 = 90;

pub(super) fn check_pods(sight: &Sight) -> Verdict {
    let look = &sight.look;
    let mut findings = Vec::new();
    for record in &look.records {
        // An ADD or DEL may be under way.
        let fresh = look.at_ms.saturating_sub(record.created_ms) < SETTLED_AFTER_MS;
        if fresh && look.find_link(&record.host_link).is_none_or(|link| link.up) {
            continue;
        }
        let (pod, link) = (words::pod_name(record), &record.host_link);
        match look.find_link(link) {
            None => {}
            Some(found) if !found.up => findings.push(Finding::error(
                format!("the link {link} of pod {pod} is down"),
                format!("ip link set {link} up"),
            )),
            Some(found) => {
                for address in &record.addresses {
                    let host = cidr::host(address.ip());
                    let there = look.own_routes().any(|route| {
                        route.spec.key.dst == host && route.spec.dev == Some(found.index)
                    });
                    if !there {
                        findings.push(Finding::error(
                            format!("the route to {} of pod {pod} is missing", address.ip()),
                            format!("start the agent, which mends it; or: ip route add {} dev {link} scope link proto 32", address.ip()),
                        ));
                    }
                }
            }
        }
    }
    Ok(findings)
}

pub(super) fn check_addresses(sight: &Sight) -> Verdict {
    let mut findings = Vec::new();
    for usage in &sight.look.usage {
        let all = usage.free.saturating_add(usage.used.into());
        let cure = "delete pods, lower kubelet's maxPods, or give nodes larger podCIDRs (--node-cidr-mask-size); 'slash32-agent status' shows who holds them";
        if usage.free == 0 && all > 0 {
            findings.push(Finding::error(
                format!(
                    "no address of {} is free: the next pod does not start",
                    usage.range
                ),
                cure,
            ));
        } else if u128::from(usage.used) * 100 >= all.saturating_mul(NEARLY_FULL_PERCENT) && all > 0
        {
            findings.push(Finding::warning(
                format!(
                    "{} of {all} addresses of {} are used",
                    usage.used, usage.range
                ),
                cure,
            ));
        }
    }
    Ok(findings)
}

pub(super) fn check_leaks(sight: &Sight) -> Verdict {
    let look = &sight.look;
    let cure =
        "the agent frees it after leakGracePeriod; if it runs and does not, its log says why";
    let mut findings = Vec::new();
    for record in &look.records {
        let old = look.at_ms.saturating_sub(record.created_ms) > SETTLED_AFTER_MS;
        if old && look.find_link(&record.host_link).is_none() {
            findings.push(Finding::warning(
                format!("pod {} has a record and no link: a DEL was forgotten, or the link removed by hand", words::pod_name(record)),
                cure,
            ));
        }
    }
    let spoken_for: BTreeSet<&str> = look
        .records
        .iter()
        .map(|record| record.host_link.as_str())
        .collect();
    for link in &look.links {
        if is_pod_link(&link.name)
            && link.name.len() == 15
            && !spoken_for.contains(link.name.as_str())
        {
            findings.push(Finding::warning(
                format!("the link {} has no record: nobody knows whose it is", link.name),
                format!("ip -d link show {0} shows the pod in its alias; once that is gone: ip link del {0}", link.name),
            ));
        }
    }
    if !look.old_records.is_empty() {
        findings.push(Finding::warning(
            format!(
                "{} of an earlier boot",
                words::count(look.old_records.len() as u64, "record")
            ),
            cure,
        ));
    }
    for address in sight.orphans.as_ref().map_err(Clone::clone)? {
        findings.push(Finding::warning(
            format!("the address {address} is claimed, and no pod holds it"),
            cure,
        ));
    }
    Ok(findings)
}
