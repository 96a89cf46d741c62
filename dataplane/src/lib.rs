//! API contract of dataplane (skeleton; the owner splits it into one file per module and keeps these paths).
#![allow(missing_docs, unused_variables, clippy::todo, clippy::unimplemented)]

pub mod names {
    //! Everything by which a fresh process recognises what is ours (design.md section 3).
    use std::net::{Ipv4Addr, Ipv6Addr};
    pub const ROUTE_PROTOCOL: u8 = 32;
    pub const HOST_LINK_PREFIX: &str = "s32";
    /// ifb devices that shape a pod's egress: `b32` + the same 12 characters (must not match "s32*" in nftables)
    pub const SHAPER_LINK_PREFIX: &str = "b32";
    pub const NFT_TABLE: &str = "slash32";
    pub const HOST_MAC: [u8; 6] = [0xee; 6];
    pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
    /// The EUI-64 link-local of HOST_MAC: the kernel gives it to the host's side by itself.
    pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0xecee, 0xeeff, 0xfeee, 0xeeee);
    /// Maps and sets of table inet slash32 that the plugin changes (docs: the table's golden file).
    /// hostports4: `ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service` (a given host address)
    pub const MAP_HOSTPORTS4: &str = "hostports4";
    pub const MAP_HOSTPORTS6: &str = "hostports6";
    /// hostports4-any: `inet_proto . inet_service : ipv4_addr . inet_service` (any local address)
    pub const MAP_HOSTPORTS4_ANY: &str = "hostports4-any";
    pub const MAP_HOSTPORTS6_ANY: &str = "hostports6-any";
    /// hairpin4: `ipv4_addr . ipv4_addr` {pod . pod}: a pod that reaches itself through its own host port
    pub const SET_HAIRPIN4: &str = "hairpin4";
    pub const SET_HAIRPIN6: &str = "hairpin6";
}

pub mod error {
    /// Told apart by errno; the text says what was attempted with which values, and carries the kernel's ext-ack text.
    #[derive(Debug, thiserror::Error)]
    #[error("{what}: {message}")]
    pub struct KernelError {
        pub what: String,
        pub errno: i32,
        pub message: String,
    }
    impl KernelError {
        pub fn is_not_found(&self) -> bool {
            todo!()
        } // ENODEV ENOENT ESRCH EADDRNOTAVAIL
        pub fn is_exists(&self) -> bool {
            todo!()
        }
        pub fn is_permission(&self) -> bool {
            todo!()
        }
    }
    pub type Result<T> = std::result::Result<T, KernelError>;
}

pub mod netns {
    use crate::error::Result;
    use std::path::Path;
    #[derive(Debug)]
    pub struct Netns {
        fd: std::os::fd::OwnedFd,
        dev: u64,
        ino: u64,
    }
    impl Netns {
        /// Err with errno EINVAL where the path is no network namespace (a plain file after a reboot), ENOENT where absent.
        pub fn open(path: &Path) -> Result<Netns> {
            todo!()
        }
        /// The calling thread's own (/proc/thread-self/ns/net).
        pub fn current() -> Result<Netns> {
            todo!()
        }
        pub fn identity(&self) -> (u64, u64) {
            todo!()
        }
        /// Runs `f` inside, on this thread, and comes back; aborts the process if it cannot come back.
        pub fn run<T>(&self, f: impl FnOnce() -> T) -> Result<T> {
            todo!()
        }
    }
}

pub mod netlink {
    use crate::{error::Result, netns::Netns};
    /// A blocking route-netlink socket; stays bound to the namespace in which it was opened. strict check, ext-ack, 1 request in flight or a batch.
    #[derive(Debug)]
    pub struct Netlink {
        _p: (),
    }
    impl Netlink {
        pub fn open() -> Result<Netlink> {
            todo!()
        }
        pub fn open_in(netns: &Netns) -> Result<Netlink> {
            todo!()
        }
    }
}

pub mod link {
    use crate::{error::Result, netlink::Netlink, netns::Netns};
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct LinkInfo {
        pub index: u32,
        pub name: String,
        pub kind: Option<String>,
        pub mac: Option<[u8; 6]>,
        pub mtu: u32,
        pub up: bool,
        pub alias: Option<String>,
        /// peer's index and whether it is in another namespace
        pub peer_index: Option<u32>,
        pub peer_netns_id: Option<i32>,
    }
    #[derive(Debug, Clone)]
    pub struct VethSpec<'a> {
        pub host_name: &'a str,
        pub host_mac: [u8; 6],
        pub alias: Option<&'a str>,
        pub pod_name: &'a str,
        pub pod_mac: Option<[u8; 6]>,
        pub pod_netns: &'a Netns,
        pub mtu: Option<u32>,
    }
    /// Indexes of both ends.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct VethPair {
        pub host_index: u32,
        pub pod_index: u32,
    }
    impl Netlink {
        /// One message: the pair, names, MTU, MACs, the peer in its final namespace, the host's side up.
        pub fn create_veth(&mut self, spec: &VethSpec<'_>) -> Result<VethPair> {
            todo!()
        }
        pub fn find_link(&mut self, name: &str) -> Result<Option<LinkInfo>> {
            todo!()
        }
        pub fn find_link_by_index(&mut self, index: u32) -> Result<Option<LinkInfo>> {
            todo!()
        }
        pub fn list_links(&mut self) -> Result<Vec<LinkInfo>> {
            todo!()
        }
        pub fn set_link_up(&mut self, index: u32) -> Result<()> {
            todo!()
        }
        /// Absent is done; true when there was one.
        pub fn remove_link(&mut self, name: &str) -> Result<bool> {
            todo!()
        }
    }
}

