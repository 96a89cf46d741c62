//! Routes, the file of Nodes, readiness.

use crate::Case;
use crate::node::{Node, get, sh, wait_for};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

pub(crate) fn cases() -> Vec<Case> {
    let case = |name, body| Case {
        name,
        needs: &["ip", "nft"],
        body,
    };
    vec![
        case(
            "one_pass_converges_and_the_next_changes_nothing",
            one_pass_converges_and_the_next_changes_nothing,
        ),
        case(
            "stale_routes_of_ours_go_and_foreign_ones_stay",
            stale_routes_of_ours_go_and_foreign_ones_stay,
        ),
        case(
            "nothing_is_deleted_without_a_view_or_the_own_node",
            nothing_is_deleted_without_a_view_or_the_own_node,
        ),
        case(
            "a_foreign_route_in_the_way_is_named_and_kept",
            a_foreign_route_in_the_way_is_named_and_kept,
        ),
        case(
            "a_deleted_route_is_back_within_50_ms",
            a_deleted_route_is_back_within_50_ms,
        ),
        case(
            "a_change_of_the_file_moves_routes_and_bad_content_does_not",
            a_change_of_the_file_moves_routes_and_bad_content_does_not,
        ),
        case(
            "a_pods_route_is_mended_and_never_swept",
            a_pods_route_is_mended_and_never_swept,
        ),
        case(
            "sigterm_leaves_the_kernel_as_it_is",
            sigterm_leaves_the_kernel_as_it_is,
        ),
        case(
            "a_fight_over_a_route_stays_bounded",
            a_fight_over_a_route_stays_bounded,
        ),
        case(
            "accept_ra_is_raised_before_forwarding_where_routes_were_learnt",
            accept_ra_is_raised_before_forwarding,
        ),
        case(
            "a_link_that_appears_later_is_used",
            a_link_that_appears_later_is_used,
        ),
    ]
}

fn one_pass_converges_and_the_next_changes_nothing() {
    let mut node = Node::new();
    node.converge();
    let routes = node.own_routes();
    assert_eq!(routes.len(), 6, "{routes:?}");
    assert!(routes[0].starts_with("10.244.1.0/24 via 192.0.2.2"));
    assert_eq!(
        sh("cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding"),
        "1\n1\n"
    );
    let conflist = std::fs::metadata(node.conflist()).expect("conflist");
    let log = node.converge();
    assert!(
        !log.contains("routes changed") && !log.contains("set sysctl"),
        "{log}"
    );
    assert_eq!(
        std::fs::metadata(node.conflist()).expect("conflist").ino(),
        conflist.ino()
    );
    assert_eq!(node.own_routes(), routes);
    assert!(node.state().read_ready().expect("ready").is_some());
}

