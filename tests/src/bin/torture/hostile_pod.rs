//! What root in a pod can put on its link, by the thousand. Each attack that is stopped stands beside a control without
//! the table, which shows that it would have worked.

use crate::scale::tell;
use anyhow::{Context, Result, ensure};
use slash32_tests::judge::kernel_state;
use slash32_tests::lab::Lab;
use slash32_tests::machine::Machine;
use slash32_tests::node::Node;
use slash32_tests::pod::Pod;
use slash32_tests::random::Random;
use slash32_tests::raw_packets::{
    ICMP, IPIP, UDP, arp, ethernet, icmp_redirect, ipv4, send_frames, solicitation, udp, vxlan,
};
use slash32_tests::suite::Test;
use slash32_tests::traffic::{Server, expect_seen, ping};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

pub(crate) const TESTS: &[Test] = &[
    (
        "two_thousand_forged_sources_leave_the_node_never",
        forged_sources,
    ),
    ("forged_ipip_and_vxlan_packets_reach_no_pod", forged_tunnels),
    ("forged_arp_moves_no_address_and_fills_no_table", forged_arp),
    ("redirects_of_a_pod_never_reach_the_node", redirects),
    (
        "a_pod_with_a_thousand_addresses_of_its_own_harms_nobody",
        address_flood,
    ),
];

/// ee:ee:ee:ee:ee:ee, the host's side of every pod's link.
const HOST: [u8; 6] = [0xee; 6];
const MALLORY: [u8; 6] = [2, 0, 0, 0, 6, 6];

struct Scene {
    lab: Lab,
    agents: Vec<slash32_tests::machine::Running>,
    mallory: Pod,
    victim: Pod,
    far: Pod,
}

impl Scene {
    fn new(name: &str) -> Result<Scene> {
        let (lab, agents) = Lab::with_agents(name, 2)?;
        // A distribution's own filter is not what is shown here.
        for node in &lab.nodes {
            node.machine.run(&[
                "sysctl",
                "-qw",
                "net.ipv4.conf.all.rp_filter=0",
                "net.ipv4.conf.default.rp_filter=0",
            ])?;
        }
        let mallory = lab.nodes[0].add_pod("mallory")?;
        let victim = lab.nodes[0].add_pod("victim")?;
        let far = lab.nodes[1].add_pod("far")?;
        Ok(Scene {
            lab,
            agents,
            mallory,
            victim,
            far,
        })
    }

    fn node(&self) -> &Node {
        &self.lab.nodes[0]
    }

    /// Nothing to stop an attack any more.
    fn disarm(&mut self) -> Result<()> {
        self.agents.clear();
        for node in &self.lab.nodes {
            node.machine.nft("delete table inet slash32")?;
        }
        Ok(())
    }

    fn send(&self, frames: Vec<Vec<u8>>) -> Result<usize> {
        let sent = send_frames(&self.mallory.machine, "eth0", frames)?;
        std::thread::sleep(Duration::from_millis(300));
        Ok(sent)
    }
}

fn v4(text: &str) -> Result<Ipv4Addr> {
    text.parse().with_context(|| format!("address {text:?}"))
}

/// Counts what a rule catches, in a table of its own.
fn watch(machine: &Machine, hook: &str, rule: &str) -> Result<()> {
    let script = format!(
        "table inet watch {{\nchain c {{\ntype filter hook {hook} priority 10;\n{rule} counter\n}}\n}}"
    );
    machine.nft(&script).map(drop)
}

