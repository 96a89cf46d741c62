//! What the agent makes of the file of Nodes: nodes that come, go, move and make no sense, and files that cannot be read.

use anyhow::{Context, Result, ensure};
use slash32_tests::judge::{holds, lacks, wait_for};
use slash32_tests::lab::{INTERNET, Lab};
use slash32_tests::nodes_file::{self, NodeEntry};
use slash32_tests::traffic::{Server, expect_seen};
use slash32_tests::{suite, wait};
use std::process::ExitCode;
use std::time::Duration;

/// A change of the file of Nodes is read when the file has been still for a moment.
const REREAD: Duration = Duration::from_secs(5);
/// The second node's podCIDRs.
const SECOND: [&str; 2] = ["10.244.2.0/24", "fd00:244:2::/64"];
/// The third node's.
const THIRD: [&str; 2] = ["10.244.3.0/24", "fd00:244:3::/64"];

fn main() -> ExitCode {
    suite::main(&[
        (
            "nodes_that_leave_and_join_lose_and_get_their_routes",
            nodes_that_leave_and_join_lose_and_get_their_routes,
        ),
        (
            "stale_routes_are_swept_after_the_first_whole_view_only",
            stale_routes_are_swept_after_the_first_whole_view_only,
        ),
        (
            "a_bad_nodes_file_changes_nothing_and_is_told",
            a_bad_nodes_file_changes_nothing_and_is_told,
        ),
        (
            "nodes_that_cannot_be_used_are_told_and_the_others_go_on",
            nodes_that_cannot_be_used_are_told_and_the_others_go_on,
        ),
        (
            "a_node_that_changes_its_address_is_followed",
            a_node_that_changes_its_address_is_followed,
        ),
    ])
}

fn nodes_that_leave_and_join_lose_and_get_their_routes() -> Result<()> {
    let (lab, _agents) = Lab::with_agents("a4", 3)?;
    let entries = lab.entries();
    let node = &lab.nodes[0];
    ensure!(holds(node, &SECOND)? && holds(node, &THIRD)?);
    lab.write_nodes(&entries[..2])?;
    wait_for("the third node's routes are gone", REREAD, || {
        lacks(node, &THIRD)
    })?;
    ensure!(holds(node, &SECOND)?);
    lab.write_nodes(&entries)?;
    for each in &lab.nodes[..2] {
        wait_for("the third node's routes are back", REREAD, || {
            holds(each, &THIRD)
        })?;
    }
    let [a, c] = [node.add_pod("a")?, lab.nodes[2].add_pod("c")?];
    wait::until(
        "the third node knows itself again",
        Duration::from_secs(5),
        || holds(&lab.nodes[2], &["10.244.1.0/24"]),
    )?;
    let _server = Server::start(&c.machine, 80)?;
    expect_seen(&a.machine, &c.v4(), 80, &a.v4())?;
    expect_seen(&a.machine, &c.v6(), 80, &a.v6())
}

fn stale_routes_are_swept_after_the_first_whole_view_only() -> Result<()> {
    let (lab, mut agents) = Lab::with_agents("a5", 3)?;
    let node = &lab.nodes[0];
    let text = std::fs::read_to_string(node.nodes_file())?;
    agents.remove(0).kill()?;
    node.machine.run(&[
        "ip",
        "route",
        "add",
        "10.99.0.0/24",
        "via",
        "192.0.2.2",
        "proto",
        "32",
    ])?;
    let before = node.routes()?;
    let unread: [(&str, &dyn Fn() -> Result<()>); 3] = [
        ("No such file", &|| {
            Ok(std::fs::remove_file(node.nodes_file())?)
        }),
        ("not a regular file", &|| {
            Ok(std::fs::create_dir(node.nodes_file())?)
        }),
        ("refused", &|| {
            std::fs::remove_dir(node.nodes_file())?;
            nodes_file::write_text(&node.nodes_file(), "kind: [")
        }),
    ];
    for (reason, spoil) in unread {
        spoil()?;
        let agent = node.spawn_agent()?;
        node.wait_told(reason)?;
        let (status, told) = node.ask_agent("/readyz")?;
        ensure!(status == 503, "{told}");
        ensure!(node.routes()? == before, "{reason}: {}", node.routes()?);
        agent.kill()?;
    }
    // Now a whole view, in which the third node is no more.
    nodes_file::write_text(&node.nodes_file(), &text)?;
    nodes_file::write(&node.nodes_file(), &lab.entries()[..2])?;
    let _agent = node.spawn_agent()?;
    wait_for("stale routes are swept", Duration::from_secs(10), || {
        Ok(lacks(node, &THIRD)? && lacks(node, &["10.99.0.0/24"])?)
    })?;
    ensure!(holds(node, &SECOND)?);
    Ok(())
}

