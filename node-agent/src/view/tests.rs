//! Nodes good and bad.

use super::*;
use crate::nodes::{RawAddress, RawMetadata, RawSpec, RawStatus};

fn raw(name: &str, cidrs: &[&str], addresses: &[&str]) -> RawNode {
    RawNode {
        kind: None,
        metadata: RawMetadata {
            name: Some(name.into()),
        },
        spec: RawSpec {
            pod_cidr: None,
            pod_cidrs: cidrs.iter().map(|cidr| (*cidr).into()).collect(),
        },
        status: RawStatus {
            addresses: addresses
                .iter()
                .map(|address| RawAddress {
                    kind: "InternalIP".into(),
                    address: (*address).into(),
                })
                .collect(),
        },
    }
}

fn problems(nodes: &[RawNode]) -> Vec<String> {
    ClusterView::from_nodes(nodes)
        .problems
        .into_iter()
        .map(|problem| problem.text)
        .collect()
}

#[test]
fn a_sound_cluster_has_no_problems_and_is_sorted() {
    let view = ClusterView::from_nodes(&[
        raw(
            "b",
            &["10.244.1.0/24", "fd00:1::/64"],
            &["192.0.2.2", "2001:db8::2"],
        ),
        raw(
            "a",
            &["10.244.0.0/24", "fd00::/64"],
            &["192.0.2.1", "2001:db8::1"],
        ),
    ]);
    assert_eq!(view.problems, []);
    assert_eq!(view.nodes[0].name.as_ref(), "a");
    assert_eq!(
        view.find("b").unwrap().address_of_family(true),
        Some("2001:db8::2".parse().unwrap())
    );
    assert_eq!(view.find("c"), None);
}

#[test]
fn the_order_of_the_source_does_not_matter() {
    let (a, b) = (
        raw("a", &["10.0.0.0/24"], &["192.0.2.1"]),
        raw("b", &["10.0.0.0/24"], &["192.0.2.2"]),
    );
    assert_eq!(
        ClusterView::from_nodes(&[a.clone(), b.clone()]),
        ClusterView::from_nodes(&[b, a])
    );
}

#[test]
fn pod_cidr_alone_is_enough() {
    let mut node = raw("a", &[], &["192.0.2.1"]);
    node.spec.pod_cidr = Some("10.244.0.0/24".into());
    assert_eq!(ClusterView::from_nodes(&[node]).nodes[0].pod_cidrs.len(), 1);
}

#[test]
fn only_internal_addresses_count() {
    let mut node = raw("a", &["10.244.0.0/24"], &["192.0.2.1"]);
    node.status.addresses.insert(
        0,
        RawAddress {
            kind: "ExternalIP".into(),
            address: "203.0.113.1".into(),
        },
    );
    node.status.addresses.push(RawAddress {
        kind: "Hostname".into(),
        address: "a".into(),
    });
    let view = ClusterView::from_nodes(&[node]);
    assert_eq!(
        view.nodes[0].addresses.as_ref(),
        ["192.0.2.1".parse::<IpAddr>().unwrap()]
    );
    assert_eq!(view.problems, []);
}

#[test]
fn each_flaw_is_told_and_the_others_go_on() {
    let good = raw("good", &["10.244.9.0/24"], &["192.0.2.9"]);
    let cases = [
        (raw("n", &[], &["192.0.2.1"]), "node n has no podCIDR"),
        (
            raw("n", &["10.244.0.0/24"], &[]),
            "node n has podCIDR 10.244.0.0/24 but no InternalIP",
        ),
        (
            raw("n", &["10.244.0.0/24", "fd00::/64"], &["192.0.2.1"]),
            "fd00::/64 but no InternalIP of that family",
        ),
        (
            raw("n", &["10.244.0.5/24"], &["192.0.2.1"]),
            "did you mean 10.244.0.0/24?",
        ),
        (raw("n", &["pods"], &["192.0.2.1"]), "\"pods\""),
        (raw("n", &["0.0.0.0/0"], &["192.0.2.1"]), "everything"),
        (
            raw("n", &["10.244.0.0/24", "10.244.1.0/24"], &["192.0.2.1"]),
            "second podCIDR 10.244.1.0/24",
        ),
        (
            raw("n", &["10.244.0.0/24"], &["127.0.0.1"]),
            "\"127.0.0.1\" is not an address of a node",
        ),
        (
            raw("n", &["10.244.0.0/24"], &["fe80::1", "192.0.2.1"]),
            "\"fe80::1\"",
        ),
        (
            raw("n", &["10.244.0.0/24"], &["example", "192.0.2.1"]),
            "\"example\"",
        ),
        (
            raw("", &["10.244.0.0/24"], &["192.0.2.1"]),
            "no metadata.name",
        ),
        (
            raw("n", &["192.0.2.0/24"], &["198.51.100.1"]),
            "holds the address 192.0.2.9 of node good",
        ),
    ];
    for (bad, words) in cases {
        let view = ClusterView::from_nodes(&[good.clone(), bad]);
        assert!(
            view.problems
                .iter()
                .any(|problem| problem.text.contains(words)),
            "{words}: {:?}",
            view.problems
        );
        assert_eq!(view.find("good").unwrap().pod_cidrs.len(), 1, "{words}");
    }
}

#[test]
fn of_two_nodes_with_one_pod_cidr_the_first_by_name_keeps_it() {
    let view = ClusterView::from_nodes(&[
        raw("z", &["10.244.0.0/24"], &["192.0.2.1"]),
        raw("a", &["10.244.0.0/24"], &["192.0.2.2"]),
    ]);
    assert_eq!(view.find("a").unwrap().pod_cidrs.len(), 1);
    assert_eq!(view.find("z").unwrap().pod_cidrs.len(), 0);
    assert!(
        view.problems[0]
            .text
            .contains("node z: podCIDR 10.244.0.0/24 overlaps 10.244.0.0/24 of node a")
    );
}

#[test]
fn overlaps_are_found_whichever_is_the_wider() {
    for (first, second) in [
        ("10.244.0.0/16", "10.244.7.0/24"),
        ("10.244.7.0/24", "10.244.0.0/16"),
    ] {
        let nodes = [
            raw("a", &[first], &["192.0.2.1"]),
            raw("b", &[second], &["192.0.2.2"]),
        ];
        assert_eq!(problems(&nodes).len(), 1, "{first} {second}");
    }
    let between = [
        raw("a", &["10.244.0.0/24"], &["192.0.2.1"]),
        raw("b", &["10.244.255.0/24"], &["192.0.2.2"]),
        raw("c", &["10.244.0.0/16"], &["192.0.2.3"]),
    ];
    assert!(problems(&between)[0].contains("node c"));
}

#[test]
fn a_node_that_is_there_twice_is_told() {
    let twice = [
        raw("a", &["10.244.0.0/24"], &["192.0.2.1"]),
        raw("a", &["10.244.1.0/24"], &["192.0.2.1"]),
    ];
    let view = ClusterView::from_nodes(&twice);
    assert!(view.problems[0].text.contains("twice"));
    assert_eq!(view.nodes[0].pod_cidrs[0].to_string(), "10.244.1.0/24");
}

#[test]
fn an_address_of_two_nodes_is_told() {
    let nodes = [
        raw("a", &["10.244.0.0/24"], &["192.0.2.1"]),
        raw("b", &["10.244.1.0/24"], &["192.0.2.1"]),
    ];
    assert_eq!(
        problems(&nodes),
        ["nodes a and b both have the InternalIP 192.0.2.1"]
    );
}
