//! Which tunnel the tunnel suites put to the test, and how they look at it.
//!
//! SLASH32_TUNNEL says which: `vxlan` (the default) or `ipip`, for kernels that have it (`make test-vm`).

use crate::lab::Lab;
use crate::machine::{Machine, Outcome, Running};
use crate::node::Node;
use crate::pod::Pod;
use anyhow::{Context, Result, ensure};

/// A kind of tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// UDP port 4789, VNI 3232, device s32vxlan; both families.
    Vxlan,
    /// Protocol 4, device tunl0; IPv4 only.
    Ipip,
}

impl Kind {
    /// As SLASH32_TUNNEL has it.
    pub fn under_test() -> Kind {
        match std::env::var("SLASH32_TUNNEL").as_deref() {
            Ok("ipip") => Kind::Ipip,
            _ => Kind::Vxlan,
        }
    }

    /// The value of the setting `encapsulation`.
    pub fn setting(self) -> &'static str {
        match self {
            Kind::Vxlan => "vxlan",
            Kind::Ipip => "ipip",
        }
    }

    /// The device.
    pub fn device(self) -> &'static str {
        match self {
            Kind::Vxlan => "s32vxlan",
            Kind::Ipip => "tunl0",
        }
    }

    /// Bytes that it adds over IPv4.
    pub fn overhead(self) -> usize {
        match self {
            Kind::Vxlan => 50,
            Kind::Ipip => 20,
        }
    }

    /// True where pods of this address's family travel through it.
    pub fn carries(self, address: &str) -> bool {
        self == Kind::Vxlan || !address.contains(':')
    }

    /// Those of two lists of addresses that lie side by side and are carried.
    pub fn carried(self, a: &[String], b: &[String]) -> Vec<(String, String)> {
        a.iter()
            .zip(b)
            .filter(|(a, _)| self.carries(a))
            .map(|(a, b)| (a.clone(), b.clone()))
            .collect()
    }

    /// An nftables match for its outer packets.
    pub fn packets(self) -> &'static str {
        match self {
            Kind::Vxlan => "udp dport 4789",
            Kind::Ipip => "ip protocol 4",
        }
    }
}

/// Agents of all nodes with this tunnel, and further arguments.
pub fn start_agents(lab: &Lab, kind: Kind, arguments: &[&str]) -> Result<Vec<Running>> {
    let arguments = [&["--encapsulation", kind.setting()], arguments].concat();
    lab.start_agents_with(&arguments)
}

/// Counts what a machine forwards or receives that matches: call [`counted`] for the numbers.
pub fn count(machine: &Machine, matches: &[&str]) -> Result<()> {
    let rules: String = matches
        .iter()
        .map(|rule| format!("{rule} counter\n"))
        .collect();
    machine.nft(&format!(
        "table inet counts {{ chain pre {{ type filter hook prerouting priority -350;\n{rules}}}\n}}"
    ))?;
    Ok(())
}

/// Packets per match of [`count`], in its order.
pub fn counted(machine: &Machine) -> Result<Vec<u64>> {
    let table = machine.read(&["nft", "list", "table", "inet", "counts"])?;
    table
        .split("counter packets ")
        .skip(1)
        .map(|rest| {
            let number = rest.split(' ').next().context("no number")?;
            Ok(number.parse()?)
        })
        .collect()
}

/// A pod on each node, called p1, p2, ...
pub fn add_pods(nodes: &[Node]) -> Result<Vec<Pod>> {
    nodes
        .iter()
        .map(|node| node.add_pod(&format!("p{}", node.number)))
        .collect()
}

/// One ping with DF set whose IP packet has this many bytes.
pub fn probe(from: &Machine, to: &str, bytes: usize) -> Result<Outcome> {
    let headers = if to.contains(':') { 48 } else { 28 };
    let size = (bytes - headers).to_string();
    from.try_run(&["ping", "-n", "-c1", "-W5", "-Mdo", "-s", &size, to])
}

/// [`probe`], which must come back.
pub fn expect_whole(from: &Machine, to: &str, bytes: usize) -> Result<()> {
    let outcome = probe(from, to, bytes)?;
    ensure!(
        outcome.status.success(),
        "{bytes} bytes from {} to {to}: {}{}",
        from.name,
        outcome.stdout,
        outcome.stderr
    );
    Ok(())
}

/// MTU of a link of a machine.
pub fn mtu_of(machine: &Machine, link: &str) -> Result<usize> {
    Ok(machine
        .read(&["cat", &format!("/sys/class/net/{link}/mtu")])?
        .parse()?)
}
