//! Route steps: exclusive, owned, batched; what iproute2 shows before and after.

use std::cell::RefCell;

use dataplane::netlink::Netlink;
use dataplane::route::{RouteKey, RouteKind, RouteOp, RouteSpec};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::lab::{Case, run};

pub(crate) const TRIALS: &[Case] = &[
    (
        "routes::what_is_applied_is_listed_equal",
        what_is_applied_is_listed_equal,
    ),
    (
        "routes::a_foreign_route_is_never_replaced_nor_removed",
        a_foreign_route_is_never_replaced_nor_removed,
    ),
    (
        "routes::any_steps_leave_foreign_routes_untouched",
        any_steps_leave_foreign_routes_untouched,
    ),
    (
        "routes::a_replace_changes_ours_in_place",
        a_replace_changes_ours_in_place,
    ),
];

/// A node: `up0` with 192.0.2.1/24 and 2001:db8::1/64, the other end in a namespace of a peer.
pub(crate) fn node() -> u32 {
    run("ip", "link add up0 type veth peer name up1");
    run("ip", "addr add 192.0.2.1/24 dev up0");
    run("ip", "-6 addr add 2001:db8::1/64 dev up0 nodad");
    run("ip", "link set up0 up");
    run("ip", "link set up1 up");
    Netlink::open()
        .unwrap()
        .find_link("up0")
        .unwrap()
        .unwrap()
        .index
}

pub(crate) fn spec(dst: &str, via: &str) -> RouteSpec {
    RouteSpec {
        key: RouteKey::main(dst.parse().unwrap()),
        kind: RouteKind::Unicast,
        via: Some(via.parse().unwrap()),
        dev: None,
        onlink: false,
        mtu: None,
        src: None,
    }
}

fn what_is_applied_is_listed_equal() {
    let dev = Some(node());
    let v4 = RouteSpec {
        dev,
        mtu: Some(1400),
        ..spec("10.1.2.0/24", "192.0.2.9")
    };
    let onlink = RouteSpec {
        dev,
        onlink: true,
        ..spec("10.1.3.0/24", "198.51.100.7")
    };
    let v6 = RouteSpec {
        dev,
        mtu: Some(1380),
        ..spec("fd00:1:2::/64", "2001:db8::9")
    };
    let dead = |dst, kind| RouteSpec {
        kind,
        via: None,
        ..spec(dst, "192.0.2.9")
    };
    let black = dead("10.1.0.0/16", RouteKind::Blackhole);
    let unreachable = dead("fd00:1::/48", RouteKind::Unreachable);
    let mut wanted = vec![v4, onlink, v6, black, unreachable];
    let mut netlink = Netlink::open().unwrap();
    let ops: Vec<_> = wanted.iter().cloned().map(RouteOp::Add).collect();
    assert!(netlink.apply_routes(&ops).iter().all(Result::is_ok));
    let mut found: Vec<_> = netlink
        .list_own_routes()
        .unwrap()
        .into_iter()
        .map(|route| route.spec)
        .collect();
    wanted.sort_by(|a, b| a.key.cmp(&b.key));
    found.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(found, wanted);
    let shown = run("ip", "route show proto 32") + &run("ip", "-6 route show proto 32");
    assert!(
        shown.contains("10.1.3.0/24 via 198.51.100.7 dev up0 onlink"),
        "{shown}"
    );
    assert!(
        shown.contains("blackhole 10.1.0.0/16") && shown.contains("unreachable fd00:1::/48"),
        "{shown}"
    );
    let removals: Vec<_> = found.into_iter().map(RouteOp::Remove).collect();
    assert!(netlink.apply_routes(&removals).iter().all(Result::is_ok));
    assert!(
        netlink.apply_routes(&removals).iter().all(Result::is_ok),
        "absent is done"
    );
    assert_eq!(
        run("ip", "route show proto 32") + &run("ip", "-6 route show proto 32"),
        ""
    );
}

const FOREIGN: [&str; 4] = ["10.1.0.0/24", "10.1.1.0/24", "fd00:1::/64", "fd00:2::/64"];

