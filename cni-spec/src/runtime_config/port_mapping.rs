//! The portMappings capability (X3).

use crate::{
    address::parse_ip,
    json::{BadValue, list, number, string},
};
use serde_json::{Map, Value};
use std::net::IpAddr;

/// A transport protocol that has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Lower case, as documents and nftables write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// A port of the node that leads to a port of the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortMapping {
    /// The node's address on which the port is open; None is all. `0.0.0.0` and `::` are kept: all addresses of one family.
    pub host_ip: Option<IpAddr>,
    /// 1 to 65535.
    pub host_port: u16,
    /// 1 to 65535.
    pub container_port: u16,
    /// TCP where nothing is said, as in Kubernetes.
    pub protocol: Protocol,
}

/// One that stands twice is taken once; one host port that leads to two places is an error.
pub(super) fn read(asked: &Map<String, Value>) -> Result<Vec<PortMapping>, BadValue> {
    const KEY: &str = "portMappings";
    let mut mappings: Vec<PortMapping> = Vec::new();
    for (index, item) in list(asked, KEY)?.iter().enumerate() {
        let mapping = read_one(item).map_err(|bad| bad.at(index).within(KEY))?;
        let same_port = |other: &&PortMapping| {
            (other.host_ip, other.host_port, other.protocol)
                == (mapping.host_ip, mapping.host_port, mapping.protocol)
        };
        match mappings.iter().find(same_port) {
            None => mappings.push(mapping),
            Some(other) if *other == mapping => {}
            Some(other) => {
                let wanted = format!(
                    "a host port of its own: this one leads to container port {} already",
                    other.container_port
                );
                return Err(BadValue::new("hostPort", &mapping.host_port.into(), wanted)
                    .at(index)
                    .within(KEY));
            }
        }
    }
    Ok(mappings)
}

fn read_one(item: &Value) -> Result<PortMapping, BadValue> {
    let map = item
        .as_object()
        .ok_or_else(|| BadValue::new("", item, "an object with hostPort and containerPort"))?;
    Ok(PortMapping {
        host_ip: read_host_ip(map)?,
        host_port: read_port(map, "hostPort")?,
        container_port: read_port(map, "containerPort")?,
        protocol: read_protocol(map)?,
    })
}

fn read_host_ip(map: &Map<String, Value>) -> Result<Option<IpAddr>, BadValue> {
    let Some(text) = string(map, "hostIP")? else {
        return Ok(None);
    };
    parse_ip(text).map(Some).ok_or_else(|| {
        BadValue::new(
            "hostIP",
            &text.into(),
            "an IP address of the node, or nothing for all",
        )
    })
}

fn read_port(map: &Map<String, Value>, key: &str) -> Result<u16, BadValue> {
    const WANTED: &str = "a port, 1 to 65535";
    match number(map, key, WANTED)? {
        Some(0) => Err(BadValue::new(key, &0.into(), WANTED)),
        Some(port) => Ok(port),
        None => Err(BadValue::missing(key, WANTED)),
    }
}

fn read_protocol(map: &Map<String, Value>) -> Result<Protocol, BadValue> {
    let Some(text) = string(map, "protocol")? else {
        return Ok(Protocol::Tcp);
    };
    [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
        .into_iter()
        .find(|protocol| protocol.as_str().eq_ignore_ascii_case(text))
        .ok_or_else(|| BadValue::new("protocol", &text.into(), "tcp, udp or sctp"))
}
