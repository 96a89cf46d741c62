//! Tunnels over time: what others take away comes back, agents that are killed lose nothing, modes change under traffic,
//! nodes and tunnels go and leave nothing behind. The tunnel is that of SLASH32_TUNNEL, VXLAN without it.

use anyhow::{Context, Result, ensure};
use slash32_tests::judge::{holds, lacks, wait_for};
use slash32_tests::lab::Lab;
use slash32_tests::node::Node;
use slash32_tests::suite;
use slash32_tests::traffic::{Server, Stream, expect_seen, ping, send_bulk};
use slash32_tests::tunnels::{Kind, add_pods, mtu_of, start_agents};
use std::process::ExitCode;
use std::time::Duration;

const PORT: u16 = 80;
/// Something that a pass or two bring about.
const SOON: Duration = Duration::from_secs(10);
/// Between datagrams of a stream.
const INTERVAL: Duration = Duration::from_millis(2);

fn main() -> ExitCode {
    suite::main(&[
        (
            "what_others_take_from_the_tunnel_comes_back",
            what_others_take_from_the_tunnel_comes_back,
        ),
        (
            "an_agent_that_is_killed_and_started_again_loses_no_packet",
            an_agent_that_is_killed_and_started_again_loses_no_packet,
        ),
        (
            "from_none_to_cross_subnet_to_always_and_back_no_packet_is_lost_on_a_link",
            from_none_to_cross_subnet_to_always_and_back_no_packet_is_lost_on_a_link,
        ),
        (
            "pods_that_are_older_than_the_tunnel_learn_its_mtu",
            pods_that_are_older_than_the_tunnel_learn_its_mtu,
        ),
        (
            "a_node_that_leaves_takes_its_routes_and_entries_along",
            a_node_that_leaves_takes_its_routes_and_entries_along,
        ),
        (
            "a_mode_that_ends_leaves_no_trace_and_foreign_addresses_alone",
            a_mode_that_ends_leaves_no_trace_and_foreign_addresses_alone,
        ),
        ("uninstall_leaves_no_trace", uninstall_leaves_no_trace),
        (
            "a_node_address_that_changes_is_followed",
            a_node_address_that_changes_is_followed,
        ),
    ])
}

fn shell(node: &Node, text: &str) -> Result<String> {
    node.machine.read(&["sh", "-ec", text])
}

/// All that stands on the device, as text that no counter changes.
fn entries(node: &Node, kind: Kind) -> Result<String> {
    let device = kind.device();
    let show = format!(
        "ip -o address show dev {device} scope global | sed 's/^[0-9]*: //; s/ *valid_lft.*//'; ip neigh show dev {device} nud permanent; ip -6 neigh show dev {device} nud permanent"
    );
    let mut text = shell(node, &show)?;
    if kind == Kind::Vxlan {
        text.push_str(&shell(node, &format!("bridge fdb show dev {device}"))?);
    }
    Ok(text)
}

fn what_others_take_from_the_tunnel_comes_back() -> Result<()> {
    let kind = Kind::under_test();
    let lab = Lab::split("l1", 1, 1)?;
    if kind == Kind::Vxlan {
        // What an agent with other settings has left.
        let old = "ip link add s32vxlan type vxlan id 7 dstport 4789; ip link set s32vxlan up";
        shell(&lab.nodes[0], old)?;
    }
    let _agents = start_agents(&lab, kind, &[])?;
    let pods = add_pods(&lab.nodes)?;
    let node = &lab.nodes[0];
    node.wait_converged()?;
    let device = kind.device();
    let (before, routes) = (entries(node, kind)?, node.routes()?);
    ensure!(before.contains("192.0.2.1"), "{before}");
    let mut harms = vec![
        format!("ip address flush dev {device} scope global"),
        format!("ip link set {device} down"),
        format!("ip link set {device} mtu 1300"),
    ];
    if kind == Kind::Vxlan {
        harms.extend([
            format!("ip neigh flush dev {device} nud permanent"),
            format!(
                "ip neigh replace 203.0.113.2 lladdr 02:00:00:00:00:01 dev {device} nud permanent"
            ),
            format!("bridge fdb del 32:32:cb:00:71:02 dev {device} dst 203.0.113.2"),
            format!(
                "bridge fdb replace 32:32:cb:00:71:02 dev {device} dst 203.0.113.77 self permanent"
            ),
            format!("ip link set {device} address 02:00:00:00:00:01"),
            format!("ip link del {device}"),
        ]);
    }
    for harm in &harms {
        shell(node, harm)?;
        wait_for(harm, SOON, || {
            let same = entries(node, kind)? == before && same_routes(&node.routes()?, &routes);
            Ok(same && mtu_of(&node.machine, device)? == 1500 - kind.overhead())
        })
        .with_context(|| entries(node, kind).unwrap_or_default())
        .with_context(|| node.agent_log())?;
        for (_, address) in kind.carried(&pods[0].addresses(), &pods[1].addresses()) {
            ping(&pods[0].machine, &address).with_context(|| harm.clone())?;
        }
    }
    Ok(())
}

