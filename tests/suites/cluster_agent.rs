//! The agent through everything that happens to agents: killed, misled, undone, misconfigured. Asserted on the kernel's
//! state, on traffic, and on what the agent tells.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use slash32_tests::lab::{INTERNET, Lab};
use slash32_tests::machine::Running;
use slash32_tests::node::Node;
use slash32_tests::nodes_file::{self, NodeEntry};
use slash32_tests::traffic::{Server, Stream, expect_seen, ping};
use slash32_tests::{suite, wait};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
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
            "foreign_routes_are_never_touched",
            foreign_routes_are_never_touched,
        ),
        (
            "a_node_that_changes_its_address_is_followed",
            a_node_that_changes_its_address_is_followed,
        ),
        (
            "routes_are_back_when_the_link_is_back",
            routes_are_back_when_the_link_is_back,
        ),
        (
            "the_conflist_comes_last_and_is_never_rewritten_in_vain",
            the_conflist_comes_last_and_is_never_rewritten_in_vain,
        ),
        (
            "while_a_pass_fails_the_node_is_not_ready",
            while_a_pass_fails_the_node_is_not_ready,
        ),
        (
            "health_readiness_and_metrics_are_told",
            health_readiness_and_metrics_are_told,
        ),
        (
            "wrong_settings_and_surroundings_are_named",
            wrong_settings_and_surroundings_are_named,
        ),
        (
            "run_once_tells_by_its_exit_code",
            run_once_tells_by_its_exit_code,
        ),
        (
            "uninstall_removes_all_that_is_ours_and_only_that",
            uninstall_removes_all_that_is_ours_and_only_that,
        ),
    ])
}

fn start(name: &str, nodes: usize) -> Result<(Lab, Vec<Running>)> {
    let lab = Lab::flat(name, nodes)?;
    let agents = lab.start_agents()?;
    Ok((lab, agents))
}

fn holds(node: &Node, cidrs: &[&str]) -> Result<bool> {
    let routes = node.routes()?;
    Ok(cidrs.iter().all(|cidr| routes.contains(cidr)))
}

fn lacks(node: &Node, cidrs: &[&str]) -> Result<bool> {
    let routes = node.routes()?;
    Ok(!cidrs.iter().any(|cidr| routes.contains(cidr)))
}

fn wait_for(what: &str, patience: Duration, ready: impl FnMut() -> Result<bool>) -> Result<()> {
    let took = wait::until(what, patience, ready)?;
    eprintln!("{what}: {took:?}");
    Ok(())
}

/// All that the kernel holds of the node's network, without what counts or ages.
fn kernel_state(node: &Node) -> Result<String> {
    node.machine.read(&[
        "sh",
        "-c",
        "ip -4 route show table all; ip -6 route show table all; ip -o link; nft list ruleset; sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding",
    ])
}

