//! Two links behind a router that knows no pod: who reaches whom through the tunnel, as whom, and how large. The tunnel is
//! that of SLASH32_TUNNEL, VXLAN without it.

use anyhow::{Context, Result, ensure};
use slash32_tests::judge::{holds, wait_for};
use slash32_tests::lab::{INTERNET, Lab};
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
    suite::main(&[
        (
            "pods_on_two_links_reach_each_other_with_their_own_address",
            pods_on_two_links_reach_each_other_with_their_own_address,
        ),
        (
            "nodes_and_pods_on_two_links_reach_each_other_with_their_own_address",
            nodes_and_pods_on_two_links_reach_each_other_with_their_own_address,
        ),
        (
            "cross_subnet_spares_peers_on_the_link_and_always_does_not",
            cross_subnet_spares_peers_on_the_link_and_always_does_not,
        ),
        (
            "packets_of_the_pods_mtu_go_through_whole_and_none_is_larger",
            packets_of_the_pods_mtu_go_through_whole_and_none_is_larger,
        ),
    ])
}

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

fn nodes_and_pods_on_two_links_reach_each_other_with_their_own_address() -> Result<()> {
    let kind = Kind::under_test();
    let lab = Lab::split("t2", 1, 1)?;
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
