//! The rules of a tunnel: nobody but nodes may send encapsulated packets to this node, and no pod into the tunnel. As in
//! nft/render.rs a packet is the tunnel's by what the kernel goes by: UDP port and VNI, or protocol 4 and local address.
//!
//! iptables has no sets of its own: the nodes are asked one after the other, for packets of the tunnel alone.

use crate::desired::tunnel::TunnelFilter;
use crate::nft::render::TableModel;
use dataplane::names::{CHAIN_FROM_POD, CHAIN_TUNNEL, VXLAN_LINK};

/// Rules that stand first in the chain of what pods send.
pub(super) fn rules_from_pods(model: &TableModel, v6: bool) -> Vec<String> {
    let Some(filter) = &model.tunnel else {
        return Vec::new();
    };
    let mut rules = Vec::new();
    if let TunnelFilter::Vxlan { .. } = filter {
        rules.push("# the tunnel is no pod".to_owned());
        rules.push(format!("-A {CHAIN_FROM_POD} -i {VXLAN_LINK} -j RETURN"));
    }
    let packets = match filter {
        TunnelFilter::Ipip { .. } if v6 => Vec::new(),
        TunnelFilter::Ipip { .. } => vec!["-p 4".to_owned()],
        TunnelFilter::Vxlan { port, vni } => vxlan_packets(*port, *vni, v6),
    };
    if !packets.is_empty() {
        rules.push("# into the tunnel, past all that is asked of a pod; masquerading could make it look like a node's".to_owned());
    }
    rules.extend(
        packets
            .iter()
            .map(|packet| format!("-A {CHAIN_FROM_POD} {packet} -j DROP")),
    );
    rules
}

/// The ways into the chain of encapsulated packets, and its rules; `None` where this family has none.
pub(super) fn rules_of_input(model: &TableModel, v6: bool) -> Option<(Vec<String>, Vec<String>)> {
    let (packets, others) = match model.tunnel.as_ref()? {
        TunnelFilter::Ipip { .. } if v6 => return None,
        TunnelFilter::Ipip { local, others } => {
            let to = local.map(|local| format!("-d {local}/32 "));
            (
                vec![format!("{}-p 4", to.unwrap_or_default())],
                others.as_slice(),
            )
        }
        TunnelFilter::Vxlan { port, vni } => (vxlan_packets(*port, *vni, v6), &[][..]),
    };
    let length = if v6 { 128 } else { 32 };
    let peers = model.tunnel_peers.iter().filter(|ip| ip.is_ipv6() == v6);
    let mut rules = Vec::new();
    if !others.is_empty() {
        rules.push("# far ends of other IPIP devices".to_owned());
    }
    rules.extend(
        others
            .iter()
            .map(|ip| format!("-A {CHAIN_TUNNEL} -s {ip}/32 -j RETURN")),
    );
    rules.push("# nodes: nobody else's encapsulated packets are taken".to_owned());
    rules.extend(peers.map(|ip| format!("-A {CHAIN_TUNNEL} -s {ip}/{length} -j RETURN")));
    rules.push(format!("-A {CHAIN_TUNNEL} -j DROP"));
    let comment = super::comment("encapsulated packets are taken from nodes only");
    let jumps = packets
        .iter()
        .map(|packet| format!("-A INPUT {packet} {comment} -j {CHAIN_TUNNEL}"));
    Some((jumps.collect(), rules))
}

/// The VNI is in the bytes 12 to 14 behind the start of the UDP header (RFC 7348). Behind an IPv6 header with extensions
/// u32 cannot find it; nobody sends VXLAN so, and such packets count as the tunnel's whatever their VNI.
fn vxlan_packets(port: u16, vni: u32, v6: bool) -> Vec<String> {
    let with = |what: &str| format!("-p udp -m udp --dport {port} -m u32 {what}");
    if v6 {
        vec![
            with(&format!("--u32 \"3&0xFF=17&&52>>8={vni}\"")),
            with("! --u32 \"3&0xFF=17\""),
        ]
    } else {
        vec![with(&format!("--u32 \"0>>22&0x3C@12>>8={vni}\""))]
    }
}