fn a_bad_nodes_file_changes_nothing_and_is_told() -> Result<()> {
    let (lab, _agents) = Lab::with_agents("a6", 2)?;
    let node = &lab.nodes[0];
    let good = std::fs::read_to_string(node.nodes_file())?;
    let before = node.routes()?;
    // After its last Node, so that what is left is well-formed YAML: only `kind` is missing.
    let cut = good.find("kind: List").context("no kind")?;
    for bad in ["\u{0}garbage: [", "", "kind: Pod\n", &good[..cut]] {
        nodes_file::write_text(&node.nodes_file(), bad)?;
        node.wait_told("problem: nodes_file")?;
        let (status, told) = node.ask_agent("/readyz")?;
        ensure!(status == 200 && told.contains("nodes.yaml"), "{told}");
        let metrics = node.ask_agent("/metrics")?.1;
        ensure!(metrics.contains("slash32_nodes_file_last_error 1"));
        ensure!(node.routes()? == before, "{bad:?}: {}", node.routes()?);
        nodes_file::write_text(&node.nodes_file(), &good)?;
        wait::until("the good file is taken", REREAD, || {
            let (told, metrics) = (node.ask_agent("/readyz")?.1, node.ask_agent("/metrics")?.1);
            Ok(told == "ready\n" && metrics.contains("slash32_nodes_file_last_error 0"))
        })?;
    }
    ensure!(node.agent_log().contains("refused"), "{}", node.agent_log());
    ensure!(node.routes()? == before);
    Ok(())
}

fn nodes_that_cannot_be_used_are_told_and_the_others_go_on() -> Result<()> {
    let lab = Lab::flat("a7", 2)?;
    let mut entries = lab.entries();
    entries.extend([
        NodeEntry::new("no-cidr", &[], &["192.0.2.11"]),
        NodeEntry::new("no-address", &["10.244.12.0/24"], &[]),
        // By name after node2, whose podCIDR it wants.
        NodeEntry::new("twin", &["10.244.2.0/24"], &["192.0.2.13"]),
        NodeEntry::new("collides", &["192.0.2.0/25"], &["192.0.2.14"]),
        NodeEntry::new("far", &["10.244.15.0/24"], &["198.51.100.15"]),
        NodeEntry::new("nonsense", &["10.244.16.0/99"], &["192.0.2.16"]),
        NodeEntry::new("everything", &["0.0.0.0/0"], &["192.0.2.17"]),
    ]);
    lab.write_nodes(&entries)?;
    let _agents = lab.start_agents()?;
    let node = &lab.nodes[0];
    node.wait_converged()?;
    let told = node.ask_agent("/readyz")?.1;
    for (kind, name) in [
        ("invalid_node", "no-cidr"),
        ("invalid_node", "no-address"),
        ("cidr_conflict", "twin"),
        ("cidr_conflict", "collides"),
        ("off_link", "far"),
        ("invalid_node", "nonsense"),
        ("invalid_node", "everything"),
    ] {
        let found = told
            .lines()
            .any(|line| line.starts_with(&format!("problem: {kind}")) && line.contains(name));
        ensure!(found, "nothing of {name} as {kind} in\n{told}");
        ensure!(node.agent_log().contains(name), "{}", node.agent_log());
    }
    let routes = node.routes()?;
    ensure!(routes.contains("10.244.2.0/24 via 192.0.2.2 "), "{routes}");
    ensure!(
        lacks(
            node,
            &[
                "10.244.12.",
                "192.0.2.0/25",
                "10.244.15.",
                "10.244.16.",
                "default"
            ]
        )?,
        "{routes}"
    );
    let [a, b] = [node.add_pod("a")?, lab.nodes[1].add_pod("b")?];
    let _server = Server::start(&b.machine, 80)?;
    expect_seen(&a.machine, &b.v4(), 80, &a.v4())
}

fn a_node_that_changes_its_address_is_followed() -> Result<()> {
    let (lab, _agents) = Lab::with_agents("a9", 2)?;
    let [a, b] = [lab.nodes[0].add_pod("a")?, lab.nodes[1].add_pod("b")?];
    let _servers = [
        Server::start(&b.machine, 80)?,
        Server::start(&lab.internet, 80)?,
    ];
    expect_seen(&b.machine, INTERNET[0], 80, "192.0.2.2")?;
    let moved = &lab.nodes[1].machine;
    moved.run(&["ip", "address", "add", "192.0.2.52/24", "dev", "eth0"])?;
    // The kernel makes the second address the first when the first goes, and keeps the routes.
    moved.run(&["sysctl", "-qw", "net.ipv4.conf.all.promote_secondaries=1"])?;
    moved.run(&["ip", "address", "del", "192.0.2.2/24", "dev", "eth0"])?;
    let mut entries = lab.entries();
    entries[1].addresses[0] = "192.0.2.52".into();
    lab.write_nodes(&entries)?;
    wait_for("routes follow the address", REREAD, || {
        holds(&lab.nodes[0], &["10.244.2.0/24 via 192.0.2.52 "])
    })?;
    expect_seen(&a.machine, &b.v4(), 80, &a.v4())?;
    ensure!(holds(&lab.nodes[1], &["10.244.1.0/24 via 192.0.2.1 "])?);
    expect_seen(&b.machine, INTERNET[0], 80, "192.0.2.52")
}
