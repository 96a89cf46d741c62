//! Everything by which a fresh process recognises, without memory, what is ours in the kernel.
//!
//! Read by the plugin, the agent and the tests. A value here may never change once released: an upgraded agent has to find
//! what its predecessor left behind.

use std::net::{Ipv4Addr, Ipv6Addr};

/// `rtm_protocol` of every route that we make; a route without it is never touched.
pub const ROUTE_PROTOCOL: u8 = 32;
/// Host side of a pod: this and 12 characters of a hash of (network, containerID, ifname).
pub const HOST_LINK_PREFIX: &str = "s32";
/// The VXLAN device. It matches `s32*` as pods' links do: rules that mean pods by that have to name it first.
pub const VXLAN_LINK: &str = "s32vxlan";
/// The IPIP device that the kernel's module brings along.
pub const IPIP_LINK: &str = "tunl0";
/// Alias of a tunnel device that we made, whatever its name.
pub const TUNNEL_ALIAS: &str = "slash32 tunnel";
/// Behind the device's name: label of an IPv4 address that we put on a tunnel device which is not ours alone.
pub const ADDRESS_LABEL: &str = ":s32";
/// ifb devices that shape what a pod sends: `b32` and the same 12 characters. Must not match `s32*`, by which the nftables
/// rules know a pod's link.
pub const SHAPER_LINK_PREFIX: &str = "b32";
/// The one nftables table of ours, family inet.
pub const NFT_TABLE: &str = "slash32";
/// With the iptables back-end, and where a foreign filter is in the way: chains with this prefix, in both families.
pub const XTABLES_PREFIX: &str = "SLASH32-";
/// Table raw: what no pod may send.
pub const CHAIN_FROM_POD: &str = "SLASH32-FROM-POD";
/// Table nat: one rule per host port. The plugin refills it.
pub const CHAIN_HOSTPORTS: &str = "SLASH32-HOSTPORTS";
/// Table nat: one rule per pod with host ports. The plugin refills it.
pub const CHAIN_HAIRPIN: &str = "SLASH32-HAIRPIN";
/// Table nat: what is masqueraded, and in which order it is asked.
pub const CHAIN_POSTROUTING: &str = "SLASH32-POSTROUTING";
/// Table nat: destinations that are never masqueraded, then everything else.
pub const CHAIN_MASQUERADE: &str = "SLASH32-MASQUERADE";
/// Table mangle: encapsulated packets that arrive.
pub const CHAIN_TUNNEL: &str = "SLASH32-TUNNEL";
/// Table filter: accepts pods, where the chain FORWARD would drop them.
pub const CHAIN_FORWARD: &str = "SLASH32-FORWARD";
/// MAC address of the host's side of every pod.
pub const HOST_MAC: [u8; 6] = [0xee; 6];
/// The pods' IPv4 gateway. No interface has this address: the pod holds a permanent neighbour for it.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The pods' IPv6 gateway: the EUI-64 link-local of [`HOST_MAC`], which the kernel gives to the host's side by itself.
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0xecee, 0xeeff, 0xfeee, 0xeeee);

/// Map `ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service`: ports of one given host address.
pub const MAP_HOSTPORTS4: &str = "hostports4";
/// Map `ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service`.
pub const MAP_HOSTPORTS6: &str = "hostports6";
/// Map `inet_proto . inet_service : ipv4_addr . inet_service`: ports of any local address.
pub const MAP_HOSTPORTS4_ANY: &str = "hostports4-any";
/// Map `inet_proto . inet_service : ipv6_addr . inet_service`.
pub const MAP_HOSTPORTS6_ANY: &str = "hostports6-any";
/// Set `ipv4_addr . ipv4_addr`, elements `pod . pod`: a pod that reaches itself through its own host port.
pub const SET_HAIRPIN4: &str = "hairpin4";
/// Set `ipv6_addr . ipv6_addr`.
pub const SET_HAIRPIN6: &str = "hairpin6";
/// Set `ipv4_addr`, intervals: destinations that are never masqueraded. The agent's alone, unlike maps and hairpin sets.
pub const SET_CLUSTER4: &str = "cluster4";
/// Set `ipv6_addr`, intervals.
pub const SET_CLUSTER6: &str = "cluster6";

/// Set `ipv4_addr`: who may send us encapsulated packets. The agent's alone.
pub const SET_TUNNEL_PEERS4: &str = "tunnel-peers4";
/// Set `ipv6_addr`.
pub const SET_TUNNEL_PEERS6: &str = "tunnel-peers6";

/// Table `main` (`RT_TABLE_MAIN`).
pub const TABLE_MAIN: u32 = 254;
/// The priority that the kernel gives to an IPv6 route which names none (`IP6_RT_PRIO_USER`). IPv4's is 0.
pub const PRIORITY_DEFAULT_V6: u32 = 1024;
/// `RT_SCOPE_LINK`.
pub const SCOPE_LINK: u8 = 253;

/// True for the name of a pod's host side.
pub fn is_pod_link(name: &str) -> bool {
    name.starts_with(HOST_LINK_PREFIX) && name != VXLAN_LINK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateway_v6_is_the_eui64_of_the_hosts_mac() {
        let m = HOST_MAC;
        let id = [m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]];
        assert_eq!(GATEWAY_V6.octets()[8..], id);
        assert_eq!(GATEWAY_V6.octets()[..8], [0xfe, 0x80, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn the_vxlan_device_is_no_pods_link() {
        assert!(VXLAN_LINK.starts_with(HOST_LINK_PREFIX) && !is_pod_link(VXLAN_LINK));
        assert!(is_pod_link("s32flwcecpzvjnp") && !is_pod_link("b32flwcecpzvjnp"));
    }

    #[test]
    fn a_shaper_link_is_never_taken_for_a_pods_link() {
        assert!(!SHAPER_LINK_PREFIX.starts_with(HOST_LINK_PREFIX));
        assert_eq!(SHAPER_LINK_PREFIX.len(), HOST_LINK_PREFIX.len());
    }
}
