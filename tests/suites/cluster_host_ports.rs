//! Host ports: from everywhere, through everything that happens to them. The agent answers for the table, the plugin
//! for its own pod's elements; what a client reaches, and as whom, is the proof.

use anyhow::{Context, Result, ensure};
use slash32_tests::lab::{CLIENT, INTERNET, Lab};
use slash32_tests::machine::Running;
use slash32_tests::netfilter::{backend, repair_patience};
use slash32_tests::node::Node;
use slash32_tests::pod::Pod;
use slash32_tests::traffic::{Server, expect_seen, expect_silence};
use slash32_tests::{suite, wait};
use std::net::UdpSocket;
use std::process::ExitCode;
use std::time::Duration;

/// On the node.
const HOST: u16 = 8080;
/// In the pod.
const POD: u16 = 80;
const BOTH: [(u16, u16, &str); 2] = [(HOST, POD, "tcp"), (HOST, POD, "udp")];
fn main() -> ExitCode {
    suite::main(&[
        (
            "a_host_port_is_reached_from_everywhere_and_sees_who_asks",
            a_host_port_is_reached_from_everywhere_and_sees_who_asks,
        ),
        (
            "a_host_port_of_one_address_wins_over_one_of_all_addresses",
            a_host_port_of_one_address_wins_over_one_of_all_addresses,
        ),
        (
            "a_host_port_of_127_0_0_1_is_for_the_node_alone",
            a_host_port_of_127_0_0_1_is_for_the_node_alone,
        ),
        (
            "after_del_the_port_is_closed_and_open_flows_go_to_the_next_pod",
            after_del_the_port_is_closed_and_open_flows_go_to_the_next_pod,
        ),
        (
            "a_table_deleted_by_hand_is_back_with_all_ports",
            a_table_deleted_by_hand_is_back_with_all_ports,
        ),
        (
            "elements_deleted_or_added_by_hand_are_put_right",
            elements_deleted_or_added_by_hand_are_put_right,
        ),
        (
            "rules_and_destinations_changed_by_hand_are_put_right",
            rules_and_destinations_changed_by_hand_are_put_right,
        ),
        (
            "an_element_whose_record_is_gone_is_removed",
            an_element_whose_record_is_gone_is_removed,
        ),
        (
            "what_a_service_claims_is_never_captured",
            what_a_service_claims_is_never_captured,
        ),
    ])
}

/// Two nodes, and on the first a pod that serves behind a host port of both protocols.
struct Stage {
    lab: Lab,
    _agents: Vec<Running>,
    web: Pod,
    _server: Server,
}

impl Stage {
    fn set(name: &str) -> Result<Stage> {
        Stage::set_with(name, &[])
    }

    fn set_with(name: &str, settings: &[&str]) -> Result<Stage> {
        let lab = Lab::flat(name, 2)?;
        let agents = lab.start_agents_with(settings)?;
        let web = lab.nodes[0].add_pod_with_ports("web", &BOTH)?;
        let server = Server::start(&web.machine, POD)?;
        let stage = Stage {
            lab,
            _agents: agents,
            web,
            _server: server,
        };
        stage.expect_open()?;
        Ok(stage)
    }

    fn node(&self) -> &Node {
        &self.lab.nodes[0]
    }

    /// From outside, by both families, with the client's own address.
    fn expect_open(&self) -> Result<()> {
        for (address, own) in self.node().addresses().iter().zip(CLIENT) {
            expect_seen(&self.lab.client, address, HOST, own)?;
        }
        Ok(())
    }
}

fn a_host_port_is_reached_from_everywhere_and_sees_who_asks() -> Result<()> {
    let stage = Stage::set("h1")?;
    let [near, far] = [
        stage.node().add_pod("near")?,
        stage.lab.nodes[1].add_pod("far")?,
    ];
    for (family, address) in stage.node().addresses().iter().enumerate() {
        let own = |node: usize| stage.lab.nodes[node].addresses()[family].clone();
        // (who asks, as whom)
        let askers = [
            (&stage.lab.internet, INTERNET[family].to_owned()),
            (&stage.lab.nodes[1].machine, own(1)),
            (&stage.node().machine, own(0)),
            (&near.machine, near.addresses()[family].clone()),
            (&far.machine, far.addresses()[family].clone()),
            // A pod that asks itself must not meet its own address as a stranger's: the node stands between.
            (&stage.web.machine, own(0)),
        ];
        for (from, seen) in askers {
            expect_seen(from, address, HOST, &seen)?;
        }
    }
    // A pod cannot answer to 127.0.0.1, so it sees the node there too.
    expect_seen(&stage.node().machine, "127.0.0.1", HOST, "192.0.2.1")?;
    // Only what was asked for.
    expect_silence(&stage.lab.client, "192.0.2.1", HOST + 1)?;
    stage.web.del()?;
    near.del()?;
    stage.lab.nodes[0].expect_clean()
}

