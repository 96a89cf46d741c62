//! The wish for small clusters, case by case.

use super::*;
use crate::facts::LinkFact;
use crate::nodes::document::read_nodes;
use crate::settings::Surroundings;
use crate::settings::raw::RawSettings;
use dataplane::hostport::PortKey;
use dataplane::route::{RouteInfo, RouteKind, RouteLookup};
use node_state::record::{AttachmentKey, AttachmentRecord, HostPort, NetnsId, PortProtocol};
use pods::{SETTLED_AFTER_MS, SeenRoutes, compute_pod_routes, is_pod_route};

const CLUSTER: &str = "kind: List
items:
- metadata: {name: a}
  spec: {podCIDRs: [10.244.0.0/24, 'fd00:244::/64']}
  status: {addresses: [{type: InternalIP, address: 192.0.2.1}, {type: InternalIP, address: '2001:db8::1'}]}
- metadata: {name: b}
  spec: {podCIDRs: [10.244.1.0/24, 'fd00:244:0:1::/64']}
  status: {addresses: [{type: InternalIP, address: 192.0.2.2}, {type: InternalIP, address: '2001:db8::2'}]}
- metadata: {name: c}
  spec: {podCIDRs: [10.244.2.0/24]}
  status: {addresses: [{type: InternalIP, address: 192.0.2.3}]}
";

fn settings() -> Settings {
    let raw = RawSettings {
        node_name: Some("a".into()),
        ..RawSettings::default()
    };
    Settings::from_raw(raw, &Surroundings::default()).unwrap()
}

fn view(text: &str) -> ClusterView {
    ClusterView::from_nodes(&read_nodes(text.as_bytes()).unwrap())
}

fn direct(dev: u32) -> crate::facts::Way {
    Ok(RouteLookup {
        dev,
        via: None,
        src: None,
        local: false,
        mtu: None,
    })
}

/// eth0 (2) carries the node's addresses, s32aaa (9) is a pod's link; all peers are on eth0.
fn facts() -> Facts {
    let link = |name: &str, mtu| LinkFact {
        name: name.into(),
        mtu,
        tunnel: None,
    };
    Facts {
        down: Default::default(),
        links: BTreeMap::from([
            (2, link("eth0", 1400)),
            (3, link("eth1", 9000)),
            (9, link("s32aaa", 1500)),
        ]),
        addresses: vec![
            (2, "192.0.2.1/24".parse().unwrap()),
            (2, "2001:db8::1/64".parse().unwrap()),
        ],
        ways: ["192.0.2.2", "192.0.2.3", "2001:db8::2"]
            .iter()
            .map(|ip| (ip.parse().unwrap(), direct(2)))
            .collect(),
    }
}

fn routes(desired: &Desired) -> Vec<String> {
    desired.routes.values().map(ToString::to_string).collect()
}

fn texts(desired: &Desired) -> Vec<&str> {
    desired
        .problems
        .iter()
        .map(|problem| problem.text.as_str())
        .collect()
}

#[test]
fn peers_on_the_link_are_routed_by_family_and_the_own_range_is_unreachable() {
    let desired = compute_desired(&settings(), &view(CLUSTER), &facts()).unwrap();
    assert_eq!(
        routes(&desired),
        [
            "unreachable 10.244.0.0/24 metric 4096",
            "10.244.1.0/24 via 192.0.2.2 dev #2",
            "10.244.2.0/24 via 192.0.2.3 dev #2",
            "unreachable fd00:244::/64 metric 4096",
            "fd00:244:0:1::/64 via 2001:db8::2 dev #2 metric 1024",
        ]
    );
    assert_eq!(desired.mtu, Some(1400));
    assert_eq!(desired.pod_cidrs.len(), 2);
    assert_eq!(texts(&desired), [""; 0]);
}

