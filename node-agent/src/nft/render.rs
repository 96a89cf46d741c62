//! The text of table inet slash32, for `nft -f -`: one transaction, whole or not at all. Pure; the golden files under
//! tests/golden are its output. Names of maps and sets are a contract with the plugin (dataplane::names).
//!
//! No rule counts packets: a counter would change what the table reads as, and the table is recognised by that.

use crate::desired::tunnel::TunnelFilter;
use dataplane::hostport::{PortEntry, PortKey};
use dataplane::names::{
    HOST_LINK_PREFIX, MAP_HOSTPORTS4, MAP_HOSTPORTS4_ANY, MAP_HOSTPORTS6, MAP_HOSTPORTS6_ANY,
    NFT_TABLE, SET_CLUSTER4, SET_CLUSTER6, SET_HAIRPIN4, SET_HAIRPIN6, SET_TUNNEL_PEERS4,
    SET_TUNNEL_PEERS6, VXLAN_LINK,
};
use ipnetwork::IpNetwork;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

/// All that the table depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TableModel {
    pub(crate) anti_spoofing: bool,
    pub(crate) masquerade: bool,
    /// What this node's pods have their addresses from. nftables knows pods by their links and needs it not.
    pub(crate) own: Vec<IpNetwork>,
    /// Destinations that are never masqueraded; merged, both families.
    pub(crate) cluster: Vec<IpNetwork>,
    /// Which packets are a tunnel's; `None` without one.
    pub(crate) tunnel: Option<TunnelFilter>,
    /// Who may send those.
    pub(crate) tunnel_peers: Vec<IpAddr>,
    pub(crate) ports: BTreeMap<PortKey, PortEntry>,
}

/// The whole table in place of whatever is there under its name. `add` before `delete` makes the deletion succeed where
/// there is none (`destroy` is newer than the nft of Debian 12).
pub(crate) fn render_table(model: &TableModel) -> String {
    let mut text = format!(
        "add table inet {NFT_TABLE}\ndelete table inet {NFT_TABLE}\ntable inet {NFT_TABLE} {{\n"
    );
    text += "\tcomment \"Slash32 pod networking: laid and kept by slash32-agent, changes made by hand are undone\"\n";
    render_sets_and_maps(&mut text, model);
    text += &render_chains(model);
    text += "}\n";
    text
}

/// Only the sets of destinations and of tunnel peers, anew: what a change of Nodes needs. Maps stay untouched.
pub(crate) fn render_cluster_update(model: &TableModel) -> String {
    let mut text = String::new();
    let mut sets = vec![
        (SET_CLUSTER4, cluster_elements(model, false)),
        (SET_CLUSTER6, cluster_elements(model, true)),
    ];
    if model.tunnel.is_some() {
        sets.push((SET_TUNNEL_PEERS4, peer_elements(model, false)));
        sets.push((SET_TUNNEL_PEERS6, peer_elements(model, true)));
    }
    for (name, elements) in sets {
        let _ = writeln!(text, "flush set inet {NFT_TABLE} {name}");
        if !elements.is_empty() {
            let _ = writeln!(
                text,
                "add element inet {NFT_TABLE} {name} {{\n\t{}\n}}",
                elements.join(",\n\t")
            );
        }
    }
    text
}

// ===== sets and maps =====

fn render_sets_and_maps(text: &mut String, model: &TableModel) {
    let mut block =
        |keyword: &str, name: &str, body: &str, comment: &str, elements: Vec<String>| {
            let _ = write!(
                text,
                "\n\t{keyword} {name} {{\n\t\t{body}\n\t\tcomment \"{comment}\"\n"
            );
            if !elements.is_empty() {
                let _ = write!(
                    text,
                    "\t\telements = {{\n\t\t\t{}\n\t\t}}\n",
                    elements.join(",\n\t\t\t")
                );
            }
            text.push_str("\t}\n");
        };
    for (v6, family) in [(false, '4'), (true, '6')] {
        let kind = if v6 { "ipv6_addr" } else { "ipv4_addr" };
        let (given, any, hairpin) = if v6 {
            (MAP_HOSTPORTS6, MAP_HOSTPORTS6_ANY, SET_HAIRPIN6)
        } else {
            (MAP_HOSTPORTS4, MAP_HOSTPORTS4_ANY, SET_HAIRPIN4)
        };
        block(
            "set",
            &format!("cluster{family}"),
            &format!("type {kind}\n\t\tflags interval\n\t\tauto-merge"),
            "pods, nodes and exclusions: never masqueraded",
            cluster_elements(model, v6),
        );
        block(
            "map",
            given,
            &format!("type {kind} . inet_proto . inet_service : {kind} . inet_service"),
            "host ports of one address of this node",
            port_elements(model, v6, true),
        );
        block(
            "map",
            any,
            &format!("type inet_proto . inet_service : {kind} . inet_service"),
            "host ports of any address of this node",
            port_elements(model, v6, false),
        );
        block(
            "set",
            hairpin,
            &format!("type {kind} . {kind}"),
            "pods that reach themselves through their own host port",
            hairpin_pods(model.ports.values())
                .into_iter()
                .filter(|pod| pod.is_ipv6() == v6)
                .map(|pod| format!("{pod} . {pod}"))
                .collect(),
        );
        if model.tunnel.is_some() {
            block(
                "set",
                if v6 {
                    SET_TUNNEL_PEERS6
                } else {
                    SET_TUNNEL_PEERS4
                },
                &format!("type {kind}"),
                "nodes: nobody else's encapsulated packets are taken",
                peer_elements(model, v6),
            );
        }
    }
}

