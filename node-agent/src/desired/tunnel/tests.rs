//! Tunnels of small clusters, case by case; and that two nodes which see the same Nodes always agree.

use super::super::compute_desired;
use super::*;
use crate::desired::Desired;
use crate::facts::{Facts, LinkFact};
use crate::settings::Surroundings;
use crate::settings::encapsulation::When;
use crate::settings::raw::RawSettings;
use dataplane::route::RouteLookup;
use proptest::prelude::*;
use std::collections::HashMap;

fn settings(node: &str, mode: &str, change: impl FnOnce(&mut RawSettings)) -> Settings {
    let mut raw = RawSettings {
        node_name: Some(node.into()),
        encapsulation: Some(mode.into()),
        ..RawSettings::default()
    };
    change(&mut raw);
    Settings::from_raw(raw, &Surroundings::default()).unwrap()
}

/// Node n has podCIDRs 10.244.n.0/24 and fd00:244:n::/64.
fn node(number: u8, addresses: &[&str]) -> NodeView {
    NodeView {
        name: format!("n{number}").into(),
        pod_cidrs: [
            format!("10.244.{number}.0/24").parse().unwrap(),
            format!("fd00:244:{number}::/64").parse().unwrap(),
        ]
        .into(),
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
    }
}

fn cluster(nodes: &[NodeView]) -> ClusterView {
    ClusterView {
        nodes: nodes.to_vec(),
        problems: Vec::new(),
    }
}

/// eth0 (2) holds the node's addresses, the tunnel's device is 7; `direct` peers are on the link, all others behind a router.
fn facts(own: &NodeView, device: &str, direct: &[&str], view: &ClusterView) -> Facts {
    let link = |name: &str, mtu| LinkFact {
        name: name.into(),
        mtu,
        tunnel: None,
    };
    let way = |address: &IpAddr| {
        let on_link = direct.iter().any(|text| *text == address.to_string());
        Ok(RouteLookup {
            dev: 2,
            via: (!on_link).then_some(*address),
            src: None,
            local: own.addresses.contains(address),
            mtu: None,
        })
    };
    Facts {
        down: Default::default(),
        links: BTreeMap::from([(2, link("eth0", 1500)), (7, link(device, 1450))]),
        addresses: own
            .addresses
            .iter()
            .map(|address| (2, IpNetwork::new(*address, 24).unwrap()))
            .collect(),
        ways: view
            .nodes
            .iter()
            .flat_map(|node| node.addresses.iter().map(|ip| (*ip, way(ip))))
            .collect::<HashMap<_, _>>(),
    }
}

fn three() -> [NodeView; 3] {
    [
        node(1, &["192.0.2.1", "2001:db8:2::1"]),
        node(2, &["192.0.2.2", "2001:db8:2::2"]),
        node(3, &["203.0.113.3", "2001:db8:113::3"]),
    ]
}

fn wish(settings: &Settings, direct: &[&str]) -> Desired {
    let nodes = three();
    let view = cluster(&nodes);
    let device = match settings.encapsulation.mode {
        Mode::Ipip => settings.encapsulation.ipip_device.clone(),
        _ => VXLAN_LINK.into(),
    };
    compute_desired(settings, &view, &facts(&nodes[0], &device, direct, &view)).unwrap()
}

fn routes(desired: &Desired) -> Vec<String> {
    let all = desired.routes.values().map(ToString::to_string);
    all.filter(|text| !text.starts_with("unreachable"))
        .collect()
}

fn entries(desired: &Desired) -> Vec<String> {
    let tunnel = desired.tunnel.as_ref().unwrap();
    tunnel.entries.values().map(ToString::to_string).collect()
}

const ON_LINK: [&str; 2] = ["192.0.2.2", "2001:db8:2::2"];

#[test]
fn vxlan_leads_both_families_to_peers_behind_a_router_and_spares_those_on_the_link() {
    let desired = wish(&settings("n1", "vxlan", |_| {}), &ON_LINK);
    assert_eq!(
        routes(&desired),
        [
            "10.244.2.0/24 via 192.0.2.2 dev #2 mtu 1450",
            "10.244.3.0/24 via 203.0.113.3 dev #7 onlink src 192.0.2.1",
            "fd00:244:2::/64 via 2001:db8:2::2 dev #2 metric 1024 mtu 1450",
            "fd00:244:3::/64 via fe80::3032:cbff:fe00:7103 dev #7 metric 1024 src 2001:db8:2::1",
        ]
    );
    assert_eq!(
        entries(&desired),
        [
            "neighbour 203.0.113.3 at 32:32:cb:00:71:03",
            "neighbour fe80::3032:cbff:fe00:7103 at 32:32:cb:00:71:03",
            "forwarding entry 32:32:cb:00:71:03 to 203.0.113.3",
        ]
    );
    assert_eq!((desired.mtu, desired.problems.len()), (Some(1450), 0));
    let tunnel = desired.tunnel.unwrap();
    assert_eq!(
        tunnel.spec.kind,
        TunnelKind::Vxlan {
            vni: 3232,
            port: 4789,
            local: "192.0.2.1".parse().unwrap(),
            mac: [0x32, 0x32, 192, 0, 2, 1],
        }
    );
    assert_eq!(tunnel.peers.len(), 4, "all addresses of the other Nodes");
    assert_eq!(tunnel.addresses.len(), 2);
}

