//! A node that has its IPv6 default route from router advertisements (radvd's) keeps it when the agent turns forwarding on.

use anyhow::{Result, ensure};
use slash32_tests::lab::Lab;
use slash32_tests::machine::Running;
use slash32_tests::node::Node;
use slash32_tests::suite::{self, Missing};
use slash32_tests::wait;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// Lifetimes are as short as RFC 4861 lets them be, so that a route which is not renewed is gone soon.
const CONFIGURATION: &str = "interface eth0 {
  AdvSendAdvert on;
  MinRtrAdvInterval 3;
  MaxRtrAdvInterval 4;
  AdvDefaultLifetime 5;
  prefix 2001:db8:2::/64 { AdvAutonomous off; };
};
";
/// Longer than the lifetime.
const LATER: Duration = Duration::from_secs(8);
const SOON: Duration = Duration::from_secs(15);

fn main() -> ExitCode {
    suite::main_needing(
        || match Command::new("radvd").arg("--version").output() {
            Ok(_) => Ok(()),
            Err(_) => Err(Missing("radvd is not installed: make deps-test".into()).into()),
        },
        &[
            (
                "a_learnt_default_route_outlives_forwarding",
                a_learnt_default_route_outlives_forwarding,
            ),
            (
                "a_default_route_is_learnt_after_forwarding_too",
                a_default_route_is_learnt_after_forwarding_too,
            ),
        ],
    )
}

/// Nodes without an IPv6 default route of their own.
fn lab(name: &str) -> Result<Lab> {
    let lab = Lab::flat(name, 2)?;
    for node in &lab.nodes {
        node.machine.run(&["ip", "-6", "route", "del", "default"])?;
        node.machine
            .run(&["sysctl", "-qw", "net.ipv6.conf.eth0.accept_ra=1"])?;
    }
    Ok(lab)
}

fn advertise(lab: &Lab) -> Result<Running> {
    let file = lab.router.folder("/etc/slash32").join("radvd.conf");
    std::fs::write(&file, CONFIGURATION)?;
    let mut command = lab.router.command("radvd");
    command
        .args(["-n", "-m", "stderr", "-p", "/run/slash32/radvd.pid", "-C"])
        .arg("/etc/slash32/radvd.conf");
    lab.router.start(&mut command)
}

fn learnt(node: &Node) -> Result<bool> {
    let routes = node
        .machine
        .read(&["ip", "-6", "route", "show", "default"])?;
    Ok(routes.contains("proto ra"))
}

fn expect_kept(node: &Node) -> Result<()> {
    let until = Instant::now() + LATER;
    while Instant::now() < until {
        ensure!(learnt(node)?, "the default route is gone");
        std::thread::sleep(Duration::from_millis(50));
    }
    let forwarding = node
        .machine
        .read(&["sysctl", "-n", "net.ipv6.conf.all.forwarding"])?;
    ensure!(forwarding == "1");
    Ok(())
}

fn a_learnt_default_route_outlives_forwarding() -> Result<()> {
    let lab = lab("r1")?;
    let _router = advertise(&lab)?;
    let [node, control] = [&lab.nodes[0], &lab.nodes[1]];
    for each in [node, control] {
        wait::until("a default route is learnt", SOON, || learnt(each))?;
    }
    let _agent = node.spawn_agent()?;
    node.wait_converged()?;
    expect_kept(node)?;
    // The control: the same by hand, without the agent's care.
    control
        .machine
        .run(&["sysctl", "-qw", "net.ipv6.conf.all.forwarding=1"])?;
    wait::until("forwarding alone loses the route", SOON, || {
        Ok(!learnt(control)?)
    })?;
    Ok(())
}

fn a_default_route_is_learnt_after_forwarding_too() -> Result<()> {
    let lab = lab("r2")?;
    let node = &lab.nodes[0];
    let _agent = node.spawn_agent()?;
    node.wait_converged()?;
    let _router = advertise(&lab)?;
    wait::until("a default route is learnt", SOON, || learnt(node))?;
    expect_kept(node)
}