fn foreign_routes() -> String {
    run("ip", "-d route show proto static") + &run("ip", "-6 -d route show proto static")
}

fn add_foreign_routes() {
    run("ip", "route add 10.1.0.0/24 via 192.0.2.77 proto static");
    run("ip", "route add blackhole 10.1.1.0/24 proto static");
    run(
        "ip",
        "-6 route add fd00:1::/64 via 2001:db8::77 proto static",
    );
    run("ip", "-6 route add unreachable fd00:2::/64 proto static");
}

fn a_foreign_route_is_never_replaced_nor_removed() {
    node();
    add_foreign_routes();
    let before = foreign_routes();
    let mut netlink = Netlink::open().unwrap();
    for dst in FOREIGN {
        let spec = spec(
            dst,
            if dst.contains(':') {
                "2001:db8::9"
            } else {
                "192.0.2.9"
            },
        );
        let results =
            netlink.apply_routes(&[RouteOp::Add(spec.clone()), RouteOp::Replace(spec.clone())]);
        assert!(
            results
                .iter()
                .all(|result| result.as_ref().is_err_and(|error| error.is_exists())),
            "{dst}"
        );
        assert!(
            netlink.apply_routes(&[RouteOp::Remove(spec)])[0].is_ok(),
            "nothing of ours is there: done"
        );
    }
    assert_eq!(foreign_routes(), before);
}

/// Whatever the steps are, in whatever order, foreign routes are the same afterwards.
fn any_steps_leave_foreign_routes_untouched() {
    node();
    add_foreign_routes();
    let before = foreign_routes();
    let destinations = [&FOREIGN[..], &["10.1.2.0/24", "fd00:3::/64"]].concat();
    let op = (0..destinations.len(), 0..3_u8, 0..3_u8, 1..4_u8).prop_map(
        move |(dst, what, kind, hop)| {
            let v6 = destinations[dst].contains(':');
            let via = if v6 {
                format!("2001:db8::{hop}9")
            } else {
                format!("192.0.2.{hop}9")
            };
            let kind = [
                RouteKind::Unicast,
                RouteKind::Unreachable,
                RouteKind::Blackhole,
            ][usize::from(kind)];
            let mut spec = RouteSpec {
                kind,
                ..spec(destinations[dst], &via)
            };
            spec.via = spec.via.filter(|_| kind == RouteKind::Unicast);
            [RouteOp::Add, RouteOp::Replace, RouteOp::Remove][usize::from(what)](spec)
        },
    );
    let netlink = RefCell::new(Netlink::open().unwrap());
    let mut runner = TestRunner::new(Config {
        cases: 60,
        failure_persistence: None,
        ..Config::default()
    });
    let result = runner.run(&proptest::collection::vec(op, 1..12), |ops| {
        netlink.borrow_mut().apply_routes(&ops);
        prop_assert_eq!(&foreign_routes(), &before);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

fn a_replace_changes_ours_in_place() {
    node();
    let mut netlink = Netlink::open().unwrap();
    for (dst, first, second) in [
        ("10.1.2.0/24", "192.0.2.9", "192.0.2.10"),
        ("fd00:3::/64", "2001:db8::9", "2001:db8::10"),
    ] {
        let dead = RouteSpec {
            kind: RouteKind::Unreachable,
            via: None,
            ..spec(dst, second)
        };
        let one = |netlink: &mut Netlink, op| netlink.apply_routes(&[op]).remove(0).unwrap();
        let last = |netlink: &mut Netlink| netlink.list_own_routes().unwrap().pop().unwrap().spec;
        one(&mut netlink, RouteOp::Add(spec(dst, first)));
        one(&mut netlink, RouteOp::Replace(spec(dst, second)));
        assert_eq!(last(&mut netlink).via, Some(second.parse().unwrap()));
        one(&mut netlink, RouteOp::Replace(dead));
        assert_eq!(last(&mut netlink).kind, RouteKind::Unreachable);
    }
    assert_eq!(
        netlink.list_own_routes().unwrap().len(),
        2,
        "replaced, not added beside"
    );
}
