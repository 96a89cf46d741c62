//! What a pod leaves behind when nobody calls DEL: found by the agent, and freed after the grace period, no sooner.

use anyhow::{Context, Result, ensure};
use slash32_tests::lab::{INTERNET, Lab};
use slash32_tests::machine::Running;
use slash32_tests::node::Node;
use slash32_tests::pod::Pod;
use slash32_tests::reboot::reboot;
use slash32_tests::traffic::{Server, expect_seen};
use slash32_tests::{suite, wait};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Looks every second and frees what has been dead for a second.
const EAGER: [&str; 4] = ["--resync-interval", "1s", "--leak-grace-period", "1s"];
const PATIENT: [&str; 4] = ["--resync-interval", "1s", "--leak-grace-period", "1h"];
const BOTH: [(u16, u16, &str); 2] = [(8080, 80, "tcp"), (8080, 80, "udp")];

fn main() -> ExitCode {
    suite::main(&[
        (
            "a_pod_that_vanished_without_del_is_freed_after_the_grace_period",
            a_pod_that_vanished_without_del_is_freed_after_the_grace_period,
        ),
        (
            "a_record_without_a_link_and_a_claim_without_a_record_are_freed",
            a_record_without_a_link_and_a_claim_without_a_record_are_freed,
        ),
        (
            "nothing_is_freed_within_the_grace_period",
            nothing_is_freed_within_the_grace_period,
        ),
        (
            "a_record_of_an_earlier_boot_is_freed_at_once",
            a_record_of_an_earlier_boot_is_freed_at_once,
        ),
        (
            "after_a_reboot_the_agent_starts_clean_and_the_first_pod_works",
            after_a_reboot_the_agent_starts_clean_and_the_first_pod_works,
        ),
    ])
}

fn state(node: &Node, folder: &str) -> PathBuf {
    node.machine.folder("/run/slash32").join(folder)
}

/// The pod's record: the one that holds its container ID.
fn record_of(node: &Node, pod: &Pod) -> Result<PathBuf> {
    let needle = format!("\"{}\"", pod.name);
    let entries = std::fs::read_dir(state(node, "attachments"))?;
    let mut paths = entries.flatten().map(|entry| entry.path());
    paths
        .find(|path| std::fs::read_to_string(path).is_ok_and(|text| text.contains(&needle)))
        .with_context(|| format!("no record of {}", pod.name))
}

/// What `leftovers` tells of this pod: by its link, its addresses, its record.
fn traces(node: &Node, pod: &Pod) -> Result<Vec<String>> {
    let left = node.leftovers()?;
    let marks: Vec<String> = pod
        .addresses()
        .into_iter()
        .chain([pod.host_link()])
        .collect();
    let mut traces: Vec<String> = left
        .into_iter()
        .filter(|line| marks.iter().any(|mark| line.contains(mark)))
        .collect();
    if let Ok(path) = record_of(node, pod) {
        traces.push(path.display().to_string());
    }
    Ok(traces)
}

fn wait_freed(node: &Node, pod: &Pod) -> Result<Duration> {
    wait::until(
        &format!("nothing is left of {}", pod.name),
        Duration::from_secs(8),
        || Ok(traces(node, pod)?.is_empty()),
    )
    .with_context(|| format!("left: {:?}\n{}", traces(node, pod), node.agent_log()))
}

fn start(name: &str, settings: &[&str]) -> Result<(Lab, Vec<Running>)> {
    let lab = Lab::flat(name, 1)?;
    let agents = lab.start_agents_with(settings)?;
    Ok((lab, agents))
}

