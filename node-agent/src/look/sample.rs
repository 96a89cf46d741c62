//! A healthy node with one peer and one pod, as a value: where the tests of the pure parts begin.

use super::Look;
use super::addresses::RangeUsage;
use super::agent::AgentLook;
use super::conflist::ConflistLook;
use super::nodes::NodesSource;
use crate::desired::compute_desired;
use crate::facts::Facts;
use crate::report::AgentReport;
use crate::settings::raw::RawSettings;
use crate::settings::{Settings, Surroundings};
use crate::view::{ClusterView, NodeView};
use dataplane::link::LinkInfo;
use dataplane::names::ROUTE_PROTOCOL;
use dataplane::route::{RouteInfo, RouteKey, RouteLookup, RouteSpec};
use node_state::oplog::Operation;
use node_state::record::{
    AttachmentKey, AttachmentRecord, HostPort, NetnsId, PodRef, PortProtocol,
};

/// The moment of the look.
pub(crate) const NOW_MS: u64 = 1_763_719_200_000;
/// The pod's link.
pub(crate) const POD_LINK: &str = "s32aaaaaaaaaaaa";

/// The defaults, for node1.
pub(crate) fn settings() -> Settings {
    let raw = RawSettings {
        node_name: Some("node1".into()),
        ..RawSettings::default()
    };
    Settings::from_raw(raw, &Surroundings::default()).unwrap()
}

/// node1 (192.0.2.1) with the pod lab/web, and its peer node2.
pub(crate) fn look() -> Look {
    let links = vec![link(1, "lo", None, 65_536), link(2, "eth0", None, 1500), {
        let mut pod = link(7, POD_LINK, Some("veth"), 1500);
        pod.peer_index = Some(2);
        pod
    }];
    let addresses = [
        (1, "127.0.0.1/8".parse().unwrap()),
        (2, "192.0.2.1/24".parse().unwrap()),
    ];
    let mut facts = Facts::new(links.clone(), addresses);
    let way = RouteLookup {
        dev: 2,
        via: None,
        src: Some("192.0.2.1".parse().unwrap()),
        local: false,
        mtu: None,
    };
    facts.ways.insert("192.0.2.2".parse().unwrap(), Ok(way));
    let view = ClusterView {
        nodes: vec![
            node("node1", "10.244.1.0/24", "192.0.2.1"),
            node("node2", "10.244.2.0/24", "192.0.2.2"),
        ],
        problems: Vec::new(),
    };
    let wish = compute_desired(&settings(), &view, &facts);
    let mut routes: Vec<RouteInfo> = wish
        .iter()
        .flat_map(|desired| desired.routes.values().cloned())
        .map(own)
        .collect();
    let to_pod = RouteKey::main("10.244.1.1/32".parse().unwrap());
    routes.push(own(RouteSpec::on_link(to_pod, 7)));
    Look {
        at_ms: NOW_MS,
        node_name: "node1".into(),
        links,
        facts,
        routes,
        records: vec![record()],
        old_records: Vec::new(),
        agent: AgentLook::Running(Box::new(AgentReport {
            version: "0.1.0".into(),
            uptime_s: 192,
            ready: true,
            ..AgentReport::default()
        })),
        nodes_source: NodesSource::File,
        view: Some(view),
        wish: Some(wish),
        backend: crate::netfilter::choose::Backend::Nftables,
        table: Some(true),
        conflist: Some(ConflistLook {
            mtu: Some(1500),
            ipam: serde_json::Map::new(),
            text: "{}".into(),
        }),
        usage: vec![RangeUsage {
            range: "10.244.1.0/24".into(),
            used: 1,
            free: 253,
            cooling: 3,
        }],
        operations: vec![operation("ADD", 60_000, 0, "")],
        blind: Vec::new(),
    }
}

/// A link that is up.
pub(crate) fn link(index: u32, name: &str, kind: Option<&str>, mtu: u32) -> LinkInfo {
    LinkInfo {
        index,
        name: name.into(),
        kind: kind.map(str::to_owned),
        mac: None,
        mtu,
        up: true,
        alias: None,
        peer_index: None,
        peer_netns_id: None,
        tunnel: None,
    }
}

/// A route of ours, as the kernel shows it.
pub(crate) fn own(spec: RouteSpec) -> RouteInfo {
    RouteInfo {
        spec,
        protocol: ROUTE_PROTOCOL,
        scope: 0,
        usable: true,
    }
}

/// One Node.
pub(crate) fn node(name: &str, cidr: &str, address: &str) -> NodeView {
    NodeView {
        name: name.into(),
        pod_cidrs: [cidr.parse().unwrap()].into(),
        addresses: [address.parse().unwrap()].into(),
    }
}

/// lab/web with host port 8080.
pub(crate) fn record() -> AttachmentRecord {
    AttachmentRecord {
        key: AttachmentKey {
            network: "slash32".into(),
            container_id: "0123456789abcdef".into(),
            ifname: "eth0".into(),
        },
        boot_id: "boot".into(),
        netns: NetnsId {
            path: "/run/netns/web".into(),
            dev: 4,
            ino: 5,
        },
        host_link: POD_LINK.into(),
        addresses: vec!["10.244.1.1/32".parse().unwrap()],
        host_ports: vec![HostPort {
            host_ip: None,
            host_port: 8080,
            protocol: PortProtocol::Tcp,
            pod_ip: "10.244.1.1".parse().unwrap(),
            container_port: 80,
        }],
        shaped: false,
        mtu: Some(1500),
        mac: None,
        pod: Some(PodRef {
            namespace: "lab".into(),
            name: "web".into(),
            uid: "u".into(),
        }),
        ipam_type: "slash32-ipam".into(),
        ipam_data_dir: None,
        created_ms: NOW_MS - 60_000,
    }
}

/// So many milliseconds ago.
pub(crate) fn operation(command: &str, ago_ms: u64, code: u32, error: &str) -> Operation {
    Operation {
        at_ms: NOW_MS - ago_ms,
        command: command.into(),
        network: "slash32".into(),
        container_id: "0123456789abcdef".into(),
        ifname: "eth0".into(),
        duration_us: 1350,
        code,
        error: error.into(),
    }
}