#[test]
fn always_leads_all_peers_through_the_tunnel() {
    let always = settings("n1", "vxlan", |raw| {
        raw.encapsulation_when = Some("always".into());
    });
    assert_eq!(always.encapsulation.when, When::Always);
    let desired = wish(&always, &ON_LINK);
    assert!(
        routes(&desired)
            .iter()
            .all(|route| route.contains("dev #7"))
    );
    assert_eq!(entries(&desired).len(), 6);
}

#[test]
fn an_ipv6_underlay_carries_ipv4_and_costs_twenty_bytes_more() {
    let over_v6 = settings("n1", "vxlan", |raw| {
        raw.vxlan_underlay = Some("ipv6".into())
    });
    let desired = wish(&over_v6, &ON_LINK);
    assert_eq!(desired.mtu, Some(1430));
    let forwarding = entries(&desired).pop().unwrap();
    assert!(forwarding.ends_with(" to 2001:db8:113::3"), "{forwarding}");
    assert_eq!(
        routes(&desired)[1],
        "10.244.3.0/24 via 203.0.113.3 dev #7 onlink src 192.0.2.1"
    );
}

#[test]
fn ipv4_pods_of_nodes_without_ipv4_addresses_go_by_a_link_local_next_hop() {
    let nodes = [node(1, &["2001:db8:2::1"]), node(2, &["2001:db8:113::2"])];
    let view = cluster(&nodes);
    let desired = compute_desired(
        &settings("n1", "vxlan", |_| {}),
        &view,
        &facts(&nodes[0], VXLAN_LINK, &[], &view),
    )
    .unwrap();
    let routes = routes(&desired);
    assert!(
        routes[0].starts_with("10.244.2.0/24 via fe80::34"),
        "{routes:?}"
    );
    assert!(
        !routes[0].contains("onlink") && !routes[0].contains("src"),
        "{routes:?}"
    );
    assert_eq!(desired.problems.len(), 0, "{:?}", desired.problems);
}

#[test]
fn ipip_carries_ipv4_and_tells_of_ipv6_peers_behind_a_router() {
    let desired = wish(&settings("n1", "ipip", |_| {}), &ON_LINK);
    assert_eq!(
        routes(&desired),
        [
            "10.244.2.0/24 via 192.0.2.2 dev #2 mtu 1480",
            "10.244.3.0/24 via 203.0.113.3 dev #7 onlink src 192.0.2.1",
            "fd00:244:2::/64 via 2001:db8:2::2 dev #2 metric 1024 mtu 1480",
        ]
    );
    assert_eq!(
        desired.problems[0].text,
        "node n3 (2001:db8:113::3) is not on a link of this node; IPIP carries IPv4 only: set encapsulation to vxlan on all nodes"
    );
    assert_eq!(entries(&desired), [""; 0]);
    let always = settings("n1", "ipip", |raw| {
        raw.encapsulation_when = Some("always".into());
    });
    let desired = wish(&always, &ON_LINK);
    assert!(routes(&desired)[0].contains("dev #7"));
    assert!(
        routes(&desired)[2].contains("dev #2"),
        "IPv6 on the link stays direct"
    );
}

#[test]
fn another_ipip_device_is_bound_and_other_peoples_far_ends_are_known() {
    let nodes = three();
    let view = cluster(&nodes);
    let mut facts = facts(&nodes[0], "ours", &ON_LINK, &view);
    facts.links.insert(
        8,
        LinkFact {
            name: "theirs".into(),
            mtu: 1480,
            tunnel: Some(TunnelInfo::Ipip {
                local: None,
                remote: Some(Ipv4Addr::new(198, 51, 100, 7)),
            }),
        },
    );
    let bound = settings("n1", "ipip", |raw| raw.ipip_device = Some("ours".into()));
    let tunnel = compute_desired(&bound, &view, &facts)
        .unwrap()
        .tunnel
        .unwrap();
    let local = Some(Ipv4Addr::new(192, 0, 2, 1));
    assert_eq!(tunnel.spec.kind, TunnelKind::Ipip { local });
    assert_eq!(
        tunnel.filter,
        TunnelFilter::Ipip {
            local,
            others: vec![Ipv4Addr::new(198, 51, 100, 7)],
        }
    );
}

#[test]
fn without_its_device_a_tunnel_has_entries_and_no_routes() {
    let nodes = three();
    let view = cluster(&nodes);
    let mut facts = facts(&nodes[0], VXLAN_LINK, &ON_LINK, &view);
    facts.links.remove(&7);
    let desired = compute_desired(&settings("n1", "vxlan", |_| {}), &view, &facts).unwrap();
    assert_eq!(routes(&desired).len(), 2);
    assert_eq!((entries(&desired).len(), desired.problems.len()), (3, 0));
}