/// The runtime was killed: the sandbox is gone, and nobody will call DEL.
fn a_pod_that_vanished_without_del_is_freed_after_the_grace_period() -> Result<()> {
    let (lab, _agents) = start("k1", &EAGER)?;
    let node = &lab.nodes[0];
    let lives = node.add_pod_with_ports("lives", &[(9090, 90, "tcp"), (9090, 90, "udp")])?;
    let _server = Server::start(&lives.machine, 90)?;
    let dies = node.add_pod_with_ports("dies", &BOTH)?;
    ensure!(!traces(node, &dies)?.is_empty());
    let had = dies.clone();
    dies.machine.remove()?;
    let took = wait_freed(node, &had)?;
    eprintln!("a pod that vanished is freed: {took:?} with a grace period of 1 s");
    // The port is free for the next pod, and its neighbour was left alone.
    let next = node.add_pod_with_ports("next", &BOTH)?;
    let _next = Server::start(&next.machine, 80)?;
    expect_seen(&lab.client, "192.0.2.1", 8080, "192.0.2.200")?;
    expect_seen(&lab.client, "192.0.2.1", 9090, "192.0.2.200")?;
    let metrics = node.ask_agent("/metrics")?.1;
    for line in [
        "slash32_leaks_freed_total{kind=\"record\"} 1\n",
        "slash32_leaks_freed_total{kind=\"address\"} 2\n",
    ] {
        ensure!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    // A late DEL of what was freed is no error, and hurts nobody (D1, D5).
    let del = had.call("DEL")?;
    ensure!(del.status.success(), "{}", del.stdout);
    expect_seen(&lab.client, "192.0.2.1", 8080, "192.0.2.200")?;
    next.del()?;
    lives.del()?;
    node.expect_clean()
}

fn a_record_without_a_link_and_a_claim_without_a_record_are_freed() -> Result<()> {
    let (lab, _agents) = start("k2", &EAGER)?;
    let node = &lab.nodes[0];
    let [linkless, recordless] = [
        node.add_pod_with_ports("linkless", &BOTH)?,
        node.add_pod("recordless")?,
    ];
    node.machine
        .run(&["ip", "link", "del", &linkless.host_link()])?;
    std::fs::remove_file(record_of(node, &recordless)?)?;
    node.machine
        .run(&["ip", "link", "del", &recordless.host_link()])?;
    wait_freed(node, &linkless)?;
    wait_freed(node, &recordless)?;
    node.expect_clean()
}

fn nothing_is_freed_within_the_grace_period() -> Result<()> {
    let (lab, _agents) = start("k3", &PATIENT)?;
    let node = &lab.nodes[0];
    let pod = node.add_pod("a")?;
    node.machine.run(&["ip", "link", "del", &pod.host_link()])?;
    let passes = || -> Result<u64> {
        let metrics = node.ask_agent("/metrics")?.1;
        let count = metrics.lines().find_map(|line| {
            line.strip_prefix("slash32_reconcile_duration_seconds_count ")?
                .parse()
                .ok()
        });
        count.context("no count of passes")
    };
    let before = passes()?;
    // Three rounds of the clock, all of which see the dead record.
    wait::until("three more passes", Duration::from_secs(10), || {
        Ok(passes()? >= before + 3)
    })?;
    ensure!(record_of(node, &pod).is_ok());
    ensure!(std::fs::read_dir(state(node, "ipam/slash32/addresses"))?.count() == 2);
    // DEL does at once what the grace period holds back.
    pod.del()?;
    node.expect_clean()
}

fn a_record_of_an_earlier_boot_is_freed_at_once() -> Result<()> {
    let (lab, _agents) = start("k4", &PATIENT)?;
    let node = &lab.nodes[0];
    let pod = node.add_pod_with_ports("a", &BOTH)?;
    node.machine.run(&["ip", "link", "del", &pod.host_link()])?;
    let path = record_of(node, &pod)?;
    let mut record: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
    let boot = record
        .as_object_mut()
        .and_then(|fields| {
            fields
                .iter_mut()
                .find(|(name, _)| name.to_lowercase().contains("boot"))
        })
        .context("the record says nothing about its boot")?
        .1;
    *boot = "00000000-0000-0000-0000-000000000000".into();
    std::fs::write(&path, record.to_string())?;
    wait_freed(node, &pod)?;
    node.expect_clean()
}

fn after_a_reboot_the_agent_starts_clean_and_the_first_pod_works() -> Result<()> {
    let (lab, agents) = start("k5", &[])?;
    let node = &lab.nodes[0];
    let old = [
        node.add_pod_with_ports("old-a", &BOTH)?,
        node.add_pod("old-b")?,
    ];
    for agent in agents {
        agent.kill()?;
    }
    reboot(node, old)?;
    // Until the agent has run, a host port is not to be had; everything else is (design: ADD needs no agent).
    let early = node.add_pod_with_ports("early", &BOTH);
    let refusal = format!("{:#}", early.err().context("a host port without a table")?);
    ensure!(refusal.contains("\"code\":11"), "{refusal}");
    node.expect_clean()?;
    let _agent = node.spawn_agent()?;
    node.wait_converged()?;
    node.expect_clean()?;
    let first = node.add_pod_with_ports("first", &BOTH)?;
    let _server = Server::start(&first.machine, 80)?;
    expect_seen(&lab.client, "192.0.2.1", 8080, "192.0.2.200")?;
    let _internet = Server::start(&lab.internet, 80)?;
    expect_seen(&first.machine, INTERNET[0], 80, "192.0.2.1")?;
    first.del()?;
    node.expect_clean()
}
