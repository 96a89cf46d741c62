//! Whose encapsulated packets a node takes: those of nodes, and nobody else's; and other people's tunnels, which are none
//! of its business. Each refusal stands beside a control that shows that the attack would have worked.

use anyhow::{Result, ensure};
use slash32_tests::judge::wait_for;
use slash32_tests::lab::Lab;
use slash32_tests::machine::Machine;
use slash32_tests::suite;
use slash32_tests::traffic::ping;
use slash32_tests::tunnels::{Kind, add_pods, count, counted, start_agents};
use std::process::ExitCode;
use std::time::Duration;

/// A port that nobody serves: what arrives there is the attacker's.
const PORT: u16 = 4444;
const SOON: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    suite::main(&[
        (
            "a_strangers_encapsulated_packets_are_dropped",
            a_strangers_encapsulated_packets_are_dropped,
        ),
        (
            "a_pods_encapsulated_packets_are_dropped_towards_every_node",
            a_pods_encapsulated_packets_are_dropped_towards_every_node,
        ),
        ("other_peoples_tunnels_go_on", other_peoples_tunnels_go_on),
    ])
}

/// Sends a few datagrams to `target`, wrapped by hand towards `node` (its IPv4 address).
fn attack(from: &Machine, own: &str, node: &str, target: &str) -> Result<()> {
    let make = match Kind::under_test() {
        Kind::Vxlan => {
            let octets: Vec<String> = node
                .split('.')
                .map(|part| Ok(format!("{:02x}", part.parse::<u8>()?)))
                .collect::<Result<_>>()?;
            let mac = format!("32:32:{}", octets.join(":"));
            format!(
                "ip link add evil type vxlan id 3232 dstport 4789 local {own} remote {node} nolearning; ip link set evil up; ip neigh add 198.18.0.1 lladdr {mac} dev evil nud permanent; ip route add {target}/32 via 198.18.0.1 dev evil onlink src {own}"
            )
        }
        Kind::Ipip => format!(
            "ip link add evil type ipip local {own} remote {node}; ip link set evil up; ip route add {target}/32 dev evil src {own}"
        ),
    };
    from.run(&["sh", "-ec", &make])?;
    send(from, target)?;
    from.run(&[
        "sh",
        "-ec",
        &format!("ip route del {target}/32; ip link del evil"),
    ])?;
    Ok(())
}

fn send(from: &Machine, target: &str) -> Result<()> {
    let target = format!("{target}:{PORT}");
    from.inside(move || -> Result<()> {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
        for _ in 0..5 {
            // An ICMP error about an earlier one is no matter.
            let _ = socket.send_to(b"evil", &target);
        }
        Ok(())
    })??;
    std::thread::sleep(Duration::from_millis(100));
    Ok(())
}

fn a_strangers_encapsulated_packets_are_dropped() -> Result<()> {
    let lab = Lab::split("s1", 1, 1)?;
    let agents = start_agents(&lab, Kind::under_test(), &[])?;
    let node = &lab.nodes[0];
    let pod = node.add_pod("victim")?;
    count(&pod.machine, &[&format!("udp dport {PORT}")])?;
    attack(&lab.client, "192.0.2.200", "192.0.2.1", &pod.v4())?;
    ensure!(counted(&pod.machine)? == [0]);
    drop(agents);
    slash32_tests::netfilter::backend().delete_all(&node.machine)?;
    attack(&lab.client, "192.0.2.200", "192.0.2.1", &pod.v4())?;
    let control = counted(&pod.machine)?;
    ensure!(
        control[0] > 0,
        "the attack does not work at all, with nothing to stop it"
    );
    Ok(())
}

fn a_pods_encapsulated_packets_are_dropped_towards_every_node() -> Result<()> {
    let lab = Lab::split("s2", 1, 1)?;
    // Without anti-spoofing: the tunnel has to stand on its own.
    let agents = start_agents(&lab, Kind::under_test(), &["--anti-spoofing", "false"])?;
    let evil = lab.nodes[0].add_pod("evil")?;
    let victims = add_pods(&lab.nodes)?;
    for victim in &victims {
        count(&victim.machine, &[&format!("udp dport {PORT}")])?;
    }
    let strike = || -> Result<Vec<u64>> {
        for (node, victim) in lab.nodes.iter().zip(&victims) {
            attack(
                &evil.machine,
                &evil.v4(),
                &node.addresses()[0],
                &victim.v4(),
            )?;
        }
        Ok(victims
            .iter()
            .map(|victim| counted(&victim.machine))
            .collect::<Result<Vec<_>>>()?
            .concat())
    };
    let seen = strike()?;
    ensure!(seen == [0, 0], "{seen:?}");
    drop(agents);
    for node in &lab.nodes {
        slash32_tests::netfilter::backend().delete_all(&node.machine)?;
    }
    let control = strike()?;
    ensure!(
        control.iter().all(|packets| *packets > 0),
        "the attack does not work at all, with nothing to stop it: {control:?}"
    );
    Ok(())
}

/// The same port with another VNI; the same protocol with two given ends.
fn other_peoples_tunnels_go_on() -> Result<()> {
    let kind = Kind::under_test();
    let lab = Lab::split("s3", 1, 1)?;
    let _agents = start_agents(&lab, kind, &[])?;
    let node = &lab.nodes[0].machine;
    for (machine, own, far, inner) in [
        (node, "192.0.2.1", "192.0.2.200", "198.18.5.1"),
        (&lab.client, "192.0.2.200", "192.0.2.1", "198.18.5.2"),
    ] {
        let what = match kind {
            Kind::Vxlan => format!("vxlan id 77 dstport 4789 local {own} remote {far}"),
            Kind::Ipip => format!("ipip local {own} remote {far}"),
        };
        machine.run(&[
            "sh",
            "-ec",
            &format!("ip link add theirs type {what}; ip address add {inner}/24 dev theirs; ip link set theirs up"),
        ])?;
    }
    wait_for("their tunnel carries", SOON, || {
        Ok(ping(&lab.client, "198.18.5.1").is_ok())
    })?;
    ping(node, "198.18.5.2").map(drop)
}
