//! The steps inside the pod, in the order in which the kernel needs them. Pure, but for [`Step::push`]'s buffer.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::message::{
    address_message, gateway_route, local_route, no_generated_address, route_message,
};
use super::{PodRoute, PodSideSpec};
use crate::error::Refusal;
use crate::link::up_message;
use crate::names::{GATEWAY_V4, GATEWAY_V6, SCOPE_LINK};
use crate::neighbour::permanent_message;
use crate::netlink::{RTM_NEWADDR, RTM_NEWNEIGH, RTM_NEWROUTE, RTM_SETLINK};
use crate::wire::batch::{Batch, F_CREATE, F_EXCL, F_REPLACE};

/// `NLM_F_APPEND`.
const F_APPEND: u16 = 0x800;

/// One message to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// No link-local address by the kernel: it would be tentative for a second.
    NoGeneratedAddress,
    Up,
    /// Ours instead of the kernel's: /64, never tentative.
    LinkLocal(Ipv6Addr),
    Address(IpAddr),
    /// Receives for the address at once. The kernel's own local route comes from a work queue, even where no duplicate is
    /// looked for (`addrconf_dad_start`), and until then the pod drops what is sent to it (A7).
    LocalRoute(Ipv6Addr),
    /// The link-scope route to the IPv4 gateway. IPv6 has its own in the link-local prefix.
    GatewayRoute,
    Neighbour(IpAddr),
    Route(&'a PodRoute),
}

pub(super) fn compute_steps(spec: &PodSideSpec) -> Vec<Step<'_>> {
    let mut steps = vec![Step::NoGeneratedAddress, Step::Up];
    let v4 = spec.addresses.iter().any(IpAddr::is_ipv4);
    let first_v6 = spec.addresses.iter().find_map(|ip| {
        if let IpAddr::V6(v6) = ip {
            Some(*v6)
        } else {
            None
        }
    });
    steps.extend(first_v6.map(|v6| Step::LinkLocal(link_local_of(v6))));
    for ip in &spec.addresses {
        steps.push(Step::Address(*ip));
        if let IpAddr::V6(v6) = ip {
            steps.push(Step::LocalRoute(*v6));
        }
    }
    let mut gateways = BTreeSet::new();
    if v4 {
        steps.push(Step::GatewayRoute);
        gateways.insert(IpAddr::V4(GATEWAY_V4));
    }
    if first_v6.is_some() {
        gateways.insert(IpAddr::V6(GATEWAY_V6));
    }
    gateways.extend(spec.routes.iter().filter_map(gateway_of));
    steps.extend(gateways.into_iter().map(Step::Neighbour));
    steps.extend(spec.routes.iter().map(Step::Route));
    steps
}

impl Step<'_> {
    /// False where a refusal changes nothing that was asked for.
    pub(super) fn matters(&self, refusal: &Refusal, v6: bool) -> bool {
        match self {
            // A kernel or link without IPv6 generates nothing.
            Step::NoGeneratedAddress => v6 && refusal.errno != libc::EOPNOTSUPP,
            // The first interface's route wins.
            Step::GatewayRoute | Step::Route(_) | Step::LocalRoute(_) => {
                refusal.errno != libc::EEXIST
            }
            Step::Up | Step::LinkLocal(_) | Step::Address(_) | Step::Neighbour(_) => true,
        }
    }

    pub(super) fn push(&self, spec: &PodSideSpec, batch: &mut Batch) {
        match self {
            Step::NoGeneratedAddress => {
                batch.push(RTM_SETLINK, 0, &no_generated_address(spec.index))
            }
            Step::Up => batch.push(RTM_SETLINK, 0, &up_message(spec.index)),
            Step::LinkLocal(ip) => batch.push(
                RTM_NEWADDR,
                F_CREATE | F_REPLACE,
                &address_message(spec.index, (*ip).into(), 64),
            ),
            Step::Address(ip) => {
                let whole = if ip.is_ipv4() { 32 } else { 128 };
                batch.push(
                    RTM_NEWADDR,
                    F_CREATE | F_EXCL,
                    &address_message(spec.index, *ip, whole),
                )
            }
            Step::LocalRoute(ip) => batch.push(
                RTM_NEWROUTE,
                F_CREATE | F_EXCL,
                &local_route(spec.index, *ip),
            ),
            // Appended: a second interface has the same gateway.
            Step::GatewayRoute => batch.push(
                RTM_NEWROUTE,
                F_CREATE | F_APPEND,
                &gateway_route(spec.index),
            ),
            Step::Neighbour(ip) => batch.push(
                RTM_NEWNEIGH,
                F_CREATE | F_REPLACE,
                &permanent_message(spec.index, *ip, spec.gateway_mac),
            ),
            Step::Route(route) => batch.push(
                RTM_NEWROUTE,
                F_CREATE | F_EXCL,
                &route_message(spec.index, route),
            ),
        };
    }
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::NoGeneratedAddress => f.write_str("turn off generated ipv6 addresses"),
            Step::Up => f.write_str("set the link up"),
            Step::LinkLocal(ip) => write!(f, "add address {ip}/64"),
            Step::Address(ip) => write!(f, "add address {}", IpNetwork::from(*ip)),
            Step::LocalRoute(ip) => write!(f, "add local route {ip}"),
            Step::GatewayRoute => write!(f, "add route {GATEWAY_V4}/32 scope link"),
            Step::Neighbour(ip) => write!(f, "add permanent neighbour {ip}"),
            Step::Route(route) => match gateway_of(route) {
                Some(gateway) => write!(f, "add route {} via {gateway}", route.dst),
                None => write!(f, "add route {} scope link", route.dst),
            },
        }
    }
}

/// `None`: the destination was declared to be on the link.
pub(super) fn gateway_of(route: &PodRoute) -> Option<IpAddr> {
    if let Some(gateway) = route.gw {
        return Some(gateway);
    }
    if route.scope.is_some_and(|scope| scope >= SCOPE_LINK) {
        return None;
    }
    Some(if route.dst.is_ipv4() {
        IpAddr::V4(GATEWAY_V4)
    } else {
        IpAddr::V6(GATEWAY_V6)
    })
}

/// `fe80::` and the host part of the pod's address, so that a reader can tell whose it is. Alone on its link, it need not be
/// checked for duplicates; the gateway's own is avoided.
fn link_local_of(pod: Ipv6Addr) -> Ipv6Addr {
    let host = u128::from(pod) & u128::from(u64::MAX);
    let link_local = Ipv6Addr::from(0xfe80_u128 << 112 | host.max(1));
    if link_local == GATEWAY_V6 {
        Ipv6Addr::from(0xfe80_u128 << 112 | 1)
    } else {
        link_local
    }
}

#[cfg(test)]
mod tests;
