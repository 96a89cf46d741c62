//! Both sides of a pod's link: what iproute2 shows, and that packets pass.

use std::net::IpAddr;

use dataplane::names::{GATEWAY_V4, GATEWAY_V6, HOST_MAC};
use dataplane::netlink::Netlink;
use dataplane::pod_side::{HostSideSpec, PodRoute, PodSideSpec};

use crate::lab::{self, Case, POD_MAC, Pod, pings, pod_route, run, run_in, veth};

pub(crate) const TRIALS: &[Case] = &[
    (
        "pods::two_dual_stack_pods_reach_each_other_at_once",
        two_dual_stack_pods_reach_each_other_at_once,
    ),
    ("pods::no_address_is_tentative_a7", no_address_is_tentative),
    (
        "pods::iproute2_shows_gateway_default_and_neighbours",
        iproute2_shows_gateway_default_and_neighbours,
    ),
    (
        "pods::ipv6_is_enabled_where_the_namespace_has_it_disabled",
        ipv6_is_enabled_where_the_namespace_has_it_disabled,
    ),
    (
        "pods::a_second_interface_leaves_the_first_ones_default_route",
        a_second_interface_leaves_the_first_ones_default,
    ),
    (
        "pods::a_foreign_route_in_the_way_is_named",
        a_foreign_route_in_the_way_is_named,
    ),
    (
        "pods::extra_routes_carry_mtu_advmss_priority_and_table",
        extra_routes_carry_mtu_advmss_priority_and_table,
    ),
    (
        "pods::an_ipv4_only_pod_has_no_ipv6_address",
        an_ipv4_only_pod_has_no_ipv6_address,
    ),
];

/// Twenty times: what the kernel does behind our back, in its work queues, lost a packet in one of 30.
fn two_dual_stack_pods_reach_each_other_at_once() {
    lab::forward();
    let mut host = Netlink::open().unwrap();
    for round in 0..20 {
        let a = Pod::new(&mut host, "s32a", &["10.1.0.2", "fd00:1::2"]);
        let b = Pod::new(&mut host, "s32b", &["10.1.0.3", "fd00:1::3"]);
        let families = [("10.1.0.3", "10.1.0.2"), ("fd00:1::3", "fd00:1::2")];
        for (of_b, of_a) in if round % 2 == 0 {
            families
        } else {
            [families[1], families[0]]
        } {
            assert!(pings(&a.netns, of_b), "{of_b} in round {round}");
            assert!(pings(&b.netns, of_a), "{of_a} in round {round}");
        }
        assert!(host.remove_link("s32a").unwrap() && host.remove_link("s32b").unwrap());
    }
}

fn no_address_is_tentative() {
    let mut host = Netlink::open().unwrap();
    let pod = Pod::new(&mut host, "s32a", &["10.1.0.2", "fd00:1::2"]);
    let addresses = Netlink::open_in(&pod.netns)
        .unwrap()
        .list_addresses()
        .unwrap();
    let own: Vec<_> = addresses
        .iter()
        .filter(|address| address.index == pod.pair.pod_index)
        .collect();
    let mut shown: Vec<String> = own
        .iter()
        .map(|address| address.address.to_string())
        .collect();
    shown.sort();
    assert_eq!(shown, ["10.1.0.2/32", "fd00:1::2/128", "fe80::2/64"]);
    assert!(own.iter().all(|address| !address.tentative));
    assert_eq!(run_in(&pod.netns, "ip", "-6 addr show tentative"), "");
}

fn iproute2_shows_gateway_default_and_neighbours() {
    let mut host = Netlink::open().unwrap();
    let pod = Pod::new(&mut host, "s32a", &["10.1.0.2", "fd00:1::2"]);
    let v4 = run_in(&pod.netns, "ip", "-4 route");
    assert!(
        v4.contains("default via 169.254.1.1 dev eth0 proto 32"),
        "{v4}"
    );
    assert!(
        v4.contains("169.254.1.1 dev eth0 proto 32 scope link"),
        "{v4}"
    );
    let v6 = run_in(&pod.netns, "ip", "-6 route");
    assert!(
        v6.contains("default via fe80::ecee:eeff:feee:eeee dev eth0 proto 32"),
        "{v6}"
    );
    let outside = run("ip", "route") + &run("ip", "-6 route");
    assert!(
        outside.contains("10.1.0.2 dev s32a proto 32 scope link"),
        "{outside}"
    );
    assert!(outside.contains("fd00:1::2 dev s32a proto 32"), "{outside}");
    let neighbours = Netlink::open_in(&pod.netns)
        .unwrap()
        .list_neighbours(pod.pair.pod_index)
        .unwrap();
    for gateway in [IpAddr::V4(GATEWAY_V4), IpAddr::V6(GATEWAY_V6)] {
        assert!(
            neighbours
                .iter()
                .any(|n| n.address == gateway && n.mac == Some(HOST_MAC) && n.permanent)
        );
    }
    let neighbours = run("ip", "neigh show nud permanent dev s32a");
    assert_eq!(
        neighbours.matches("02:00:00:00:00:05").count(),
        2,
        "{neighbours}"
    );
    assert_eq!(host.list_own_routes().unwrap().len(), 2);
}

