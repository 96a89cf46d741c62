//! CHECK, what the reference plugins do not look at: the host's end of the pod's link, its routes,
//! neighbours and shaping (C4).

use super::{RT_TABLE_MAIN, damaged};
use crate::context::shaper_link;
use crate::error::Error;
use crate::plan::host_network;
use crate::shaping::shaping_of;
use cni_spec::request::Attachment;
use dataplane::link::LinkInfo;
use dataplane::names::ROUTE_PROTOCOL;
use dataplane::netlink::Netlink;
use node_state::record::AttachmentKey;
use std::net::IpAddr;

pub(super) fn check_host_side(
    netlink: &mut Netlink,
    key: &AttachmentKey,
    addresses: &[IpAddr],
    pod_link: &LinkInfo,
    attachment: &Attachment,
) -> Result<(), Error> {
    let name = key.host_link();
    let link = netlink
        .find_link(&name)?
        .ok_or_else(|| damaged(format!("link {name} is gone from the host")))?;
    if !link.up {
        return Err(damaged(format!("link {name} on the host is down")));
    }
    if link.peer_index != Some(pod_link.index) {
        return Err(damaged(format!(
            "link {name} on the host is not the other end of the pod's {}",
            pod_link.name
        )));
    }
    let neighbours = netlink.list_neighbours(link.index)?;
    for address in addresses {
        check_host_route(netlink, *address, &link)?;
        let entry = neighbours
            .iter()
            .find(|n| n.address == *address && n.permanent);
        if entry.is_none_or(|n| n.mac != pod_link.mac) {
            return Err(damaged(format!(
                "the permanent neighbour entry of {address} on {name} is gone or has another MAC address"
            )));
        }
    }
    check_shaping(netlink, key, &link, attachment)
}

fn check_host_route(netlink: &mut Netlink, address: IpAddr, link: &LinkInfo) -> Result<(), Error> {
    let prefix = host_network(address);
    let routes = netlink.list_routes(RT_TABLE_MAIN)?;
    match routes.iter().find(|route| route.spec.key.dst == prefix) {
        Some(route) if route.spec.dev == Some(link.index) && route.protocol == ROUTE_PROTOCOL => {
            Ok(())
        }
        Some(route) => Err(damaged(format!(
            "the host's route to {prefix} leads to link {:?} (protocol {}) instead of {}",
            route.spec.dev, route.protocol, link.name
        ))),
        None => Err(damaged(format!(
            "the host's route to {prefix} is gone (the agent repairs it within milliseconds where it runs)"
        ))),
    }
}

fn check_shaping(
    netlink: &mut Netlink,
    key: &AttachmentKey,
    link: &LinkInfo,
    attachment: &Attachment,
) -> Result<(), Error> {
    let Some(wanted) = shaping_of(&attachment.conf) else {
        return Ok(());
    };
    let found = netlink.find_shaping(link.index, &shaper_link(key))?;
    if found.ingress_rate != wanted.ingress_rate || found.egress_rate != wanted.egress_rate {
        return Err(damaged(format!(
            "traffic shaping of {} is {}/{} bit/s (to/from the pod) instead of {}/{}",
            link.name,
            found.ingress_rate,
            found.egress_rate,
            wanted.ingress_rate,
            wanted.egress_rate
        )));
    }
    Ok(())
}
