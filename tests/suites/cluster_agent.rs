//! The agent killed, stopped and undone: what it keeps, and how soon it puts right what others change. Asserted on the
//! kernel's state and on traffic.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use slash32_tests::judge::{holds, kernel_state, lacks, wait_for};
use slash32_tests::lab::{INTERNET, Lab};
use slash32_tests::node::Node;
use slash32_tests::traffic::{Server, Stream, expect_seen, ping};
use slash32_tests::{suite, wait};
use std::process::ExitCode;
use std::time::Duration;

/// What a repair after an event may take. Measured: some milliseconds; the bound is for a machine that has other work.
const REPAIR: Duration = Duration::from_secs(1);
/// A change of the file of Nodes is read when the file has been still for a moment.
const REREAD: Duration = Duration::from_secs(5);
/// The second node's podCIDRs.
const SECOND: [&str; 2] = ["10.244.2.0/24", "fd00:244:2::/64"];
/// The third node's.
const THIRD: [&str; 2] = ["10.244.3.0/24", "fd00:244:3::/64"];

fn main() -> ExitCode {
    suite::main(&[
        (
            "killing_and_restarting_agents_loses_no_packet",
            killing_and_restarting_agents_loses_no_packet,
        ),
        (
            "sigterm_leaves_the_kernel_as_it_is",
            sigterm_leaves_the_kernel_as_it_is,
        ),
        (
            "a_deleted_or_changed_route_is_put_right",
            a_deleted_or_changed_route_is_put_right,
        ),
        (
            "foreign_routes_are_never_touched",
            foreign_routes_are_never_touched,
        ),
        (
            "routes_are_back_when_the_link_is_back",
            routes_are_back_when_the_link_is_back,
        ),
    ])
}

fn killing_and_restarting_agents_loses_no_packet() -> Result<()> {
    let (lab, mut agents) = Lab::with_agents("a1", 2)?;
    let [a, b] = [
        lab.nodes[0].add_pod("a")?,
        lab.nodes[1].add_pod_with_ports("b", &[(8080, 80, "tcp"), (8080, 80, "udp")])?,
    ];
    let _servers = [
        Server::start(&b.machine, 80)?,
        Server::start(&lab.internet, 80)?,
    ];
    let interval = Duration::from_millis(2);
    let streams = [
        ("across nodes", &a.machine, b.v4()),
        ("across nodes, IPv6", &a.machine, b.v6()),
        ("to the internet", &a.machine, INTERNET[0].to_owned()),
        ("to the internet, IPv6", &b.machine, INTERNET[1].to_owned()),
    ];
    let mut running = Vec::new();
    for (what, from, to) in streams {
        running.push((what, Stream::start(from, &to, 80, interval)?));
    }
    let host_port = Stream::start(&lab.client, "192.0.2.2", 8080, interval)?;
    running.push(("to a host port", host_port));
    for _ in 0..3 {
        for agent in agents.drain(..) {
            agent.kill()?;
        }
        std::thread::sleep(Duration::from_millis(100));
        agents = lab
            .nodes
            .iter()
            .map(Node::spawn_agent)
            .collect::<Result<_>>()?;
        for node in &lab.nodes {
            node.wait_converged()?;
        }
    }
    for (what, stream) in running {
        let tally = stream.finish()?;
        eprintln!("{what}: {tally:?}");
        ensure!(tally.sent > 100 && tally.lost == 0, "{what}: {tally:?}");
    }
    Ok(())
}

fn sigterm_leaves_the_kernel_as_it_is() -> Result<()> {
    let (lab, mut agents) = Lab::with_agents("a2", 2)?;
    let node = &lab.nodes[0];
    let pod = node.add_pod_with_ports("a", &[(8080, 80, "tcp")])?;
    let before = kernel_state(node)?;
    ensure!(before.contains("10.244.2.0/24") && before.contains("8080"));
    let agent = &mut agents[0];
    agent.signal(Signal::SIGTERM)?;
    let status = agent.wait(Duration::from_secs(5))?;
    ensure!(status.success(), "{status}");
    let after = kernel_state(node)?;
    ensure!(before == after, "before:\n{before}\nafter:\n{after}");
    ensure!(node.conflist_path().is_file());
    // And pods come and go without it.
    let _server = Server::start(&pod.machine, 80)?;
    let late = node.add_pod("late")?;
    expect_seen(&late.machine, &pod.v4(), 80, &late.v4())?;
    late.del()
}