#[test]
fn destinations_that_are_not_masqueraded_are_pods_nodes_and_exclusions() {
    let mut settings = settings();
    settings.cluster_cidrs = vec!["10.244.0.0/16".parse().unwrap()];
    settings.masquerade.exclude = vec!["198.51.100.0/24".parse().unwrap()];
    let desired = compute_desired(&settings, &view(CLUSTER), &facts()).unwrap();
    let cluster: Vec<String> = desired.cluster.iter().map(ToString::to_string).collect();
    assert_eq!(
        cluster,
        [
            "10.244.0.0/16",
            "192.0.2.1/32",
            "192.0.2.2/32",
            "192.0.2.3/32",
            "198.51.100.0/24",
            "2001:db8::1/128",
            "2001:db8::2/128",
            "fd00:244::/64",
            "fd00:244:0:1::/64"
        ]
    );
}

#[test]
fn a_peer_behind_a_router_is_a_problem_and_the_others_go_on() {
    let mut facts = facts();
    let via = RouteLookup {
        via: Some("192.0.2.254".parse().unwrap()),
        ..direct(2).unwrap()
    };
    facts.ways.insert("192.0.2.2".parse().unwrap(), Ok(via));
    facts.ways.insert(
        "2001:db8::2".parse().unwrap(),
        Err("no route to host".into()),
    );
    let desired = compute_desired(&settings(), &view(CLUSTER), &facts).unwrap();
    assert_eq!(
        texts(&desired),
        [
            "node b (192.0.2.2) is not on a link of this node; set encapsulation to ipip or vxlan on all nodes",
            "node b (2001:db8::2) cannot be reached: no route to host"
        ]
    );
    assert_eq!(routes(&desired).len(), 3);
}

#[test]
fn a_peer_with_an_address_of_this_node_gets_no_route() {
    let mut facts = facts();
    facts.ways.insert(
        "192.0.2.3".parse().unwrap(),
        Ok(RouteLookup {
            local: true,
            ..direct(1).unwrap()
        }),
    );
    let desired = compute_desired(&settings(), &view(CLUSTER), &facts).unwrap();
    assert_eq!(
        texts(&desired),
        ["node c (192.0.2.3) has an address of this node"]
    );
}

#[test]
fn a_pod_cidr_that_covers_a_network_of_this_node_is_not_routed() {
    let mut facts = facts();
    facts.addresses.push((3, "10.244.1.77/28".parse().unwrap()));
    let desired = compute_desired(&settings(), &view(CLUSTER), &facts).unwrap();
    assert_eq!(
        texts(&desired),
        [
            "node b: podCIDR 10.244.1.0/24 overlaps 10.244.1.77/28 on this node's link eth1; it gets no route here"
        ]
    );
    facts.addresses.push((3, "10.244.0.1/25".parse().unwrap()));
    let desired = compute_desired(&settings(), &view(CLUSTER), &facts).unwrap();
    assert!(
        texts(&desired)[1].contains("this node's podCIDR 10.244.0.0/24"),
        "{:?}",
        texts(&desired)
    );
}

#[test]
fn nothing_is_decided_without_the_own_node_or_its_pod_cidr() {
    let mut settings = settings();
    settings.node_name = "z".into();
    let problem = compute_desired(&settings, &view(CLUSTER), &facts()).unwrap_err();
    assert!(
        problem.text.contains("node z is not among the 3 Nodes")
            && problem.kind == ProblemKind::OwnNode
    );
    settings.node_name = "a".into();
    let bare = "kind: Node\nmetadata: {name: a}\nstatus: {addresses: [{type: InternalIP, address: 192.0.2.1}]}\n";
    assert!(
        compute_desired(&settings, &view(bare), &facts())
            .unwrap_err()
            .text
            .contains("no usable podCIDR")
    );
}

/// Routed fabrics put the node's address on lo, whose MTU no veth takes.
#[test]
fn a_node_address_on_lo_takes_the_mtu_of_the_links_towards_peers() {
    let mut facts = facts();
    facts.links.insert(
        1,
        LinkFact {
            name: "lo".into(),
            mtu: 65_536,
            tunnel: None,
        },
    );
    facts.addresses = vec![
        (1, "192.0.2.1/32".parse().unwrap()),
        (1, "2001:db8::1/128".parse().unwrap()),
    ];
    let desired = compute_desired(&settings(), &view(CLUSTER), &facts).unwrap();
    assert_eq!(
        desired.mtu,
        Some(1400),
        "eth0's, through which all peers are reached"
    );
    facts.ways.clear();
    let alone = compute_desired(&settings(), &view(CLUSTER), &facts).unwrap();
    assert_eq!(alone.mtu, None);
}

