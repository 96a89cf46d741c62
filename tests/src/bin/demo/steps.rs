//! The main job, step by step.

use crate::table::Table;
use anyhow::{Context, Result, bail, ensure};
use slash32_tests::lab::{CLIENT, INTERNET, Lab};
use slash32_tests::machine::{Machine, Running};
use slash32_tests::pod::Pod;
use slash32_tests::traffic::{Server, Stream, ask_tcp, ask_udp, ping};
use slash32_tests::wait;
use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

/// The service port in pods and on the internet host.
const PORT: u16 = 80;
/// The host port of the pod "ingress" on node1.
const HOST_PORT: u16 = 8080;
const SOON: Duration = Duration::from_secs(5);

/// Everything that the demo made; dropped in this order.
pub(crate) struct Stage {
    servers: Vec<Server>,
    agents: Vec<Running>,
    pub(crate) pods: Vec<Pod>,
    pub(crate) lab: Lab,
}

/// Lab, agents and pods.
pub(crate) fn prepare(table: &mut Table) -> Result<Stage> {
    let started = Instant::now();
    let lab = Lab::flat("demo", 3)?;
    table.section(
        "Three nodes on one link; an internet host that has no route to pods; a client outside",
    );
    table.row(
        "namespaces, links, addresses",
        Ok(format!("{} ms", started.elapsed().as_millis())),
    );
    let started = Instant::now();
    let agents = lab.start_agents()?;
    table.row(
        "slash32-agent on each node, from a file of Nodes",
        Ok(format!(
            "all ready after {} ms",
            started.elapsed().as_millis()
        )),
    );
    let mut pods = Vec::new();
    for node in &lab.nodes {
        for role in ["a", "b"] {
            let pod = node.add_pod(&format!("{role}{}", node.number))?;
            let seen = format!(
                "{:<40} {:.1} ms",
                pod.addresses().join("  "),
                node.last_operation_ms()?
            );
            table.row(
                &format!("CNI ADD of pod {} on {}", pod.name, node.name),
                Ok(seen),
            );
            pods.push(pod);
        }
    }
    let ingress = lab.nodes[0].add_pod_with_ports(
        "ingress",
        &[(HOST_PORT, PORT, "tcp"), (HOST_PORT, PORT, "udp")],
    )?;
    table.row(
        &format!("CNI ADD of pod ingress on node1, host port {HOST_PORT}"),
        Ok(ingress.addresses().join("  ")),
    );
    pods.push(ingress);
    let mut servers = vec![Server::start(&lab.internet, PORT)?];
    for pod in &pods {
        servers.push(Server::start(&pod.machine, PORT)?);
    }
    Ok(Stage {
        servers,
        agents,
        pods,
        lab,
    })
}

pub(crate) fn run(mut stage: Stage, table: &mut Table) -> Result<()> {
    pod_to_pod(&stage, table);
    pod_to_internet(&stage, table);
    host_ports(&stage, table);
    agent_killed(&mut stage, table);
    route_deleted(&stage, table);
    node_removed(&stage, table);
    cleared_away(stage, table)
}

fn pod<'a>(stage: &'a Stage, name: &str) -> Result<&'a Pod> {
    stage
        .pods
        .iter()
        .find(|pod| pod.name == name)
        .with_context(|| format!("no pod {name}"))
}

fn pod_to_pod(stage: &Stage, table: &mut Table) {
    table.section("Pod to pod");
    for (from, to, where_) in [
        ("a1", "b1", "same node"),
        ("a1", "a2", "node1 to node2"),
        ("b3", "a1", "node3 to node1"),
    ] {
        for family in ["IPv4", "IPv6"] {
            let seen = || -> Result<String> {
                let (from, to) = (pod(stage, from)?, pod(stage, to)?);
                let (source, target) = if family == "IPv4" {
                    (from.v4(), to.v4())
                } else {
                    (from.v6(), to.v6())
                };
                let round_trip = ping(&from.machine, &target)?;
                let saw = ask_tcp(&from.machine, &target, PORT)?;
                ensure!(saw == source, "the server saw {saw} instead of {source}");
                Ok(format!("{round_trip:.3} ms, server saw the pod: {saw}"))
            };
            table.row(&format!("{from} to {to}, {where_}, {family}"), seen());
        }
    }
}

fn pod_to_internet(stage: &Stage, table: &mut Table) {
    table.section("Pod to internet (the server must see the node, never the pod)");
    for (name, number) in [("a1", 0), ("b2", 1)] {
        for (family, target) in INTERNET.iter().enumerate() {
            let seen = || -> Result<String> {
                let node = &stage.lab.nodes[number].addresses()[family];
                let saw = ask_tcp(&pod(stage, name)?.machine, target, PORT)?;
                ensure!(saw == *node, "the server saw {saw} instead of {node}");
                Ok(format!("server saw the node: {saw}"))
            };
            table.row(&format!("{name} to {target}"), seen());
        }
    }
}