fn peer_elements(model: &TableModel, v6: bool) -> Vec<String> {
    let of_family = model.tunnel_peers.iter().filter(|ip| ip.is_ipv6() == v6);
    of_family.map(IpAddr::to_string).collect()
}

fn cluster_elements(model: &TableModel, v6: bool) -> Vec<String> {
    let of_family = model.cluster.iter().filter(|cidr| cidr.is_ipv6() == v6);
    of_family
        .map(|cidr| {
            if crate::cidr::is_host(cidr) {
                cidr.ip().to_string()
            } else {
                cidr.to_string()
            }
        })
        .collect()
}

fn port_elements(model: &TableModel, v6: bool, given: bool) -> Vec<String> {
    let entries = model
        .ports
        .values()
        .filter(|entry| entry.key.v6 == v6 && entry.key.host_ip.is_some() == given);
    entries
        .map(|entry| {
            let host = entry
                .key
                .host_ip
                .map(|ip| format!("{ip} . "))
                .unwrap_or_default();
            let protocol = protocol_name(entry.key.protocol);
            format!(
                "{host}{protocol} . {} : {} . {}",
                entry.key.host_port, entry.pod_ip, entry.container_port
            )
        })
        .collect()
}

fn protocol_name(protocol: u8) -> String {
    match protocol {
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        132 => "sctp".to_owned(),
        other => other.to_string(),
    }
}

/// The pods that need a hairpin element: all that have a host port.
pub(crate) fn hairpin_pods<'a>(
    entries: impl IntoIterator<Item = &'a PortEntry>,
) -> BTreeSet<IpAddr> {
    entries.into_iter().map(|entry| entry.pod_ip).collect()
}

/// For messages.
pub(crate) fn describe_entry(entry: &PortEntry) -> String {
    let host = entry
        .key
        .host_ip
        .map_or_else(|| "*".to_owned(), |ip| ip.to_string());
    let protocol = protocol_name(entry.key.protocol);
    format!(
        "{host} {protocol} {} -> {}",
        entry.key.host_port,
        SocketAddr::new(entry.pod_ip, entry.container_port)
    )
}

// ===== chains =====

