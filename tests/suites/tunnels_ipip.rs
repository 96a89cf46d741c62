//! IPIP beside other people's `tunl0`. Needs a kernel with IPIP: `make test-vm` has one.

use anyhow::{Result, ensure};
use slash32_tests::judge::{holds, wait_for};
use slash32_tests::lab::Lab;
use slash32_tests::machine::run_here;
use slash32_tests::suite::{self, Missing};
use slash32_tests::traffic::{Server, expect_seen, ping};
use slash32_tests::tunnels::add_pods;
use std::process::ExitCode;
use std::time::Duration;

const PORT: u16 = 80;
const SOON: Duration = Duration::from_secs(10);
/// Settings of a device that is not tunl0.
const OWN_DEVICE: [&str; 4] = ["--encapsulation", "ipip", "--ipip-device", "ours"];

fn main() -> ExitCode {
    suite::main_needing(
        need_ipip,
        &[
            (
                "a_device_of_another_name_stands_beside_a_foreign_tunl0",
                a_device_of_another_name_stands_beside_a_foreign_tunl0,
            ),
            (
                "a_foreign_device_of_the_wanted_name_is_told_and_left_alone",
                a_foreign_device_of_the_wanted_name_is_told_and_left_alone,
            ),
            (
                "from_tunl0_to_another_device_to_vxlan_each_leaves_nothing",
                from_tunl0_to_another_device_to_vxlan_each_leaves_nothing,
            ),
            (
                "ipv6_peers_behind_a_router_are_told",
                ipv6_peers_behind_a_router_are_told,
            ),
        ],
    )
}

fn need_ipip() -> Result<()> {
    let made = run_here(&[
        "ip",
        "link",
        "add",
        "probe",
        "type",
        "ipip",
        "local",
        "127.0.0.1",
    ]);
    if made.is_err() {
        return Err(
            Missing("this kernel has no IPIP; make test-vm runs one that has".into()).into(),
        );
    }
    run_here(&["ip", "link", "del", "probe"]).map(drop)
}

/// As a load balancer's real server has it: an address on tunl0, which is up.
fn a_device_of_another_name_stands_beside_a_foreign_tunl0() -> Result<()> {
    let lab = Lab::split("i1", 1, 1)?;
    let node = &lab.nodes[0].machine;
    node.run(&[
        "sh",
        "-ec",
        "ip link set tunl0 up; ip address add 198.18.0.1/32 dev tunl0",
    ])?;
    let before = node.read(&["ip", "-d", "-o", "address", "show", "dev", "tunl0"])?;
    let _agents = lab.start_agents_with(&OWN_DEVICE)?;
    let pods = add_pods(&lab.nodes)?;
    let _server = Server::start(&pods[1].machine, PORT)?;
    expect_seen(&pods[0].machine, &pods[1].v4(), PORT, &pods[0].v4())?;
    ensure!(holds(&lab.nodes[0], &["dev ours"])?);
    ensure!(node.read(&["ip", "-d", "-o", "address", "show", "dev", "tunl0"])? == before);
    // What comes for tunl0 still comes in: here from the client, to another address of the node.
    node.run(&["ip", "address", "add", "192.0.2.101/24", "dev", "eth0"])?;
    lab.client.run(&[
        "sh",
        "-ec",
        "ip link add theirs type ipip local 192.0.2.200 remote 192.0.2.101; ip link set theirs up; ip route add 198.18.0.1/32 dev theirs src 192.0.2.200",
    ])?;
    ping(&lab.client, "198.18.0.1").map(drop)
}

fn a_foreign_device_of_the_wanted_name_is_told_and_left_alone() -> Result<()> {
    let lab = Lab::split("i2", 1, 1)?;
    let node = &lab.nodes[0];
    node.machine
        .run(&["sh", "-ec", "ip link add ours type bridge"])?;
    let _agent = node.spawn_agent_with(&OWN_DEVICE)?;
    node.wait_told("link ours is there and is not the ipip device")?;
    let link = node.machine.read(&["ip", "-d", "link", "show", "ours"])?;
    ensure!(link.contains("bridge"), "{link}");
    node.machine.run(&["ip", "link", "del", "ours"])?;
    wait_for("the agent takes the name once it is free", SOON, || {
        Ok(holds(node, &["dev ours"])? && node.ask_agent("/readyz")?.0 == 200)
    })
}

fn from_tunl0_to_another_device_to_vxlan_each_leaves_nothing() -> Result<()> {
    let lab = Lab::split("i3", 1, 1)?;
    let pods_lab = lab.start_agents_with(&["--encapsulation", "ipip"])?;
    let pods = add_pods(&lab.nodes)?;
    let _server = Server::start(&pods[1].machine, PORT)?;
    drop(pods_lab);
    let steps: [(&[&str], &str); 3] = [
        (&OWN_DEVICE, "ours"),
        (&["--encapsulation", "vxlan"], "s32vxlan"),
        (&["--encapsulation", "ipip"], "tunl0"),
    ];
    for (arguments, device) in steps {
        let _agents = lab
            .nodes
            .iter()
            .map(|node| node.spawn_agent_with(arguments))
            .collect::<Result<Vec<_>>>()?;
        for node in &lab.nodes {
            node.wait_converged()?;
        }
        expect_seen(&pods[0].machine, &pods[1].v4(), PORT, &pods[0].v4())?;
        for other in ["ours", "s32vxlan", "tunl0"] {
            let shown = lab.nodes[0]
                .machine
                .try_run(&["ip", "-o", "link", "show", "up", "dev", other])?
                .stdout;
            ensure!(
                shown.contains(other) == (other == device),
                "{other} in {device}: {shown}"
            );
        }
    }
    Ok(())
}

fn ipv6_peers_behind_a_router_are_told() -> Result<()> {
    let lab = Lab::split("i4", 1, 1)?;
    let _agents = lab.start_agents_with(&["--encapsulation", "ipip"])?;
    lab.nodes[0].wait_told(
        "node2 (2001:db8:113::2) is not on a link of this node; IPIP carries IPv4 only",
    )?;
    let pods = add_pods(&lab.nodes)?;
    let _server = Server::start(&pods[1].machine, PORT)?;
    expect_seen(&pods[0].machine, &pods[1].v4(), PORT, &pods[0].v4())
}