fn a_deleted_or_changed_route_is_put_right() -> Result<()> {
    let (lab, _agents) = Lab::with_agents("a3", 3)?;
    let node = &lab.nodes[0];
    let before = node.routes()?;
    let as_before = || Ok(node.routes()? == before);
    ensure!(before.lines().count() == 6, "{before}");
    for undo in [
        "ip route del 10.244.2.0/24",
        "ip -6 route del fd00:244:2::/64",
        "ip route flush proto 32; ip -6 route flush proto 32",
        "ip route replace 10.244.2.0/24 via 192.0.2.3 proto 32",
        "ip route del unreachable 10.244.1.0/24",
        "ip route add 10.99.0.0/24 via 192.0.2.2 proto 32",
    ] {
        node.machine.run(&["sh", "-c", undo])?;
        wait_for(&format!("routes are as before '{undo}'"), REPAIR, as_before)?;
    }
    // A pod's own route, too, which the plugin made.
    let [pod, other] = [node.add_pod("a")?, lab.nodes[1].add_pod("b")?];
    let _server = Server::start(&other.machine, 80)?;
    let host_route = || -> Result<bool> {
        let route = node.machine.read(&["ip", "route", "show", &pod.v4()])?;
        Ok(route.contains(&pod.host_link()))
    };
    ensure!(host_route()?);
    // The agent is shown the route before it can miss it: events of a moment ago are still being worked off.
    ping(&node.machine, &pod.v4())?;
    std::thread::sleep(Duration::from_millis(200));
    node.machine.run(&["ip", "route", "del", &pod.v4()])?;
    wait_for("the route to a pod is back", REPAIR, host_route)?;
    expect_seen(&pod.machine, &other.v4(), 80, &pod.v4())
}

fn foreign_routes_are_never_touched() -> Result<()> {
    let lab = Lab::flat("a8", 3)?;
    let node = &lab.nodes[0];
    let foreign = [
        "10.98.0.0/24 via 192.0.2.2 proto static",
        "10.97.0.0/24 via 192.0.2.2 proto bird",
        "10.244.7.0/24 via 192.0.2.3 proto static",
        // Exactly where ours belongs.
        "10.244.2.0/24 via 192.0.2.254 proto static",
    ];
    for route in foreign {
        node.machine
            .run(&["sh", "-c", &format!("ip route add {route}")])?;
    }
    let _agents = lab.start_agents()?;
    node.wait_converged()?;
    node.wait_told("problem: foreign_route")?;
    let told = node.ask_agent("/readyz")?.1;
    ensure!(
        told.contains("10.244.2.0/24") && told.contains("192.0.2.254"),
        "{told}"
    );
    let all = node.machine.read(&["ip", "route"])?;
    for route in foreign {
        let (destination, rest) = route.split_once(' ').context("route")?;
        let via = rest.split(" proto").next().unwrap_or_default();
        ensure!(
            all.contains(&format!("{destination} {via}")),
            "{route} is not in\n{all}"
        );
    }
    ensure!(holds(node, &THIRD)? && holds(node, &[SECOND[1]])?, "{all}");
    ensure!(lacks(node, &[SECOND[0]])?);
    // Once the stranger is gone, ours takes its place.
    node.machine
        .run(&["ip", "route", "del", "10.244.2.0/24", "proto", "static"])?;
    wait_for("our route follows the foreign one", REPAIR * 3, || {
        holds(node, &["10.244.2.0/24 via 192.0.2.2 "])
    })?;
    wait::until("the problem is solved", REREAD, || {
        Ok(node.ask_agent("/readyz")?.1 == "ready\n")
    })
    .map(drop)
}

fn routes_are_back_when_the_link_is_back() -> Result<()> {
    let (lab, _agents) = Lab::with_agents("a10", 2)?;
    let node = &lab.nodes[0];
    // What network managers do by themselves: IPv6 addresses survive a flap.
    node.machine
        .run(&["sysctl", "-qw", "net.ipv6.conf.eth0.keep_addr_on_down=1"])?;
    let before = node.routes()?;
    for _ in 0..2 {
        node.machine.run(&["ip", "link", "set", "eth0", "down"])?;
        wait::until("the kernel takes the routes", REREAD, || {
            lacks(node, &[SECOND[0]])
        })?;
        node.machine.run(&["ip", "link", "set", "eth0", "up"])?;
        wait_for("the routes are back after a flap", REPAIR * 3, || {
            Ok(node.routes()? == before)
        })?;
    }
    let [a, b] = [node.add_pod("a")?, lab.nodes[1].add_pod("b")?];
    let _server = Server::start(&b.machine, 80)?;
    expect_seen(&a.machine, &b.v4(), 80, &a.v4())?;
    wait::until("problems of the flap are solved", REREAD, || {
        Ok(node.ask_agent("/readyz")?.1 == "ready\n")
    })
    .map(drop)
}
