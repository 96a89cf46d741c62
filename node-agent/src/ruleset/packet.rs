//! The packet that is walked through the rules: the first one of a connection, as far as rules look at it.

use std::net::IpAddr;

/// What is known of it. The walk changes destination, port and mark as the rules do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packet {
    /// Name of the link by which it came; `None`: this node sends it.
    pub(crate) iif: Option<String>,
    /// Name of the link by which it goes; `None` before the routing decision.
    pub(crate) oif: Option<String>,
    pub(crate) from: IpAddr,
    pub(crate) to: IpAddr,
    /// `tcp`, `udp`, `sctp`, `icmp`, `ipv6-icmp`.
    pub(crate) protocol: &'static str,
    /// Destination port, where the protocol has ports.
    pub(crate) port: Option<u16>,
    pub(crate) mark: u64,
    /// The destination is an address of this node.
    pub(crate) to_local: bool,
    /// This node would answer by the link by which it came.
    pub(crate) way_back: bool,
    /// Its destination was translated.
    pub(crate) dnat: bool,
}

impl Packet {
    /// ICMP of the right family.
    pub(crate) fn echo_protocol(v6: bool) -> &'static str {
        if v6 { "ipv6-icmp" } else { "icmp" }
    }
}
