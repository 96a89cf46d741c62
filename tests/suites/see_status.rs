//! `slash32-agent status` on real nodes: with an agent and without, and when something is wrong.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use slash32_tests::lab::Lab;
use slash32_tests::node::Node;
use slash32_tests::{suite, wait};
use std::io::{BufRead, BufReader};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

/// The second node's podCIDRs.
const SECOND: [&str; 2] = ["10.244.2.0/24", "fd00:244:2::/64"];
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    suite::main(&[
        (
            "status_tells_peers_addresses_pods_operations_and_drift",
            status_tells_peers_addresses_pods_operations_and_drift,
        ),
        (
            "status_without_an_agent_tells_what_is_missing",
            status_without_an_agent_tells_what_is_missing,
        ),
        (
            "status_knows_peers_from_the_agent_and_else_from_the_kernel",
            status_knows_peers_from_the_agent_and_else_from_the_kernel,
        ),
        (
            "a_failed_operation_is_shown_with_its_error",
            a_failed_operation_is_shown_with_its_error,
        ),
        (
            "watch_tells_again_and_ends_with_its_reader",
            watch_tells_again_and_ends_with_its_reader,
        ),
        (
            "completion_and_manual_name_every_command",
            completion_and_manual_name_every_command,
        ),
    ])
}

/// `status -o json` as a value; `from_file`: with the file of Nodes that the agent has.
fn status(node: &Node, from_file: bool) -> Result<Value> {
    let mut arguments = vec!["status", "-o", "json", "--node-name", &node.name];
    if from_file {
        arguments.extend(["--nodes-file", "/etc/slash32/nodes.yaml"]);
    }
    let outcome = node.run_agent(&arguments)?;
    ensure!(outcome.status.success(), "{}", outcome.stderr);
    serde_json::from_str(&outcome.stdout).with_context(|| outcome.stdout)
}

/// The route's state of each podCIDR of the second node.
fn second(status: &Value) -> Vec<String> {
    let peers = status["peers"].as_array().cloned().unwrap_or_default();
    SECOND
        .iter()
        .map(|cidr| {
            let peer = peers.iter().find(|peer| peer["podCIDR"] == **cidr);
            peer.map_or("absent", |peer| peer["route"].as_str().unwrap_or("?"))
                .to_owned()
        })
        .collect()
}

fn status_tells_peers_addresses_pods_operations_and_drift() -> Result<()> {
    let (lab, _agents) = Lab::with_agents("s1", 2)?;
    let node = &lab.nodes[0];
    let pod = node.add_pod_with_ports("web", &[(8080, 80, "tcp")])?;
    let other = node.add_pod("gone")?;
    other.del()?;
    let told = status(node, true)?;
    ensure!(
        told["node"] == "node1" && told["nodesFrom"] == "file",
        "{told}"
    );
    ensure!(
        told["agent"]["running"] == true && told["agent"]["ready"] == true,
        "{told}"
    );
    ensure!(
        told["backend"]["name"] == "nftables" && told["backend"]["inPlace"] == true,
        "{told}"
    );
    ensure!(second(&told) == ["present", "present"], "{told}");
    for peer in told["peers"].as_array().context("no peers")? {
        ensure!(
            peer["node"] == "node2"
                && peer["way"] == "direct"
                && peer["link"] == "eth0"
                && peer["mtu"] == 1500,
            "{peer}"
        );
    }
    let usage = &told["addresses"][0];
    ensure!(
        usage["range"] == "10.244.1.0/24"
            && usage["used"] == 1
            && usage["free"] == "253"
            && usage["cooling"] == 1,
        "{usage}"
    );
    let pods = told["pods"].as_array().context("no pods")?;
    ensure!(pods.len() == 1, "{told}");
    ensure!(
        pods[0]["name"] == "lab/web"
            && pods[0]["addresses"][0] == pod.v4()
            && pods[0]["addresses"][1] == pod.v6()
            && pods[0]["link"] == pod.host_link()
            && pods[0]["linkState"] == "up"
            && pods[0]["hostPorts"][0] == "8080/tcp -> 80",
        "{}",
        pods[0]
    );
    let operations = told["operations"].as_array().context("no operations")?;
    let commands: Vec<&Value> = operations
        .iter()
        .map(|operation| &operation["command"])
        .collect();
    ensure!(commands == ["ADD", "ADD", "DEL"], "{operations:?}");
    ensure!(operations.iter().all(|operation| operation["code"] == 0));
    ensure!(told["agent"]["repairs"]["routes"] == 0, "{told}");

    node.machine
        .run(&["ip", "route", "del", SECOND[0], "proto", "32"])?;
    wait::until("the repair is told", PATIENCE, || {
        let told = status(node, true)?;
        let repaired = told["agent"]["repairs"]["routes"] == 1;
        Ok(repaired && second(&told) == ["present", "present"])
    })?;
    Ok(())
}