pub mod address {
    use crate::{error::Result, netlink::Netlink};
    use ipnetwork::IpNetwork;
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct AddressInfo {
        pub index: u32,
        pub address: IpNetwork,
        pub tentative: bool,
    }
    impl Netlink {
        pub fn list_addresses(&mut self) -> Result<Vec<AddressInfo>> {
            todo!()
        }
    }
}

pub mod pod_side {
    //! All of the pod's side in as few messages as possible: up, addresses (NODAD), gateway link routes, defaults, permanent neighbours; one send, acks read together.
    use crate::{error::Result, netlink::Netlink};
    use ipnetwork::IpNetwork;
    use std::net::IpAddr;
    #[derive(Debug, Clone)]
    pub struct PodSideSpec {
        pub index: u32,
        pub addresses: Vec<IpAddr>,
        pub gateway_mac: [u8; 6],
        /// routes through the gateway: dst, gw override (None: our gateway), mtu...
        pub routes: Vec<PodRoute>,
    }
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct PodRoute {
        pub dst: IpNetwork,
        pub gw: Option<IpAddr>,
        pub mtu: Option<u32>,
        pub advmss: Option<u32>,
        pub priority: Option<u32>,
        pub table: Option<u32>,
        pub scope: Option<u8>,
    }
    #[derive(Debug, Clone)]
    pub struct HostSideSpec {
        pub index: u32,
        pub addresses: Vec<IpAddr>,
        pub pod_mac: [u8; 6],
    }
    impl Netlink {
        /// On a socket of the pod's namespace.
        pub fn configure_pod_side(&mut self, spec: &PodSideSpec) -> Result<()> {
            todo!()
        }
        /// On a socket of the host: one host route per address (protocol 32, scope link), permanent neighbours. EEXIST names the route in the way.
        pub fn configure_host_side(&mut self, spec: &HostSideSpec) -> Result<()> {
            todo!()
        }
    }
}

pub mod route {
    use crate::{error::Result, netlink::Netlink};
    use ipnetwork::IpNetwork;
    use std::net::IpAddr;
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub enum RouteKind {
        Unicast,
        Unreachable,
        Blackhole,
    }
    /// The kernel's own key.
    #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub struct RouteKey {
        pub dst: IpNetwork,
        pub table: u32,
        pub priority: u32,
    }
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct RouteSpec {
        pub key: RouteKey,
        pub kind: RouteKind,
        pub via: Option<IpAddr>,
        pub dev: Option<u32>,
        pub onlink: bool,
        pub mtu: Option<u32>,
        pub src: Option<IpAddr>,
    }
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct RouteInfo {
        pub spec: RouteSpec,
        pub protocol: u8,
        pub scope: u8,
        /// linkdown, dead
        pub usable: bool,
    }
    /// How the kernel would reach an address now (RTM_GETROUTE).
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct RouteLookup {
        pub dev: u32,
        pub via: Option<IpAddr>,
        pub src: Option<IpAddr>,
        pub local: bool,
        pub mtu: Option<u32>,
    }
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub enum RouteOp {
        Add(RouteSpec),
        /// ours is there with this key, with other values
        Replace(RouteSpec),
        Remove(RouteSpec),
    }
    impl Netlink {
        /// Routes of our protocol in table main, both families; kernel-side filter.
        pub fn list_own_routes(&mut self) -> Result<Vec<RouteInfo>> {
            todo!()
        }
        pub fn list_routes(&mut self, table: u32) -> Result<Vec<RouteInfo>> {
            todo!()
        }
        /// Batched; Add is NLM_F_EXCL, so a foreign route is never replaced. One result per op, in order.
        pub fn apply_routes(&mut self, ops: &[RouteOp]) -> Vec<Result<()>> {
            todo!()
        }
        pub fn lookup_route(&mut self, to: IpAddr) -> Result<RouteLookup> {
            todo!()
        }
    }
}

pub mod neighbour {
    use crate::{error::Result, netlink::Netlink};
    use std::net::IpAddr;
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct NeighbourInfo {
        pub index: u32,
        pub address: IpAddr,
        pub mac: Option<[u8; 6]>,
        pub permanent: bool,
    }
    impl Netlink {
        pub fn list_neighbours(&mut self, index: u32) -> Result<Vec<NeighbourInfo>> {
            todo!()
        }
    }
}

