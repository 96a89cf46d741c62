//! Golden files: whole scripts. UPDATE_GOLDEN=1 writes them anew; the suite netfilter_backends loads each into a real
//! kernel, by both flavours.

use super::*;
use crate::iptables::saved::parse_saved;
use crate::nft::render::tests::{compare, three_nodes};

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
