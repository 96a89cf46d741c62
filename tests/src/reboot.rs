//! A machine's boot, as the network sees it.

use crate::node::Node;
use crate::pod::Pod;
use crate::wait;
use anyhow::Result;
use std::time::Duration;

/// Namespaces, links, routes, tables and /run are gone, sysctls are as a machine boots; /etc and /var stay. The agent has
/// ended before.
pub fn reboot(node: &Node, pods: impl IntoIterator<Item = Pod>) -> Result<()> {
    for pod in pods {
        pod.machine.remove()?;
    }
    wait::until("the links are gone", Duration::from_secs(20), || {
        Ok(!node.machine.read(&["ip", "-o", "link"])?.contains(": s32"))
    })?;
    node.machine.run(&["nft", "flush", "ruleset"])?;
    for family in ["-4", "-6"] {
        node.machine
            .run(&["ip", family, "route", "flush", "proto", "32"])?;
    }
    node.machine.run(&[
        "sysctl",
        "-qw",
        "net.ipv4.ip_forward=0",
        "net.ipv6.conf.all.forwarding=0",
    ])?;
    for entry in std::fs::read_dir(node.machine.folder("/run/slash32"))? {
        let path = entry?.path();
        if path.is_dir() {
            std::fs::remove_dir_all(path)?;
        } else {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}
