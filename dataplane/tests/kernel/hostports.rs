//! Elements of a table that the real nft laid: added by netlink, read by nft, a connection sent through.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use dataplane::hostport::{HostPortError, Nfnetlink, PortEntry, PortKey};
use dataplane::netlink::Netlink;
use dataplane::nft;
use dataplane::sysctl::{PROC_SYS, enable_route_localnet};

use crate::lab::{self, Case, Pod, run};

pub(crate) const TRIALS: &[Case] = &[
    (
        "hostports::nft_shows_what_netlink_added",
        nft_shows_what_netlink_added,
    ),
    (
        "hostports::a_connection_goes_through_from_the_node_itself",
        a_connection_goes_through_from_the_node_itself,
    ),
    (
        "hostports::an_ipv6_connection_goes_through",
        an_ipv6_connection_goes_through,
    ),
    (
        "hostports::a_taken_port_names_its_holder_and_nothing_is_added",
        a_taken_port_names_its_holder,
    ),
    (
        "hostports::an_identical_element_is_fine",
        an_identical_element_is_fine,
    ),
    (
        "hostports::only_what_is_still_ours_is_removed_d5",
        only_what_is_still_ours_is_removed,
    ),
    (
        "hostports::without_the_table_adding_says_so_and_removing_is_done",
        without_the_table,
    ),
];

/// The shape of the agent's table, as far as host ports go.
pub(crate) const TABLE: &str = r#"
table inet slash32 {
    map hostports4 { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
    map hostports6 { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }
    map hostports4-any { type inet_proto . inet_service : ipv4_addr . inet_service; }
    map hostports6-any { type inet_proto . inet_service : ipv6_addr . inet_service; }
    set hairpin4 { type ipv4_addr . ipv4_addr; }
    set hairpin6 { type ipv6_addr . ipv6_addr; }
    chain hostports {
        fib daddr type != local return
        counter dnat ip to ip daddr . meta l4proto . th dport map @hostports4
        dnat ip6 to ip6 daddr . meta l4proto . th dport map @hostports6
        dnat ip to meta l4proto . th dport map @hostports4-any
        dnat ip6 to meta l4proto . th dport map @hostports6-any
    }
    chain prerouting { type nat hook prerouting priority dstnat; policy accept; jump hostports; }
    chain output { type nat hook output priority -100; policy accept; jump hostports; }
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        oifname "s32*" ip saddr 127.0.0.0/8 masquerade
        ip saddr . ip daddr @hairpin4 masquerade
    }
}
"#;

pub(crate) fn lay_table() -> Nfnetlink {
    nft::run_script("nft", TABLE).expect("lay the table");
    Nfnetlink::open().expect("open")
}

pub(crate) fn entry(
    host_ip: Option<&str>,
    host_port: u16,
    pod: &str,
    container_port: u16,
) -> PortEntry {
    let pod_ip: IpAddr = pod.parse().expect("an address");
    let host_ip = host_ip.map(|ip| ip.parse().expect("an address"));
    PortEntry {
        key: PortKey {
            host_ip,
            protocol: 6,
            host_port,
            v6: pod_ip.is_ipv6(),
        },
        pod_ip,
        container_port,
    }
}

fn as_set(entries: Vec<PortEntry>) -> BTreeSet<String> {
    entries.iter().map(|entry| format!("{entry:?}")).collect()
}

fn nft_shows_what_netlink_added() {
    let mut nfnetlink = lay_table();
    let entries = vec![
        entry(Some("192.0.2.1"), 8080, "10.1.0.5", 80),
        entry(None, 8443, "10.1.0.5", 443),
        entry(Some("2001:db8::1"), 8080, "fd00:1::5", 80),
        entry(None, 8443, "fd00:1::5", 443),
        PortEntry {
            key: PortKey {
                protocol: 17,
                ..entry(None, 53, "10.1.0.6", 53).key
            },
            ..entry(None, 53, "10.1.0.6", 53)
        },
    ];
    nfnetlink.add_host_ports(&entries).unwrap();
    let shown = run("nft", "-n list table inet slash32");
    for part in [
        "192.0.2.1 . 6 . 8080 : 10.1.0.5 . 80",
        "6 . 8443 : 10.1.0.5 . 443",
        "17 . 53 : 10.1.0.6 . 53",
        "2001:db8::1 . 6 . 8080 : fd00:1::5 . 80",
        "6 . 8443 : fd00:1::5 . 443",
        "10.1.0.5 . 10.1.0.5",
        "fd00:1::5 . fd00:1::5",
    ] {
        let shown = shown.replace("tcp", "6").replace("udp", "17");
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert_eq!(
        as_set(nfnetlink.list_host_ports().unwrap()),
        as_set(entries.clone())
    );
    assert_eq!(nfnetlink.list_hairpin().unwrap().len(), 3);
    assert_eq!(
        nfnetlink.find_host_port(&entries[0].key).unwrap(),
        Some(("10.1.0.5".parse().unwrap(), 80))
    );
    // What nft adds, netlink reads.
    run(
        "nft",
        "add element inet slash32 hostports4-any { tcp . 9 : 10.1.0.9 . 99 }",
    );
    assert_eq!(
        nfnetlink
            .find_host_port(&entry(None, 9, "10.1.0.9", 99).key)
            .unwrap(),
        Some(("10.1.0.9".parse().unwrap(), 99))
    );
}

pub(crate) fn answers(to: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&to.parse().unwrap(), Duration::from_secs(2))
    else {
        return false;
    };
    stream
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).is_ok() && text == "hello"
}