fn ipv6_is_enabled_where_the_namespace_has_it_disabled() {
    let netns = lab::pod_netns();
    let disable = || {
        for conf in ["all", "default"] {
            std::fs::write(format!("/proc/sys/net/ipv6/conf/{conf}/disable_ipv6"), "1").unwrap();
        }
    };
    netns.run(disable).unwrap();
    let mut host = Netlink::open().unwrap();
    let pair = host.create_veth(&veth("s32a", &netns)).unwrap();
    let addresses = vec!["10.1.0.2".parse().unwrap(), "fd00:1::2".parse().unwrap()];
    let spec = PodSideSpec {
        index: pair.pod_index,
        addresses,
        gateway_mac: HOST_MAC,
        routes: lab::default_routes(),
    };
    Netlink::open_in(&netns)
        .unwrap()
        .configure_pod_side(&spec)
        .unwrap();
    let shown = run_in(&netns, "ip", "-6 addr show dev eth0");
    assert!(
        shown.contains("fd00:1::2/128") && !shown.contains("tentative"),
        "{shown}"
    );
    assert!(run_in(&netns, "ip", "-6 route").contains("default via fe80::ecee:eeff:feee:eeee"));
    assert!(run_in(&netns, "ip", "-4 route").contains("default via 169.254.1.1"));
}

fn a_second_interface_leaves_the_first_ones_default() {
    lab::forward();
    let mut host = Netlink::open().unwrap();
    let pod = Pod::new(&mut host, "s32a", &["10.1.0.2", "fd00:1::2"]);
    let second = dataplane::link::VethSpec {
        pod_name: "net1",
        ..veth("s32a1", &pod.netns)
    };
    let pair = host.create_veth(&second).unwrap();
    let routes = [lab::default_routes(), vec![pod_route("10.9.0.0/16")]].concat();
    let addresses = vec!["10.2.0.2".parse().unwrap(), "fd00:2::2".parse().unwrap()];
    let spec = PodSideSpec {
        index: pair.pod_index,
        addresses,
        gateway_mac: HOST_MAC,
        routes,
    };
    Netlink::open_in(&pod.netns)
        .unwrap()
        .configure_pod_side(&spec)
        .unwrap();
    let shown = run_in(&pod.netns, "ip", "-4 route");
    assert!(
        shown.contains("default via 169.254.1.1 dev eth0"),
        "{shown}"
    );
    assert!(
        !shown.contains("default via 169.254.1.1 dev net1"),
        "{shown}"
    );
    assert!(
        shown.contains("10.9.0.0/16 via 169.254.1.1 dev net1"),
        "{shown}"
    );
}

fn a_foreign_route_in_the_way_is_named() {
    let netns = lab::pod_netns();
    let mut host = Netlink::open().unwrap();
    let pair = host.create_veth(&veth("s32a", &netns)).unwrap();
    run("ip", "link add br7 type bridge");
    run("ip", "link set br7 up");
    run("ip", "route add 10.1.0.2/32 dev br7 proto static");
    let spec = HostSideSpec {
        index: pair.host_index,
        addresses: vec!["10.1.0.2".parse().unwrap()],
        pod_mac: POD_MAC,
    };
    let error = host.configure_host_side(&spec).unwrap_err();
    assert!(error.is_exists(), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("10.1.0.2/32 dev #") && text.contains("(br7) of protocol 4"),
        "{text}"
    );
    assert!(run("ip", "route show 10.1.0.2").contains("dev br7 proto static"));
}

fn extra_routes_carry_mtu_advmss_priority_and_table() {
    let netns = lab::pod_netns();
    let mut host = Netlink::open().unwrap();
    let pair = host.create_veth(&veth("s32a", &netns)).unwrap();
    let rich = PodRoute {
        mtu: Some(1400),
        advmss: Some(1360),
        priority: Some(50),
        table: Some(1000),
        gw: Some("10.1.0.1".parse().unwrap()),
        ..pod_route("10.8.0.0/16")
    };
    let on_link = PodRoute {
        scope: Some(253),
        ..pod_route("10.7.0.0/16")
    };
    let addresses = vec!["10.1.0.2".parse().unwrap()];
    let spec = PodSideSpec {
        index: pair.pod_index,
        addresses,
        gateway_mac: HOST_MAC,
        routes: vec![rich, on_link],
    };
    Netlink::open_in(&netns)
        .unwrap()
        .configure_pod_side(&spec)
        .unwrap();
    let shown = run_in(&netns, "ip", "route show table 1000");
    for part in [
        "10.8.0.0/16 via 10.1.0.1 dev eth0",
        "metric 50",
        "mtu 1400",
        "advmss 1360",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert!(run_in(&netns, "ip", "route").contains("10.7.0.0/16 dev eth0 proto 32 scope link"));
    assert!(run_in(&netns, "ip", "neigh show 10.1.0.1").contains("ee:ee:ee:ee:ee:ee PERMANENT"));
}

fn an_ipv4_only_pod_has_no_ipv6_address() {
    let mut host = Netlink::open().unwrap();
    let pod = Pod::new(&mut host, "s32a", &["10.1.0.2"]);
    assert_eq!(run_in(&pod.netns, "ip", "-6 addr show dev eth0"), "");
}
