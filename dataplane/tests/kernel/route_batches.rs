//! Many routes at once, refusals told each, and looking routes up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dataplane::netlink::Netlink;
use dataplane::route::{RouteOp, RouteSpec};

use crate::lab::{Case, run};
use crate::routes::{node, spec};

pub(crate) const TRIALS: &[Case] = &[
    (
        "route_batches::five_thousand_routes_by_as_many_gateways_are_added_and_removed_in_batches",
        five_thousand_routes_by_as_many_gateways_are_added_and_removed_in_batches,
    ),
    (
        "route_batches::a_few_routes_keep_the_universal_scope",
        a_few_routes_keep_the_universal_scope,
    ),
    (
        "route_batches::two_hundred_refusals_in_one_send_are_told_each",
        two_hundred_refusals_in_one_send_are_told_each,
    ),
    (
        "route_batches::a_list_is_whole_while_others_change_routes",
        a_list_is_whole_while_others_change_routes,
    ),
    (
        "route_batches::a_lookup_tells_next_hop_source_and_local",
        a_lookup_tells_next_hop_source_and_local,
    ),
    (
        "route_batches::an_invalid_gateway_carries_the_kernels_words",
        an_invalid_gateway_carries_the_kernels_words,
    ),
];

/// As many gateways as routes, as in a cluster: the kernel's search for a like nexthop must not grow with them.
fn five_thousand_routes_by_as_many_gateways_are_added_and_removed_in_batches() {
    node();
    run("ip", "address add 172.16.0.1/16 dev up0");
    let routes: Vec<RouteSpec> = (0..5000_u32)
        .map(|i| {
            let (high, low) = (i / 250, i % 250);
            spec(
                &format!("10.{high}.{low}.0/24"),
                &format!("172.16.{}.{}", high + 1, low + 1),
            )
        })
        .collect();
    let mut netlink = Netlink::open().unwrap();
    let start = Instant::now();
    let adds: Vec<_> = routes.iter().cloned().map(RouteOp::Add).collect();
    assert!(netlink.apply_routes(&adds).iter().all(Result::is_ok));
    let added = start.elapsed();
    let start = Instant::now();
    let listed = netlink.list_own_routes().unwrap();
    println!(
        "5,000 routes: added in {added:?}, listed in {:?}",
        start.elapsed()
    );
    assert_eq!(listed.len(), 5000);

    let shown = run("ip", "route show proto 32");
    let scopes: std::collections::BTreeSet<&str> = shown
        .lines()
        .filter_map(|line| line.split("scope ").nth(1))
        .collect();
    assert!(scopes.len() > 150, "{} scopes", scopes.len());
    let got = run("ip", "route get 10.3.7.9");
    assert!(got.contains("via 172.16.4.8"), "{got}");

    let removals: Vec<_> = routes.into_iter().map(RouteOp::Remove).collect();
    assert!(netlink.apply_routes(&removals).iter().all(Result::is_ok));
    assert_eq!(run("ip", "route show proto 32"), "");
}

/// What an admin of an ordinary cluster reads in `ip route` has no scope that needs explaining.
fn a_few_routes_keep_the_universal_scope() {
    node();
    let adds: Vec<_> = (0..100)
        .map(|i| RouteOp::Add(spec(&format!("10.7.{i}.0/24"), "192.0.2.9")))
        .collect();
    assert!(
        Netlink::open()
            .unwrap()
            .apply_routes(&adds)
            .iter()
            .all(Result::is_ok)
    );
    let shown = run("ip", "route show proto 32");
    assert_eq!(shown.lines().count(), 100);
    assert!(!shown.contains("scope"), "{shown}");
}

