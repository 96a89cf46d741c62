//! Two links behind a router that knows no pod: who reaches whom through the tunnel, as whom, and how large. The tunnel is
//! that of SLASH32_TUNNEL, VXLAN without it.

use anyhow::{Context, Result, ensure};
use slash32_tests::judge::{holds, wait_for};
use slash32_tests::lab::{CLIENT, INTERNET, Lab};
use slash32_tests::suite;
use slash32_tests::traffic::{Server, expect_seen};
use slash32_tests::tunnels::{
    Kind, add_pods, count, counted, expect_whole, mtu_of, probe, start_agents,
};
use std::process::ExitCode;
use std::time::Duration;

const PORT: u16 = 80;
/// Something that a pass or two bring about.
const SOON: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let mut tests = TESTS.to_vec();
    if Kind::under_test() == Kind::Vxlan {
        tests.push((
            "an_ipv6_underlay_carries_both_families",
            an_ipv6_underlay_carries_both_families,
        ));
    }
    suite::main(&tests)
}

const TESTS: &[suite::Test] = &[
    (
        "pods_on_two_links_reach_each_other_with_their_own_address",
        pods_on_two_links_reach_each_other_with_their_own_address,
    ),
    (
        "nodes_and_pods_on_two_links_reach_each_other_with_their_own_address",
        nodes_and_pods_on_two_links_reach_each_other_with_their_own_address,
    ),
    (
        "host_ports_and_node_ports_answer_through_the_tunnel",
        host_ports_and_node_ports_answer_through_the_tunnel,
    ),
    (
        "cross_subnet_spares_peers_on_the_link_and_always_does_not",
        cross_subnet_spares_peers_on_the_link_and_always_does_not,
    ),
    (
        "packets_of_the_pods_mtu_go_through_whole_and_none_is_larger",
        packets_of_the_pods_mtu_go_through_whole_and_none_is_larger,
    ),
];

fn pods_on_two_links_reach_each_other_with_their_own_address() -> Result<()> {
    let kind = Kind::under_test();
    let lab = Lab::split("t1", 2, 2)?;
    let _agents = start_agents(&lab, kind, &[])?;
    let pods = add_pods(&lab.nodes)?;
    let _servers: Vec<Server> = pods
        .iter()
        .map(|pod| Server::start(&pod.machine, PORT))
        .collect::<Result<_>>()?;
    let _internet = Server::start(&lab.internet, PORT)?;
    for from in &pods {
        for to in &pods {
            for (own, address) in kind.carried(&from.addresses(), &to.addresses()) {
                expect_seen(&from.machine, &address, PORT, &own)?;
            }
        }
    }
    // The world still sees the node.
    for (node, pod) in lab.nodes.iter().zip(&pods) {
        for (address, seen) in INTERNET.iter().zip(node.addresses()) {
            expect_seen(&pod.machine, address, PORT, &seen)?;
        }
    }
    Ok(())
}

/// With strict filtering by the reverse path, as some distributions have it: half of each exchange goes another way.
fn nodes_and_pods_on_two_links_reach_each_other_with_their_own_address() -> Result<()> {
    let kind = Kind::under_test();
    let lab = Lab::split("t2", 1, 1)?;
    for node in &lab.nodes {
        let all =
            ["all", "default", "eth0"].map(|link| format!("net.ipv4.conf.{link}.rp_filter=1"));
        let strict: Vec<&str> = all.iter().map(String::as_str).collect();
        node.machine
            .run(&[&["sysctl", "-qw"], &strict[..]].concat())?;
    }
    let _agents = start_agents(&lab, kind, &[])?;
    let pods = add_pods(&lab.nodes)?;
    let _in_pod = Server::start(&pods[1].machine, PORT)?;
    let _on_node = Server::start(&lab.nodes[1].machine, 10250)?;
    let (node, far) = (&lab.nodes[0], &lab.nodes[1]);
    for (own, of_pod) in kind.carried(&node.addresses(), &pods[1].addresses()) {
        expect_seen(&node.machine, &of_pod, PORT, &own).context("node to far pod")?;
    }
    for (own, of_node) in kind.carried(&pods[0].addresses(), &far.addresses()) {
        expect_seen(&pods[0].machine, &of_node, 10250, &own).context("pod to far node")?;
    }
    Ok(())
}

