//! The comparison against a model of the kernel that is ten lines long.

use super::*;
use dataplane::names::ROUTE_PROTOCOL;
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr};

fn spec(third: u8, priority: u32, kind: RouteKind, via: u8, dev: u32) -> RouteSpec {
    let unicast = kind == RouteKind::Unicast;
    RouteSpec {
        key: RouteKey {
            dst: format!("10.244.{third}.0/24").parse().unwrap(),
            table: 254,
            priority,
        },
        kind,
        via: unicast.then_some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, via))),
        dev: unicast.then_some(dev),
        onlink: false,
        mtu: None,
        src: None,
    }
}

fn info(spec: RouteSpec, protocol: u8) -> RouteInfo {
    RouteInfo {
        spec,
        protocol,
        scope: 0,
        usable: true,
    }
}

fn any_spec() -> impl Strategy<Value = RouteSpec> {
    let kind = prop_oneof![
        Just(RouteKind::Unicast),
        Just(RouteKind::Unreachable),
        Just(RouteKind::Blackhole)
    ];
    (
        0u8..6,
        prop_oneof![Just(0u32), Just(4096)],
        kind,
        1u8..4,
        1u32..3,
    )
        .prop_map(|(third, priority, kind, via, dev)| spec(third, priority, kind, via, dev))
}

fn any_desired() -> impl Strategy<Value = Routes> {
    proptest::collection::vec(any_spec(), 0..8).prop_map(|specs| {
        specs
            .into_iter()
            .map(|spec| (spec.key.clone(), spec))
            .collect()
    })
}

fn any_kernel() -> impl Strategy<Value = Vec<RouteInfo>> {
    let route = (any_spec(), prop_oneof![Just(ROUTE_PROTOCOL), Just(3u8)])
        .prop_map(|(spec, protocol)| info(spec, protocol));
    proptest::collection::vec(route, 0..10).prop_map(|mut routes| {
        // The kernel holds no two routes that are the same in everything.
        routes.dedup_by(|a, b| a.spec == b.spec);
        let mut seen: Vec<RouteSpec> = Vec::new();
        routes.retain(|route| {
            !seen.contains(&route.spec) && {
                seen.push(route.spec.clone());
                true
            }
        });
        routes
    })
}

/// What the kernel does with the steps; `Add` is exclusive per key, as NLM_F_EXCL is.
fn apply(kernel: &mut Vec<RouteInfo>, ops: &[RouteOp]) -> usize {
    let mut refused = 0;
    for op in ops {
        match op {
            RouteOp::Add(spec) if kernel.iter().any(|route| route.spec.key == spec.key) => {
                refused += 1
            }
            RouteOp::Add(spec) => kernel.push(info(spec.clone(), ROUTE_PROTOCOL)),
            RouteOp::Replace(spec) => {
                let ours = kernel
                    .iter_mut()
                    .find(|route| route.spec.key == spec.key && route.protocol == ROUTE_PROTOCOL);
                *ours.expect("replace of a route of ours") = info(spec.clone(), ROUTE_PROTOCOL);
            }
            // Whichever of ours the kernel finds first under the key.
            RouteOp::Remove(spec) => {
                let at = kernel.iter().position(|route| {
                    route.spec.key == spec.key && route.protocol == ROUTE_PROTOCOL
                });
                kernel.remove(at.expect("remove of a route of ours"));
            }
        }
    }
    refused
}

fn owned(kernel: &[RouteInfo]) -> Vec<RouteInfo> {
    kernel
        .iter()
        .filter(|route| route.protocol == ROUTE_PROTOCOL)
        .cloned()
        .collect()
}

fn foreign(kernel: &[RouteInfo]) -> Vec<RouteInfo> {
    kernel
        .iter()
        .filter(|route| route.protocol != ROUTE_PROTOCOL)
        .cloned()
        .collect()
}

