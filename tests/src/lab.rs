//! Whole topologies.
//!
//! ```text
//!            client 192.0.2.200            internet 198.51.100.10
//!                 |                             |
//!   ---+----------+-----------+------------- router (192.0.2.254; no route to pod CIDRs anywhere)
//!      |          |           |
//!   node1      node2       node3   192.0.2.1, .2, .3 and 2001:db8:2::1, ::2, ::3
//! ```
//!
//! A split lab has a second link behind the same router: 203.0.113.n and 2001:db8:113::n.

use crate::machine::{Machine, Running, run_here};
use crate::node::{LINKS, Node};
use crate::nodes_file::{self, NodeEntry};
use crate::programs;
use anyhow::Result;
use std::path::PathBuf;

/// The server on the internet.
pub const INTERNET: [&str; 2] = ["198.51.100.10", "2001:db8:100::10"];
/// The client outside the cluster, on the nodes' link.
pub const CLIENT: [&str; 2] = ["192.0.2.200", "2001:db8:2::200"];
/// The router's host number on each link.
const ROUTER: usize = 254;
/// Prefix lengths on the links, IPv4 and IPv6.
const LENGTHS: [u8; 2] = [24, 64];

/// Machines on one link or two, a router with the internet behind it, and a client outside. Everything is
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
    switches: Vec<Machine>,
}

impl Lab {
    /// Nodes on one link. `name` is short: it prefixes namespaces and must be unique in the program.
    pub fn flat(name: &str, count: usize) -> Result<Lab> {
        Lab::on_links(name, &[count])
    }

    /// Nodes on two links that meet in the router only, which knows no pod CIDR: what tunnels are for. The
    /// client is on the first.
    pub fn split(name: &str, first: usize, second: usize) -> Result<Lab> {
        Lab::on_links(name, &[first, second])
    }

    fn on_links(name: &str, counts: &[usize]) -> Result<Lab> {
        let links = (1..).zip(counts);
        let on = links.flat_map(|(link, count)| std::iter::repeat_n(link, *count));
        let nodes: Vec<(String, usize)> = (1..)
            .zip(on)
            .map(|(number, link)| (format!("node{number}"), link))
            .collect();
        let nodes: Vec<(&str, usize)> = nodes
            .iter()
            .map(|(node, link)| (node.as_str(), *link))
            .collect();
        Lab::with_nodes(name, &nodes)
    }

    /// Nodes with names of their own, each on link 1 or 2; numbers as they come, from 1.
    pub fn with_nodes(name: &str, nodes: &[(&str, usize)]) -> Result<Lab> {
        let machine = |role: &str| Machine::new(&format!("{name}-{role}"));
        let links = nodes.iter().map(|(_, link)| *link).max().unwrap_or(1);
        let lab = Lab {
            name: name.into(),
            client: machine("client")?,
            internet: machine("internet")?,
            router: machine("router")?,
            nodes: (1..)
                .zip(nodes)
                .map(|(number, (node, link))| Node::named(name, node, number, *link))
                .collect::<Result<_>>()?,
            switches: (1..=links)
                .map(|link| make_switch(&format!("{name}-link{link}")))
                .collect::<Result<_>>()?,
        };
        lab.wire()?;
        lab.write_nodes(&lab.entries())?;
        Ok(lab)
    }

    fn wire(&self) -> Result<()> {
        for link in 1..=self.switches.len() {
            self.plug(&self.router, &format!("eth{}", link - 1), link, ROUTER)?;
        }
        self.router.run(&[
            "sysctl",
            "-qw",
            "net.ipv4.ip_forward=1",
            "net.ipv6.conf.all.forwarding=1",
        ])?;
        for node in &self.nodes {
            self.plug_host(&node.machine, node.link, node.number)?;
        }
        self.plug_host(&self.client, 1, 200)?;
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
        set_default_routes(&self.internet, &["198.51.100.1", "2001:db8:100::1"])
    }

    /// A node's network as after a reboot: a fresh namespace on the same link with the same addresses. Nothing may
    /// run in the old one any more.
    pub fn renew_network(&self, node: &Node) -> Result<()> {
        let port = format!("port{}", node.number);
        // The old cable goes with its namespace, but in the kernel's own time.
        self.switches[node.link - 1].try_run(&["ip", "link", "del", &port])?;
        node.machine.renew()?;
        self.plug_host(&node.machine, node.link, node.number)
    }

    /// A machine's eth0 on a link, with the router as its way out.
    fn plug_host(&self, machine: &Machine, link: usize, host: usize) -> Result<()> {
        self.plug(machine, "eth0", link, host)?;
        let [v4, v6] = LINKS[link - 1].map(|net| format!("{net}{ROUTER}"));
        set_default_routes(machine, &[&v4, &v6])
    }

    /// An interface of a machine on a link. Ports of a switch are called by the host number.
    fn plug(&self, machine: &Machine, interface: &str, link: usize, host: usize) -> Result<()> {
        let (switch, port) = (&self.switches[link - 1], format!("port{host}"));
        connect(switch, &port, machine, interface)?;
        switch.run(&["ip", "link", "set", &port, "master", "br0"])?;
        for (net, length) in LINKS[link - 1].iter().zip(LENGTHS) {
            set_addresses(machine, interface, &[&format!("{net}{host}/{length}")])?;
        }
        Ok(())
    }

    /// [`Lab::flat`], and a ready agent on each node.
    pub fn with_agents(name: &str, count: usize) -> Result<(Lab, Vec<Running>)> {
        let lab = Lab::flat(name, count)?;
        let agents = lab.start_agents()?;
        Ok((lab, agents))
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

/// A bridge in a namespace of its own.
fn make_switch(name: &str) -> Result<Machine> {
    let switch = Machine::new(name)?;
    switch.run(&["ip", "link", "add", "br0", "type", "bridge"])?;
    switch.run(&["ip", "link", "set", "br0", "up"])?;
    // A bridge that hands its frames to iptables would see what a real switch does not.
    switch.try_run(&[
        "sysctl",
        "-qw",
        "net.bridge.bridge-nf-call-iptables=0",
        "net.bridge.bridge-nf-call-ip6tables=0",
    ])?;
    Ok(switch)
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

fn set_default_routes(machine: &Machine, gateways: &[&str]) -> Result<()> {
    for gateway in gateways {
        machine.run(&["ip", "route", "add", "default", "via", gateway])?;
    }
    Ok(())
}