fn a_host_port_of_one_address_wins_over_one_of_all_addresses() -> Result<()> {
    let lab = Lab::flat("h2", 1)?;
    let _agents = lab.start_agents()?;
    let node = &lab.nodes[0];
    node.machine
        .run(&["ip", "address", "add", "192.0.2.101/24", "dev", "eth0"])?;
    let any = node.add_pod_with_host_ip("any", "", HOST, POD)?;
    let one = node.add_pod_with_host_ip("one", "192.0.2.101", HOST, POD)?;
    // Only one of them serves: who answers is told by that.
    let server = Server::start(&one.machine, POD)?;
    expect_seen(&lab.client, "192.0.2.101", HOST, CLIENT[0])?;
    expect_silence(&lab.client, "192.0.2.1", HOST)?;
    drop(server);
    let _server = Server::start(&any.machine, POD)?;
    expect_seen(&lab.client, "192.0.2.1", HOST, CLIENT[0])?;
    one.del()?;
    // Now that nobody has claimed the one address, it is one of all.
    expect_seen(&lab.client, "192.0.2.101", HOST, CLIENT[0])?;
    any.del()?;
    node.expect_clean()
}

fn a_host_port_of_127_0_0_1_is_for_the_node_alone() -> Result<()> {
    let lab = Lab::flat("h3", 1)?;
    let _agents = lab.start_agents()?;
    let node = &lab.nodes[0];
    let pod = node.add_pod_with_host_ip("a", "127.0.0.1", HOST, POD)?;
    let _server = Server::start(&pod.machine, POD)?;
    expect_seen(&node.machine, "127.0.0.1", HOST, "192.0.2.1")?;
    expect_silence(&lab.client, "192.0.2.1", HOST)?;
    expect_silence(&node.machine, "192.0.2.1", HOST)?;
    // The family that has no such address holds no such port.
    expect_silence(&lab.client, "2001:db8:2::1", HOST)?;
    pod.del()?;
    node.expect_clean()
}

/// A client that keeps sending from one port is the hard case: the kernel remembers where its flow went.
fn after_del_the_port_is_closed_and_open_flows_go_to_the_next_pod() -> Result<()> {
    let stage = Stage::set("h4")?;
    let socket = stage
        .lab
        .client
        .inside(|| UdpSocket::bind(("0.0.0.0", 40_000)))??;
    socket.connect(("192.0.2.1", HOST))?;
    socket.set_read_timeout(Some(Duration::from_millis(300)))?;
    let ask = || -> Result<String> {
        let mut buffer = [0; 64];
        socket.send(&[])?;
        let size = socket.recv(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..size]).into_owned())
    };
    ensure!(ask()? == CLIENT[0]);
    let Stage {
        lab, _agents, web, ..
    } = stage;
    let node = &lab.nodes[0];
    web.del()?;
    node.expect_clean()?;
    ensure!(ask().is_err(), "a port without a pod answers");
    for address in node.addresses() {
        expect_silence(&lab.client, &address, HOST)?;
    }
    let next = node.add_pod_with_ports("next", &BOTH)?;
    let _server = Server::start(&next.machine, POD)?;
    let seen = ask().context("the old flow does not reach the next pod")?;
    ensure!(seen == CLIENT[0], "{seen}");
    for (address, own) in node.addresses().iter().zip(CLIENT) {
        expect_seen(&lab.client, address, HOST, own)?;
    }
    Ok(())
}

fn a_table_deleted_by_hand_is_back_with_all_ports() -> Result<()> {
    let stage = Stage::set("h5")?;
    let node = stage.node();
    let before = backend().ports(&node.machine)?;
    ensure!(before.len() == 2 * BOTH.len(), "{before:?}");
    for command in backend().floods() {
        node.machine.run(&["sh", "-c", &command])?;
        let took = wait::until(
            &format!("all ports are back after '{command}'"),
            repair_patience(),
            || Ok(backend().ports(&node.machine)? == before),
        )?;
        eprintln!("back after '{command}': {took:?}");
        // A transaction is whole or not at all: where the elements are, the rules are.
        stage.expect_open()?;
        expect_seen(&node.machine, "127.0.0.1", HOST, "192.0.2.1")?;
        expect_seen(&stage.web.machine, "192.0.2.1", HOST, "192.0.2.1")?;
    }
    // The table that is back is the whole one: pods are hidden again, too.
    let _internet = Server::start(&stage.lab.internet, POD)?;
    expect_seen(&stage.web.machine, INTERNET[0], POD, "192.0.2.1")
}

