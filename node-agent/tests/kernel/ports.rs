//! The nftables table: laid, kept, its elements those of the records; leaks.

use crate::Case;
use crate::node::{Node, sh, wait_for};
use dataplane::hostport::{Nfnetlink, PortEntry, PortKey};
use ipam::{Holder, Ipam, IpamConfig};
use std::net::IpAddr;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(3);

pub(crate) fn cases() -> Vec<Case> {
    let case = |name, body| Case {
        name,
        needs: &["ip", "nft"],
        body,
    };
    vec![
        case("every_golden_table_loads", every_golden_table_loads),
        case(
            "elements_come_from_the_records",
            elements_come_from_the_records,
        ),
        case(
            "a_torn_record_is_told_and_hides_no_other",
            a_torn_record_is_told_and_hides_no_other,
        ),
        case(
            "a_flushed_ruleset_is_laid_again_with_its_elements",
            a_flushed_ruleset_is_laid_again,
        ),
        case(
            "changed_elements_are_put_right",
            changed_elements_are_put_right,
        ),
        case("a_changed_rule_is_put_right", a_changed_rule_is_put_right),
        case(
            "foreign_tables_are_left_alone",
            foreign_tables_are_left_alone,
        ),
        case(
            "records_and_claims_without_a_pod_are_freed",
            records_and_claims_without_a_pod_are_freed,
        ),
        Case {
            name: "pods_may_not_spoof_and_link_local_works",
            needs: &["ip", "nft", "ping"],
            body: pods_may_not_spoof,
        },
    ]
}

fn entry(host_port: u16, pod: &str) -> PortEntry {
    let pod_ip: IpAddr = pod.parse().expect("address");
    PortEntry {
        key: PortKey {
            host_ip: None,
            protocol: 6,
            host_port,
            v6: pod_ip.is_ipv6(),
        },
        pod_ip,
        container_port: 80,
    }
}

fn ports() -> Vec<PortEntry> {
    let mut ports = Nfnetlink::open()
        .expect("nfnetlink")
        .list_host_ports()
        .unwrap_or_default();
    ports.sort_by_key(|entry| entry.pod_ip);
    ports
}

fn every_golden_table_loads() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for table in [
        "empty.nft",
        "ipv4-only.nft",
        "dual-stack.nft",
        "dual-stack.nft",
        "nodes-changed.nft",
    ] {
        sh(&format!("nft -f {}", folder.join(table).display()));
    }
    assert!(
        sh("nft list map inet slash32 hostports4-any").contains("sctp . 9000"),
        "the maps outlive a change of Nodes"
    );
}

fn elements_come_from_the_records() {
    let node = Node::new();
    node.add_pod("x", "10.244.0.5");
    node.add_pod("y", "fd00:244::6");
    node.write_record("gone", "10.244.0.7");
    node.converge();
    assert_eq!(
        ports(),
        [entry(8085, "10.244.0.5"), entry(8086, "fd00:244::6")]
    );
}

fn a_torn_record_is_told_and_hides_no_other() {
    let node = Node::new();
    node.add_pod("x", "10.244.0.5");
    std::fs::write(node.path("run/attachments/abcdefghijkl"), "{").expect("write");
    let (code, log) = node.once();
    assert!(code == 1 && log.contains("abcdefghijkl"), "{log}");
    assert_eq!(ports(), [entry(8085, "10.244.0.5")]);
    assert!(node.conflist().exists(), "the node's network works");
}

fn a_flushed_ruleset_is_laid_again() {
    let node = Node::new();
    node.add_pod("x", "10.244.0.5");
    let _agent = node.start();
    let before = sh("nft list table inet slash32");
    sh("nft flush ruleset");
    wait_for("the table", PATIENCE, || {
        ports() == [entry(8085, "10.244.0.5")]
    });
    assert_eq!(sh("nft list table inet slash32"), before);
}

fn changed_elements_are_put_right() {
    let node = Node::new();
    node.add_pod("x", "10.244.0.5");
    let _agent = node.start();
    let good = [entry(8085, "10.244.0.5")];
    sh("nft delete element inet slash32 hostports4-any '{ tcp . 8085 }'");
    wait_for("the missing element", PATIENCE, || ports() == good);
    sh("nft add element inet slash32 hostports4-any '{ tcp . 99 : 10.244.0.99 . 80 }'");
    wait_for("the stale element", PATIENCE, || ports() == good);
    sh("nft delete element inet slash32 hairpin4 '{ 10.244.0.5 . 10.244.0.5 }'");
    wait_for("the hairpin element", PATIENCE, || {
        sh("nft list set inet slash32 hairpin4").contains("10.244.0.5")
    });
}

fn a_changed_rule_is_put_right() {
    let node = Node::new();
    let _agent = node.start();
    let before = sh("nft list table inet slash32");
    sh("nft flush chain inet slash32 from-pod");
    wait_for("the rules", PATIENCE, || {
        sh("nft list table inet slash32") == before
    });
    sh("nft insert rule inet slash32 hostports accept");
    wait_for("the rules", PATIENCE, || {
        sh("nft list table inet slash32") == before
    });
}

