//! The steps from the routes that are there to those that are wanted: a pure comparison over the union of keys. Only
//! routes of our protocol are ever given to it, so a foreign one can be in no step.

use crate::desired::Routes;
use dataplane::route::{RouteInfo, RouteKey, RouteKind, RouteOp, RouteSpec};
use dataplane::tunnel::{Entry, EntryKey, EntryOp};
use std::collections::{BTreeMap, BTreeSet};

/// At most one step per key, in the order in which they are applied: what is missing first, what is too much last, so
/// that a destination that moves is never without a route. `may_remove` protects routes that others of us answer for.
///
/// The kernel can hold several routes under one key (appended ones, next hops of IPv6). Those go one per call: the
/// change wakes the next pass.
pub(crate) fn diff_routes(
    desired: &Routes,
    owned: &[RouteInfo],
    may_remove: impl Fn(&RouteInfo) -> bool,
) -> Vec<RouteOp> {
    let mut by_key: BTreeMap<&RouteKey, Vec<&RouteInfo>> = BTreeMap::new();
    for route in owned {
        by_key.entry(&route.spec.key).or_default().push(route);
    }
    let (mut add, mut replace, mut remove) = (Vec::new(), Vec::new(), Vec::new());
    for (key, want) in desired {
        let there = by_key.remove(key).unwrap_or_default();
        let (good, other): (Vec<_>, Vec<_>) =
            there.into_iter().partition(|route| matches(want, route));
        match (good.first(), other.first()) {
            (None, None) => add.push(RouteOp::Add(want.clone())),
            (None, Some(_)) => replace.push(RouteOp::Replace(want.clone())),
            (Some(_), Some(extra)) => remove.push(RouteOp::Remove(extra.spec.clone())),
            (Some(_), None) => {}
        }
    }
    for routes in by_key.values() {
        let unwanted = routes.iter().find(|route| may_remove(route));
        remove.extend(unwanted.map(|route| RouteOp::Remove(route.spec.clone())));
    }
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

/// The steps from a tunnel's entries that are there to those that are wanted: what is missing or other first. All that
/// stands on a device of ours is ours.
pub(crate) fn diff_entries(desired: &BTreeMap<EntryKey, Entry>, there: &[Entry]) -> Vec<EntryOp> {
    let there: BTreeSet<Entry> = there.iter().copied().collect();
    let set = desired.values().filter(|want| !there.contains(want));
    // Under a wanted key the right one takes the other's place; beside the right one, another has to go.
    let remove = there.iter().filter(|entry| {
        desired
            .get(&entry.key())
            .is_none_or(|want| want != *entry && there.contains(want))
    });
    set.copied()
        .map(EntryOp::Set)
        .chain(remove.copied().map(EntryOp::Remove))
        .collect()
}

#[cfg(test)]
mod tests;