fn caught(machine: &Machine) -> Result<u64> {
    let table = machine.read(&["nft", "list", "table", "inet", "watch"])?;
    let count = table
        .split("counter packets ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next()?.parse().ok());
    count.with_context(|| format!("no counter: {table}"))
}

fn forged_sources() -> Result<()> {
    let mut scene = Scene::new("p1")?;
    let to = v4(&scene.far.v4())?;
    let own = v4(&scene.mallory.v4())?;
    let mut random = Random::named("sources");
    let frames: Vec<Vec<u8>> = (0..2000)
        .map(|_| {
            // A fourth of them are other pods' addresses.
            let chance = random.below(1 << 32) as u32;
            let source = match random.below(4) {
                0 => Ipv4Addr::from(0x0af4_0100 | chance & 0xff),
                _ => Ipv4Addr::from(chance),
            };
            if source == own {
                Ipv4Addr::new(10, 244, 1, 77)
            } else {
                source
            }
        })
        .map(|source| {
            ethernet(
                HOST,
                MALLORY,
                0x0800,
                &ipv4(source, to, UDP, &udp(9, 9, b"x")),
            )
        })
        .collect();
    watch(&scene.node().machine, "forward", "udp dport 9")?;
    let sent = scene.send(frames.clone())?;
    let forwarded = caught(&scene.node().machine)?;
    scene.disarm()?;
    scene.send(frames)?;
    let control = caught(&scene.node().machine)?;
    tell(format_args!(
        "forged sources: {sent} sent, {forwarded} left the node; without the table {control}"
    ));
    ensure!(sent > 1900 && forwarded == 0 && control > 100);
    Ok(())
}

/// The inner packet claims to come from the victim. With a tunnel device on the far node (here one that an administrator
/// made) it would be taken out of its wrapping and delivered with a source that no anti-spoofing ever saw.
fn forged_tunnels() -> Result<()> {
    let scene = Scene::new("p2")?;
    let far = &scene.lab.nodes[1];
    let (own, to) = (v4(&scene.mallory.v4())?, v4(&scene.far.v4())?);
    let node = v4("192.0.2.2")?;
    let inner = ipv4(v4(&scene.victim.v4())?, to, UDP, &udp(9, 9, b"x"));
    let wrapped = |protocol, payload: &[u8]| {
        ethernet(HOST, MALLORY, 0x0800, &ipv4(own, node, protocol, payload))
    };
    let frames = || -> Vec<Vec<u8>> {
        let vxlan = vxlan(32, MALLORY, &inner);
        (0..500)
            .flat_map(|_| {
                [
                    wrapped(IPIP, &inner),
                    wrapped(UDP, &udp(4789, 4789, &vxlan)),
                ]
            })
            .collect()
    };
    watch(&far.machine, "forward", "udp dport 9")?;
    let sent = scene.send(frames())?;
    let delivered = caught(&far.machine)?;
    // The control: a VXLAN device that takes from anybody.
    let device = far.machine.try_run(&["sh", "-ec", "ip link add vx type vxlan id 32 dstport 4789 local 192.0.2.2 nolearning; ip link set vx address 02:00:00:00:06:06 up"])?;
    ensure!(device.status.success(), "{}", device.stderr);
    scene.send(frames())?;
    let control = caught(&far.machine)?;
    tell(format_args!(
        "forged IPIP and VXLAN: {sent} sent, {delivered} taken out of their wrapping; with an open VXLAN device {control}"
    ));
    ensure!(sent == 1000 && delivered == 0);
    ensure!(control > 0, "the attack does not work at all");
    Ok(())
}

fn neighbours(node: &Node) -> Result<usize> {
    Ok(node.machine.read(&["ip", "neigh", "show"])?.lines().count())
}

fn forged_arp() -> Result<()> {
    let mut scene = Scene::new("p3")?;
    let node = scene.node();
    let victim = v4(&scene.victim.v4())?;
    let _server = Server::start(&scene.victim.machine, 80)?;
    let before = node
        .machine
        .read(&["ip", "neigh", "show", "nud", "permanent"])?;
    let gateway = v4("169.254.1.1")?;
    let node_ip = v4("192.0.2.1")?;
    let mut frames = Vec::new();
    for claims in [
        victim,
        gateway,
        node_ip,
        v4("192.0.2.2")?,
        v4(&scene.far.v4())?,
    ] {
        for operation in [1, 2] {
            for about in [claims, node_ip, gateway] {
                frames.push(arp(operation, MALLORY, claims, about));
            }
        }
    }
    scene.send(frames)?;
    let after = node
        .machine
        .read(&["ip", "neigh", "show", "nud", "permanent"])?;
    ensure!(before == after, "before:\n{before}\nafter:\n{after}");
    expect_seen(&scene.far.machine, &scene.victim.v4(), 80, &scene.far.v4())?;
    expect_seen(&node.machine, &scene.victim.v4(), 80, "192.0.2.1")?;
    // Each question for an address of the node makes the kernel remember who asked.
    let quiet = neighbours(node)?;
    let asks = |from: u32| -> Vec<Vec<u8>> {
        (0..5000)
            .map(|n| arp(1, MALLORY, Ipv4Addr::from(from + n), node_ip))
            .collect()
    };
    scene.send(asks(0x0af4_4000))?;
    let by_arp = neighbours(node)?.saturating_sub(quiet);
    let gateway6: Ipv6Addr = "fe80::ecee:eeff:feee:eeee".parse()?;
    let asks = |_| -> Vec<Vec<u8>> {
        (1..=5000_u128)
            .map(|n| solicitation(MALLORY, Ipv6Addr::from((0xfe80 << 112) | n), gateway6))
            .collect()
    };
    scene.send(asks(()))?;
    let remembered = neighbours(node)?.saturating_sub(quiet);
    tell(format_args!(
        "forged ARP and NDP: 5000 questions each from as many addresses, {by_arp} and {} neighbours remembered by the node",
        remembered.saturating_sub(by_arp)
    ));
    expect_seen(&node.machine, &scene.victim.v4(), 80, "192.0.2.1")?;
    ping(&node.machine, "192.0.2.2")?;
    ensure!(
        remembered < 50,
        "a pod fills the node's neighbour table: {remembered} entries"
    );
    // The control: without the table, and with answers as a link has them by default.
    scene.disarm()?;
    let link = scene.mallory.host_link();
    let sysctl = format!("net.ipv4.conf.{link}.arp_ignore=0");
    scene.node().machine.run(&["sysctl", "-qw", &sysctl])?;
    scene.send(
        (0..5000)
            .map(|n| arp(1, MALLORY, Ipv4Addr::from(0x0af4_4000 + n), node_ip))
            .collect(),
    )?;
    let by_arp = neighbours(scene.node())?;
    scene.send(asks(()))?;
    let control = neighbours(scene.node())?;
    tell(format_args!(
        "the control of that: {by_arp} after ARP, {control} after NDP"
    ));
    ensure!(
        by_arp > 500 && control > by_arp + 500,
        "the attack does not work at all"
    );
    Ok(())
}

fn redirects() -> Result<()> {
    let mut scene = Scene::new("p4")?;
    let own = v4(&scene.mallory.v4())?;
    let node = v4("192.0.2.1")?;
    let frames = || -> Vec<Vec<u8>> {
        let about = ipv4(
            node,
            Ipv4Addr::new(192, 0, 2, 2),
            ICMP,
            &[8, 0, 0, 0, 0, 0, 0, 0],
        );
        let redirect = icmp_redirect(own, &about);
        (0..200)
            .map(|_| ethernet(HOST, MALLORY, 0x0800, &ipv4(own, node, ICMP, &redirect)))
            .collect()
    };
    watch(&scene.node().machine, "input", "icmp type redirect")?;
    let sent = scene.send(frames())?;
    let reached = caught(&scene.node().machine)?;
    scene.disarm()?;
    scene.send(frames())?;
    let control = caught(&scene.node().machine)?;
    tell(format_args!(
        "redirects: {sent} sent, {reached} reached the node; without the table {control}"
    ));
    ensure!(sent == 200 && reached == 0 && control > 0);
    Ok(())
}

fn address_flood() -> Result<()> {
    let scene = Scene::new("p5")?;
    let node = scene.node();
    let (before, quiet) = (kernel_state(node)?, neighbours(node)?);
    let script = "i=0; while [ $i -lt 1000 ]; do echo \"address add 10.244.200.$((i % 250))/32 dev eth0\"; echo \"address add fd00:244:1::f:$i/128 dev eth0 nodad\"; i=$((i + 1)); done | ip -force -batch - 2>/dev/null || true";
    scene.mallory.machine.run(&["sh", "-ec", script])?;
    scene.mallory.machine.try_run(&[
        "ping",
        "-n",
        "-c1",
        "-W1",
        "-I",
        "fd00:244:1::f:1",
        &scene.victim.v6(),
    ])?;
    std::thread::sleep(Duration::from_millis(500));
    let grown = neighbours(node)?.saturating_sub(quiet);
    ensure!(kernel_state(node)? == before, "the node changed");
    ensure!(grown < 50, "{grown} neighbours more");
    // A free address that the pod took for itself is the next pod's all the same.
    let next = node.add_pod("next")?;
    let _server = Server::start(&next.machine, 80)?;
    scene.mallory.machine.run(&[
        "ip",
        "address",
        "replace",
        &format!("{}/32", next.v4()),
        "dev",
        "eth0",
    ])?;
    expect_seen(&scene.far.machine, &next.v4(), 80, &scene.far.v4())?;
    expect_seen(&scene.victim.machine, &next.v4(), 80, &scene.victim.v4())?;
    tell(format_args!(
        "address flood: 1250 addresses in a pod, {grown} neighbours more on the node"
    ));
    Ok(())
}