fn host_ports(stage: &Stage, table: &mut Table) {
    table.section(&format!("Host port {HOST_PORT} of node1"));
    let [v4, v6] = stage.lab.nodes[0].addresses();
    let pod_machine = |name: &str| pod(stage, name).map(|pod| pod.machine.clone());
    let ways: [(&str, Result<Machine>, &str, Option<&str>); 8] = [
        (
            "from outside",
            Ok(stage.lab.client.clone()),
            &v4,
            Some(CLIENT[0]),
        ),
        (
            "from outside, IPv6",
            Ok(stage.lab.client.clone()),
            &v6,
            Some(CLIENT[1]),
        ),
        (
            "from another node",
            Ok(stage.lab.nodes[1].machine.clone()),
            &v4,
            Some("192.0.2.2"),
        ),
        (
            "from the node itself, by its address",
            Ok(stage.lab.nodes[0].machine.clone()),
            &v4,
            None,
        ),
        (
            "from the node itself, by 127.0.0.1",
            Ok(stage.lab.nodes[0].machine.clone()),
            "127.0.0.1",
            None,
        ),
        ("from the pod itself", pod_machine("ingress"), &v4, None),
        ("from another pod on the node", pod_machine("a1"), &v4, None),
        ("from a pod on another node", pod_machine("a2"), &v4, None),
    ];
    for (what, machine, target, source) in ways {
        let seen = machine.and_then(|machine| {
            let tcp = ask_tcp(&machine, target, HOST_PORT)?;
            let udp = ask_udp(&machine, target, HOST_PORT)?;
            if let Some(source) = source {
                ensure!(
                    tcp == source && udp == source,
                    "the server saw {tcp} (TCP) and {udp} (UDP) instead of {source}"
                );
            }
            Ok(format!("TCP and UDP, server saw {tcp}"))
        });
        table.row(what, seen);
    }
}

/// One agent is killed and started again while traffic crosses its node in every way.
fn agent_killed(stage: &mut Stage, table: &mut Table) {
    table.section("node1's agent killed (SIGKILL) and started again under traffic");
    let mut result = || -> Result<Vec<(&str, String)>> {
        let interval = Duration::from_millis(2);
        let streams = [
            (
                "pod to pod across nodes",
                Stream::start(
                    &pod(stage, "a1")?.machine,
                    &pod(stage, "a2")?.v4(),
                    PORT,
                    interval,
                )?,
            ),
            (
                "pod to internet",
                Stream::start(&pod(stage, "b1")?.machine, INTERNET[0], PORT, interval)?,
            ),
            (
                "client to host port",
                Stream::start(&stage.lab.client, "192.0.2.1", HOST_PORT, interval)?,
            ),
        ];
        std::thread::sleep(Duration::from_millis(500));
        stage.agents.remove(0).kill()?;
        std::thread::sleep(Duration::from_millis(500));
        stage.agents.insert(0, stage.lab.nodes[0].spawn_agent()?);
        std::thread::sleep(Duration::from_millis(1500));
        let mut rows = Vec::new();
        for (what, stream) in streams {
            let tally = stream.finish()?;
            ensure!(
                tally.sent > 100,
                "{what}: only {} packets were sent",
                tally.sent
            );
            ensure!(
                tally.lost == 0,
                "{what}: {} of {} packets lost",
                tally.lost,
                tally.sent
            );
            rows.push((what, format!("{} sent, {} lost", tally.sent, tally.lost)));
        }
        Ok(rows)
    };
    match result() {
        Ok(rows) => rows
            .into_iter()
            .for_each(|(what, seen)| table.row(what, Ok(seen))),
        Err(error) => table.row("traffic", Err(error)),
    }
}

