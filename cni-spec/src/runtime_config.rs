//! runtimeConfig: what the runtime asks for by capability, for one pod (X1-X5).
//!
//! Absent is not asked for. Keys stand in any case: containerd's Go structs have no JSON tags (X2). A bad value is code 7 and
//! names key and value, so that the pod's event says what to mend.

mod bandwidth;
mod port_mapping;

#[cfg(test)]
mod tests;

pub use bandwidth::Bandwidth;
pub use port_mapping::{PortMapping, Protocol};

use crate::{
    address::{parse_ip_or_cidr, parse_mac},
    error::{CniError, ErrorCode},
    json::{self, BadValue, object, string, strings},
    result::Dns,
};
use ipnetwork::IpNetwork;
use serde_json::{Map, Value};

/// The capabilities that Slash32 declares, as asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// Host ports; each (hostIP, hostPort, protocol) stands once.
    pub port_mappings: Vec<PortMapping>,
    /// None where nothing is limited.
    pub bandwidth: Option<Bandwidth>,
    /// `ips`: an address, with or without a prefix length (then /32 or /128).
    pub ips: Vec<IpNetwork>,
    /// The pod's MAC address; unicast, not all zero.
    pub mac: Option<[u8; 6]>,
    /// `ipRanges`: replaces `ipam.ranges`, of the same shape; a list, unparsed here.
    pub ip_ranges: Option<Value>,
    /// `dns`, with its `servers` and `searches` as nameservers and search.
    pub dns: Option<Dns>,
}

impl RuntimeConfig {
    /// Reads `runtimeConfig` out of a network configuration.
    ///
    /// # Errors
    /// Code 7.
    pub fn from_conf(conf: &Map<String, Value>) -> Result<RuntimeConfig, CniError> {
        let read = || match object(conf, "runtimeConfig")? {
            None => Ok(RuntimeConfig::default()),
            Some(asked) => read_runtime_config(asked).map_err(|bad| bad.within("runtimeConfig")),
        };
        read().map_err(|bad: BadValue| bad.into_error(ErrorCode::InvalidConfig))
    }
}

fn read_runtime_config(asked: &Map<String, Value>) -> Result<RuntimeConfig, BadValue> {
    Ok(RuntimeConfig {
        port_mappings: port_mapping::read(asked)?,
        bandwidth: bandwidth::read(asked)?,
        ips: read_ips(asked)?,
        mac: read_mac(asked)?,
        ip_ranges: read_ip_ranges(asked)?,
        dns: read_dns(asked)?,
    })
}

fn read_ips(asked: &Map<String, Value>) -> Result<Vec<IpNetwork>, BadValue> {
    const WANTED: &str = "an IP address, with or without a prefix length";
    let one = |(index, item): (usize, &Value)| {
        let parsed = json::text(item)
            .and_then(|text| parse_ip_or_cidr(text).ok_or_else(|| BadValue::new("", item, WANTED)));
        parsed.map_err(|bad| bad.at(index).within("ips"))
    };
    json::list(asked, "ips")?
        .iter()
        .enumerate()
        .map(one)
        .collect()
}

fn read_mac(asked: &Map<String, Value>) -> Result<Option<[u8; 6]>, BadValue> {
    let Some(text) = string(asked, "mac")? else {
        return Ok(None);
    };
    let wanted = "a unicast MAC address of six bytes, such as c2:b0:57:49:47:f1";
    parse_mac(text)
        .map(Some)
        .ok_or_else(|| BadValue::new("mac", &text.into(), wanted))
}

/// An empty list asks for nothing, so `ipam.ranges` stays.
fn read_ip_ranges(asked: &Map<String, Value>) -> Result<Option<Value>, BadValue> {
    let ranges = json::list(asked, "ipRanges")?;
    Ok((!ranges.is_empty()).then(|| Value::Array(ranges.to_vec())))
}

/// The CRI's names, not those of a result's `dns`.
fn read_dns(asked: &Map<String, Value>) -> Result<Option<Dns>, BadValue> {
    let Some(dns) = object(asked, "dns")? else {
        return Ok(None);
    };
    let read = || {
        Ok(Dns {
            nameservers: strings(dns, "servers")?,
            domain: None,
            search: strings(dns, "searches")?,
            options: strings(dns, "options")?,
        })
    };
    let dns = read().map_err(|bad: BadValue| bad.within("dns"))?;
    Ok((!dns.is_empty()).then_some(dns))
}
