//! What a pod must not be able to do to its node and to its neighbours. Each refusal stands beside a control that shows
//! that the attack would have worked, so that no test passes because the attack was lame.

use anyhow::{Result, ensure};
use slash32_tests::lab::Lab;
use slash32_tests::machine::Machine;
use slash32_tests::netfilter::backend;
use slash32_tests::node::Node;
use slash32_tests::pod::Pod;
use slash32_tests::suite;
use slash32_tests::traffic::{Server, ask_tcp, ask_udp, expect_seen};
use std::process::ExitCode;

fn main() -> ExitCode {
    suite::main(&[
        (
            "a_foreign_source_address_does_not_leave_the_node",
            a_foreign_source_address_does_not_leave_the_node,
        ),
        (
            "without_anti_spoofing_a_foreign_source_address_leaves_the_node",
            without_anti_spoofing_a_foreign_source_address_leaves_the_node,
        ),
        (
            "the_nodes_loopback_cannot_be_reached_from_a_pod",
            the_nodes_loopback_cannot_be_reached_from_a_pod,
        ),
        (
            "a_router_advertisement_of_a_pod_changes_nothing_on_the_node",
            a_router_advertisement_of_a_pod_changes_nothing_on_the_node,
        ),
    ])
}

/// How many packets the node forwarded from each forged source.
fn watch_forged(node: &Node, sources: &[String]) -> Result<()> {
    let rules: String = sources
        .iter()
        .map(|source| {
            let family = if source.contains(':') { "ip6" } else { "ip" };
            format!("{family} saddr {source} counter\n")
        })
        .collect();
    node.machine
        .nft(&format!(
            "table inet watch {{ chain forward {{ type filter hook forward priority 10;\n{rules}}}\n}}"
        ))
        .map(drop)
}

fn counters(node: &Node) -> Result<Vec<u64>> {
    let table = node
        .machine
        .read(&["nft", "list", "table", "inet", "watch"])?;
    let counts = table
        .split("counter packets ")
        .skip(1)
        .filter_map(|rest| rest.split(' ').next()?.parse().ok());
    Ok(counts.collect())
}

/// Pings from addresses that the pod gives to itself: a free one, its neighbour's, the node's, a stranger's.
fn forge(lab: &Lab) -> Result<Vec<u64>> {
    let node = &lab.nodes[0];
    let [evil, neighbour] = [node.add_pod("evil")?, node.add_pod("neighbour")?];
    let target = lab.nodes[1].add_pod("target")?;
    let mut sources = vec![
        "10.244.1.99".to_owned(),
        "203.0.113.7".to_owned(),
        "10.244.2.200".to_owned(),
        "fd00:244:1::99".to_owned(),
        "2001:db8:bad::1".to_owned(),
    ];
    sources.extend(neighbour.addresses());
    watch_forged(node, &sources)?;
    for source in &sources {
        let (length, to) = if source.contains(':') {
            (128, target.v6())
        } else {
            (32, target.v4())
        };
        let nodad: &[&str] = if length == 128 { &["nodad"] } else { &[] };
        let address = format!("{source}/{length}");
        evil.machine
            .run(&[&["ip", "address", "add", &address, "dev", "eth0"], nodad].concat())?;
        evil.machine
            .try_run(&["ping", "-n", "-c1", "-W0.2", "-I", source, &to])?;
        evil.machine
            .run(&["ip", "address", "del", &address, "dev", "eth0"])?;
    }
    // Its own address is not a forged one.
    let _server = Server::start(&target.machine, 80)?;
    expect_seen(&evil.machine, &target.v4(), 80, &evil.v4())?;
    expect_seen(&evil.machine, &target.v6(), 80, &evil.v6())?;
    let counts = counters(node)?;
    ensure!(counts.len() == sources.len(), "{counts:?}");
    Ok(counts)
}

fn a_foreign_source_address_does_not_leave_the_node() -> Result<()> {
    let lab = Lab::flat("s1", 2)?;
    let _agents = lab.start_agents()?;
    let counts = forge(&lab)?;
    ensure!(
        counts.iter().all(|count| *count == 0),
        "forged packets were forwarded: {counts:?}"
    );
    Ok(())
}

/// The control of the one above: the same packets do leave when nothing holds them.
fn without_anti_spoofing_a_foreign_source_address_leaves_the_node() -> Result<()> {
    let lab = Lab::flat("s2", 2)?;
    let _agents = lab.start_agents_with(&["--anti-spoofing", "false"])?;
    // The kernel's own filter, where a distribution turns it on, is not what is shown here.
    lab.nodes[0].machine.run(&[
        "sysctl",
        "-qw",
        "net.ipv4.conf.all.rp_filter=0",
        "net.ipv4.conf.default.rp_filter=0",
    ])?;
    let counts = forge(&lab)?;
    ensure!(
        counts.iter().all(|count| *count > 0),
        "the attack does not work at all: {counts:?}"
    );
    Ok(())
}

/// Makes the pod send what is for 127.0.0.1 to its node, as root of a pod can.
fn aim_loopback_at_the_node(pod: &Machine) -> Result<()> {
    pod.run(&["sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1"])?;
    for route in [
        ["local", "127.0.0.0/8", "dev", "lo"].as_slice(),
        &["local", "127.0.0.1", "dev", "lo"],
    ] {
        pod.run(&[&["ip", "route", "del", "table", "local"], route].concat())?;
    }
    pod.run(&["ip", "address", "del", "127.0.0.1/8", "dev", "lo"])?;
    pod.run(&[
        "ip",
        "route",
        "add",
        "127.0.0.1/32",
        "via",
        "169.254.1.1",
        "dev",
        "eth0",
        "onlink",
    ])
    .map(drop)
}

