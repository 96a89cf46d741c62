//! Which connections go and, above all, which stay. `local` is 192.0.2.1; the pod 10.1.0.5:80 has host port 443.

use super::*;
use crate::hostport::PortKey;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn entry(host_ip: Option<&str>) -> PortEntry {
    let key = PortKey {
        host_ip: host_ip.map(ip),
        protocol: 6,
        host_port: 443,
        v6: false,
    };
    PortEntry {
        key,
        pod_ip: ip("10.1.0.5"),
        container_port: 80,
    }
}

/// From a client to `dst`, answered by `server`.
fn flow(dst: &str, dst_port: u16, server: &str, server_port: u16) -> Flow {
    let client = ip("198.51.100.7");
    let translated = (dst, dst_port) != (server, server_port);
    Flow {
        family: AF_INET,
        original: Tuple {
            src: client,
            dst: ip(dst),
            protocol: 6,
            src_port: 5555,
            dst_port,
        },
        reply: Tuple {
            src: ip(server),
            dst: client,
            protocol: 6,
            src_port: server_port,
            dst_port: 5555,
        },
        status: if translated { STATUS_DST_NAT } else { 0 },
        raw_tuple: vec![],
        raw_id: vec![],
        raw_zone: None,
    }
}

fn stale(flow: &Flow, host_ip: Option<&str>) -> bool {
    is_stale(flow, &entry(host_ip), &[ip("192.0.2.1"), ip("192.0.2.2")])
}

#[test]
fn a_connection_to_a_former_owner_is_stale() {
    assert!(stale(&flow("192.0.2.1", 443, "10.1.0.9", 80), None));
    assert!(stale(&flow("127.0.0.1", 443, "10.1.0.9", 80), None));
}

#[test]
fn a_connection_that_was_never_translated_is_stale() {
    assert!(stale(&flow("192.0.2.1", 443, "192.0.2.1", 443), None));
}

#[test]
fn a_connection_that_leads_to_the_pod_stays() {
    assert!(!stale(&flow("192.0.2.1", 443, "10.1.0.5", 80), None));
}

#[test]
fn a_pods_masqueraded_connection_to_somebody_elses_443_stays() {
    let mut out = flow("203.0.113.9", 443, "203.0.113.9", 443);
    out.original.src = ip("10.1.0.9");
    out.reply.dst = ip("192.0.2.1");
    assert!(!stale(&out, None));
    assert!(!is_released(&out, &entry(None)));
}

#[test]
fn the_nodes_own_connection_to_somebody_elses_443_stays() {
    let mut out = flow("203.0.113.9", 443, "203.0.113.9", 443);
    out.original.src = ip("192.0.2.1");
    assert!(!stale(&out, None));
}

#[test]
fn another_address_port_or_protocol_stays() {
    assert!(!stale(
        &flow("192.0.2.2", 443, "10.1.0.9", 80),
        Some("192.0.2.1")
    ));
    assert!(!stale(&flow("192.0.2.1", 444, "10.1.0.9", 80), None));
    let mut udp = flow("192.0.2.1", 443, "10.1.0.9", 80);
    udp.original.protocol = 17;
    assert!(!stale(&udp, None));
}

#[test]
fn only_what_was_translated_to_this_pods_port_is_released() {
    assert!(is_released(
        &flow("192.0.2.1", 443, "10.1.0.5", 80),
        &entry(None)
    ));
    assert!(
        !is_released(&flow("192.0.2.1", 443, "10.1.0.9", 80), &entry(None)),
        "another pod"
    );
    assert!(
        !is_released(&flow("192.0.2.1", 443, "10.1.0.5", 81), &entry(None)),
        "another port of the pod"
    );
    assert!(
        !is_released(&flow("192.0.2.1", 80, "10.1.0.5", 80), &entry(None)),
        "another host port"
    );
    let mut direct = flow("10.1.0.5", 443, "10.1.0.5", 80);
    direct.status = 0;
    assert!(!is_released(&direct, &entry(None)), "not translated");
}

#[test]
#[cfg(target_endian = "little")]
fn the_kernels_filter_names_protocol_and_port_only() {
    let mut out = Vec::new();
    Filter::to_host_port(&entry(None)).put(&mut out);
    let tuple = [
        24, 0, 1, 0x80, 20, 0, 2, 0x80, 5, 0, 1, 0, 6, 0, 0, 0, 6, 0, 3, 0, 1, 0xbb, 0, 0,
    ];
    let flags = [
        20, 0, 25, 0x80, 8, 0, 1, 0, 0x28, 0, 0, 0, 8, 0, 2, 0, 0, 0, 0, 0,
    ];
    assert_eq!(out, [&tuple[..], &flags].concat());
}