fn render_chains(model: &TableModel) -> String {
    let pods = format!("\"{HOST_LINK_PREFIX}*\"");
    let anti_spoofing = if model.anti_spoofing {
        "\n\t\t# a source that this node would not route back to the very same link is not the pod's own\n\
         \t\tfib saddr . iif oif 0 drop\n"
    } else {
        ""
    };
    let masquerade = if model.masquerade {
        format!(
            "\n\t\t# pods towards the world; random ports keep two of them from meeting on one (lost DNS answers)\n\
             \t\tiifname {pods} oifname != {pods} ip daddr != @cluster4 masquerade fully-random\n\
             \t\tiifname {pods} oifname != {pods} ip6 daddr != @cluster6 masquerade fully-random\n"
        )
    } else {
        String::new()
    };
    let Tunnels {
        arriving,
        from_pods,
        input,
    } = model
        .tunnel
        .as_ref()
        .map(render_tunnels)
        .unwrap_or_default();
    format!(
        r#"
	chain raw-prerouting {{
		comment "packets from pods, before anything else looks at them"
		type filter hook prerouting priority raw; policy accept;
{arriving}		iifname {pods} jump from-pod
	}}

	chain from-pod {{
		comment "what no pod may send"
		# links with host ports route 127.0.0.0/8; what a pod sends there is an attack (CVE-2020-8558)
		ip daddr 127.0.0.0/8 drop
		# a pod is no router, and asks for none
		icmpv6 type {{ nd-router-solicit, nd-router-advert, nd-redirect }} drop
		# its gateway is a permanent neighbour; each question would make this node remember who asked, and fill its table
		icmpv6 type nd-neighbor-solicit ip6 saddr != :: drop
		icmp type redirect drop
{from_pods}{anti_spoofing}	}}
{input}
	# after the service proxies (dstnat, -100), so that what they claim stays theirs
	chain nat-prerouting {{
		comment "host ports, asked for from outside and by pods"
		type nat hook prerouting priority -95; policy accept;
		fib daddr type local jump hostports
	}}

	chain nat-output {{
		comment "host ports, asked for by this node itself"
		type nat hook output priority -95; policy accept;
		fib daddr type local jump hostports
	}}

	chain hostports {{
		comment "a given address of this node first, then any"
		dnat ip to ip daddr . meta l4proto . th dport map @{MAP_HOSTPORTS4}
		dnat ip to meta l4proto . th dport map @{MAP_HOSTPORTS4_ANY}
		dnat ip6 to ip6 daddr . meta l4proto . th dport map @{MAP_HOSTPORTS6}
		dnat ip6 to meta l4proto . th dport map @{MAP_HOSTPORTS6_ANY}
	}}

	# after the service proxies (srcnat, 100)
	chain nat-postrouting {{
		comment "the node's address in place of a pod's where the answer would not find back"
		type nat hook postrouting priority 105; policy accept;
		# a pod that reaches itself must get the answer from where it asked
		ct status dnat ip saddr . ip daddr @{SET_HAIRPIN4} masquerade
		ct status dnat ip6 saddr . ip6 daddr @{SET_HAIRPIN6} masquerade
		# host ports asked for at 127.0.0.1: a pod cannot answer to that address
		oifname {pods} ip saddr 127.0.0.0/8 masquerade
{masquerade}	}}
"#
    )
}

// ===== tunnels =====

/// The rules of a tunnel, by their places.
#[derive(Debug, Default)]
struct Tunnels {
    arriving: String,
    from_pods: String,
    input: String,
}

/// A packet is the tunnel's by what the kernel goes by: UDP port and VNI, or protocol 4 and local address. Those of
/// other people's tunnels are none of ours. Bits 96 to 119 behind the start of the UDP header are the VNI (RFC 7348).
fn render_tunnels(filter: &TunnelFilter) -> Tunnels {
    let (packet, arriving, exceptions) = match filter {
        TunnelFilter::Vxlan { port, vni } => (
            format!("udp dport {port} @th,96,24 {vni}"),
            format!("\t\t# the tunnel is no pod\n\t\tiifname \"{VXLAN_LINK}\" accept\n"),
            String::new(),
        ),
        TunnelFilter::Ipip { local, others } => {
            let to = local.map(|local| format!(" ip daddr {local}"));
            let others: Vec<String> = others.iter().map(ToString::to_string).collect();
            let exceptions = if others.is_empty() {
                String::new()
            } else {
                format!(
                    "\t\t# far ends of other IPIP devices\n\t\tip protocol 4 ip saddr {{ {} }} accept\n",
                    others.join(", ")
                )
            };
            (
                format!("ip protocol 4{}", to.unwrap_or_default()),
                String::new(),
                exceptions,
            )
        }
    };
    let of_pods = match filter {
        TunnelFilter::Vxlan { .. } => packet.as_str(),
        TunnelFilter::Ipip { .. } => "ip protocol 4",
    };
    let v6 = match filter {
        TunnelFilter::Vxlan { .. } => {
            format!("\t\t{packet} ip6 saddr != @{SET_TUNNEL_PEERS6} drop\n")
        }
        TunnelFilter::Ipip { .. } => String::new(),
    };
    Tunnels {
        arriving,
        from_pods: format!(
            "\t\t# into the tunnel, past all that is asked of a pod; masquerading could make it look like a node's\n\t\t{of_pods} drop\n"
        ),
        input: format!(
            "\n\tchain tunnel-input {{\n\t\tcomment \"encapsulated packets are taken from nodes only\"\n\
             \t\ttype filter hook input priority filter; policy accept;\n\
             {exceptions}\t\t{packet} ip saddr != @{SET_TUNNEL_PEERS4} drop\n{v6}\t}}\n"
        ),
    }
}

#[cfg(test)]
pub(crate) mod tests;
