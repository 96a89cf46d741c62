//! The steps from the routes that are there to those that are wanted: a pure comparison over the union of keys. Only
//! routes of our protocol are ever given to it, so a foreign one can be in no step.

use crate::desired::Routes;
use dataplane::route::{RouteInfo, RouteKey, RouteKind, RouteOp, RouteSpec};
use std::collections::BTreeMap;

/// In the order in which they are applied: what is missing first, what is too much last, so that a key that moves is
/// never without a route. `may_remove` protects routes that somebody else of us answers for.
pub(crate) fn diff_routes(desired: &Routes, owned: &[RouteInfo], may_remove: impl Fn(&RouteInfo) -> bool) -> Vec<RouteOp> {
    // The kernel can hold several routes under one key (appended, or next hops of IPv6).
    let mut by_key: BTreeMap<&RouteKey, Vec<&RouteInfo>> = BTreeMap::new();
    for route in owned {
        by_key.entry(&route.spec.key).or_default().push(route);
    }
    let (mut add, mut replace, mut remove) = (Vec::new(), Vec::new(), Vec::new());
    for (key, want) in desired {
        let there = by_key.remove(key).unwrap_or_default();
        let good = there.iter().position(|route| matches(want, route));
        match (good, there.is_empty()) {
            (None, true) => add.push(RouteOp::Add(want.clone())),
            (None, false) => replace.push(RouteOp::Replace(want.clone())),
            (Some(_), _) => {}
        }
        // One is good, or is replaced: the rest goes.
        let keep = good.unwrap_or(0);
        let rest = there.iter().enumerate().filter(|(at, _)| *at != keep).map(|(_, route)| *route);
        remove.extend(rest.map(|route| RouteOp::Remove(route.spec.clone())));
    }
    let unwanted = by_key.into_values().flatten().filter(|route| may_remove(route));
    remove.extend(unwanted.map(|route| RouteOp::Remove(route.spec.clone())));
    add.into_iter().chain(replace).chain(remove).collect()
}

/// True where the kernel's route does what is wanted. Whatever the kernel adds by itself does not count: the device
/// `lo` of an unreachable IPv6 route, a preferred source that nobody asked for.
pub(crate) fn matches(want: &RouteSpec, there: &RouteInfo) -> bool {
    let seen = &there.spec;
    if want.kind != seen.kind {
        return false;
    }
    if want.kind != RouteKind::Unicast {
        return true;
    }
    want.via == seen.via
        && want.dev == seen.dev
        && want.mtu == seen.mtu
        && want.onlink == seen.onlink
        && (want.src.is_none() || want.src == seen.src)
}

#[cfg(test)]
mod tests;