proptest! {
    #[test]
    fn applying_the_difference_gives_what_is_wanted_and_spares_the_foreign(desired in any_desired(), mut kernel in any_kernel()) {
        let before = foreign(&kernel);
        let first = diff_routes(&desired, &owned(&kernel), |_| true);
        let refused = apply(&mut kernel, &first);
        // Doubled keys are undone one by one.
        for _ in 0..20 {
            let ops = diff_routes(&desired, &owned(&kernel), |_| true);
            apply(&mut kernel, &ops);
        }
        prop_assert_eq!(foreign(&kernel), before.clone());
        let after = owned(&kernel);
        for (key, want) in &desired {
            let there: Vec<_> = after.iter().filter(|route| route.spec.key == *key).collect();
            let in_the_way = before.iter().any(|route| route.spec.key == *key);
            prop_assert!(there.len() == 1 && matches(want, there[0]) || there.is_empty() && in_the_way);
        }
        prop_assert!(after.iter().all(|route| desired.contains_key(&route.spec.key)));
        prop_assert!(refused <= before.len());
    }

    #[test]
    fn nothing_is_done_where_everything_is_there(desired in any_desired()) {
        let there: Vec<RouteInfo> = desired.values().map(|spec| info(spec.clone(), ROUTE_PROTOCOL)).collect();
        prop_assert_eq!(diff_routes(&desired, &there, |_| true), vec![]);
    }

    #[test]
    fn no_key_is_in_two_steps(desired in any_desired(), kernel in any_kernel()) {
        let ops = diff_routes(&desired, &owned(&kernel), |_| true);
        let mut keys: Vec<&RouteKey> = ops
            .iter()
            .map(|op| match op { RouteOp::Add(spec) | RouteOp::Replace(spec) | RouteOp::Remove(spec) => &spec.key })
            .collect();
        keys.sort();
        let all = keys.len();
        keys.dedup();
        prop_assert_eq!(keys.len(), all);
    }

    #[test]
    fn nothing_is_removed_that_is_protected(desired in any_desired(), kernel in any_kernel()) {
        let ops = diff_routes(&desired, &owned(&kernel), |_| false);
        for op in ops {
            if let RouteOp::Remove(spec) = op {
                prop_assert!(desired.contains_key(&spec.key));
            }
        }
    }
}

// ===== entries =====

fn any_entry() -> impl Strategy<Value = Entry> {
    let small = || (1u8..5, 1u8..4);
    prop_oneof![
        small().prop_map(|(address, mac)| Entry::Neighbour {
            address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, address)),
            mac: [2, 0, 0, 0, 0, mac],
        }),
        small().prop_map(|(mac, node)| Entry::Forwarding {
            mac: [2, 0, 0, 0, 0, mac],
            node: IpAddr::V4(Ipv4Addr::new(192, 0, 2, node)),
        }),
    ]
}

fn by_key(entries: Vec<Entry>) -> BTreeMap<EntryKey, Entry> {
    entries
        .into_iter()
        .map(|entry| (entry.key(), entry))
        .collect()
}

proptest! {
    #[test]
    fn entries_become_those_that_are_wanted_and_no_others(
        desired in proptest::collection::vec(any_entry(), 0..8).prop_map(by_key),
        there in proptest::collection::vec(any_entry(), 0..8).prop_map(by_key),
    ) {
        let kernel: Vec<Entry> = there.values().copied().collect();
        let ops = diff_entries(&desired, &kernel);
        let mut model = there.clone();
        for op in &ops {
            match op {
                EntryOp::Set(entry) => { model.insert(entry.key(), *entry); }
                EntryOp::Remove(entry) => { model.remove(&entry.key()); }
            }
        }
        prop_assert_eq!(&model, &desired);
        let after: Vec<Entry> = model.values().copied().collect();
        prop_assert_eq!(diff_entries(&desired, &after), vec![]);
        // What is wanted is never away in between.
        prop_assert!(ops.iter().all(|op| !matches!(op, EntryOp::Remove(entry) if desired.contains_key(&entry.key()))));
    }
}

#[test]
fn a_moved_peer_is_replaced_in_place() {
    let want = spec(1, 0, RouteKind::Unicast, 2, 1);
    let desired = Routes::from([(want.key.clone(), want.clone())]);
    let old = info(spec(1, 0, RouteKind::Unicast, 1, 1), ROUTE_PROTOCOL);
    assert_eq!(
        diff_routes(&desired, &[old], |_| true),
        [RouteOp::Replace(want)]
    );
}

#[test]
fn additions_come_before_removals() {
    let want = spec(1, 0, RouteKind::Unicast, 2, 1);
    let desired = Routes::from([(want.key.clone(), want.clone())]);
    let stale = spec(2, 0, RouteKind::Unicast, 2, 1);
    let ops = diff_routes(&desired, &[info(stale.clone(), ROUTE_PROTOCOL)], |_| true);
    assert_eq!(ops, [RouteOp::Add(want), RouteOp::Remove(stale)]);
}

#[test]
fn the_device_that_the_kernel_gives_an_unreachable_route_is_no_difference() {
    let want = spec(1, 4096, RouteKind::Unreachable, 1, 1);
    let mut there = info(want.clone(), ROUTE_PROTOCOL);
    there.spec.dev = Some(1);
    assert!(matches(&want, &there));
}
