//! Which host ports a request means, how the kernel keys them, and how people read them. Pure.

use crate::error::Error;
use cni_spec::request::NetConf;
use cni_spec::runtime_config::{PortMapping, Protocol};
use dataplane::hostport::{PortEntry, PortKey};
use node_state::record::{HostPort, PortProtocol};
use std::net::IpAddr;

/// What the runtime asked for, spread over the pod's addresses: a mapping without host address
/// goes to the first pod address of each family, one with an address to its own family only (X3).
pub(crate) fn compute_host_ports(
    conf: &NetConf,
    addresses: &[IpAddr],
) -> Result<Vec<HostPort>, Error> {
    let firsts = [false, true].map(|v6| addresses.iter().copied().find(|a| a.is_ipv6() == v6));
    let mut ports: Vec<HostPort> = Vec::new();
    for mapping in &conf.runtime_config.port_mappings {
        let targets: Vec<HostPort> = firsts
            .iter()
            .flatten()
            .filter_map(|pod_ip| host_port_for(mapping, *pod_ip))
            .collect();
        if targets.is_empty() {
            return Err(Error::Config {
                key: "runtimeConfig.portMappings.hostIP",
                value: mapping
                    .host_ip
                    .map_or_else(|| "nothing".into(), |ip| ip.to_string()),
                reason: format!(
                    "host port {} cannot be forwarded: the pod has no address of that family ({addresses:?})",
                    mapping.host_port
                ),
            });
        }
        ports.extend(
            targets
                .into_iter()
                .filter(|port| !ports.contains(port))
                .collect::<Vec<_>>(),
        );
    }
    Ok(ports)
}

/// `None` where the mapping is meant for the other family. 0.0.0.0 and :: are "any address" of theirs.
fn host_port_for(mapping: &PortMapping, pod_ip: IpAddr) -> Option<HostPort> {
    let host_ip = match mapping.host_ip {
        Some(ip) if ip.is_ipv6() != pod_ip.is_ipv6() => return None,
        Some(ip) if ip.is_unspecified() => None,
        other => other,
    };
    let protocol = match mapping.protocol {
        Protocol::Tcp => PortProtocol::Tcp,
        Protocol::Udp => PortProtocol::Udp,
        Protocol::Sctp => PortProtocol::Sctp,
    };
    Some(HostPort {
        host_ip,
        host_port: mapping.host_port,
        protocol,
        pod_ip,
        container_port: mapping.container_port,
    })
}

/// As the kernel keys it.
pub(super) fn entry_of(port: &HostPort) -> PortEntry {
    PortEntry {
        key: PortKey {
            host_ip: port.host_ip,
            protocol: protocol_number(port.protocol),
            host_port: port.host_port,
            v6: port.pod_ip.is_ipv6(),
        },
        pod_ip: port.pod_ip,
        container_port: port.container_port,
    }
}

/// Protocol numbers of the IANA registry, as nftables' inet_proto holds them.
pub(super) fn protocol_number(protocol: PortProtocol) -> u8 {
    match protocol {
        PortProtocol::Tcp => 6,
        PortProtocol::Udp => 17,
        PortProtocol::Sctp => 132,
    }
}

/// As `ss` and people write it.
pub(super) fn describe_key(key: &PortKey) -> String {
    let protocol = match key.protocol {
        6 => "tcp",
        17 => "udp",
        132 => "sctp",
        _ => "?",
    };
    let address = key.host_ip.map_or_else(
        || {
            if key.v6 {
                "[::]".into()
            } else {
                "0.0.0.0".into()
            }
        },
        |ip| {
            if ip.is_ipv6() {
                format!("[{ip}]")
            } else {
                ip.to_string()
            }
        },
    );
    format!("{address}:{}/{protocol}", key.host_port)
}