fn route_deleted(stage: &Stage, table: &mut Table) {
    table.section("Repair");
    let node = &stage.lab.nodes[0].machine;
    let seen = |family: &'static str, prefix: &'static str| -> Result<String> {
        let present = || {
            Ok(!node
                .read(&["ip", family, "route", "show", prefix])?
                .is_empty())
        };
        ensure!(present()?, "{prefix} is not there to begin with");
        let took = monitored_repair(node, family, prefix)?;
        ensure!(wait::until("the route is back", SOON, present)? < SOON);
        Ok(format!("back after {took:.1} ms"))
    };
    table.row(
        "route to node2's pods deleted by hand, IPv4",
        seen("-4", "10.244.2.0/24"),
    );
    table.row(
        "route to node2's pods deleted by hand, IPv6",
        seen("-6", "fd00:244:2::/64"),
    );
    let relaid = || -> Result<String> {
        let started = Instant::now();
        node.run(&["nft", "flush", "ruleset"])?;
        wait::until("the host port answers again", SOON, || {
            Ok(ask_tcp(&stage.lab.client, "192.0.2.1", HOST_PORT).is_ok())
        })?;
        Ok(format!(
            "host port answers {:.0} ms after 'nft flush ruleset' was started",
            ms(started.elapsed())
        ))
    };
    table.row("all nftables rules flushed by hand", relaid());
}

/// Milliseconds between the two events, by the times at which `ip monitor` was told of them.
fn monitored_repair(node: &Machine, family: &str, prefix: &str) -> Result<f64> {
    let mut command = node.command("ip");
    command
        .args([family, "-ts", "monitor", "route"])
        .stdout(std::process::Stdio::piped());
    let mut monitor = node.start(&mut command)?;
    let lines = BufReader::new(
        monitor
            .child
            .stdout
            .take()
            .context("no pipe from ip monitor")?,
    )
    .lines();
    std::thread::sleep(Duration::from_millis(200));
    node.run(&["ip", family, "route", "del", prefix])?;
    let mut deleted = None;
    for line in lines {
        let line = line?;
        if !line.contains(prefix) {
            continue;
        }
        let at = wait::seconds_of_day(&line).with_context(|| format!("no time in {line:?}"))?;
        match (line.contains("Deleted "), deleted) {
            (true, _) => deleted = Some(at),
            // Midnight aside.
            (false, Some(before)) => return Ok((at - before) * 1e3),
            (false, None) => {}
        }
    }
    bail!("ip monitor ended")
}

fn node_removed(stage: &Stage, table: &mut Table) {
    let node = &stage.lab.nodes[0].machine;
    let seen = || -> Result<String> {
        let two: Vec<_> = stage
            .lab
            .entries()
            .into_iter()
            .filter(|entry| entry.name != "node3")
            .collect();
        stage.lab.write_nodes(&two)?;
        let took = wait::until("node3's routes are gone", SOON, || {
            Ok(node
                .read(&["ip", "route", "show", "10.244.3.0/24"])?
                .is_empty()
                && node
                    .read(&["ip", "-6", "route", "show", "fd00:244:3::/64"])?
                    .is_empty())
        })?;
        ensure!(
            !node
                .read(&["ip", "route", "show", "10.244.2.0/24"])?
                .is_empty(),
            "node2's route is gone too"
        );
        Ok(format!(
            "its routes are gone after {:.0} ms, node2's stay",
            ms(took)
        ))
    };
    table.row("node3 removed from the file of Nodes", seen());
}

/// DELs, then the proof that nothing is left; then `uninstall`, and the same for the node.
fn cleared_away(stage: Stage, table: &mut Table) -> Result<()> {
    table.section("The end");
    let Stage {
        servers,
        agents,
        pods,
        lab,
    } = stage;
    drop(servers);
    let count = pods.len();
    let started = Instant::now();
    let deleted: Result<()> = pods.into_iter().try_for_each(Pod::del);
    table.row(
        "CNI DEL of all pods",
        deleted.map(|()| format!("{count} pods in {:.0} ms", ms(started.elapsed()))),
    );
    for node in &lab.nodes {
        table.row(
            &format!("left on {}", node.name),
            node.expect_clean()
                .map(|()| "no link, route, address, record or host port".into()),
        );
    }
    drop(agents);
    for node in &lab.nodes {
        let seen = || -> Result<String> {
            let outcome = slash32_tests::machine::finish(uninstall(node)?, b"", SOON)?;
            ensure!(
                outcome.status.success(),
                "{}{}",
                outcome.stdout,
                outcome.stderr
            );
            let routes = node.machine.read(&["ip", "route", "show", "proto", "32"])?
                + &node
                    .machine
                    .read(&["ip", "-6", "route", "show", "proto", "32"])?;
            let tables = node.machine.read(&["nft", "list", "tables"])?;
            ensure!(
                routes.is_empty() && !tables.contains("slash32"),
                "left:\n{routes}\n{tables}"
            );
            Ok("no route and no table of ours".into())
        };
        table.row(&format!("slash32-agent uninstall on {}", node.name), seen());
    }
    Ok(())
}

fn uninstall(node: &slash32_tests::node::Node) -> Result<std::process::Command> {
    let mut command = node.agent_command()?;
    command.args(["uninstall"]);
    Ok(command)
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