fn elements_deleted_or_added_by_hand_are_put_right() -> Result<()> {
    let stage = Stage::set("h6")?;
    let node = &stage.node().machine;
    let before = backend().ports(node)?;
    let restored = || Ok(backend().ports(node)? == before);
    let pod = stage.web.v4();
    let mine = ("tcp", HOST, pod.as_str(), POD);
    let foreign = ("tcp", 9999, "10.244.1.77", 80);
    backend().delete_port(node, mine)?;
    let took = wait::until("the deleted port is back", repair_patience(), restored)?;
    eprintln!("a deleted port is back: {took:?}");
    backend().delete_hairpin(node, &pod)?;
    wait::until("the deleted hairpin is back", repair_patience(), || {
        Ok(backend().hairpins(node)?.contains(&pod))
    })?;
    backend().add_port(node, foreign)?;
    let took = wait::until("the foreign port is gone", repair_patience(), restored)?;
    eprintln!("a foreign port is gone: {took:?}");
    // One that leads somewhere else under the same key.
    backend().redirect_port(node, mine, "10.244.1.77")?;
    wait::until(
        "the port leads to its pod again",
        repair_patience(),
        restored,
    )
    .with_context(|| stage.node().agent_log())?;
    stage.expect_open()?;
    expect_seen(&stage.web.machine, "192.0.2.1", HOST, "192.0.2.1")
}

fn rules_and_destinations_changed_by_hand_are_put_right() -> Result<()> {
    let stage = Stage::set("h7")?;
    let node = &stage.node().machine;
    let before = backend().rules(node)?;
    for command in backend().vandalism() {
        node.run(&["sh", "-c", &command])?;
        wait::until(
            &format!("the rules are as they were before '{command}'"),
            repair_patience(),
            || Ok(backend().rules(node)? == before),
        )?;
    }
    stage.expect_open()
}

fn an_element_whose_record_is_gone_is_removed() -> Result<()> {
    let stage = Stage::set_with("h8", &["--resync-interval", "1s"])?;
    let node = stage.node();
    let folder = node.machine.folder("/run/slash32").join("attachments");
    for entry in std::fs::read_dir(&folder)? {
        std::fs::remove_file(entry?.path())?;
    }
    wait::until(
        "the port without a record is closed",
        Duration::from_secs(5),
        || {
            Ok(backend().ports(&node.machine)?.is_empty()
                && !backend().rules(&node.machine)?.is_empty())
        },
    )?;
    expect_silence(&stage.lab.client, "192.0.2.1", HOST)
}

/// kube-proxy and its kin rewrite at priority dstnat, for the world and for the node itself.
fn what_a_service_claims_is_never_captured() -> Result<()> {
    let lab = Lab::flat("h9", 2)?;
    let _agents = lab.start_agents()?;
    let node = &lab.nodes[0];
    let web = node.add_pod_with_ports("web", &BOTH)?;
    let behind = node.add_pod("backend")?;
    let address = behind.v4();
    backend().claim_by_service(&node.machine, HOST, &format!("{address}:8443"))?;
    // The pod of the host port does not serve yet: only the Service's backend can answer.
    let service = Server::start(&behind.machine, 8443)?;
    expect_seen(&lab.client, "192.0.2.1", HOST, CLIENT[0])?;
    expect_seen(&node.machine, "192.0.2.1", HOST, "192.0.2.1")?;
    expect_seen(&lab.nodes[1].machine, "192.0.2.1", HOST, "192.0.2.2")?;
    // The Service is of IPv4 only: the port of IPv6 is the pod's.
    expect_silence(&lab.client, "2001:db8:2::1", HOST)?;
    let _web = Server::start(&web.machine, POD)?;
    expect_seen(&lab.client, "2001:db8:2::1", HOST, CLIENT[1])?;
    backend().release_service(&node.machine)?;
    drop(service);
    expect_seen(&lab.client, "192.0.2.1", HOST, CLIENT[0])
}