fn two_hundred_refusals_in_one_send_are_told_each() {
    node();
    let adds: Vec<_> = (0..400_u32)
        .map(|i| {
            RouteOp::Add(spec(
                &format!("10.2.{}.{}/32", i / 256, i % 256),
                "192.0.2.9",
            ))
        })
        .collect();
    let mut netlink = Netlink::open().unwrap();
    assert!(netlink.apply_routes(&adds).iter().all(Result::is_ok));
    let again = netlink.apply_routes(&adds);
    let mut errnos = BTreeMap::new();
    for result in &again {
        *errnos
            .entry(result.as_ref().unwrap_err().errno)
            .or_insert(0) += 1;
    }
    assert_eq!(errnos, [(nix::libc::EEXIST, 400)].into());
    assert_eq!(
        netlink.list_own_routes().unwrap().len(),
        400,
        "the socket is in step afterwards"
    );
}

fn a_list_is_whole_while_others_change_routes() {
    node();
    let base = |i: u32| {
        RouteOp::Add(spec(
            &format!("10.3.{}.{}/32", i / 256, i % 256),
            "192.0.2.9",
        ))
    };
    let mut netlink = Netlink::open().unwrap();
    let ops: Vec<_> = (0..2000).map(base).collect();
    assert!(netlink.apply_routes(&ops).iter().all(Result::is_ok));
    let stop = AtomicBool::new(false);
    let changes = thread::scope(|scope| {
        let hammer = scope.spawn(|| {
            let mut other = Netlink::open().unwrap();
            let mut changes = 0;
            while !stop.load(Ordering::Relaxed) {
                let one = spec(&format!("10.4.0.{}/32", changes % 250), "192.0.2.9");
                let results =
                    other.apply_routes(&[RouteOp::Add(one.clone()), RouteOp::Remove(one)]);
                assert!(results.iter().all(Result::is_ok));
                changes += 1;
                thread::sleep(Duration::from_millis(2));
            }
            changes
        });
        for _ in 0..50 {
            let routes = netlink.list_own_routes().unwrap();
            let whole = routes
                .iter()
                .filter(|route| route.spec.key.dst.to_string().starts_with("10.3."));
            assert_eq!(whole.count(), 2000);
        }
        stop.store(true, Ordering::Relaxed);
        hammer.join().unwrap()
    });
    assert!(changes > 10, "{changes} changes while we read");
}

fn a_lookup_tells_next_hop_source_and_local() {
    let dev = node();
    let mut netlink = Netlink::open().unwrap();
    let specs = [
        RouteSpec {
            mtu: Some(1400),
            ..spec("10.1.2.0/24", "192.0.2.9")
        },
        spec("fd00:3::/64", "2001:db8::9"),
    ];
    assert!(
        netlink
            .apply_routes(&specs.map(RouteOp::Add))
            .iter()
            .all(Result::is_ok)
    );
    let v4 = netlink.lookup_route("10.1.2.3".parse().unwrap()).unwrap();
    assert_eq!(
        (v4.dev, v4.via, v4.mtu),
        (dev, Some("192.0.2.9".parse().unwrap()), Some(1400))
    );
    assert_eq!(v4.src, Some("192.0.2.1".parse().unwrap()));
    let v6 = netlink.lookup_route("fd00:3::3".parse().unwrap()).unwrap();
    assert_eq!(
        (v6.dev, v6.via),
        (dev, Some("2001:db8::9".parse().unwrap()))
    );
    assert!(
        netlink
            .lookup_route("192.0.2.1".parse().unwrap())
            .unwrap()
            .local
    );
    let error = netlink
        .lookup_route("203.0.113.1".parse().unwrap())
        .unwrap_err();
    assert_eq!(error.errno, nix::libc::ENETUNREACH);
}

fn an_invalid_gateway_carries_the_kernels_words() {
    node();
    let result = Netlink::open()
        .unwrap()
        .apply_routes(&[RouteOp::Add(spec("10.1.2.0/24", "203.0.113.1"))])
        .remove(0);
    let text = result.unwrap_err().to_string();
    assert!(
        text.contains("add route 10.1.2.0/24 via 203.0.113.1")
            && text.contains("Nexthop has invalid gateway"),
        "{text}"
    );
}
