//! Elements of a table that the real nft laid: added by netlink, read by nft, a connection sent through.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

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
    (
        "hostports::ten_thousand_in_one_transaction_and_one_more_costs_the_same",
        ten_thousand_and_one_more,
    ),
    (
        "hostports::one_taken_among_three_thousand_adds_none",
        one_taken_among_three_thousand_adds_none,
    ),
    (
        "hostports::the_fingerprint_ignores_elements_and_sees_every_change",
        the_fingerprint,
    ),
    (
        "hostports::a_failing_script_changes_nothing_and_says_why",
        a_failing_script,
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

fn answers(to: &str) -> bool {
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

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn ten_thousand_and_one_more() {
    let mut nfnetlink = lay_table();
    let one_more = |nfnetlink: &mut Nfnetlink| {
        let sample = |i: u16| {
            let one = [entry(Some("198.51.100.1"), i + 1, "10.2.0.5", 80)];
            let start = Instant::now();
            nfnetlink.add_host_ports(&one).unwrap();
            let time = start.elapsed();
            nfnetlink
                .remove_host_ports(&one, &["10.2.0.5".parse().unwrap()])
                .unwrap();
            time
        };
        median((0..51).map(sample).collect())
    };
    let empty = one_more(&mut nfnetlink);
    let many: Vec<_> = (0..10_000_u16)
        .map(|i| {
            entry(
                Some("192.0.2.1"),
                i + 1,
                &format!("10.1.{}.{}", i / 200, i % 200 + 1),
                80,
            )
        })
        .collect();
    let start = Instant::now();
    nfnetlink.add_host_ports(&many).unwrap();
    let all = start.elapsed();
    let full = one_more(&mut nfnetlink);
    println!("host ports: one more with 0 {empty:?}, with 10,000 {full:?}; 10,000 at once {all:?}");
    assert!(
        full < empty * 3 / 2 + Duration::from_micros(20),
        "{empty:?} {full:?}"
    );
    assert_eq!(nfnetlink.list_host_ports().unwrap().len(), 10_000);
    nfnetlink
        .remove_host_ports(&many, &nfnetlink_pods(&many))
        .unwrap();
    assert!(
        nfnetlink.list_host_ports().unwrap().is_empty()
            && nfnetlink.list_hairpin().unwrap().is_empty()
    );
}

fn nfnetlink_pods(entries: &[PortEntry]) -> Vec<IpAddr> {
    entries.iter().map(|entry| entry.pod_ip).collect()
}

fn one_taken_among_three_thousand_adds_none() {
    let mut nfnetlink = lay_table();
    nfnetlink
        .add_host_ports(&[entry(None, 1700, "10.9.0.9", 80)])
        .unwrap();
    let many: Vec<_> = (1..3000)
        .map(|port| entry(None, port, "10.1.0.5", 80))
        .collect();
    assert!(
        matches!(nfnetlink.add_host_ports(&many), Err(HostPortError::Taken { entry, .. }) if entry.key.host_port == 1700)
    );
    assert_eq!(nfnetlink.list_host_ports().unwrap().len(), 1);
}

fn the_fingerprint() {
    let mut nfnetlink = lay_table();
    let first = nfnetlink.table_fingerprint().unwrap().expect("a table");
    let now = || Nfnetlink::open().unwrap().table_fingerprint().unwrap();
    assert_eq!(now(), Some(first), "stable");
    nfnetlink
        .add_host_ports(&[entry(None, 8080, "10.1.0.5", 80)])
        .unwrap();
    run("nft", "add table inet other");
    run("nft", "add chain inet other x");
    run("ip", "addr add 192.0.2.1/32 dev lo");
    assert!(!answers("192.0.2.1:1"), "a packet through the counter");
    assert!(run("nft", "list chain inet slash32 hostports").contains("counter packets 1"));
    assert_eq!(
        now(),
        Some(first),
        "elements, counters and other tables do not matter"
    );
    let mut seen = BTreeSet::from([Some(first)]);
    for change in [
        "add rule inet slash32 output accept",
        "insert rule inet slash32 hostports accept",
        "flush chain inet slash32 postrouting",
        "add chain inet slash32 more",
        "delete chain inet slash32 more",
        "add set inet slash32 more { type ipv4_addr; }",
        "chain inet slash32 output { policy drop; }",
        "delete table inet slash32",
    ] {
        run("nft", change);
        let fresh = seen.insert(now());
        assert!(fresh || change.starts_with("delete chain"), "{change}");
    }
    assert_eq!(now(), None);
    lay_table();
    assert!(seen.insert(now()), "laid anew, it is another table");
}

fn a_failing_script() {
    lay_table();
    let before = run("nft", "list ruleset");
    let error = nft::run_script(
        "nft",
        "delete table inet slash32\nadd rule inet nothing here accept\n",
    )
    .unwrap_err();
    assert!(
        error.to_string().contains("No such file or directory"),
        "{error}"
    );
    assert_eq!(run("nft", "list ruleset"), before);
    assert!(nft::version("nft").unwrap().starts_with("nftables v"));
}
