//! The kernel's own answers about peers: which way their pods' packets take, whether packets from their pods are let in, and
//! whether large packets get there.

use crate::look::Look;
use dataplane::error::Result;
use dataplane::netlink::Netlink;
use dataplane::probe::{Probe, ProbeResult, probe_paths};
use dataplane::route::RouteSpec;
use dataplane::route::question::{RouteQuestion, RouteVerdict};
use ipnetwork::IpNetwork;
use std::net::IpAddr;
use std::time::Duration;

/// Peers that are probed at most, each with two packets.
const MOST_PROBED: usize = 16;
/// What an echo without any payload to speak of has.
const SMALL: u32 = 84;

/// The way to one peer's pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::commands::doctor) struct WayCheck {
    pub(in crate::commands::doctor) wanted: RouteSpec,
    pub(in crate::commands::doctor) asked: IpAddr,
    pub(in crate::commands::doctor) verdict: RouteVerdict,
}

/// A packet from one peer's pods, as it would come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::commands::doctor) struct SourceCheck {
    pub(in crate::commands::doctor) cidr: IpNetwork,
    pub(in crate::commands::doctor) link: String,
    pub(in crate::commands::doctor) verdict: RouteVerdict,
}

/// What became of a small and of a full packet to one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::commands::doctor) struct PathProbe {
    pub(in crate::commands::doctor) to: IpAddr,
    pub(in crate::commands::doctor) bytes: u32,
    pub(in crate::commands::doctor) small: ProbeResult,
    pub(in crate::commands::doctor) full: ProbeResult,
}

/// Routes that lead to peers, as they are wanted.
fn peers(look: &Look) -> impl Iterator<Item = &RouteSpec> {
    let desired = look.desired().into_iter();
    desired
        .flat_map(|desired| desired.routes.values())
        .filter(|route| route.dev.is_some())
}

/// The first and the last address that a pod there can have.
fn samples(cidr: IpNetwork) -> [IpAddr; 2] {
    match (cidr.network(), cidr.broadcast()) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            let inner = u32::from(u8::from(cidr.prefix() < 31));
            [
                IpAddr::V4((u32::from(first) + inner).into()),
                IpAddr::V4((u32::from(last) - inner).into()),
            ]
        }
        (IpAddr::V6(first), last) => [
            IpAddr::V6((u128::from(first) + u128::from(u8::from(cidr.prefix() < 127))).into()),
            last,
        ],
        (first, last) => [first, last],
    }
}

pub(super) fn check_ways(netlink: &mut Netlink, look: &Look) -> Result<Vec<WayCheck>> {
    let mut checks = Vec::new();
    for route in peers(look) {
        for asked in samples(route.key.dst) {
            let question = RouteQuestion {
                to: asked,
                from: None,
                iif: None,
                mark: 0,
            };
            checks.push(WayCheck {
                wanted: route.clone(),
                asked,
                verdict: netlink.ask_route(&question)?,
            });
        }
    }
    Ok(checks)
}

/// Asked as packets to this node's own address: to a pod's the answer is the same, and there may be no pod.
pub(super) fn check_sources(netlink: &mut Netlink, look: &Look) -> Result<Vec<SourceCheck>> {
    let mut checks = Vec::new();
    for route in peers(look) {
        let (Some(link), Some(own)) = (route.dev, own_address(look, route)) else {
            continue;
        };
        let question = RouteQuestion {
            to: own,
            from: Some(samples(route.key.dst)[0]),
            iif: Some(link),
            mark: 0,
        };
        checks.push(SourceCheck {
            cidr: route.key.dst,
            link: look.link_name(link),
            verdict: netlink.ask_route(&question)?,
        });
    }
    Ok(checks)
}

fn own_address(look: &Look, route: &RouteSpec) -> Option<IpAddr> {
    let view = look.view.as_ref()?;
    let own = view.find(&look.node_name)?;
    own.address_of_family(route.key.dst.is_ipv6())
}

/// Small ones first: an ICMP error about a large packet is told to every socket that talks to the same address.
pub(super) fn probe(
    look: &Look,
    patience: Duration,
) -> std::result::Result<Vec<PathProbe>, String> {
    let targets = targets(look);
    let send = |probes: &[Probe]| {
        probe_paths(probes, patience).map_err(|error| {
            format!("send echoes: {error} (this needs CAP_NET_RAW: run as root on the node)")
        })
    };
    let of = |size: fn(u32) -> u32| -> Vec<Probe> {
        let sized = targets.iter().map(|(to, bytes)| Probe {
            to: *to,
            bytes: size(*bytes),
        });
        sized.collect()
    };
    let (small, full) = (send(&of(|_| SMALL))?, send(&of(|bytes| bytes))?);
    let results = small.into_iter().zip(full);
    Ok(targets
        .into_iter()
        .zip(results)
        .map(|((to, bytes), (small, full))| PathProbe {
            to,
            bytes,
            small,
            full,
        })
        .collect())
}

/// The nodes' addresses, and the size that a pod's largest packet has on the way there.
fn targets(look: &Look) -> Vec<(IpAddr, u32)> {
    let Some(view) = &look.view else {
        return Vec::new();
    };
    let others = view
        .nodes
        .iter()
        .filter(|node| *node.name != *look.node_name);
    let addresses = others.flat_map(|node| node.addresses.iter().copied());
    let mut targets: Vec<(IpAddr, u32)> = addresses
        .filter_map(|address| {
            let way = look.facts.ways.get(&address)?.as_ref().ok()?;
            let link = look.facts.links.get(&way.dev)?;
            Some((address, link.mtu.min(65_535)))
        })
        .collect();
    targets.truncate(MOST_PROBED);
    targets
}