/// CVE-2020-8558. A link with host ports has route_localnet on, so that the node reaches them at 127.0.0.1; what listens
/// there (kubelet, etcd) must not be opened to pods by that, nor other pods' host ports.
fn the_nodes_loopback_cannot_be_reached_from_a_pod() -> Result<()> {
    let lab = Lab::flat("s3", 1)?;
    let agents = lab.start_agents()?;
    let node = &lab.nodes[0];
    let web = node.add_pod_with_ports("web", &[(8080, 80, "tcp"), (8080, 80, "udp")])?;
    let ported = node.add_pod_with_ports("ported", &[(9090, 90, "tcp")])?;
    let plain = node.add_pod("plain")?;
    let _web = Server::start(&web.machine, 80)?;
    let _kubelet = Server::start(&node.machine, 10250)?;
    expect_seen(&node.machine, "127.0.0.1", 8080, "192.0.2.1")?;
    expect_seen(&node.machine, "127.0.0.1", 10250, "127.0.0.1")?;
    let route_localnet = |pod: &Pod| {
        node.machine.read(&[
            "sysctl",
            "-n",
            &format!("net.ipv4.conf.{}.route_localnet", pod.host_link()),
        ])
    };
    ensure!(route_localnet(&ported)? == "1" && route_localnet(&plain)? == "0");
    // Even an answer that finds no way back would be one that the pod caused.
    node.machine.nft(
        "table inet watch { chain input { type filter hook input priority -400;\n\
         iifname \"s32*\" ip daddr 127.0.0.0/8 counter\n}\n}",
    )?;
    let reached = |pod: &Pod, port: u16| {
        ask_tcp(&pod.machine, "127.0.0.1", port).is_ok()
            || ask_udp(&pod.machine, "127.0.0.1", port).is_ok()
    };
    for pod in [&ported, &plain] {
        aim_loopback_at_the_node(&pod.machine)?;
        for port in [10250, 8080] {
            ensure!(
                !reached(pod, port),
                "{} reaches 127.0.0.1:{port} of its node",
                pod.name
            );
        }
    }
    ensure!(counters(node)? == [0]);
    // The control: the table is what keeps it out.
    drop(agents);
    backend().delete_all(&node.machine)?;
    ensure!(
        reached(&ported, 10250),
        "the attack does not work at all, with nothing to stop it"
    );
    Ok(())
}

/// RFC 4861, 4.2: type 134, hop limit 64, no flags, router lifetime 1800 s, no options. The kernel fills the checksum in.
const ROUTER_ADVERTISEMENT: [u8; 16] = [134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];

/// Sends it to all nodes of the link of eth0.
fn advertise(pod: &Machine) -> Result<()> {
    pod.inside(|| -> Result<()> {
        let check = |result: libc::c_long| -> std::io::Result<libc::c_long> {
            if result < 0 {
                Err(std::io::Error::last_os_error())
            } else {
                Ok(result)
            }
        };
        // RFC 4861, 6.1.2: any other hop limit is refused by the receiver.
        let hops: libc::c_int = 255;
        // SAFETY: plain system calls on values that live until they return; the descriptor is closed below.
        unsafe {
            let socket = libc::socket(
                libc::AF_INET6,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC,
                libc::IPPROTO_ICMPV6,
            );
            check(socket.into())?;
            let mut to: libc::sockaddr_in6 = std::mem::zeroed();
            to.sin6_family = libc::AF_INET6.cast_unsigned().try_into()?;
            to.sin6_addr.s6_addr = std::net::Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).octets();
            to.sin6_scope_id = libc::if_nametoindex(c"eth0".as_ptr());
            let set = libc::setsockopt(
                socket,
                libc::IPPROTO_IPV6,
                libc::IPV6_MULTICAST_HOPS,
                (&raw const hops).cast(),
                size_of_val(&hops).try_into()?,
            );
            check(set.into())?;
            let sent = libc::sendto(
                socket,
                ROUTER_ADVERTISEMENT.as_ptr().cast(),
                ROUTER_ADVERTISEMENT.len(),
                0,
                (&raw const to).cast(),
                size_of_val(&to).try_into()?,
            );
            check(sent.try_into()?)?;
            libc::close(socket);
        }
        Ok(())
    })?
}

fn a_router_advertisement_of_a_pod_changes_nothing_on_the_node() -> Result<()> {
    let lab = Lab::flat("s4", 1)?;
    let agents = lab.start_agents()?;
    let node = &lab.nodes[0];
    let pod = node.add_pod("evil")?;
    // As an administrator's net.ipv6.conf.default.accept_ra=2 would make it: then forwarding alone is no shield.
    node.machine.run(&[
        "sysctl",
        "-qw",
        &format!("net.ipv6.conf.{}.accept_ra=2", pod.host_link()),
    ])?;
    let learnt = || {
        node.machine
            .read(&["ip", "-6", "route", "show", "proto", "ra"])
    };
    let settle = || std::thread::sleep(std::time::Duration::from_millis(100));
    advertise(&pod.machine)?;
    settle();
    ensure!(learnt()?.is_empty(), "{}", learnt()?);
    // The control.
    drop(agents);
    backend().delete_all(&node.machine)?;
    advertise(&pod.machine)?;
    settle();
    ensure!(
        learnt()?.contains(&pod.host_link()),
        "the attack does not work at all, with nothing to stop it: {}",
        node.machine.read(&["ip", "-6", "route"])?
    );
    Ok(())
}
