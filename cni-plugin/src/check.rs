//! CHECK: the kernel against prevResult, the host's side included (C1-C7). Reads only.

use crate::config::Config;
use crate::context::{key_of, open_pod_netns};
use crate::delegate::Delegation;
use crate::error::Error;
use crate::host_ports;
use crate::ipam_driver::IpamDriver;
use crate::mac::{format_mac, parse_mac};
use crate::plan::gateway_of;
use cni_spec::request::Attachment;
use cni_spec::result::{CniResult, Interface};
use dataplane::link::LinkInfo;
use dataplane::names::HOST_MAC;
use dataplane::netlink::Netlink;
use dataplane::netns::Netns;
use std::net::IpAddr;
use std::path::Path;

mod host_side;

use host_side::check_host_side;

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
    check_sandbox(ours.interface, &netns)?;

    let pod_link = check_pod_side(&mut Netlink::open_in(&netns)?, result, &ours)?;
    check_host_side(
        &mut Netlink::open()?,
        &key,
        &ours.addresses,
        &pod_link,
        attachment,
    )?;
    let record = config.state.read_record(&key)?.ok_or_else(|| {
        damaged(format!(
            "no attachment record in {}",
            config.state.root().display()
        ))
    })?;
    host_ports::check(&config.state, &record.host_ports)?;
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

/// C2: by the namespace itself, since one namespace has several paths (/run and /var/run, /proc/PID/ns/net).
fn check_sandbox(interface: &Interface, netns: &Netns) -> Result<(), Error> {
    let sandbox = interface.sandbox.as_deref().unwrap_or_default();
    match Netns::open(Path::new(sandbox)) {
        Ok(found) if found.identity() == netns.identity() => Ok(()),
        _ => Err(Error::Config {
            key: "prevResult.interfaces.sandbox",
            value: sandbox.into(),
            reason: format!(
                "is not the namespace that CNI_NETNS names for {}",
                interface.name
            ),
        }),
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
    check_gateways(netlink, &link, &ours.addresses)?;
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

/// Nothing answers for the gateway: without its permanent entry no packet leaves the pod.
fn check_gateways(
    netlink: &mut Netlink,
    link: &LinkInfo,
    addresses: &[IpAddr],
) -> Result<(), Error> {
    let neighbours = netlink.list_neighbours(link.index)?;
    for gateway in addresses.iter().copied().map(gateway_of) {
        let present = neighbours
            .iter()
            .any(|n| n.address == gateway && n.permanent && n.mac == Some(HOST_MAC));
        if !present {
            return Err(damaged(format!(
                "the permanent neighbour entry of the gateway {gateway} is gone from {} in the pod",
                link.name
            )));
        }
    }
    Ok(())
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