/// IPv6 routes come in the order in which they were made.
fn same_routes(a: &str, b: &str) -> bool {
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    sorted(a) == sorted(b)
}

fn an_agent_that_is_killed_and_started_again_loses_no_packet() -> Result<()> {
    let kind = Kind::under_test();
    let lab = Lab::split("l2", 1, 1)?;
    let mut agents = start_agents(&lab, kind, &[])?;
    let pods = add_pods(&lab.nodes)?;
    let _server = Server::start(&pods[1].machine, PORT)?;
    let streams: Vec<Stream> = kind
        .carried(&pods[0].addresses(), &pods[1].addresses())
        .iter()
        .map(|(_, to)| Stream::start(&pods[0].machine, to, PORT, INTERVAL))
        .collect::<Result<_>>()?;
    agents.remove(0).kill()?;
    std::thread::sleep(Duration::from_millis(200));
    let _agent = lab.nodes[0].spawn_agent_with(&["--encapsulation", kind.setting()])?;
    lab.nodes[0].wait_converged()?;
    std::thread::sleep(Duration::from_millis(200));
    for stream in streams {
        let tally = stream.finish()?;
        ensure!(tally.sent > 50 && tally.lost == 0, "{tally:?}");
    }
    Ok(())
}

/// Node by node, as a rolling update goes: at every moment one of the two is in the new mode and the other in the old.
fn from_none_to_cross_subnet_to_always_and_back_no_packet_is_lost_on_a_link() -> Result<()> {
    let kind = Kind::under_test();
    let lab = Lab::flat("l3", 2)?;
    let modes: [&[&str]; 5] = [
        &["--encapsulation", "none"],
        &["--encapsulation", kind.setting()],
        &[
            "--encapsulation",
            kind.setting(),
            "--encapsulation-when",
            "always",
        ],
        &["--encapsulation", kind.setting()],
        &["--encapsulation", "none"],
    ];
    let mut agents = lab.start_agents_with(modes[0])?;
    let pods = add_pods(&lab.nodes)?;
    let _server = Server::start(&pods[1].machine, PORT)?;
    for mode in &modes[1..] {
        for (number, node) in lab.nodes.iter().enumerate() {
            let streams: Vec<Stream> = pods[1]
                .addresses()
                .iter()
                .map(|to| Stream::start(&pods[0].machine, to, PORT, INTERVAL))
                .collect::<Result<_>>()?;
            agents.remove(0).kill()?;
            agents.push(node.spawn_agent_with(mode)?);
            let told = || format!("{mode:?} on node {}", number + 1);
            node.wait_converged().with_context(told)?;
            std::thread::sleep(Duration::from_millis(100));
            for (stream, family) in streams.into_iter().zip(["IPv4", "IPv6"]) {
                let tally = stream.finish()?;
                ensure!(
                    tally.sent > 20 && tally.lost == 0,
                    "{family}, {}: {tally:?}",
                    told()
                );
            }
        }
        let through = holds(&lab.nodes[0], &[&format!("dev {}", kind.device())])?;
        ensure!(
            through == mode.contains(&"always"),
            "{}",
            lab.nodes[0].routes()?
        );
    }
    Ok(())
}

fn pods_that_are_older_than_the_tunnel_learn_its_mtu() -> Result<()> {
    let kind = Kind::under_test();
    let lab = Lab::flat("l4", 2)?;
    let agents = lab.start_agents()?;
    let pods = add_pods(&lab.nodes)?;
    drop(agents);
    let _agents: Vec<_> = lab
        .nodes
        .iter()
        .map(|node| {
            node.spawn_agent_with(&[
                "--encapsulation",
                kind.setting(),
                "--encapsulation-when",
                "always",
            ])
        })
        .collect::<Result<_>>()?;
    for node in &lab.nodes {
        node.wait_converged()?;
    }
    ensure!(mtu_of(&pods[0].machine, "eth0")? == 1500);
    for (_, address) in kind.carried(&pods[0].addresses(), &pods[1].addresses()) {
        send_bulk(
            &pods[0].machine,
            (&pods[1].machine, &address),
            2_000_000,
            Duration::from_secs(20),
        )?;
    }
    Ok(())
}

