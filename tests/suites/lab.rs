//! The lab itself, before anything of ours runs in it: a test bed that is wrong proves nothing.

use anyhow::{Result, ensure};
use slash32_tests::lab::{CLIENT, INTERNET, Lab};
use slash32_tests::machine::{Machine, finish};
use slash32_tests::{suite, traffic};
use std::process::ExitCode;
use std::time::{Duration, Instant};

fn main() -> ExitCode {
    suite::main(&[
        (
            "nodes_client_and_internet_reach_each_other",
            nodes_client_and_internet_reach_each_other,
        ),
        (
            "nobody_outside_has_a_route_to_pod_cidrs",
            nobody_outside_has_a_route_to_pod_cidrs,
        ),
        (
            "each_machine_has_its_own_folders",
            each_machine_has_its_own_folders,
        ),
        ("a_stream_counts_what_is_lost", a_stream_counts_what_is_lost),
        (
            "nodes_of_two_links_meet_in_a_router_that_knows_no_pod_cidr",
            nodes_of_two_links_meet_in_a_router_that_knows_no_pod_cidr,
        ),
        (
            "a_program_that_leaves_a_child_on_its_stdout_is_told",
            a_program_that_leaves_a_child_on_its_stdout_is_told,
        ),
        (
            "a_program_that_does_not_end_is_killed",
            a_program_that_does_not_end_is_killed,
        ),
    ])
}

fn nodes_client_and_internet_reach_each_other() -> Result<()> {
    let lab = Lab::flat("l1", 2)?;
    for [v4, v6] in [INTERNET, CLIENT] {
        traffic::ping(&lab.nodes[0].machine, v4)?;
        traffic::ping(&lab.nodes[0].machine, v6)?;
    }
    let _server = traffic::Server::start(&lab.internet, 80)?;
    ensure!(traffic::ask_tcp(&lab.nodes[1].machine, INTERNET[0], 80)? == "192.0.2.2");
    ensure!(traffic::ask_udp(&lab.nodes[1].machine, INTERNET[1], 80)? == "2001:db8:2::2");
    Ok(())
}

fn nobody_outside_has_a_route_to_pod_cidrs() -> Result<()> {
    let lab = Lab::flat("l2", 1)?;
    for machine in [&lab.router, &lab.internet, &lab.client] {
        let routes = machine.read(&["ip", "route"])?;
        ensure!(!routes.contains("10.244."), "{}: {routes}", machine.name);
    }
    Ok(())
}

fn each_machine_has_its_own_folders() -> Result<()> {
    let lab = Lab::flat("l3", 2)?;
    lab.nodes[0]
        .machine
        .run(&["touch", "/run/slash32/here", "/etc/cni/net.d/here"])?;
    ensure!(
        lab.nodes[0]
            .machine
            .try_run(&["test", "-e", "/run/slash32/here"])?
            .status
            .success()
    );
    ensure!(
        !lab.nodes[1]
            .machine
            .try_run(&["test", "-e", "/run/slash32/here"])?
            .status
            .success()
    );
    ensure!(
        !lab.nodes[1]
            .machine
            .try_run(&["test", "-e", "/etc/cni/net.d/here"])?
            .status
            .success()
    );
    Ok(())
}

fn a_stream_counts_what_is_lost() -> Result<()> {
    let lab = Lab::flat("l4", 1)?;
    let _server = traffic::Server::start(&lab.internet, 80)?;
    let stream = traffic::Stream::start(&lab.client, INTERNET[0], 80, Duration::from_millis(1))?;
    std::thread::sleep(Duration::from_millis(300));
    lab.router.run(&["ip", "link", "set", "uplink", "down"])?;
    std::thread::sleep(Duration::from_millis(1200));
    let tally = stream.finish()?;
    ensure!(
        tally.sent > 50 && tally.lost > 0 && tally.lost < tally.sent,
        "{tally:?}"
    );
    Ok(())
}

fn nodes_of_two_links_meet_in_a_router_that_knows_no_pod_cidr() -> Result<()> {
    let lab = Lab::split("l5", 2, 1)?;
    let addresses: Vec<_> = lab.nodes.iter().map(|node| node.addresses()).collect();
    ensure!(
        addresses[1] == ["192.0.2.2", "2001:db8:2::2"],
        "{addresses:?}"
    );
    ensure!(
        addresses[2] == ["203.0.113.3", "2001:db8:113::3"],
        "{addresses:?}"
    );
    for (from, to) in [(0, 1), (0, 2), (2, 1)] {
        for address in &addresses[to] {
            traffic::ping(&lab.nodes[from].machine, address)?;
        }
    }
    // One hop more than on a link of their own.
    let path = ["ping", "-n", "-c1", "-W1", "-t1", "203.0.113.3"];
    let told = lab.nodes[0].machine.try_run(&path)?;
    ensure!(told.stdout.contains("192.0.2.254"), "{}", told.stdout);
    for address in INTERNET {
        traffic::ping(&lab.nodes[2].machine, address)?;
    }
    let routes = lab.router.read(&["ip", "route"])?;
    ensure!(!routes.contains("10.244."), "{routes}");
    Ok(())
}

fn a_program_that_leaves_a_child_on_its_stdout_is_told() -> Result<()> {
    let machine = Machine::new("l6-host")?;
    let outcome = machine.try_run(&["sh", "-c", "sleep 30 & echo done"]);
    ensure!(outcome.is_err_and(|error| error.to_string().contains("holds its stdout")));
    // With pipes of its own it is nobody's concern.
    let apart = machine.read(&["sh", "-c", "sleep 30 >/dev/null 2>&1 & echo done"])?;
    ensure!(apart == "done", "{apart}");
    machine.remove()
}

fn a_program_that_does_not_end_is_killed() -> Result<()> {
    let machine = Machine::new("l7-host")?;
    let mut command = machine.command("sleep");
    command.arg("30");
    let started = Instant::now();
    ensure!(finish(command, b"", Duration::from_millis(200)).is_err());
    ensure!(started.elapsed() < Duration::from_secs(5));
    machine.remove()
}
