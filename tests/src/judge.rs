//! What several suites ask of a node, and how they judge the answers.

use crate::machine::Outcome;
use crate::node::Node;
use crate::wait;
use anyhow::{Result, ensure};
use std::time::Duration;

/// True when each of these stands in one of the node's own routes to podCIDRs.
pub fn holds(node: &Node, cidrs: &[&str]) -> Result<bool> {
    let routes = node.routes()?;
    Ok(cidrs.iter().all(|cidr| routes.contains(cidr)))
}

/// True when none of these does.
pub fn lacks(node: &Node, cidrs: &[&str]) -> Result<bool> {
    let routes = node.routes()?;
    Ok(!cidrs.iter().any(|cidr| routes.contains(cidr)))
}

/// Waits, and prints how long it took.
pub fn wait_for(what: &str, patience: Duration, ready: impl FnMut() -> Result<bool>) -> Result<()> {
    let took = wait::until(what, patience, ready)?;
    eprintln!("{what}: {took:?}");
    Ok(())
}

/// All that the kernel holds of the node's network, without what counts or ages.
pub fn kernel_state(node: &Node) -> Result<String> {
    let look = format!(
        "ip -4 route show table all; ip -6 route show table all; ip -o link; nft -s list ruleset; {}; sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding",
        crate::netfilter::SAVE_ALL
    );
    node.machine.read(&["sh", "-c", &look])
}

/// An exit code, and what stderr must name.
pub fn expect_complaint(outcome: &Outcome, code: i32, names: &[&str]) -> Result<()> {
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
