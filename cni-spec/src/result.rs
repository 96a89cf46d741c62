//! The result of ADD, in one shape for all spec versions.
//!
//! Written by `slash32` for the runtime, by `slash32-ipam` for its caller (without interfaces), read from prevResult and from
//! delegated IPAM plugins. `write` and `read` hold what differs between versions (table 1.1 of the requirements).

mod read;
mod write;

#[cfg(test)]
mod tests;

pub(crate) use read::{dns_of, result_of};

use ipnetwork::IpNetwork;
use std::net::IpAddr;

/// What an attachment consists of. Empty lists and an empty `dns` are left out of the document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CniResult {
    /// The links that were made, on both sides; empty in an IPAM plugin's answer (I2).
    pub interfaces: Vec<Interface>,
    /// The pod's addresses, the primary family first.
    pub ips: Vec<IpConfig>,
    /// Routes in the pod.
    pub routes: Vec<Route>,
    /// What the pod's resolver should use; empty is nothing said.
    pub dns: Dns,
}

/// One link. `mtu`, `socket_path` and `pci_id` exist since 1.1.0 and are left out below 1.0.0 (A8).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    /// The link's name in its namespace.
    pub name: String,
    /// As the kernel prints it; not validated, since other plugins' links have other kinds.
    pub mac: Option<String>,
    /// Bytes.
    pub mtu: Option<u32>,
    /// The namespace's path, CNI_NETNS byte for byte; None is the host (A6).
    pub sandbox: Option<String>,
    /// A socket in the place of a link (vhost-user).
    pub socket_path: Option<String>,
    /// The card's or virtual function's PCI address.
    pub pci_id: Option<String>,
}

/// One address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpConfig {
    /// The address with its prefix length, host bits kept.
    pub address: IpNetwork,
    /// The default gateway of the address's network.
    pub gateway: Option<IpAddr>,
    /// Index into `interfaces`; None in an IPAM plugin's answer. When read it may point past the end: whoever uses it checks (C2).
    pub interface: Option<usize>,
}

/// One route. Everything but `dst` and `gw` exists since 1.1.0 and is left out below 1.0.0 (A8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub dst: IpNetwork,
    /// Through which router; None is on the link, or the address's gateway, as the plugin decides.
    pub gw: Option<IpAddr>,
    /// Bytes.
    pub mtu: Option<u32>,
    /// TCP maximum segment size to announce, in bytes.
    pub advmss: Option<u32>,
    /// Metric; lower is preferred.
    pub priority: Option<u32>,
    /// Routing table.
    pub table: Option<u32>,
    /// Scope as the kernel numbers it (0 global, 253 link, 254 host).
    pub scope: Option<u8>,
}

impl Route {
    /// A route without further attributes.
    pub fn new(dst: IpNetwork, gw: Option<IpAddr>) -> Route {
        Route {
            dst,
            gw,
            mtu: None,
            advmss: None,
            priority: None,
            table: None,
            scope: None,
        }
    }
}

/// Resolver settings, as text: CNI gives them no syntax.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dns {
    /// Name servers in order of preference.
    pub nameservers: Vec<String>,
    /// The local domain.
    pub domain: Option<String>,
    /// Search domains.
    pub search: Vec<String>,
    /// resolv.conf options.
    pub options: Vec<String>,
}

impl Dns {
    /// Whether nothing is said at all; such a `dns` is left out of documents.
    pub fn is_empty(&self) -> bool {
        *self == Dns::default()
    }
}