#[test]
fn a_set_mtu_wins_and_an_unknown_link_leaves_it_to_the_plugin() {
    let (mut settings, mut facts) = (settings(), facts());
    facts.addresses.clear();
    let desired = compute_desired(&settings, &view(CLUSTER), &facts).unwrap();
    assert_eq!(desired.mtu, None);
    assert!(
        texts(&desired)[0].contains("192.0.2.1, 2001:db8::1"),
        "{:?}",
        texts(&desired)
    );
    settings.mtu = MtuSetting::Fixed(1300);
    assert_eq!(
        compute_desired(&settings, &view(CLUSTER), &facts)
            .unwrap()
            .mtu,
        Some(1300)
    );
}

#[test]
fn only_addresses_that_carry_pods_are_asked_for() {
    let asked = peer_addresses(&settings(), &view(CLUSTER));
    assert_eq!(
        asked.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["192.0.2.2", "192.0.2.3", "2001:db8::2"]
    );
}

// ===== pods =====

fn record(container: &str, link: &str, address: &str, created_ms: u64) -> AttachmentRecord {
    AttachmentRecord {
        key: AttachmentKey {
            network: "slash32".into(),
            container_id: container.into(),
            ifname: "eth0".into(),
        },
        boot_id: "now".into(),
        netns: NetnsId {
            path: "/run/netns/x".into(),
            dev: 1,
            ino: 2,
        },
        host_link: link.into(),
        addresses: vec![address.parse().unwrap()],
        host_ports: vec![HostPort {
            host_ip: None,
            host_port: 8080,
            protocol: PortProtocol::Tcp,
            pod_ip: address.split('/').next().unwrap().parse().unwrap(),
            container_port: 80,
        }],
        shaped: false,
        mtu: None,
        mac: None,
        pod: None,
        ipam_type: "slash32-ipam".into(),
        ipam_data_dir: None,
        created_ms,
    }
}

#[test]
fn a_pods_route_is_mended_once_it_was_seen_or_the_record_is_old() {
    let records = [record("x", "s32aaa", "10.244.0.5/32", 1_000)];
    let young = compute_pod_routes(&records, &facts(), &SeenRoutes::new(), 2_000);
    assert!(young.is_empty(), "a plugin at work must not be overtaken");
    let old = compute_pod_routes(
        &records,
        &facts(),
        &SeenRoutes::new(),
        2_000 + SETTLED_AFTER_MS,
    );
    let (key, route) = old.first_key_value().unwrap();
    assert_eq!(route.to_string(), "10.244.0.5/32 dev #9");
    let seen = SeenRoutes::from([(key.clone(), 9)]);
    assert_eq!(
        compute_pod_routes(&records, &facts(), &seen, 2_000).len(),
        1
    );
    let of_another_link = SeenRoutes::from([(key.clone(), 8)]);
    assert!(compute_pod_routes(&records, &facts(), &of_another_link, 2_000).is_empty());
}

#[test]
fn a_record_of_the_future_is_settled_since_the_clock_was_set_back() {
    let records = [record(
        "x",
        "s32aaa",
        "10.244.0.5/32",
        10 * SETTLED_AFTER_MS,
    )];
    assert_eq!(
        compute_pod_routes(&records, &facts(), &SeenRoutes::new(), 1_000).len(),
        1
    );
    let ports = [AttachmentRecord {
        host_link: "s32gone".into(),
        host_ports: vec![HostPort {
            host_ip: None,
            host_port: 80,
            protocol: PortProtocol::Tcp,
            pod_ip: "10.244.0.5".parse().unwrap(),
            container_port: 80,
        }],
        ..records[0].clone()
    }];
    assert!(ports::compute_ports(&ports, &facts(), 1_000).0.is_empty());
}

