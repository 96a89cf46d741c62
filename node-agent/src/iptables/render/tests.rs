//! Golden files: whole scripts. UPDATE_GOLDEN=1 writes them anew; the suite netfilter_backends loads each into a real
//! kernel, by both flavours.

use super::*;
use crate::desired::tunnel::TunnelFilter;
use crate::iptables::saved::parse_saved;
use crate::nft::render::tests::{compare, three_nodes};
use std::net::IpAddr;

#[test]
fn both_families_of_three_dual_stack_nodes_are_the_golden_ones() {
    for (name, v6) in [
        ("dual-stack.iptables", false),
        ("dual-stack.ip6tables", true),
    ] {
        compare(name, &render_rules(&three_nodes(), v6, &Saved::default()));
    }
}

#[test]
fn without_masquerade_and_anti_spoofing_it_is_the_golden_one() {
    let model = TableModel::default();
    compare(
        "bare.iptables",
        &render_rules(&model, false, &Saved::default()),
    );
}

#[test]
fn tunnels_are_the_golden_ones() {
    let peers: Vec<IpAddr> = ["192.0.2.2", "192.0.2.3", "2001:db8::2"]
        .map(|ip| ip.parse().unwrap())
        .to_vec();
    let with = |tunnel| TableModel {
        tunnel: Some(tunnel),
        tunnel_peers: peers.clone(),
        ..TableModel::default()
    };
    let vxlan = with(TunnelFilter::Vxlan {
        port: 8472,
        vni: 3232,
    });
    let ipip = with(TunnelFilter::Ipip {
        local: Some("192.0.2.1".parse().unwrap()),
        others: vec!["198.51.100.7".parse().unwrap()],
    });
    for (name, model, v6) in [
        ("vxlan.iptables", &vxlan, false),
        ("vxlan.ip6tables", &vxlan, true),
        ("ipip.iptables", &ipip, false),
    ] {
        compare(name, &render_rules(model, v6, &Saved::default()));
    }
    assert!(!render_rules(&ipip, true, &Saved::default()).contains("mangle"));
}

#[test]
fn a_tunnel_that_is_off_leaves_no_rules() {
    let left = "*mangle\n:SLASH32-TUNNEL - [0:0]\n-A INPUT -p 4 -j SLASH32-TUNNEL\nCOMMIT\n";
    let text = render_rules(&TableModel::default(), false, &parse_saved(left));
    assert!(
        text.contains("*mangle\n-D INPUT -p 4 -j SLASH32-TUNNEL\n-F SLASH32-TUNNEL\n-X SLASH32-TUNNEL\nCOMMIT\n"),
        "{text}"
    );
}

/// What a former agent, or somebody's hand, left.
const LEFT: &str = "\
*nat
:PREROUTING ACCEPT [0:0]
:SLASH32-HOSTPORTS - [0:0]
:SLASH32-OLD - [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A PREROUTING -m addrtype --dst-type LOCAL -m comment --comment \"Slash32: host ports of pods\" -j SLASH32-HOSTPORTS
-A PREROUTING -i eth1 -j SLASH32-OLD
-A SLASH32-HOSTPORTS -p tcp -m tcp --dport 1 -j DNAT --to-destination 10.244.0.5:1
COMMIT
";

#[test]
fn what_was_there_of_ours_is_replaced_in_the_same_transaction() {
    compare(
        "replaced.iptables",
        &render_rules(&three_nodes(), false, &parse_saved(LEFT)),
    );
}

#[test]
fn a_removal_takes_ways_in_first_and_nothing_of_others() {
    let text = render_removal(&parse_saved(LEFT));
    assert_eq!(
        text,
        "*nat\n\
         -D PREROUTING -m addrtype --dst-type LOCAL -m comment --comment \"Slash32: host ports of pods\" -j SLASH32-HOSTPORTS\n\
         -D PREROUTING -i eth1 -j SLASH32-OLD\n\
         -F SLASH32-HOSTPORTS\n\
         -F SLASH32-OLD\n\
         -X SLASH32-HOSTPORTS\n\
         -X SLASH32-OLD\n\
         COMMIT\n"
    );
    assert_eq!(render_removal(&parse_saved("")), "");
}