/// A host port asked for from the far link, by a node and by a pod; and what a service proxy does for a NodePort: DNAT to a
/// pod behind the tunnel, and the address of the outgoing device in place of the client's.
fn host_ports_and_node_ports_answer_through_the_tunnel() -> Result<()> {
    let kind = Kind::under_test();
    let lab = Lab::split("t6", 1, 1)?;
    let _agents = start_agents(&lab, kind, &[])?;
    let [near, far] = [&lab.nodes[0], &lab.nodes[1]];
    let pods = add_pods(&lab.nodes)?;
    let ingress = far.add_pod_with_ports("ingress", &[(8080, PORT, "tcp"), (8080, PORT, "udp")])?;
    let _server = Server::start(&ingress.machine, PORT)?;
    for (own, address) in kind.carried(&near.addresses(), &far.addresses()) {
        expect_seen(&near.machine, &address, 8080, &own).context("node to far host port")?;
        expect_seen(
            &lab.client,
            &address,
            8080,
            CLIENT[usize::from(own.contains(':'))],
        )?;
    }
    for (own, address) in kind.carried(&pods[0].addresses(), &far.addresses()) {
        expect_seen(&pods[0].machine, &address, 8080, &own).context("pod to far host port")?;
    }
    // kube-proxy's part, by hand: both families at once, masqueraded as it does for externalTrafficPolicy Cluster.
    near.machine.nft(&format!(
        "table inet proxy {{\n\
         chain pre {{ type nat hook prerouting priority -100; fib daddr type local tcp dport 30080 meta mark set 0x4000 dnat ip to {v4}:{PORT}; fib daddr type local udp dport 30080 meta mark set 0x4000 dnat ip to {v4}:{PORT}; }}\n\
         chain post {{ type nat hook postrouting priority 100; meta mark 0x4000 masquerade; }}\n}}",
        v4 = ingress.v4()
    ))?;
    // The node's own address, which the far node answers.
    expect_seen(&lab.client, "192.0.2.1", 30080, "192.0.2.1")
}

fn an_ipv6_underlay_carries_both_families() -> Result<()> {
    let lab = Lab::split("t7", 1, 1)?;
    let _agents = start_agents(&lab, Kind::Vxlan, &["--vxlan-underlay", "ipv6"])?;
    let pods = add_pods(&lab.nodes)?;
    let _server = Server::start(&pods[1].machine, PORT)?;
    count(
        &lab.router,
        &["ip6 nexthdr udp udp dport 4789", "ip protocol udp"],
    )?;
    for (own, address) in pods[0].addresses().iter().zip(pods[1].addresses()) {
        expect_seen(&pods[0].machine, &address, PORT, own)?;
        expect_whole(&pods[0].machine, &address, 1430)?;
        ensure!(!probe(&pods[0].machine, &address, 1431)?.status.success());
    }
    let seen = counted(&lab.router)?;
    ensure!(seen[0] > 0 && seen[1] == 0, "{seen:?}");
    Ok(())
}

fn cross_subnet_spares_peers_on_the_link_and_always_does_not() -> Result<()> {
    let kind = Kind::under_test();
    for (name, when, encapsulated) in [("t3", "cross-subnet", false), ("t4", "always", true)] {
        let lab = Lab::flat(name, 2)?;
        let _agents = start_agents(&lab, kind, &["--encapsulation-when", when])?;
        let pods = add_pods(&lab.nodes)?;
        let _server = Server::start(&pods[1].machine, PORT)?;
        let node = &lab.nodes[1];
        count(
            &node.machine,
            &[&format!("iifname eth0 {}", kind.packets())],
        )?;
        for (own, address) in kind.carried(&pods[0].addresses(), &pods[1].addresses()) {
            expect_seen(&pods[0].machine, &address, PORT, &own)?;
        }
        let seen = counted(&node.machine)?[0];
        ensure!((seen > 0) == encapsulated, "{when}: {seen} outer packets");
        let through = holds(&lab.nodes[0], &[&format!("dev {}", kind.device())])?;
        ensure!(through == encapsulated, "{}", lab.nodes[0].routes()?);
    }
    Ok(())
}

fn packets_of_the_pods_mtu_go_through_whole_and_none_is_larger() -> Result<()> {
    let kind = Kind::under_test();
    let lab = Lab::split("t5", 2, 1)?;
    let _agents = start_agents(&lab, kind, &[])?;
    let pods = add_pods(&lab.nodes)?;
    let mtu = 1500 - kind.overhead();
    for pod in &pods {
        ensure!(mtu_of(&pod.machine, "eth0")? == mtu);
    }
    ensure!(mtu_of(&lab.nodes[0].machine, kind.device())? == mtu);
    // Nothing may be cut in pieces on the way.
    count(
        &lab.router,
        &["ip frag-off & 0x3fff != 0", "exthdr frag exists"],
    )?;
    for to in &pods[1..] {
        for (_, address) in kind.carried(&pods[0].addresses(), &to.addresses()) {
            expect_whole(&pods[0].machine, &address, mtu)?;
            ensure!(!probe(&pods[0].machine, &address, mtu + 1)?.status.success());
            // A node's own link is larger: it has to know what pods take, on the link and through the tunnel alike.
            expect_whole(&lab.nodes[0].machine, &address, mtu)?;
            let told = probe(&lab.nodes[0].machine, &address, mtu + 1)?;
            let text = format!("{}{}", told.stdout, told.stderr);
            ensure!(text.contains("too long"), "{text}");
        }
    }
    ensure!(counted(&lab.router)? == [0, 0]);
    // A smaller link: new pods follow, and so does the device.
    for node in &lab.nodes {
        node.machine
            .run(&["ip", "link", "set", "eth0", "mtu", "1400"])?;
        wait_for("the device follows the link", SOON, || {
            let follows = mtu_of(&node.machine, kind.device())? == 1400 - kind.overhead();
            Ok(follows && node.request()?["mtu"] == 1400 - kind.overhead())
        })?;
    }
    Ok(())
}
