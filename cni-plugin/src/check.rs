//! CHECK: the kernel against prevResult, the host's side included (C1-C7). Reads only.

use crate::add::shaping_of;
use crate::config::Config;
use crate::context::{key_of, open_pod_netns, shaper_link};
use crate::delegate::Delegation;
use crate::error::Error;
use crate::host_ports;
use crate::ipam_driver::IpamDriver;
use crate::mac::{format_mac, parse_mac};
use cni_spec::request::Attachment;
use cni_spec::result::{CniResult, Interface};
use dataplane::link::LinkInfo;
use dataplane::names::ROUTE_PROTOCOL;
use dataplane::netlink::Netlink;
use node_state::record::AttachmentKey;
use std::net::IpAddr;
use std::path::Path;

const RT_TABLE_MAIN: u32 = 254;

pub(crate) fn run(attachment: &Attachment, delegation: &Delegation<'_>) -> Result<(), Error> {
    let conf = &attachment.conf;
    if let Some(error) = &conf.prev_result_error {
        return Err(error.clone().into());
    }
    let Some(result) = &conf.prev_result else {
        return Err(Error::Config {
            key: "prevResult",
            value: "nothing".into(),
            reason:
                "CHECK compares the kernel with the result of ADD: the runtime must pass it on (C1)"
                    .into(),
        });
    };
    let config = Config::parse(conf)?;
    let key = key_of(&attachment.id);
    let netns = open_pod_netns(
        attachment.netns.as_deref().unwrap_or(Path::new("")),
        delegation.netns_override,
    )?;
    let ours = Ours::find(result, &key.ifname)?;

    let pod_link = check_pod_side(&mut Netlink::open_in(&netns)?, result, &ours)?;
    check_host_side(&mut Netlink::open()?, &key, &ours, &pod_link, attachment)?;
    let record = config.state.read_record(&key)?.ok_or_else(|| {
        damaged(format!(
            "no attachment record in {}",
            config.state.root().display()
        ))
    })?;
    host_ports::check(&record.host_ports)?;
    check_ports_recorded(attachment, &ours, &record.host_ports)?;
    IpamDriver::new(attachment, &config.state, &config.ipam_type, delegation).check(&ours.addresses)
}

fn damaged(what: String) -> Error {
    Error::Damaged {
        what: format!("{what}; delete and recreate the pod"),
    }
}

/// The part of the result that is this attachment's: others may have added their own (C3).
struct Ours<'a> {
    interface: &'a Interface,
    addresses: Vec<IpAddr>,
}

impl<'a> Ours<'a> {
    fn find(result: &'a CniResult, ifname: &str) -> Result<Self, Error> {
        let position = result
            .interfaces
            .iter()
            .position(|i| i.name == ifname && i.sandbox.as_deref().is_some_and(|s| !s.is_empty()));
        let Some(position) = position else {
            return Err(Error::Config {
                key: "prevResult.interfaces",
                value: format!(
                    "{:?}",
                    result
                        .interfaces
                        .iter()
                        .map(|i| &i.name)
                        .collect::<Vec<_>>()
                ),
                reason: format!("has no interface {ifname} with a sandbox"),
            });
        };
        if let Some(index) = result
            .ips
            .iter()
            .filter_map(|ip| ip.interface)
            .find(|index| *index >= result.interfaces.len())
        {
            return Err(Error::Config {
                key: "prevResult.ips.interface",
                value: index.to_string(),
                reason: format!(
                    "is out of range: the result has {} interfaces (C2)",
                    result.interfaces.len()
                ),
            });
        }
        let addresses = result
            .ips
            .iter()
            .filter(|ip| ip.interface.is_none_or(|index| index == position))
            .map(|ip| ip.address.ip())
            .collect();
        Ok(Ours {
            interface: &result.interfaces[position],
            addresses,
        })
    }
}

fn check_pod_side(
    netlink: &mut Netlink,
    result: &CniResult,
    ours: &Ours<'_>,
) -> Result<LinkInfo, Error> {
    let name = &ours.interface.name;
    let link = netlink
        .find_link(name)?
        .ok_or_else(|| damaged(format!("interface {name} is gone from the pod")))?;
    check_link(&link, ours.interface)?;
    let present = netlink.list_addresses()?;
    for address in &ours.addresses {
        if !present
            .iter()
            .any(|info| info.index == link.index && info.address.ip() == *address)
        {
            return Err(damaged(format!(
                "address {address} is gone from {name} in the pod"
            )));
        }
    }
    let routes = netlink.list_routes(RT_TABLE_MAIN)?;
    for wanted in result
        .routes
        .iter()
        .filter(|route| route.table.is_none_or(|table| table == RT_TABLE_MAIN))
    {
        let found = routes.iter().any(|route| {
            route.spec.key.dst == wanted.dst
                && wanted.gw.is_none_or(|gw| route.spec.via == Some(gw))
        });
        if !found {
            let via = wanted
                .gw
                .map_or_else(String::new, |gw| format!(" via {gw}"));
            return Err(damaged(format!(
                "route {}{via} is gone from the pod",
                wanted.dst
            )));
        }
    }
    Ok(link)
}

/// Type, state, and what the result says of it.
fn check_link(link: &LinkInfo, wanted: &Interface) -> Result<(), Error> {
    let name = &link.name;
    if link.kind.as_deref() != Some("veth") {
        return Err(damaged(format!(
            "interface {name} is a {} instead of a veth",
            link.kind.as_deref().unwrap_or("physical device")
        )));
    }
    if !link.up {
        return Err(damaged(format!("interface {name} is down")));
    }
    if let Some(text) = wanted.mac.as_deref().filter(|text| !text.is_empty())
        && link.mac != Some(parse_mac("prevResult.interfaces.mac", text)?)
    {
        return Err(damaged(format!(
            "interface {name} has the MAC address {} instead of {text}",
            link.mac.map_or_else(|| "none".into(), format_mac)
        )));
    }
    match wanted.mtu {
        Some(mtu) if mtu != 0 && mtu != link.mtu => Err(damaged(format!(
            "interface {name} has MTU {} instead of {mtu}",
            link.mtu
        ))),
        _ => Ok(()),
    }
}

/// What the reference plugins do not look at: the host's end, its routes and neighbours (C4).
fn check_host_side(
    netlink: &mut Netlink,
    key: &AttachmentKey,
    ours: &Ours<'_>,
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
    for address in &ours.addresses {
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
    let prefix = crate::plan::host_network(address);
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

/// A port that the runtime asks for and that ADD did not record would never be forwarded.
fn check_ports_recorded(
    attachment: &Attachment,
    ours: &Ours<'_>,
    recorded: &[node_state::record::HostPort],
) -> Result<(), Error> {
    for port in host_ports::compute_host_ports(&attachment.conf, &ours.addresses)? {
        if !recorded.contains(&port) {
            return Err(damaged(format!(
                "host port {} was not forwarded when the pod was made",
                port.host_port
            )));
        }
    }
    Ok(())
}
