//! Tracked connections of host ports: which go and which stay, counted by the real `conntrack` program.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use dataplane::conntrack::{flush_released, flush_stale};
use dataplane::hostport::{Nfnetlink, PortEntry, PortKey};
use dataplane::netlink::Netlink;

use crate::hostports::lay_table;
use crate::lab::{self, Case, Pod, run};

pub(crate) const TRIALS: &[Case] = &[
    (
        "conntrack::a_udp_client_follows_the_port_to_its_new_pod_x3",
        a_udp_client_follows_the_port_to_its_new_pod,
    ),
    (
        "conntrack::a_masqueraded_connection_to_the_same_port_elsewhere_stays",
        a_masqueraded_connection_stays,
    ),
    (
        "conntrack::many_ports_are_flushed_by_one_reading",
        many_ports_are_flushed_by_one_reading,
    ),
    (
        "conntrack::ipv6_entries_are_flushed_too",
        ipv6_entries_are_flushed_too,
    ),
];

const LOCAL: &str = "192.0.2.1";

fn udp(host_port: u16, pod: &str) -> PortEntry {
    let pod_ip: IpAddr = pod.parse().expect("an address");
    let key = PortKey {
        host_ip: None,
        protocol: 17,
        host_port,
        v6: pod_ip.is_ipv6(),
    };
    PortEntry {
        key,
        pod_ip,
        container_port: 5353,
    }
}

fn local() -> Vec<IpAddr> {
    vec![LOCAL.parse().expect("an address")]
}

/// Writes a tracked connection as the kernel holds it; `nat` is `-g pod:port` (translated destination) or `-n node` (hidden
/// source).
fn track(protocol: &str, src: &str, dst: &str, port: u16, nat: &str) {
    let state = if protocol == "tcp" {
        "--state ESTABLISHED"
    } else {
        ""
    };
    run(
        "conntrack",
        &format!(
            "-I -p {protocol} -s {src} -d {dst} --sport 5555 --dport {port} -r {dst} -q {src} --reply-port-src {port} \
             --reply-port-dst 5555 -t 300 {state} -u ASSURED,SEEN_REPLY {nat}"
        ),
    );
}

fn tracked() -> String {
    run("conntrack", "-L") + &run("conntrack", "-L -f ipv6")
}

/// A UDP server in the pod.
fn serve(pod: &Pod, address: &str) -> UdpSocket {
    let socket = pod
        .netns
        .run(|| UdpSocket::bind(address).expect("bind in the pod"))
        .expect("enter");
    socket
        .set_read_timeout(Some(Duration::from_millis(500)))
        .expect("timeout");
    socket
}

fn receives(socket: &UdpSocket) -> bool {
    socket.recv_from(&mut [0; 16]).is_ok()
}

fn a_udp_client_follows_the_port_to_its_new_pod() {
    lab::forward();
    run("ip", &format!("addr add {LOCAL}/32 dev lo"));
    let mut host = Netlink::open().unwrap();
    let (a, b) = (
        Pod::new(&mut host, "s32a", &["10.1.0.5"]),
        Pod::new(&mut host, "s32b", &["10.1.0.6"]),
    );
    let (in_a, in_b) = (serve(&a, "10.1.0.5:5353"), serve(&b, "10.1.0.6:5353"));
    let mut nfnetlink: Nfnetlink = lay_table();
    let client = UdpSocket::bind("192.0.2.1:0").unwrap();
    let send = || client.send_to(b"x", (LOCAL, 53)).unwrap();
    let (old, new) = ([udp(53, "10.1.0.5")], [udp(53, "10.1.0.6")]);
    nfnetlink.add_host_ports(&old).unwrap();
    send();
    assert!(receives(&in_a));
    assert_eq!(
        flush_stale(&old, &local()).unwrap(),
        0,
        "it leads to its pod: it stays"
    );
    nfnetlink.remove_host_ports(&old, &[old[0].pod_ip]).unwrap();
    nfnetlink.add_host_ports(&new).unwrap();
    send();
    assert!(receives(&in_a), "still the old way: that is the trouble");
    assert_eq!(flush_stale(&new, &local()).unwrap(), 1);
    send();
    assert!(receives(&in_b));
    assert_eq!(flush_released(&new).unwrap(), 1);
    assert!(!tracked().contains("10.1.0.6"), "{}", tracked());
}

fn a_masqueraded_connection_stays() {
    // A pod's connection to somebody else's :443, hidden behind the node; one to the node's own :443, to a former owner;
    // one to another node; one that leads to the pod; one of another protocol.
    track("tcp", "10.1.0.9", "203.0.113.9", 443, "-n 192.0.2.1");
    track("tcp", "198.51.100.7", LOCAL, 443, "-g 10.1.0.8:80");
    track("tcp", "198.51.100.8", "192.0.2.77", 443, "-g 10.1.0.8:80");
    track("tcp", "198.51.100.9", LOCAL, 443, "-g 10.1.0.5:80");
    track("udp", "198.51.100.7", LOCAL, 443, "-g 10.1.0.8:80");
    let entry = PortEntry {
        container_port: 80,
        ..udp(443, "10.1.0.5")
    };
    let entry = PortEntry {
        key: PortKey {
            protocol: 6,
            ..entry.key.clone()
        },
        ..entry
    };
    assert_eq!(
        flush_stale(std::slice::from_ref(&entry), &local()).unwrap(),
        1
    );
    let left = tracked();
    assert_eq!(left.lines().count(), 4, "{left}");
    assert!(
        left.contains("dst=203.0.113.9 sport=5555 dport=443"),
        "{left}"
    );
    assert_eq!(flush_released(&[entry]).unwrap(), 1);
    let left = tracked();
    assert!(
        left.contains("dst=203.0.113.9") && !left.contains("198.51.100.9"),
        "{left}"
    );
    assert_eq!(left.lines().count(), 3, "{left}");
}

fn many_ports_are_flushed_by_one_reading() {
    let entries: Vec<_> = (1000..1020).map(|port| udp(port, "10.1.0.5")).collect();
    for port in 1000..1020 {
        track(
            "udp",
            "198.51.100.7",
            LOCAL,
            port,
            &format!("-g 10.1.0.8:{port}"),
        );
        track("udp", "10.1.0.9", "203.0.113.9", port, "-n 192.0.2.1");
    }
    assert_eq!(flush_stale(&entries, &local()).unwrap(), 20);
    assert_eq!(
        tracked()
            .lines()
            .filter(|line| line.contains("203.0.113.9"))
            .count(),
        20
    );
    assert_eq!(flush_stale(&[], &local()).unwrap(), 0);
}

fn ipv6_entries_are_flushed_too() {
    track(
        "udp",
        "2001:db8::7",
        "2001:db8::1",
        53,
        "-g [fd00:1::8]:5353",
    );
    track(
        "udp",
        "2001:db8::7",
        "2001:db8::99",
        53,
        "-g [fd00:1::9]:5353",
    );
    let entry = [udp(53, "fd00:1::5")];
    assert_eq!(
        flush_stale(&entry, &["2001:db8::1".parse().unwrap()]).unwrap(),
        1
    );
    assert!(tracked().contains("2001:db8::99"));
}
