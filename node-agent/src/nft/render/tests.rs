//! Golden files: the whole table as text. UPDATE_GOLDEN=1 writes them anew; tests/kernel.rs loads each into a real kernel.

use super::*;

fn cidrs(list: &[&str]) -> Vec<IpNetwork> {
    crate::cidr::merge(list.iter().map(|text| text.parse().unwrap()).collect())
}

fn port(
    host_ip: Option<&str>,
    protocol: u8,
    host_port: u16,
    pod: &str,
    container_port: u16,
) -> (PortKey, PortEntry) {
    let pod_ip: IpAddr = pod.parse().unwrap();
    let key = PortKey {
        host_ip: host_ip.map(|ip| ip.parse().unwrap()),
        protocol,
        host_port,
        v6: pod_ip.is_ipv6(),
    };
    (
        key.clone(),
        PortEntry {
            key,
            pod_ip,
            container_port,
        },
    )
}

pub(crate) fn three_nodes() -> TableModel {
    TableModel {
        anti_spoofing: true,
        masquerade: true,
        own: cidrs(&["10.244.0.0/24", "fd00:10:244::/64"]),
        cluster: cidrs(&[
            "10.244.0.0/24",
            "10.244.1.0/24",
            "10.244.2.0/24",
            "192.0.2.1",
            "192.0.2.2",
            "192.0.2.3",
            "198.51.100.0/24",
            "fd00:10:244::/64",
            "fd00:10:244:1::/64",
            "fd00:10:244:2::/64",
            "2001:db8::1",
            "2001:db8::2",
            "2001:db8::3",
        ]),
        tunnel: None,
        tunnel_peers: Vec::new(),
        ports: BTreeMap::from([
            port(None, 6, 8080, "10.244.0.5", 80),
            port(None, 17, 53, "10.244.0.6", 5353),
            port(None, 132, 9000, "10.244.0.6", 9000),
            port(Some("192.0.2.1"), 6, 8443, "10.244.0.5", 443),
            port(None, 6, 8080, "fd00:10:244::5", 80),
            port(Some("2001:db8::1"), 6, 8443, "fd00:10:244::5", 443),
        ]),
    }
}

pub(crate) fn compare(name: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert!(
        golden == text,
        "{name} differs; UPDATE_GOLDEN=1 writes it anew. Now:\n{text}"
    );
}

#[test]
fn an_empty_table_is_the_golden_one() {
    let model = TableModel {
        anti_spoofing: true,
        masquerade: true,
        ..TableModel::default()
    };
    compare("empty.nft", &render_table(&model));
}

#[test]
fn three_dual_stack_nodes_with_host_ports_are_the_golden_one() {
    compare("dual-stack.nft", &render_table(&three_nodes()));
}

#[test]
fn ipv4_alone_without_masquerade_and_anti_spoofing_is_the_golden_one() {
    let model = TableModel {
        anti_spoofing: false,
        masquerade: false,
        cluster: cidrs(&["10.244.0.0/16", "192.0.2.1"]),
        tunnel: None,
        tunnel_peers: Vec::new(),
        ports: BTreeMap::from([port(None, 6, 80, "10.244.0.2", 8080)]),
        ..TableModel::default()
    };
    compare("ipv4-only.nft", &render_table(&model));
}

fn with_tunnel(filter: TunnelFilter) -> TableModel {
    TableModel {
        tunnel: Some(filter),
        tunnel_peers: ["192.0.2.2", "192.0.2.3", "2001:db8::2", "2001:db8::3"]
            .map(|ip| ip.parse().unwrap())
            .to_vec(),
        ..three_nodes()
    }
}

#[test]
fn tunnels_are_the_golden_ones() {
    let vxlan = with_tunnel(TunnelFilter::Vxlan {
        port: 4789,
        vni: 3232,
    });
    compare("vxlan.nft", &render_table(&vxlan));
    let local = Some("192.0.2.1".parse().unwrap());
    let others = vec!["198.51.100.7".parse().unwrap()];
    let ipip = with_tunnel(TunnelFilter::Ipip { local, others });
    compare("ipip.nft", &render_table(&ipip));
}

#[test]
fn a_change_of_nodes_changes_the_peers_of_a_tunnel_too() {
    let model = with_tunnel(TunnelFilter::Ipip {
        local: None,
        others: Vec::new(),
    });
    let text = render_cluster_update(&model);
    assert!(
        text.contains("flush set inet slash32 tunnel-peers4\nadd element inet slash32 tunnel-peers4 {\n\t192.0.2.2,"),
        "{text}"
    );
}

#[test]
fn a_change_of_nodes_is_the_golden_one_and_touches_no_map() {
    let text = render_cluster_update(&three_nodes());
    assert!(!text.contains("hostports") && !text.contains("table"));
    compare("nodes-changed.nft", &text);
}

#[test]
fn a_change_to_no_nodes_only_flushes() {
    let text = render_cluster_update(&TableModel::default());
    assert_eq!(
        text,
        "flush set inet slash32 cluster4\nflush set inet slash32 cluster6\n"
    );
}
