//! Rules as kube-proxy, Docker and we ourselves write them.

use super::*;

const KUBE_PROXY: &str = include_str!("tests/kube-proxy.json");
const OWN: &str = include_str!("tests/slash32.json");

fn packet(from: &str, to: &str, port: u16) -> Packet {
    Packet {
        iif: Some("s32aaaaaaaaaaaa".into()),
        oif: None,
        from: from.parse().unwrap(),
        to: to.parse().unwrap(),
        protocol: "tcp",
        port: Some(port),
        mark: 0,
        to_local: false,
        way_back: true,
        dnat: false,
    }
}

fn saved(text: &str) -> Ruleset {
    let mut ruleset = Ruleset::default();
    save::add(&mut ruleset, text, false, "");
    ruleset
}

#[test]
fn a_service_of_kube_proxy_leads_to_any_of_its_endpoints() {
    let ruleset = Ruleset::parse(KUBE_PROXY).unwrap();
    let mut dns = packet("10.244.1.9", "10.96.0.10", 53);
    dns.protocol = "udp";
    let mut walk = Walk::new(&ruleset, dns);
    assert_eq!(walk.hook("prerouting"), End::Passed);
    let told: Vec<String> = walk.choices.iter().map(Target::to_string).collect();
    assert_eq!(told, ["10.244.1.2:53", "10.244.2.2:53"]);
    assert_eq!(walk.packet.to.to_string(), "10.244.1.2");
    assert_eq!(walk.packet.mark, 0, "a pod's own address stays");
    assert!(walk.unsure.is_empty(), "{:?}", walk.unsure);
}

#[test]
fn a_service_without_endpoints_ends_at_kube_proxys_reject() {
    let ruleset = Ruleset::parse(KUBE_PROXY).unwrap();
    let mut walk = Walk::new(&ruleset, packet("10.244.1.9", "10.96.0.20", 80));
    let End::Dropped(by) = walk.hook("prerouting") else {
        panic!("it passed")
    };
    assert!(by.contains("kube-proxy"), "{by}");
}

#[test]
fn a_client_from_outside_is_marked_and_masqueraded_by_kube_proxy() {
    let ruleset = Ruleset::parse(KUBE_PROXY).unwrap();
    let mut dns = packet("192.0.2.200", "10.96.0.10", 53);
    (dns.protocol, dns.iif) = ("udp", Some("eth0".into()));
    let mut walk = Walk::new(&ruleset, dns);
    walk.hook("prerouting");
    assert_eq!(walk.packet.mark, 0x4000);
    walk.packet.oif = Some("s32bbbbbbbbbbbb".into());
    walk.hook("postrouting");
    let (to, by) = walk.snat.unwrap();
    assert!(to.is_none() && by.contains("masquerading"), "{by}");
}

#[test]
fn our_own_table_forwards_host_ports_and_masquerades_what_leaves_the_cluster() {
    let ruleset = Ruleset::parse(OWN).unwrap();
    let mut walk = Walk::new(&ruleset, packet("192.0.2.200", "192.0.2.1", 8080));
    (walk.packet.iif, walk.packet.to_local) = (Some("eth0".into()), true);
    assert_eq!(walk.hook("prerouting"), End::Passed);
    assert_eq!(walk.dnat.unwrap().0.to_string(), "10.244.1.2:80");

    for (to, masqueraded) in [("198.51.100.10", true), ("10.244.2.7", false)] {
        let mut walk = Walk::new(&ruleset, packet("10.244.1.2", to, 80));
        walk.packet.oif = Some("eth0".into());
        assert_eq!(walk.hook("prerouting"), End::Passed);
        walk.hook("postrouting");
        assert_eq!(walk.snat.is_some(), masqueraded, "{to}");
        assert!(walk.unsure.is_empty(), "{:?}", walk.unsure);
    }
}

#[test]
fn a_pod_that_borrows_an_address_is_dropped_by_our_table() {
    let ruleset = Ruleset::parse(OWN).unwrap();
    let mut walk = Walk::new(&ruleset, packet("10.244.1.99", "10.244.2.7", 80));
    walk.packet.way_back = false;
    assert!(matches!(walk.hook("prerouting"), End::Dropped(by) if by.contains("slash32")));
}

#[test]
fn dockers_forward_chain_drops_pods_until_an_accept_is_there() {
    let docker = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:DOCKER-USER - [0:0]\n\
                  -A FORWARD -j DOCKER-USER\n-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
                  -A FORWARD -i docker0 ! -o docker0 -j ACCEPT\n-A DOCKER-USER -j RETURN\nCOMMIT\n";
    let forward = |text: &str| {
        let ruleset = saved(text);
        let mut walk = Walk::new(&ruleset, packet("10.244.1.2", "10.244.2.7", 80));
        walk.packet.oif = Some("eth0".into());
        walk.hook("forward")
    };
    let End::Dropped(by) = forward(docker) else {
        panic!("it passed")
    };
    assert!(by.contains("FORWARD (policy drop)"), "{by}");
    let cured = docker.replace(
        "-A DOCKER-USER -j RETURN",
        "-A DOCKER-USER -i s32+ -j ACCEPT",
    );
    assert_eq!(forward(&cured), End::Passed);
}

#[test]
fn kube_proxys_iptables_rules_are_followed_and_its_lot_is_told() {
    let text = "*nat\n:PREROUTING ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n\
        :KUBE-SVC-A - [0:0]\n:KUBE-SEP-1 - [0:0]\n:KUBE-SEP-2 - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n:KUBE-POSTROUTING - [0:0]\n\
        -A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
        -A POSTROUTING -j KUBE-POSTROUTING\n\
        -A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m comment --comment \"default/kubernetes:https cluster IP\" -m tcp --dport 443 -j KUBE-SVC-A\n\
        -A KUBE-SVC-A ! -s 10.244.0.0/16 -d 10.96.0.1/32 -p tcp -m tcp --dport 443 -j KUBE-MARK-MASQ\n\
        -A KUBE-SVC-A -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-1\n-A KUBE-SVC-A -j KUBE-SEP-2\n\
        -A KUBE-SEP-1 -p tcp -m tcp -j DNAT --to-destination 192.0.2.1:6443\n\
        -A KUBE-SEP-2 -p tcp -m tcp -j DNAT --to-destination 192.0.2.2:6443\n\
        -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n\
        -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN\n\
        -A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0\n-A KUBE-POSTROUTING -j MASQUERADE --random-fully\nCOMMIT\n";
    let ruleset = saved(text);
    let mut walk = Walk::new(&ruleset, packet("192.0.2.9", "10.96.0.1", 443));
    walk.hook("prerouting");
    let told: Vec<String> = walk.choices.iter().map(Target::to_string).collect();
    assert_eq!(told, ["192.0.2.1:6443"]);
    assert_eq!(walk.packet.to.to_string(), "192.0.2.2");
    assert_eq!(walk.packet.mark, 0x4000);
    walk.hook("postrouting");
    assert!(walk.snat.is_some());
    assert!(walk.unsure.is_empty(), "{:?}", walk.unsure);
}

#[test]
fn what_is_not_understood_is_told_and_not_guessed_at() {
    let text = "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -m bpf --bytecode x -j DROP\nCOMMIT\n";
    let ruleset = saved(text);
    let mut walk = Walk::new(&ruleset, packet("10.244.1.2", "10.244.2.7", 80));
    assert_eq!(walk.hook("forward"), End::Passed);
    assert_eq!(walk.unsure, ["table ip filter, chain FORWARD"]);
}