/// A server in the pod that says hello to each of `count` connections.
fn serve(pod: &Pod, address: &str, count: usize) -> thread::JoinHandle<()> {
    let listener = pod
        .netns
        .run(|| TcpListener::bind(address).expect("listen in the pod"))
        .expect("enter");
    thread::spawn(move || {
        for _ in 0..count {
            let (mut stream, _) = listener.accept().expect("accept");
            stream.write_all(b"hello").expect("write");
        }
    })
}

fn a_connection_goes_through_from_the_node_itself() {
    lab::forward();
    run("ip", "addr add 192.0.2.1/32 dev lo");
    let mut host = Netlink::open().unwrap();
    let pod = Pod::new(&mut host, "s32a", &["10.1.0.5"]);
    let server = serve(&pod, "10.1.0.5:80", 3);
    let mut nfnetlink = lay_table();
    let entries = [
        entry(None, 8080, "10.1.0.5", 80),
        entry(Some("192.0.2.1"), 8081, "10.1.0.5", 80),
    ];
    nfnetlink.add_host_ports(&entries).unwrap();
    assert!(answers("192.0.2.1:8080") && answers("192.0.2.1:8081"));
    assert!(!answers("127.0.0.1:8080"), "needs route_localnet");
    assert!(enable_route_localnet(PROC_SYS.as_ref(), "s32a").unwrap());
    assert!(
        !enable_route_localnet(PROC_SYS.as_ref(), "s32a").unwrap(),
        "written once"
    );
    assert!(answers("127.0.0.1:8080"));
    server.join().unwrap();
    nfnetlink
        .remove_host_ports(&entries, &["10.1.0.5".parse().unwrap()])
        .unwrap();
    assert!(!answers("192.0.2.1:8080"));
}

fn an_ipv6_connection_goes_through() {
    lab::forward();
    run("ip", "-6 addr add 2001:db8::1/128 dev lo nodad");
    let mut host = Netlink::open().unwrap();
    let pod = Pod::new(&mut host, "s32a", &["fd00:1::5"]);
    let server = serve(&pod, "[fd00:1::5]:80", 2);
    let entries = [
        entry(None, 8080, "fd00:1::5", 80),
        entry(Some("2001:db8::1"), 8081, "fd00:1::5", 80),
    ];
    lay_table().add_host_ports(&entries).unwrap();
    assert!(answers("[2001:db8::1]:8080") && answers("[2001:db8::1]:8081"));
    server.join().unwrap();
}

fn a_taken_port_names_its_holder() {
    let mut nfnetlink = lay_table();
    nfnetlink
        .add_host_ports(&[entry(None, 8080, "10.1.0.5", 80)])
        .unwrap();
    let wanted = [
        entry(None, 8081, "10.1.0.6", 80),
        entry(None, 8080, "10.1.0.6", 80),
    ];
    let error = nfnetlink.add_host_ports(&wanted).unwrap_err();
    let text = error.to_string();
    assert_eq!(
        text,
        "host port tcp 8080 of any ipv4 address is taken: it leads to 10.1.0.5 port 80"
    );
    let HostPortError::Taken {
        entry: taken,
        holder,
    } = error
    else {
        panic!("{text}")
    };
    assert_eq!(
        (taken, holder),
        (wanted[1].clone(), Some(("10.1.0.5".parse().unwrap(), 80)))
    );
    assert_eq!(nfnetlink.list_host_ports().unwrap().len(), 1);
    assert_eq!(
        nfnetlink.list_hairpin().unwrap(),
        ["10.1.0.5".parse::<IpAddr>().unwrap()]
    );
}

fn an_identical_element_is_fine() {
    let mut nfnetlink = lay_table();
    let entries = [
        entry(None, 8080, "10.1.0.5", 80),
        entry(None, 8080, "10.1.0.5", 80),
    ];
    nfnetlink.add_host_ports(&entries).unwrap();
    nfnetlink.add_host_ports(&entries).unwrap();
    assert_eq!(nfnetlink.list_host_ports().unwrap().len(), 1);
    nfnetlink.add_host_ports(&[]).unwrap();
}

fn only_what_is_still_ours_is_removed() {
    let mut nfnetlink = lay_table();
    nfnetlink
        .add_host_ports(&[
            entry(None, 8080, "10.1.0.9", 80),
            entry(None, 8081, "10.1.0.5", 80),
        ])
        .unwrap();
    let late = [
        entry(None, 8080, "10.1.0.5", 80),
        entry(None, 8081, "10.1.0.5", 80),
        entry(None, 8082, "10.1.0.5", 80),
    ];
    let pods = ["10.1.0.5".parse().unwrap()];
    nfnetlink.remove_host_ports(&late, &pods).unwrap();
    assert_eq!(
        nfnetlink.list_host_ports().unwrap(),
        [entry(None, 8080, "10.1.0.9", 80)]
    );
    assert_eq!(
        nfnetlink.list_hairpin().unwrap(),
        ["10.1.0.9".parse::<IpAddr>().unwrap()]
    );
    nfnetlink.remove_host_ports(&late, &pods).unwrap();
}

fn without_the_table() {
    let mut nfnetlink = Nfnetlink::open().unwrap();
    let entries = [entry(None, 8080, "10.1.0.5", 80)];
    assert!(matches!(
        nfnetlink.add_host_ports(&entries),
        Err(HostPortError::NoTable)
    ));
    assert!(matches!(
        nfnetlink.list_host_ports(),
        Err(HostPortError::NoTable)
    ));
    assert!(matches!(
        nfnetlink.list_hairpin(),
        Err(HostPortError::NoTable)
    ));
    assert_eq!(nfnetlink.find_host_port(&entries[0].key).unwrap(), None);
    assert_eq!(nfnetlink.table_fingerprint().unwrap(), None);
    nfnetlink
        .remove_host_ports(&entries, &["10.1.0.5".parse().unwrap()])
        .unwrap();
}