pub mod sysctl {
    use crate::error::Result;
    /// Under /proc/sys, or the folder of SLASH32_PROC_SYS for an agent in a container: read first, written only where it differs. key as "net/ipv4/ip_forward". True when it was written.
    pub fn ensure_sysctl(root: &std::path::Path, key: &str, value: &str) -> Result<bool> {
        todo!()
    }
    pub fn read_sysctl(root: &std::path::Path, key: &str) -> Result<String> {
        todo!()
    }
    pub const PROC_SYS: &str = "/proc/sys";
}

pub mod hostport {
    //! Elements of the host-port maps and hairpin sets of table inet slash32, by nfnetlink: one transaction per call.
    use crate::error::Result;
    use std::net::IpAddr;
    #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub struct PortKey {
        /// None: any local address of the family of the target
        pub host_ip: Option<IpAddr>,
        /// IPPROTO_TCP 6, UDP 17, SCTP 132
        pub protocol: u8,
        pub host_port: u16,
        pub v6: bool,
    }
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct PortEntry {
        pub key: PortKey,
        pub pod_ip: IpAddr,
        pub container_port: u16,
    }
    #[derive(Debug, thiserror::Error)]
    pub enum HostPortError {
        #[error("table inet slash32 is not there: the agent has not run since boot")]
        NoTable,
        #[error("host port is taken")]
        Taken {
            entry: PortEntry,
            /// who holds it in the kernel now
            holder: Option<(IpAddr, u16)>,
        },
        #[error(transparent)]
        Kernel(#[from] crate::error::KernelError),
    }
    #[derive(Debug)]
    pub struct Nfnetlink {
        _p: (),
    }
    impl Nfnetlink {
        pub fn open() -> Result<Nfnetlink> {
            todo!()
        }
        /// All entries and the hairpin elements of their pods, or none. An identical element is fine.
        pub fn add_host_ports(
            &mut self,
            entries: &[PortEntry],
        ) -> std::result::Result<(), HostPortError> {
            todo!()
        }
        /// Removes those elements that still have exactly this value (the kernel ignores it on delete: read first, under the caller's lock), and the hairpin element of `pods`. Absent is done.
        pub fn remove_host_ports(
            &mut self,
            entries: &[PortEntry],
            hairpin_pods: &[IpAddr],
        ) -> Result<()> {
            todo!()
        }
        pub fn find_host_port(&mut self, key: &PortKey) -> Result<Option<(IpAddr, u16)>> {
            todo!()
        }
        pub fn list_host_ports(&mut self) -> std::result::Result<Vec<PortEntry>, HostPortError> {
            todo!()
        }
        pub fn list_hairpin(&mut self) -> std::result::Result<Vec<IpAddr>, HostPortError> {
            todo!()
        }
        /// A fingerprint of our table's chains, rules, sets and maps without the elements (raw attributes, handles included); None when the table is gone.
        pub fn table_fingerprint(&mut self) -> Result<Option<u64>> {
            todo!()
        }
    }
}

pub mod nft {
    //! The nft program: `nft -f -`, one transaction.
    use crate::error::Result;
    pub fn run_script(program: &str, script: &str) -> Result<()> {
        todo!()
    }
    /// Some("nftables v1.0.6 ...") or an error that says how to install it.
    pub fn version(program: &str) -> Result<String> {
        todo!()
    }
}

pub mod conntrack {
    use crate::{error::Result, hostport::PortEntry};
    use std::net::IpAddr;
    /// Deletes entries to this node's own addresses (`local`, 127/8 included) and this host port that do not go to this pod: ADD (X3, peers themes 11, 12).
    pub fn flush_stale(entries: &[PortEntry], local: &[IpAddr]) -> Result<u32> {
        todo!()
    }
    /// Deletes DNATed entries whose reply comes from this pod's container port: DEL.
    pub fn flush_released(entries: &[PortEntry]) -> Result<u32> {
        todo!()
    }
}

pub mod shaping {
    use crate::{error::Result, netlink::Netlink};
    /// Bits per second and bits; 0 rate is unlimited. Ingress is towards the pod.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
    pub struct Shaping {
        pub ingress_rate: u64,
        pub ingress_burst: u64,
        pub egress_rate: u64,
        pub egress_burst: u64,
    }
    impl Netlink {
        /// Towards the pod: tbf on the host's side; from the pod: ifb `b32...` behind an ingress redirect.
        pub fn apply_shaping(
            &mut self,
            host_index: u32,
            shaper_link: &str,
            mtu: u32,
            shaping: &Shaping,
        ) -> Result<()> {
            todo!()
        }
        pub fn find_shaping(&mut self, host_index: u32, shaper_link: &str) -> Result<Shaping> {
            todo!()
        }
    }
}

pub mod events {
    /// What woke us. The agent reads whole state afterwards; the event itself carries nothing that is trusted.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Event {
        Route,
        Link,
        Address,
        NftTable,
        Overrun,
    }
    /// Blocking reader on its own thread: route netlink groups (link, address, route v4/v6) and NFNLGRP_NFTABLES filtered to our table; SO_RCVBUFFORCE 8 MiB; ENOBUFS becomes Overrun. `sink` returns false to stop.
    pub fn watch(sink: impl FnMut(Event) -> bool) -> crate::error::Result<()> {
        todo!()
    }
}