#[test]
fn nodes_that_disagree_about_the_underlays_family_are_told() {
    let nodes = [
        node(1, &["192.0.2.1", "2001:db8:2::1"]),
        node(2, &["2001:db8:113::2"]),
    ];
    let view = cluster(&nodes);
    for (own, text) in [
        (0, "node n2 has no IPv4 InternalIP"),
        (1, "node n1 tunnels over IPv4, this node over IPv6"),
    ] {
        let name = nodes[own].name.clone();
        let desired = compute_desired(
            &settings(&name, "vxlan", |_| {}),
            &view,
            &facts(&nodes[own], VXLAN_LINK, &[], &view),
        )
        .unwrap();
        assert!(
            desired.problems[0].text.starts_with(text),
            "{:?}",
            desired.problems
        );
        assert_eq!(routes(&desired).len(), 0);
    }
}

#[test]
fn a_link_too_small_for_ipv6_inside_the_tunnel_is_told_and_a_set_mtu_wins() {
    let nodes = three();
    let view = cluster(&nodes);
    let mut facts = facts(&nodes[0], VXLAN_LINK, &ON_LINK, &view);
    facts.links.get_mut(&2).unwrap().mtu = 1300;
    let desired = compute_desired(&settings("n1", "vxlan", |_| {}), &view, &facts).unwrap();
    assert_eq!(desired.mtu, Some(1250));
    assert!(
        desired.problems[0].text.contains("IPv6 needs 1280"),
        "{:?}",
        desired.problems
    );
    let fixed = settings("n1", "vxlan", |raw| raw.mtu = Some("1290".into()));
    let desired = compute_desired(&fixed, &view, &facts).unwrap();
    assert_eq!(desired.mtu, Some(1290));
    assert_eq!(
        desired.tunnel.unwrap().spec.mtu,
        1250,
        "what fits is what the link leaves"
    );
}

#[test]
fn macs_are_local_unicast_and_link_locals_are_theirs() {
    let v4 = compute_mac("10.0.0.9".parse().unwrap());
    let v6 = compute_mac("2001:db8::9".parse().unwrap());
    for mac in [v4, v6] {
        assert_eq!(mac[0] & 3, 2, "{mac:?}");
    }
    assert_ne!(v4[0], v6[0]);
    assert_eq!(link_local(v4).to_string(), "fe80::3032:aff:fe00:9");
}

// ===== two nodes always agree =====

fn any_node(number: u8) -> impl Strategy<Value = NodeView> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(move |(v4, v6, v6_first)| {
        let mut addresses = Vec::new();
        if v4 {
            addresses.push(format!("192.0.2.{number}"));
        }
        if v6 {
            addresses.push(format!("2001:db8::{number}"));
        }
        if v6_first {
            addresses.reverse();
        }
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        node(number, &addresses)
    })
}

proptest! {
    /// What one end sends to is what the other end listens as: address, MAC, and a place in its set of peers.
    #[test]
    fn both_ends_of_a_tunnel_come_to_the_same(
        nodes in (any_node(1), any_node(2), any_node(3)).prop_map(|(a, b, c)| [a, b, c]),
        underlay in prop_oneof![Just("auto"), Just("ipv4"), Just("ipv6")],
        mode in prop_oneof![Just("vxlan"), Just("ipip")],
    ) {
        let view = cluster(&nodes);
        let wishes: Vec<Desired> = nodes
            .iter()
            .map(|own| {
                let settings = settings(&own.name, mode, |raw| raw.vxlan_underlay = Some(underlay.into()));
                let device = if mode == "ipip" { IPIP_LINK } else { VXLAN_LINK };
                compute_desired(&settings, &view, &facts(own, device, &[], &view)).unwrap()
            })
            .collect();
        for (own, wish) in nodes.iter().zip(&wishes) {
            for (peer, theirs) in nodes.iter().zip(&wishes).filter(|(peer, _)| peer.name != own.name) {
                let there = peer.pod_cidrs.iter().filter(|cidr| wish.routes.contains_key(&RouteKey::main(**cidr))).count();
                let back = own.pod_cidrs.iter().filter(|cidr| theirs.routes.contains_key(&RouteKey::main(**cidr))).count();
                prop_assert_eq!(there, back, "one way only between {} and {}", &own.name, &peer.name);
                if there == 0 || mode == "ipip" {
                    continue;
                }
                let Some(tunnel) = &theirs.tunnel else {
                    return Err(TestCaseError::fail("the peer has no tunnel"));
                };
                let TunnelKind::Vxlan { local, mac, .. } = tunnel.spec.kind else {
                    return Err(TestCaseError::fail("no VXLAN"));
                };
                let entry = Entry::Forwarding { mac, node: local };
                let ours = wish.tunnel.as_ref().unwrap();
                prop_assert_eq!(ours.entries.get(&entry.key()), Some(&entry));
                let TunnelKind::Vxlan { local: source, .. } = ours.spec.kind else {
                    return Err(TestCaseError::fail("no VXLAN"));
                };
                prop_assert!(tunnel.peers.contains(&source));
                prop_assert_eq!(source.is_ipv6(), local.is_ipv6());
            }
        }
    }
}
