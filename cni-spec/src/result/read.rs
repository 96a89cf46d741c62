//! A result out of a document of any spec version.
//!
//! As lenient as libcni: unknown keys are ignored, null is absent, keys stand in any case, fields of a newer version are
//! taken in an older document. What is there but cannot be understood is an error.

use super::{CniResult, Dns, Interface, IpConfig, Route};
use crate::{
    address::{parse_cidr, parse_ip},
    error::{CniError, ErrorCode},
    json::{self, BadValue, list, number, object, string, strings},
    version::{SpecVersion, supported_list},
};
use ipnetwork::IpNetwork;
use serde_json::{Map, Value};
use std::net::IpAddr;

const CIDR: &str = "an address with a prefix length, such as 10.1.2.3/32";
const ADDRESS: &str = "an IP address";
const COUNT: &str = "a whole number up to 4294967295";

impl CniResult {
    /// Reads a result of the given version: a prevResult (X8), an IPAM plugin's answer. `cniVersion` inside wins where
    /// present; null is an empty result (G14).
    ///
    /// # Errors
    /// Code 6, naming key and value.
    pub fn from_value(value: &Value, version: SpecVersion) -> Result<CniResult, CniError> {
        read_result(value, version).map_err(|bad| bad.into_error(ErrorCode::Decode))
    }

    /// The same from the bytes that a plugin printed; nothing at all is an error (G14).
    ///
    /// # Errors
    /// Code 6, with the position where the bytes are no JSON.
    pub fn from_slice(document: &[u8], version: SpecVersion) -> Result<CniResult, CniError> {
        let value = json::decode(document).map_err(|cause| {
            let msg = format!(
                "read result of {} bytes: not one JSON document",
                document.len()
            );
            CniError::new(ErrorCode::Decode, msg).with_details(cause.to_string())
        })?;
        CniResult::from_value(&value, version)
    }
}

fn read_result(value: &Value, version: SpecVersion) -> Result<CniResult, BadValue> {
    match value {
        Value::Null => Ok(CniResult::default()),
        Value::Object(document) => result_of(document, version),
        other => Err(BadValue::new("result", other, "an object")),
    }
}

/// The same of an object, where the caller knows its place and the code.
pub(crate) fn result_of(
    document: &Map<String, Value>,
    version: SpecVersion,
) -> Result<CniResult, BadValue> {
    let version = match string(document, "cniVersion")? {
        None => version,
        Some(text) => SpecVersion::parse(text).ok_or_else(|| {
            BadValue::new(
                "cniVersion",
                &text.into(),
                format!("one of {}", supported_list()),
            )
        })?,
    };
    let mut result = CniResult {
        dns: dns_of(document)?,
        ..CniResult::default()
    };
    if version.has_legacy_result() {
        read_family(document, "ip4", &mut result)?;
        read_family(document, "ip6", &mut result)?;
    } else {
        result.interfaces = objects(document, "interfaces", read_interface)?;
        result.ips = objects(document, "ips", read_ip)?;
        result.routes = objects(document, "routes", read_route)?;
    }
    Ok(result)
}

/// `ip4` or `ip6` of 0.1.0 and 0.2.0: address, gateway and the routes of the family.
fn read_family(
    document: &Map<String, Value>,
    key: &str,
    result: &mut CniResult,
) -> Result<(), BadValue> {
    let Some(family) = object(document, key)? else {
        return Ok(());
    };
    let mut read = || {
        let address = required_network(family, "ip")?;
        result.ips.push(IpConfig {
            address,
            gateway: address_at(family, "gateway")?,
            interface: None,
        });
        result.routes.extend(objects(family, "routes", read_route)?);
        Ok(())
    };
    read().map_err(|bad: BadValue| bad.within(key))
}

fn read_interface(item: &Map<String, Value>) -> Result<Interface, BadValue> {
    let owned = |key| string(item, key).map(|text| text.map(str::to_owned));
    Ok(Interface {
        // libcni takes one without a name, so it may stand in a prevResult that we only pass on.
        name: owned("name")?.unwrap_or_default(),
        mac: owned("mac")?,
        mtu: count(item, "mtu")?,
        sandbox: owned("sandbox")?,
        socket_path: owned("socketPath")?,
        pci_id: owned("pciID")?,
    })
}

fn read_ip(item: &Map<String, Value>) -> Result<IpConfig, BadValue> {
    Ok(IpConfig {
        address: required_network(item, "address")?,
        gateway: address_at(item, "gateway")?,
        interface: number(item, "interface", "the index of an interface, from 0")?,
    })
}

fn read_route(item: &Map<String, Value>) -> Result<Route, BadValue> {
    Ok(Route {
        dst: required_network(item, "dst")?,
        gw: address_at(item, "gw")?,
        mtu: count(item, "mtu")?,
        advmss: count(item, "advmss")?,
        priority: count(item, "priority")?,
        table: number(item, "table", COUNT)?,
        scope: number(item, "scope", "a scope, 0 to 255")?,
    })
}

/// The object `dns` of a result or of a network configuration; absent is empty.
pub(crate) fn dns_of(document: &Map<String, Value>) -> Result<Dns, BadValue> {
    let Some(dns) = object(document, "dns")? else {
        return Ok(Dns::default());
    };
    let read = || {
        Ok(Dns {
            nameservers: strings(dns, "nameservers")?,
            domain: string(dns, "domain")?.map(str::to_owned),
            search: strings(dns, "search")?,
            options: strings(dns, "options")?,
        })
    };
    read().map_err(|bad: BadValue| bad.within("dns"))
}

fn objects<T>(
    map: &Map<String, Value>,
    key: &str,
    read: impl Fn(&Map<String, Value>) -> Result<T, BadValue>,
) -> Result<Vec<T>, BadValue> {
    let one = |(index, item): (usize, &Value)| {
        let found = item
            .as_object()
            .ok_or_else(|| BadValue::new("", item, "an object"))
            .and_then(&read);
        found.map_err(|bad| bad.at(index).within(key))
    };
    list(map, key)?.iter().enumerate().map(one).collect()
}

fn required_network(map: &Map<String, Value>, key: &str) -> Result<IpNetwork, BadValue> {
    let text = string(map, key)?.ok_or_else(|| BadValue::missing(key, CIDR))?;
    parse_cidr(text).ok_or_else(|| BadValue::new(key, &text.into(), CIDR))
}

fn address_at(map: &Map<String, Value>, key: &str) -> Result<Option<IpAddr>, BadValue> {
    let Some(text) = string(map, key)? else {
        return Ok(None);
    };
    parse_ip(text)
        .map(Some)
        .ok_or_else(|| BadValue::new(key, &text.into(), ADDRESS))
}

/// A number whose 0 means nothing said (Go's `omitempty`).
fn count(map: &Map<String, Value>, key: &str) -> Result<Option<u32>, BadValue> {
    Ok(number(map, key, COUNT)?.filter(|number| *number != 0))
}
