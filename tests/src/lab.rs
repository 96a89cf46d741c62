//! Whole topologies.
//!
//! ```text
//!            client 192.0.2.200            internet 198.51.100.10
//!                 |                             |
//!   ---+----------+-----------+------------- router (192.0.2.254; no route to pod CIDRs anywhere)
//!      |          |           |
//!   node1      node2       node3   192.0.2.1, .2, .3 and 2001:db8:2::1, ::2, ::3
//! ```

use crate::machine::{Machine, Running, run_here};
use crate::node::Node;
use crate::nodes_file::{self, NodeEntry};
use crate::programs;
use anyhow::Result;
use std::path::PathBuf;

/// The server on the internet.
pub const INTERNET: [&str; 2] = ["198.51.100.10", "2001:db8:100::10"];
/// The client outside the cluster, on the nodes' link.
pub const CLIENT: [&str; 2] = ["192.0.2.200", "2001:db8:2::200"];
const ROUTER: [&str; 2] = ["192.0.2.254", "2001:db8:2::254"];

/// Machines on one link, a router with the internet behind it, and a client outside. Everything is
/// removed when the value is dropped, and with the program in any case.
#[derive(Debug)]
pub struct Lab {
    /// Prefix of all names, so that several labs stand side by side.
    pub name: String,
    /// The nodes of the cluster.
    pub nodes: Vec<Node>,
    /// Outside the cluster, on the nodes' link.
    pub client: Machine,
    /// Behind the router.
    pub internet: Machine,
    /// Forwards between the link and the internet; knows no pod CIDR.
    pub router: Machine,
    fabric: Machine,
}

impl Lab {
    /// Nodes on one link. `name` is short: it prefixes namespaces and must be unique in the program.
    pub fn flat(name: &str, count: usize) -> Result<Lab> {
        let machine = |role: &str| Machine::new(&format!("{name}-{role}"));
        let fabric = machine("link")?;
        fabric.run(&["ip", "link", "add", "br0", "type", "bridge"])?;
        fabric.run(&["ip", "link", "set", "br0", "up"])?;
        // A bridge that hands its frames to iptables would see what a real switch does not.
        fabric.try_run(&[
            "sysctl",
            "-qw",
            "net.bridge.bridge-nf-call-iptables=0",
            "net.bridge.bridge-nf-call-ip6tables=0",
        ])?;
        let lab = Lab {
            name: name.into(),
            client: machine("client")?,
            internet: machine("internet")?,
            router: machine("router")?,
            nodes: (1..=count)
                .map(|n| Node::new(name, n))
                .collect::<Result<_>>()?,
            fabric,
        };
        lab.wire()?;
        lab.write_nodes(&lab.entries())?;
        Ok(lab)
    }

    fn wire(&self) -> Result<()> {
        for (n, node) in self.nodes.iter().enumerate() {
            let [v4, v6] = [
                format!("192.0.2.{}/24", n + 1),
                format!("2001:db8:2::{}/64", n + 1),
            ];
            self.plug(&node.machine, &format!("n{n}"), &[&v4, &v6])?;
        }
        self.plug(&self.client, "c", &["192.0.2.200/24", "2001:db8:2::200/64"])?;
        self.plug(&self.router, "r", &["192.0.2.254/24", "2001:db8:2::254/64"])?;
        connect(&self.router, "uplink", &self.internet, "eth0")?;
        set_addresses(
            &self.router,
            "uplink",
            &["198.51.100.1/24", "2001:db8:100::1/64"],
        )?;
        set_addresses(
            &self.internet,
            "eth0",
            &["198.51.100.10/24", "2001:db8:100::10/64"],
        )?;
        self.internet
            .run(&["ip", "route", "add", "default", "via", "198.51.100.1"])?;
        self.internet
            .run(&["ip", "route", "add", "default", "via", "2001:db8:100::1"])?;
        self.router.run(&[
            "sysctl",
            "-qw",
            "net.ipv4.ip_forward=1",
            "net.ipv6.conf.all.forwarding=1",
        ])?;
        for machine in self
            .nodes
            .iter()
            .map(|node| &node.machine)
            .chain([&self.client])
        {
            for gateway in ROUTER {
                machine.run(&["ip", "route", "add", "default", "via", gateway])?;
            }
        }
        Ok(())
    }

    /// A machine's eth0 on the shared link.
    fn plug(&self, machine: &Machine, port: &str, addresses: &[&str]) -> Result<()> {
        connect(&self.fabric, port, machine, "eth0")?;
        self.fabric
            .run(&["ip", "link", "set", port, "master", "br0"])?;
        set_addresses(machine, "eth0", addresses)
    }

    /// All nodes, as the file of Nodes names them.
    pub fn entries(&self) -> Vec<NodeEntry> {
        self.nodes.iter().map(Node::entry).collect()
    }

    /// Gives every node the same file of Nodes.
    pub fn write_nodes(&self, entries: &[NodeEntry]) -> Result<()> {
        self.nodes
            .iter()
            .try_for_each(|node| nodes_file::write(&node.nodes_file(), entries))
    }

    /// One agent on each node, all of them ready.
    pub fn start_agents(&self) -> Result<Vec<Running>> {
        self.start_agents_with(&[])
    }

    /// The same with further arguments.
    pub fn start_agents_with(&self, arguments: &[&str]) -> Result<Vec<Running>> {
        let agents: Vec<Running> = self
            .nodes
            .iter()
            .map(|node| node.spawn_agent_with(arguments))
            .collect::<Result<_>>()?;
        self.nodes
            .iter()
            .try_for_each(|node| node.wait_ready().map(drop))?;
        Ok(agents)
    }

    /// Where the programs under test are.
    pub fn binaries(&self) -> Result<PathBuf> {
        programs::binaries()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let output = run_here(&["ip", "netns", "list"])
            .map(|outcome| outcome.stdout)
            .unwrap_or_default();
        for name in output
            .lines()
            .filter_map(|line| line.split(' ').next())
            .filter(|name| name.starts_with(&format!("{}-", self.name)))
        {
            if let Err(error) = run_here(&["ip", "netns", "del", name]) {
                eprintln!("lab: {error:#}");
            }
        }
    }
}

/// A cable between two machines.
fn connect(a: &Machine, a_link: &str, b: &Machine, b_link: &str) -> Result<()> {
    a.run(&[
        "ip", "link", "add", a_link, "type", "veth", "peer", "name", b_link, "netns", &b.name,
    ])?;
    a.run(&["ip", "link", "set", a_link, "up"])?;
    b.run(&["ip", "link", "set", b_link, "up"]).map(drop)
}

/// nodad: a lab has no time for duplicate address detection.
fn set_addresses(machine: &Machine, link: &str, addresses: &[&str]) -> Result<()> {
    for address in addresses {
        let nodad: &[&str] = if address.contains(':') {
            &["nodad"]
        } else {
            &[]
        };
        machine.run(&[&["ip", "address", "add", *address, "dev", link], nodad].concat())?;
    }
    Ok(())
}
