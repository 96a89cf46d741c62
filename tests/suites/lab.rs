//! The lab itself, before anything of ours runs in it: a test bed that is wrong proves nothing.

use anyhow::{Result, ensure};
use slash32_tests::lab::{CLIENT, INTERNET, Lab};
use slash32_tests::{suite, traffic};
use std::process::ExitCode;
use std::time::Duration;

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