fn a_node_that_leaves_takes_its_routes_and_entries_along() -> Result<()> {
    let kind = Kind::under_test();
    let lab = Lab::split("l5", 1, 2)?;
    let _agents = start_agents(&lab, kind, &[])?;
    let node = &lab.nodes[0];
    ensure!(holds(node, &["10.244.2.0/24", "10.244.3.0/24"])?);
    lab.write_nodes(&lab.entries()[..2])?;
    wait_for("routes and entries go", SOON, || {
        let of_third = entries(node, kind)?.contains("203.0.113.3");
        let allowed =
            shell(node, "nft list set inet slash32 tunnel-peers4")?.contains("203.0.113.3");
        Ok(lacks(node, &["10.244.3.0/24"])? && !of_third && !allowed)
    })?;
    ensure!(holds(node, &["10.244.2.0/24"])?);
    Ok(())
}

fn traces(node: &Node, kind: Kind) -> Result<String> {
    let device = kind.device();
    shell(
        node,
        &format!(
            "ip -o link show s32vxlan 2>/dev/null || true; ip -o address show label '*:s32' || true; ip route show table all proto 32 dev {device} 2>/dev/null || true; ip -o link show up dev tunl0 2>/dev/null || true; nft list ruleset | grep tunnel || true"
        ),
    )
}

fn a_mode_that_ends_leaves_no_trace_and_foreign_addresses_alone() -> Result<()> {
    let kind = Kind::under_test();
    let lab = Lab::split("l6", 1, 1)?;
    let agents = start_agents(&lab, kind, &[])?;
    let node = &lab.nodes[0];
    ensure!(!traces(node, kind)?.is_empty());
    drop(agents);
    let agent = node.spawn_agent()?;
    node.wait_converged()?;
    wait_for("all of the tunnel is gone", SOON, || {
        Ok(traces(node, kind)?.is_empty())
    })
    .with_context(|| traces(node, kind).unwrap_or_default())?;
    node.wait_told("node2 (203.0.113.2) is not on a link of this node")?;
    if kind == Kind::Ipip {
        drop(agent);
        shell(node, "ip address add 198.18.0.1/32 dev tunl0")?;
        let agent = node.spawn_agent_with(&["--encapsulation", "ipip"])?;
        node.wait_converged()?;
        drop(agent);
        let _agent = node.spawn_agent()?;
        node.wait_converged()?;
        let left = shell(node, "ip -o -4 address show dev tunl0")?;
        ensure!(
            left.contains("198.18.0.1/32") && !left.contains("192.0.2.1"),
            "{left}"
        );
        ensure!(
            shell(node, "ip -o link show up dev tunl0")?.contains("tunl0"),
            "set down under a foreign address"
        );
    }
    Ok(())
}

fn uninstall_leaves_no_trace() -> Result<()> {
    let kind = Kind::under_test();
    let lab = Lab::split("l7", 1, 1)?;
    drop(start_agents(&lab, kind, &[])?);
    let node = &lab.nodes[0];
    let outcome = node.run_agent(&["uninstall"])?;
    ensure!(
        outcome.status.success(),
        "{}{}",
        outcome.stdout,
        outcome.stderr
    );
    ensure!(outcome.stdout.contains(kind.device()), "{}", outcome.stdout);
    ensure!(traces(node, kind)?.is_empty(), "{}", traces(node, kind)?);
    let again = node.run_agent(&["uninstall"])?;
    ensure!(
        again.stdout.contains("nothing of Slash32"),
        "{}",
        again.stdout
    );
    Ok(())
}

fn a_node_address_that_changes_is_followed() -> Result<()> {
    let kind = Kind::under_test();
    let lab = Lab::split("l8", 1, 1)?;
    let _agents = start_agents(&lab, kind, &[])?;
    let pods = add_pods(&lab.nodes)?;
    let _server = Server::start(&pods[1].machine, PORT)?;
    shell(
        &lab.nodes[1],
        "sysctl -qw net.ipv4.conf.all.promote_secondaries=1; ip address add 203.0.113.52/24 dev eth0; ip address del 203.0.113.2/24 dev eth0",
    )?;
    let mut nodes = lab.entries();
    nodes[1].addresses[0] = "203.0.113.52".into();
    lab.write_nodes(&nodes)?;
    for (own, address) in kind.carried(&pods[0].addresses(), &pods[1].addresses()) {
        wait_for("pods reach each other again", SOON, || {
            Ok(expect_seen(&pods[0].machine, &address, PORT, &own).is_ok())
        })?;
    }
    wait_for("nothing of the old address is left", SOON, || {
        // The device goes and comes when its own end changes.
        let own = entries(&lab.nodes[1], kind).unwrap_or_else(|_| "203.0.113.2/".into());
        Ok(
            !entries(&lab.nodes[0], kind)?.contains("203.0.113.2 ")
                && !own.contains("203.0.113.2/"),
        )
    })
}