fn status_without_an_agent_tells_what_is_missing() -> Result<()> {
    let (lab, mut agents) = Lab::with_agents("s2", 2)?;
    let node = &lab.nodes[0];
    let pod = node.add_pod("web")?;
    agents.remove(0).kill()?;
    node.machine
        .run(&["ip", "route", "del", SECOND[0], "proto", "32"])?;
    node.machine
        .run(&["ip", "link", "set", &pod.host_link(), "down"])?;
    node.machine
        .run(&["nft", "delete", "table", "inet", "slash32"])?;
    let told = status(node, true)?;
    ensure!(told["agent"]["running"] == false, "{told}");
    ensure!(second(&told) == ["missing", "present"], "{told}");
    ensure!(told["pods"][0]["linkState"] == "down", "{told}");
    ensure!(told["backend"]["inPlace"] == false, "{told}");
    ensure!(told["unread"] == serde_json::json!([]), "{told}");
    // For people too.
    let outcome = node.run_agent(&[
        "status",
        "--node-name",
        "node1",
        "--nodes-file",
        "/etc/slash32/nodes.yaml",
    ])?;
    for words in ["agent not running", "MISSING", "DOWN", "lab/web"] {
        ensure!(
            outcome.stdout.contains(words),
            "{words}: {}",
            outcome.stdout
        );
    }
    ensure!(
        !outcome.stdout.contains('\x1b'),
        "colour without a terminal"
    );
    Ok(())
}

fn status_knows_peers_from_the_agent_and_else_from_the_kernel() -> Result<()> {
    let (lab, mut agents) = Lab::with_agents("s3", 2)?;
    let node = &lab.nodes[0];
    let told = status(node, false)?;
    ensure!(told["nodesFrom"] == "agent", "{told}");
    ensure!(second(&told) == ["present", "present"], "{told}");
    agents.remove(0).kill()?;
    let told = status(node, false)?;
    ensure!(told["nodesFrom"] == "kernel", "{told}");
    ensure!(second(&told) == ["unchecked", "unchecked"], "{told}");
    ensure!(told["addresses"][0]["range"] == "10.244.1.0/24", "{told}");
    Ok(())
}

fn a_failed_operation_is_shown_with_its_error() -> Result<()> {
    let (lab, _agents) = Lab::with_agents("s4", 1)?;
    let node = &lab.nodes[0];
    let _first = node.add_pod_with_ports("web", &[(8080, 80, "tcp")])?;
    ensure!(
        node.add_pod_with_ports("late", &[(8080, 80, "tcp")])
            .is_err()
    );
    let told = status(node, true)?;
    let operations = told["operations"].as_array().context("no operations")?;
    let failed = operations
        .iter()
        .find(|operation| operation["code"] == 101)
        .with_context(|| told.to_string())?;
    ensure!(
        failed["of"] == "late" && failed["command"] == "ADD",
        "{failed}"
    );
    let error = failed["error"].as_str().unwrap_or_default();
    ensure!(
        error.contains("8080") && error.contains("lab/web"),
        "{error}"
    );
    Ok(())
}

fn watch_tells_again_and_ends_with_its_reader() -> Result<()> {
    let (lab, _agents) = Lab::with_agents("s5", 1)?;
    let node = &lab.nodes[0];
    let mut command = node.agent_command()?;
    command
        .args([
            "status",
            "--watch",
            "--interval",
            "1",
            "--node-name",
            "node1",
        ])
        .stdout(Stdio::piped());
    let mut running = node.machine.start(&mut command)?;
    let stdout = running.child.stdout.take().context("no pipe")?;
    let mut times = 0;
    for line in BufReader::new(stdout).lines() {
        times += usize::from(line?.starts_with("node node1"));
        if times == 2 {
            break;
        }
    }
    ensure!(times == 2, "it ended after {times}");
    // The pipe is closed now: the next look finds no reader, which is no failure.
    let status = running.wait(PATIENCE)?;
    ensure!(status.success(), "{status}");
    Ok(())
}

fn completion_and_manual_name_every_command() -> Result<()> {
    let lab = Lab::flat("s6", 1)?;
    let node = &lab.nodes[0];
    let commands = ["run", "status", "uninstall"];
    for arguments in [
        &["completion", "bash"][..],
        &["completion", "zsh"],
        &["completion", "fish"],
        &["man"],
        &["--help"],
    ] {
        let outcome = node.run_agent(arguments)?;
        ensure!(outcome.status.success(), "{}", outcome.stderr);
        for command in commands {
            ensure!(outcome.stdout.contains(command), "{arguments:?}: {command}");
        }
    }
    let page = node.run_agent(&["man", "status"])?.stdout;
    ensure!(
        page.contains(".TH slash32\\-agent\\-status") || page.contains(".TH slash32-agent-status"),
        "{page}"
    );
    ensure!(page.contains("kubectl"), "examples are missing: {page}");
    let outcome = node.run_agent(&["man", "nonsense"])?;
    ensure!(!outcome.status.success() && outcome.stderr.contains("nonsense"));
    Ok(())
}