fn foreign_tables_are_left_alone() {
    let node = Node::new();
    sh("nft add table inet other; nft add chain inet other c; nft add rule inet other c accept");
    let before = sh("nft list table inet other");
    node.converge();
    node.converge();
    assert_eq!(sh("nft list table inet other"), before);
}

fn records_and_claims_without_a_pod_are_freed() {
    let node = Node::new();
    let alive = node.add_pod("alive", "10.244.0.5");
    let gone = node.write_record("gone", "10.244.0.6");
    let ipam = Ipam::open(node.state().ipam_dir(), "slash32", Holder::Slash32);
    let foreign = Ipam::open(node.state().ipam_dir(), "slash32", Holder::Standalone);
    let object = serde_json::json!({"ranges": [[{"subnet": "10.244.0.0/24"}]]});
    let config = IpamConfig::parse(object.as_object().expect("object"), None).expect("config");
    let orphan = node_state::record::AttachmentKey {
        container_id: "orphan".into(),
        ..gone.key.clone()
    };
    let other = node_state::record::AttachmentKey {
        container_id: "other".into(),
        ..gone.key.clone()
    };
    for (store, key) in [
        (&ipam, &alive.key),
        (&ipam, &gone.key),
        (&ipam, &orphan),
        (&foreign, &other),
    ] {
        store.allocate(key, &config, &[]).expect("claim");
    }
    node.converge();
    assert_eq!(
        ipam.claims().expect("claims").len(),
        4,
        "not before the grace period"
    );
    let (code, log) =
        crate::node::finish(
            node.agent("run")
                .args(["--once", "--leak-grace-period", "0s"]),
        );
    assert_eq!(code, 0, "{log}");
    let mut owners: Vec<String> = ipam
        .claims()
        .expect("claims")
        .into_iter()
        .filter_map(|claim| claim.owner)
        .map(|key| key.container_id)
        .collect();
    owners.sort();
    assert_eq!(owners, ["alive", "other"]);
    assert!(
        node.state()
            .read_record(&gone.key)
            .expect("record")
            .is_none()
    );
    assert!(
        node.state()
            .read_record(&alive.key)
            .expect("record")
            .is_some()
    );
}

/// The pod's end in a namespace of its own, as the plugin makes it.
fn pods_may_not_spoof() {
    let node = Node::new();
    node.converge();
    let record = node.write_record("x", "10.244.0.5");
    let link = &record.host_link;
    let mut holder = std::process::Command::new("unshare")
        .args(["-n", "sleep", "60"])
        .spawn()
        .expect("unshare");
    let pod = holder.id();
    wait_for("the namespace", PATIENCE, || {
        std::fs::read_link(format!("/proc/{pod}/ns/net")).ok()
            != std::fs::read_link("/proc/self/ns/net").ok()
    });
    sh(&format!(
        "ip link add {link} address ee:ee:ee:ee:ee:ee type veth peer name eth0 netns {pod}
         ip link set {link} up
         ip route add 10.244.0.5 dev {link} proto 32
         ip -6 route add fd00:244::5 dev {link} proto 32
         nsenter -t {pod} -n sh -ec '
           ip link set lo up; ip link set eth0 up
           ip address add 10.244.0.5/32 dev eth0
           ip -6 address add fd00:244::5/128 dev eth0 nodad
           ip route add 169.254.1.1 dev eth0 scope link
           ip neigh add 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent
           ip route add default via 169.254.1.1
           ip -6 neigh add fe80::ecee:eeff:feee:eeee lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent
           ip -6 route add default via fe80::ecee:eeff:feee:eeee dev eth0'
         mac=$(nsenter -t {pod} -n ip -o link show eth0 | sed 's/.*ether \\([^ ]*\\).*/\\1/')
         ip neigh add 10.244.0.5 lladdr $mac dev {link} nud permanent
         ip -6 neigh add fd00:244::5 lladdr $mac dev {link} nud permanent"
    ));
    let inside = |line: &str| {
        let status = std::process::Command::new("nsenter")
            .args(["-t", &pod.to_string(), "-n", "sh", "-c", line])
            .stdout(std::process::Stdio::null())
            .status();
        status.expect("nsenter").success()
    };
    wait_for("IPv6 link-local", PATIENCE, || {
        inside("ping -6 -c1 -W1 fe80::ecee:eeff:feee:eeee%eth0")
    });
    assert!(inside("ping -c1 -W1 192.0.2.1"), "its own address");
    assert!(
        inside("ping -6 -c1 -W1 2001:db8::1"),
        "its own IPv6 address"
    );
    inside(
        "ip address add 10.244.0.66/32 dev eth0; ip -6 address add fd00:244::66/128 dev eth0 nodad",
    );
    assert!(
        !inside("ping -c1 -W1 -I 10.244.0.66 192.0.2.1"),
        "a stolen IPv4 address"
    );
    assert!(
        !inside("ping -6 -c1 -W1 -I fd00:244::66 2001:db8::1"),
        "a stolen IPv6 address"
    );
    holder.kill().expect("kill");
    holder.wait().expect("wait");
}