fn stale_routes_of_ours_go_and_foreign_ones_stay() {
    let mut node = Node::new();
    sh("ip route add 10.244.77.0/24 via 192.0.2.77 proto 32
        ip route add 10.244.1.0/24 via 192.0.2.77 proto 32
        ip route add 10.88.0.0/24 via 192.0.2.88 proto static
        ip route add blackhole 10.244.99.0/24 proto 80");
    node.converge();
    assert_eq!(node.find_route("10.244.77.0/24"), None);
    let moved = node.find_route("10.244.1.0/24").expect("route");
    assert_eq!(moved.spec.via, Some("192.0.2.2".parse().expect("address")));
    let all = sh("ip route");
    assert!(
        all.contains("10.88.0.0/24") && all.contains("blackhole 10.244.99.0/24"),
        "{all}"
    );
}

fn nothing_is_deleted_without_a_view_or_the_own_node() {
    let mut node = Node::new();
    sh("ip route add 10.244.77.0/24 via 192.0.2.77 proto 32");
    for content in [
        None,
        Some("kind: List\nitems: ["),
        Some("kind: List\nitems: []\n"),
    ] {
        let _ = std::fs::remove_file(node.path("nodes.yaml"));
        if let Some(text) = content {
            node.write_file(text);
        }
        let (code, log) = node.once();
        assert_eq!(code, 1, "{log}");
        assert!(
            log.contains("nodes.yaml") || log.contains("node a is not among the 0 Nodes"),
            "{log}"
        );
        assert!(node.find_route("10.244.77.0/24").is_some());
        assert!(!node.conflist().exists() && node.state().read_ready().expect("ready").is_none());
    }
}

fn a_foreign_route_in_the_way_is_named_and_kept() {
    let mut node = Node::new();
    sh("ip route add 10.244.1.0/24 via 192.0.2.99 proto static");
    let (code, log) = node.once();
    assert_eq!(code, 1);
    assert!(
        log.contains("10.244.1.0/24 via 192.0.2.99") && log.contains("protocol 4"),
        "{log}"
    );
    assert!(sh("ip route show 10.244.1.0/24").contains("192.0.2.99"));
    assert!(
        node.find_route("10.244.2.0/24").is_some(),
        "the others go on"
    );
    assert!(
        node.conflist().exists(),
        "trouble with one peer does not take the node out of service"
    );
    sh("ip route delete 10.244.1.0/24 via 192.0.2.99");
    node.converge();
}

fn a_deleted_route_is_back_within_50_ms() {
    let mut node = Node::new();
    let _agent = node.start();
    let mut worst = Duration::ZERO;
    for dst in [
        "10.244.1.0/24",
        "fd00:244:0:2::/64",
        "10.244.0.0/24",
        "10.244.2.0/24",
    ] {
        std::thread::sleep(Duration::from_millis(300));
        let kind = if dst == "10.244.0.0/24" {
            "unreachable"
        } else {
            ""
        };
        sh(&format!("ip route delete {kind} {dst}"));
        let took = wait_for(dst, Duration::from_secs(2), || {
            node.find_route(dst).is_some()
        });
        worst = worst.max(took);
    }
    assert!(worst < Duration::from_millis(50), "{worst:?}");
    let metrics = get("/metrics").expect("metrics");
    assert!(
        metrics.contains("slash32_route_repairs_total 4"),
        "{metrics}"
    );
}

fn a_change_of_the_file_moves_routes_and_bad_content_does_not() {
    let mut node = Node::new();
    let agent = node.start();
    node.write_nodes(&["a", "b", "d"]);
    wait_for("node d", Duration::from_secs(3), || {
        node.find_route("10.244.3.0/24").is_some() && node.find_route("10.244.2.0/24").is_none()
    });
    wait_for("the set", Duration::from_secs(3), || {
        sh("nft list set inet slash32 cluster4").contains("10.244.3.0/24")
    });
    let before = node.own_routes();
    node.write_file("kind: List\nitems: oops\n");
    wait_for("the refusal", Duration::from_secs(3), || {
        get("/readyz").is_some_and(|answer| {
            answer.contains("problem: nodes_file") && answer.contains(" 200 ")
        })
    });
    assert!(
        get("/metrics")
            .expect("metrics")
            .contains("slash32_nodes_file_last_error 1")
    );
    assert_eq!(node.own_routes(), before);
    node.write_nodes(&["a"]);
    wait_for("no peers", Duration::from_secs(3), || {
        node.own_routes().len() == 2
    });
    wait_for("the log", Duration::from_secs(3), || {
        agent.log().contains("solved: nodes file")
    });
}

fn a_pods_route_is_mended_and_never_swept() {
    let mut node = Node::new();
    node.add_pod("x", "10.244.0.5");
    node.add_pod("y", "fd00:244::5");
    // A pod without a record: a plugin that is just at work, or one that is not ours to judge.
    sh("ip link add s32unknown type veth peer name pz; ip link set s32unknown up; ip link set pz up
        ip route add 10.244.0.9 dev s32unknown proto 32");
    let _agent = node.start();
    for dst in ["10.244.0.5/32", "fd00:244::5/128"] {
        sh(&format!("ip route delete {dst}"));
        wait_for(dst, Duration::from_secs(1), || {
            node.find_route(dst).is_some()
        });
    }
    assert!(node.find_route("10.244.0.9/32").is_some());
}

fn sigterm_leaves_the_kernel_as_it_is() {
    let mut node = Node::new();
    let agent = node.start();
    let (routes, table) = (node.own_routes(), sh("nft list table inet slash32"));
    assert_eq!(agent.stop(), 0);
    assert_eq!(node.own_routes(), routes);
    assert_eq!(sh("nft list table inet slash32"), table);
    assert!(node.conflist().exists() && node.state().read_ready().expect("ready").is_some());
}

fn a_fight_over_a_route_stays_bounded() {
    let mut node = Node::new();
    let _agent = node.start();
    let end = std::time::Instant::now() + Duration::from_secs(5);
    let mut deletions = 0;
    while std::time::Instant::now() < end {
        if node.find_route("10.244.1.0/24").is_some() {
            sh("ip route delete 10.244.1.0/24");
            deletions += 1;
        }
    }
    assert!((10..=60).contains(&deletions), "{deletions} repairs in 5 s");
    wait_for("peace", Duration::from_secs(5), || {
        node.find_route("10.244.1.0/24").is_some()
    });
}

fn accept_ra_is_raised_before_forwarding() {
    let node = Node::new();
    sh(
        "ip -6 route add default via fe80::99 dev eth0 proto ra metric 100
        ip link add eth9 type veth peer name wire9; ip link set eth9 up",
    );
    node.converge();
    assert_eq!(sh("cat /proc/sys/net/ipv6/conf/eth0/accept_ra"), "2\n");
    assert_eq!(
        sh("cat /proc/sys/net/ipv6/conf/eth9/accept_ra"),
        "1\n",
        "it has learnt nothing"
    );
}

fn a_link_that_appears_later_is_used() {
    let mut node = Node::new();
    node.write_file(
        "kind: List\nitems:\n- metadata: {name: a}\n  spec: {podCIDR: 10.244.0.0/24}\n  status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}\n\
         - metadata: {name: b}\n  spec: {podCIDR: 10.244.1.0/24}\n  status: {addresses: [{type: InternalIP, address: 198.51.100.2}]}\n",
    );
    let _agent = node.start();
    assert!(
        get("/readyz")
            .expect("readyz")
            .contains("problem: off_link: node b (198.51.100.2)")
    );
    sh(
        "ip link add eth1 type veth peer name wire1; ip link set wire1 up; ip link set eth1 up; ip address add 198.51.100.1/24 dev eth1",
    );
    wait_for("the route", Duration::from_secs(3), || {
        node.find_route("10.244.1.0/24").is_some()
    });
}