fn killing_and_restarting_agents_loses_no_packet() -> Result<()> {
    let (lab, mut agents) = start("a1", 2)?;
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
    let (lab, mut agents) = start("a2", 2)?;
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
    let (lab, _agents) = start("a3", 3)?;
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

fn nodes_that_leave_and_join_lose_and_get_their_routes() -> Result<()> {
    let (lab, _agents) = start("a4", 3)?;
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

/// The worst that an agent could do is to take an unread file for an empty cluster.
fn stale_routes_are_swept_after_the_first_whole_view_only() -> Result<()> {
    let (lab, mut agents) = start("a5", 3)?;
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
    let (lab, _agents) = start("a6", 2)?;
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

fn entry(name: &str, pod_cidrs: &[&str], addresses: &[&str]) -> NodeEntry {
    let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    NodeEntry {
        name: name.into(),
        pod_cidrs: own(pod_cidrs),
        addresses: own(addresses),
    }
}

fn nodes_that_cannot_be_used_are_told_and_the_others_go_on() -> Result<()> {
    let lab = Lab::flat("a7", 2)?;
    let mut entries = lab.entries();
    entries.extend([
        entry("no-cidr", &[], &["192.0.2.11"]),
        entry("no-address", &["10.244.12.0/24"], &[]),
        // By name after node2, whose podCIDR it wants.
        entry("twin", &["10.244.2.0/24"], &["192.0.2.13"]),
        entry("collides", &["192.0.2.0/25"], &["192.0.2.14"]),
        entry("far", &["10.244.15.0/24"], &["198.51.100.15"]),
        entry("nonsense", &["10.244.16.0/99"], &["192.0.2.16"]),
        entry("everything", &["0.0.0.0/0"], &["192.0.2.17"]),
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

fn a_node_that_changes_its_address_is_followed() -> Result<()> {
    let (lab, _agents) = start("a9", 2)?;
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

fn routes_are_back_when_the_link_is_back() -> Result<()> {
    let (lab, _agents) = start("a10", 2)?;
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

fn the_conflist_comes_last_and_is_never_rewritten_in_vain() -> Result<()> {
    let lab = Lab::flat("a11", 2)?;
    let node = &lab.nodes[0];
    // As long as its own Node is missing, nothing can be decided.
    lab.write_nodes(&lab.entries()[1..])?;
    let agent = node.spawn_agent_with(&["--resync-interval", "1s"])?;
    node.wait_told("problem: own_node")?;
    ensure!(node.ask_agent("/readyz")?.0 == 503);
    ensure!(!node.conflist_path().exists() && node.routes()?.is_empty());
    let ready_stamp = node.machine.folder("/run/slash32").join("ready");
    ensure!(!ready_stamp.exists());
    lab.write_nodes(&lab.entries())?;
    node.wait_ready()?;
    // At the moment at which runtimes may see it, all else is there.
    let state = kernel_state(node)?;
    for part in [
        SECOND[0],
        SECOND[1],
        "unreachable 10.244.1.0/24",
        "table inet slash32",
        "net.ipv4.ip_forward = 1",
        "net.ipv6.conf.all.forwarding = 1",
    ] {
        ensure!(state.contains(part), "{part} was not there yet:\n{state}");
    }
    ensure!(ready_stamp.is_file());
    let conflist = node.conflist()?;
    ensure!(conflist["plugins"][0]["type"] == "slash32", "{conflist}");
    let identity = || -> Result<_> {
        let metadata = std::fs::metadata(node.conflist_path())?;
        Ok((metadata.ino(), metadata.mtime(), metadata.mtime_nsec()))
    };
    let before = identity()?;
    ensure!(
        std::fs::metadata(node.conflist_path())?
            .permissions()
            .mode()
            & 0o777
            == 0o644
    );
    // Nodes come and go, the agent is restarted: the same text stays the same file.
    lab.write_nodes(&lab.entries()[..1])?;
    wait::until("a change of Nodes is taken", REREAD, || {
        lacks(node, &SECOND)
    })?;
    agent.kill()?;
    let _agent = node.spawn_agent()?;
    node.wait_converged()?;
    ensure!(identity()? == before, "the conflist was rewritten");
    let others = std::fs::read_dir(node.machine.folder("/etc/cni/net.d"))?.count();
    ensure!(others == 1, "{others} files beside the conflist");
    Ok(())
}

/// An nft that cannot write, until it is mended.
fn while_a_pass_fails_the_node_is_not_ready() -> Result<()> {
    let lab = Lab::flat("a12", 1)?;
    let node = &lab.nodes[0];
    let program = node.machine.folder("/etc/slash32").join("nft");
    let script = |last: &str| -> Result<()> {
        let new = program.with_extension("new");
        std::fs::write(
            &new,
            format!("#!/bin/sh\n[ \"$1\" = --version ] && exec nft --version\n{last}\n"),
        )?;
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755))?;
        Ok(std::fs::rename(&new, &program)?)
    };
    script("echo 'Error: no such luck' >&2; exit 1")?;
    let _agent = node.spawn_agent_with(&["--nft-program", "/etc/slash32/nft"])?;
    node.wait_told("problem: nftables")?;
    let (status, told) = node.ask_agent("/readyz")?;
    ensure!(status == 503 && told.contains("no such luck"), "{told}");
    ensure!(node.ask_agent("/healthz")?.0 == 200);
    ensure!(!node.conflist_path().exists());
    // One trouble does not keep the rest from being done.
    ensure!(holds(node, &["unreachable 10.244.1.0/24"])?);
    script("exec nft \"$@\"")?;
    node.wait_converged()?;
    ensure!(node.conflist_path().is_file());
    Ok(())
}

fn health_readiness_and_metrics_are_told() -> Result<()> {
    let (lab, _agents) = start("a13", 2)?;
    let node = &lab.nodes[0];
    node.wait_converged()?;
    ensure!(node.ask_agent("/healthz")? == (200, "ok\n".into()));
    ensure!(node.ask_agent("/readyz")? == (200, "ready\n".into()));
    ensure!(node.ask_agent("/else")?.0 == 404);
    let _pod = node.add_pod_with_ports("a", &[(8080, 80, "tcp")])?;
    node.machine.run(&["ip", "route", "del", "10.244.2.0/24"])?;
    let expected = [
        "slash32_ready 1",
        "slash32_nodes 2",
        "slash32_host_ports 2",
        "slash32_route_repairs_total 1",
        "slash32_problems{kind=\"kernel\"} 0",
        "slash32_nodes_file_last_error 0",
        "slash32_build_info{version=",
        "slash32_reconcile_duration_seconds_count ",
        "# EOF",
    ];
    let missing = || -> Result<Vec<&str>> {
        let metrics = node.ask_agent("/metrics")?.1;
        let all = expected.iter().copied();
        Ok(all
            .filter(|line| !metrics.lines().any(|told| told.starts_with(line)))
            .collect())
    };
    wait::until("metrics tell it all", REREAD, || Ok(missing()?.is_empty())).with_context(
        || {
            format!(
                "missing: {:?} in {:?}",
                missing(),
                node.ask_agent("/metrics")
            )
        },
    )?;
    // Nothing of it is open to the world.
    ensure!(slash32_tests::http::get(&lab.client, "192.0.2.1:9532", "/metrics").is_err());
    Ok(())
}

fn wrong_settings_and_surroundings_are_named() -> Result<()> {
    let lab = Lab::flat("a14", 1)?;
    let node = &lab.nodes[0];
    let file = node.machine.folder("/etc/slash32").join("bad.yaml");
    let config = ["--config", "/etc/slash32/bad.yaml"];
    let source = ["--nodes-file", "/etc/slash32/nodes.yaml"];
    // (settings file, arguments, exit code, what must be named)
    let cases: [(&str, &[&str], i32, &[&str]); 9] = [
        (
            "nodeNam: a\n",
            &config,
            2,
            &["nodeNam", "nodeName", "bad.yaml"],
        ),
        ("mtu: 12\n", &config, 2, &["mtu", "12", "576"]),
        ("mtu: 1400\nmtu: 1500\n", &config, 2, &["mtu", "bad.yaml"]),
        (
            "",
            &["--config", "/nonexistent.yaml"],
            2,
            &["/nonexistent.yaml"],
        ),
        (
            "",
            &["--cluster-cidrs", "10.0.0.1/8"],
            2,
            &["clusterCIDRs", "10.0.0.1/8"],
        ),
        (
            "",
            &["--leak-grace-period", "soon"],
            2,
            &["leakGracePeriod", "soon"],
        ),
        ("", &["--no-such-flag"], 2, &["--no-such-flag"]),
        ("", &[], 1, &["nodesFile", "--nodes-file"]),
        (
            "",
            &[
                "--nodes-file",
                "/etc/slash32/nodes.yaml",
                "--nft-program",
                "/nonexistent/nft",
            ],
            1,
            &["/nonexistent/nft"],
        ),
    ];
    for (settings, arguments, code, names) in cases {
        std::fs::write(&file, settings)?;
        let outcome = node.run_agent(&[&["run", "--node-name", "node1"], arguments].concat())?;
        expect_complaint(&outcome, code, names)
            .with_context(|| format!("{arguments:?} {settings:?}"))?;
    }
    let mut powerless = node.machine.command("setpriv");
    powerless
        .args(["--bounding-set=-net_admin", "--inh-caps=-net_admin"])
        .arg(lab.binaries()?.join("slash32-agent"))
        .args(["run", "--node-name", "node1"])
        .args(source);
    let outcome = slash32_tests::machine::finish(powerless, b"", Duration::from_secs(10))?;
    expect_complaint(&outcome, 1, &["CAP_NET_ADMIN", "root"])?;
    ensure!(!node.conflist_path().exists() && node.routes()?.is_empty());
    Ok(())
}

fn expect_complaint(
    outcome: &slash32_tests::machine::Outcome,
    code: i32,
    names: &[&str],
) -> Result<()> {
    ensure!(
        outcome.status.code() == Some(code),
        "{}: {}",
        outcome.status,
        outcome.stderr
    );
    for name in names {
        ensure!(
            outcome.stderr.contains(name),
            "{name} is not named: {}",
            outcome.stderr
        );
    }
    ensure!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
    Ok(())
}

fn run_once_tells_by_its_exit_code() -> Result<()> {
    let lab = Lab::flat("a15", 2)?;
    let node = &lab.nodes[0];
    let once = || {
        node.run_agent(&[
            "run",
            "--once",
            "--node-name",
            "node1",
            "--nodes-file",
            "/etc/slash32/nodes.yaml",
        ])
    };
    let first = once()?;
    ensure!(first.status.success(), "{}", first.stderr);
    ensure!(holds(node, &SECOND)? && node.conflist_path().is_file());
    let before = kernel_state(node)?;
    ensure!(once()?.status.success());
    // The table is laid anew by each process; what it says is the same.
    ensure!(kernel_state(node)? == before);
    let mut entries = lab.entries();
    entries.push(entry("far", &["10.244.15.0/24"], &["198.51.100.15"]));
    lab.write_nodes(&entries)?;
    expect_complaint(&once()?, 1, &["far", "198.51.100.15"])?;
    ensure!(holds(node, &SECOND)?);
    nodes_file::write_text(&node.nodes_file(), "")?;
    expect_complaint(&once()?, 1, &["nodes.yaml", "empty"])?;
    ensure!(holds(node, &SECOND)?);
    Ok(())
}

fn uninstall_removes_all_that_is_ours_and_only_that() -> Result<()> {
    let (lab, agents) = start("a16", 2)?;
    let node = &lab.nodes[0];
    let pod = node.add_pod_with_ports("a", &[(8080, 80, "tcp")])?;
    let neighbours = [
        "ip route add 10.98.0.0/24 via 192.0.2.2 proto static",
        "nft add table inet neighbour",
        "ip link add s3 type dummy 2>/dev/null || ip link add s3 type veth peer name s4",
        "touch /etc/cni/net.d/99-neighbour.conflist",
    ];
    for command in neighbours {
        node.machine.run(&["sh", "-c", command])?;
    }
    drop(agents);
    let before = kernel_state(node)?;
    let refused = node.run_agent(&["uninstall"])?;
    expect_complaint(&refused, 1, &["1 pod interface", "--force"])?;
    ensure!(kernel_state(node)? == before && node.conflist_path().is_file());
    let done = node.run_agent(&["uninstall", "--force"])?;
    ensure!(done.status.success(), "{}{}", done.stdout, done.stderr);
    for what in [
        "conflist",
        "link s32",
        "10.244.2.0/24",
        "table inet slash32",
    ] {
        ensure!(done.stdout.contains(what), "{what}: {}", done.stdout);
    }
    node.expect_clean()?;
    let after = kernel_state(node)?;
    ensure!(
        node.routes()?.is_empty() && !after.contains("slash32"),
        "{after}"
    );
    ensure!(!after.contains(&pod.host_link()));
    for kept in ["10.98.0.0/24", "table inet neighbour", ": s3@"] {
        ensure!(
            after.contains(kept) || (kept == ": s3@" && after.contains(": s3:")),
            "{kept} is gone:\n{after}"
        );
    }
    let left = std::fs::read_dir(node.machine.folder("/etc/cni/net.d"))?.count();
    ensure!(left == 1, "{left} files in the CNI folder");
    ensure!(std::fs::read_dir(node.machine.folder("/run/slash32"))?.count() == 0);
    let again = node.run_agent(&["uninstall"])?;
    ensure!(
        again.status.success() && again.stdout.contains("nothing of Slash32"),
        "{}{}",
        again.stdout,
        again.stderr
    );
    Ok(())
}