#[test]
fn links_of_pods_that_are_down_are_raised_where_a_record_speaks_for_them() {
    let mut facts = facts();
    let known = [AttachmentRecord {
        mac: Some("0a:00:00:00:00:01".into()),
        ..record("x", "s32aaa", "10.244.0.5/32", 1)
    }];
    assert!(pods::compute_raised(&known, &facts).is_empty());
    facts.links.insert(
        11,
        LinkFact {
            name: "b32aaa".into(),
            mtu: 1500,
            tunnel: None,
        },
    );
    facts.down = [9, 11].into();
    let raised = pods::compute_raised(&known, &facts);
    assert_eq!(
        (raised[0].index, raised[0].pod_mac),
        (9, [10, 0, 0, 0, 0, 1])
    );
    assert_eq!(pods::compute_raised_shapers(&known, &facts), [11]);
    assert!(pods::compute_raised(&[], &facts).is_empty());
    assert!(pods::compute_raised_shapers(&[], &facts).is_empty());
}

#[test]
fn an_address_of_two_records_or_without_a_link_is_left_alone() {
    let late = 10 * SETTLED_AFTER_MS;
    let mut facts = facts();
    let gone = [record("x", "s32bbb", "10.244.0.5/32", 1)];
    assert!(compute_pod_routes(&gone, &facts, &SeenRoutes::new(), late).is_empty());
    facts.links.insert(
        10,
        LinkFact {
            name: "s32bbb".into(),
            mtu: 1500,
            tunnel: None,
        },
    );
    let both = [
        record("x", "s32bbb", "10.244.0.5/32", 1),
        record("y", "s32aaa", "10.244.0.5/32", 2),
    ];
    assert!(compute_pod_routes(&both, &facts, &SeenRoutes::new(), late).is_empty());
}

fn pod_route(dst: &str, dev: u32) -> RouteInfo {
    RouteInfo {
        spec: RouteSpec {
            key: RouteKey::main(dst.parse().unwrap()),
            kind: RouteKind::Unicast,
            via: None,
            dev: Some(dev),
            onlink: false,
            mtu: None,
            src: None,
        },
        protocol: 32,
        scope: 253,
        usable: true,
    }
}

#[test]
fn only_host_routes_on_pods_links_are_the_plugins() {
    assert!(is_pod_route(&pod_route("10.244.0.5/32", 9), &facts()));
    assert!(!is_pod_route(&pod_route("10.244.0.5/32", 2), &facts()));
    assert!(!is_pod_route(&pod_route("10.244.0.0/24", 9), &facts()));
}

/// A pod that is attached between the look at the links and the look at the routes must not lose its route.
#[test]
fn a_host_route_on_a_link_that_is_newer_than_the_facts_is_left_alone() {
    assert!(!facts().links.contains_key(&4711));
    assert!(is_pod_route(&pod_route("10.244.0.5/32", 4711), &facts()));
    assert!(!is_pod_route(&pod_route("10.244.0.0/24", 4711), &facts()));
}

// ===== host ports =====

#[test]
fn ports_belong_to_pods_that_are_there_or_on_their_way() {
    let records = [record("x", "s32gone", "10.244.0.5/32", 1_000)];
    assert_eq!(
        ports::compute_ports(&records, &facts(), 2_000).0.len(),
        1,
        "its link is still to come"
    );
    assert_eq!(ports::compute_ports(&records, &facts(), 100_000).0.len(), 0);
    let there = [record("x", "s32aaa", "10.244.0.5/32", 1_000)];
    assert_eq!(ports::compute_ports(&there, &facts(), 100_000).0.len(), 1);
}

#[test]
fn the_older_of_two_pods_keeps_a_port_and_families_do_not_meet() {
    let records = [
        record("young", "s32aaa", "10.244.0.6/32", 2),
        record("old", "s32aaa", "10.244.0.5/32", 1),
        record("six", "s32aaa", "fd00:244::6/128", 3),
    ];
    let (wanted, problems) = ports::compute_ports(&records, &facts(), 100_000);
    let key = |v6| PortKey {
        host_ip: None,
        protocol: 6,
        host_port: 8080,
        v6,
    };
    assert_eq!(wanted[&key(false)].pod_ip.to_string(), "10.244.0.5");
    assert_eq!(wanted[&key(true)].pod_ip.to_string(), "fd00:244::6");
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0]
            .text
            .contains("host port 8080 of container young"),
        "{}",
        problems[0]
    );
}
