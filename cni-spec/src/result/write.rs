//! A result as a document of a given spec version (table 1.1, A6, A8).

use super::{CniResult, Dns, Interface, IpConfig, Route};
use crate::{
    error::{CniError, ErrorCode},
    version::SpecVersion,
};
use serde_json::{Map, Value, json};
use std::net::IpAddr;

impl CniResult {
    /// The document for `version`.
    ///
    /// 0.1.0 and 0.2.0 know one address per family and no interfaces: the first of each family is told, with the routes of
    /// its family, as libcni converts. Fields of 1.1.0 are left out below 1.0.0 (A8).
    ///
    /// # Errors
    /// 0.1.0 and 0.2.0 without any address; an `ips[].interface` without such an interface, on which go-cni panics (A6).
    pub fn to_value(&self, version: SpecVersion) -> Result<Value, CniError> {
        self.refuse_bad_index()?;
        let mut document = if version.has_legacy_result() {
            self.legacy_document()?
        } else {
            self.document(version)
        };
        document.insert("cniVersion".to_owned(), version.as_str().into());
        if !self.dns.is_empty() {
            document.insert("dns".to_owned(), dns_document(&self.dns));
        }
        Ok(Value::Object(document))
    }

    /// The same on one line.
    ///
    /// # Errors
    /// Those of [`CniResult::to_value`].
    pub fn to_json(&self, version: SpecVersion) -> Result<String, CniError> {
        Ok(self.to_value(version)?.to_string())
    }

    fn refuse_bad_index(&self) -> Result<(), CniError> {
        let known = self.interfaces.len();
        match self
            .ips
            .iter()
            .find(|ip| ip.interface.is_some_and(|index| index >= known))
        {
            None => Ok(()),
            Some(ip) => {
                let index = ip.interface.unwrap_or_default();
                let msg = format!(
                    "write result: address {} is of interface {index}, of {known}",
                    ip.address
                );
                Err(CniError::new(ErrorCode::Internal, msg))
            }
        }
    }

    fn document(&self, version: SpecVersion) -> Map<String, Value> {
        let mut document = Map::new();
        let mut put = |key: &str, items: Vec<Value>| {
            if !items.is_empty() {
                document.insert(key.to_owned(), Value::Array(items));
            }
        };
        put(
            "interfaces",
            self.interfaces
                .iter()
                .map(|interface| interface_document(interface, version))
                .collect(),
        );
        put(
            "ips",
            self.ips.iter().map(|ip| ip_document(ip, version)).collect(),
        );
        put(
            "routes",
            self.routes
                .iter()
                .map(|route| route_document(route, version))
                .collect(),
        );
        document
    }

    fn legacy_document(&self) -> Result<Map<String, Value>, CniError> {
        let mut document = Map::new();
        for (key, wants_ipv4) in [("ip4", true), ("ip6", false)] {
            let Some(ip) = self
                .ips
                .iter()
                .find(|ip| ip.address.is_ipv4() == wants_ipv4)
            else {
                continue;
            };
            let mut family = Map::new();
            family.insert("ip".to_owned(), ip.address.to_string().into());
            put_address(&mut family, "gateway", ip.gateway);
            let routes = self
                .routes
                .iter()
                .filter(|route| route.dst.is_ipv4() == wants_ipv4);
            let routes: Vec<Value> = routes
                .map(|route| route_document(route, SpecVersion::V0_2_0))
                .collect();
            if !routes.is_empty() {
                family.insert("routes".to_owned(), routes.into());
            }
            document.insert(key.to_owned(), family.into());
        }
        if document.is_empty() {
            let msg =
                "write result: spec versions 0.1.0 and 0.2.0 need an IP address and there is none";
            return Err(CniError::new(ErrorCode::IncompatibleVersion, msg)
                .with_details("set cniVersion to 0.3.1 or later"));
        }
        Ok(document)
    }
}

/// Whether fields that came with 1.1.0 may be told. 1.0.0 gets them too: libcni reads both versions into one type and hands
/// them back in prevResult, where CHECK wants them.
fn has_newest_fields(version: SpecVersion) -> bool {
    version >= SpecVersion::V1_0_0
}

fn interface_document(interface: &Interface, version: SpecVersion) -> Value {
    let mut document = Map::new();
    document.insert("name".to_owned(), interface.name.as_str().into());
    put_text(&mut document, "mac", interface.mac.as_deref());
    put_text(&mut document, "sandbox", interface.sandbox.as_deref());
    if has_newest_fields(version) {
        put_number(&mut document, "mtu", interface.mtu.filter(|mtu| *mtu != 0));
        put_text(
            &mut document,
            "socketPath",
            interface.socket_path.as_deref(),
        );
        put_text(&mut document, "pciID", interface.pci_id.as_deref());
    }
    document.into()
}

fn ip_document(ip: &IpConfig, version: SpecVersion) -> Value {
    let mut document = Map::new();
    document.insert("address".to_owned(), ip.address.to_string().into());
    put_address(&mut document, "gateway", ip.gateway);
    if let Some(index) = ip.interface {
        document.insert("interface".to_owned(), index.into());
    }
    if version < SpecVersion::V1_0_0 {
        document.insert(
            "version".to_owned(),
            if ip.address.is_ipv4() { "4" } else { "6" }.into(),
        );
    }
    document.into()
}

fn route_document(route: &Route, version: SpecVersion) -> Value {
    let mut document = Map::new();
    document.insert("dst".to_owned(), route.dst.to_string().into());
    put_address(&mut document, "gw", route.gw);
    if has_newest_fields(version) {
        put_number(&mut document, "mtu", route.mtu.filter(|mtu| *mtu != 0));
        put_number(
            &mut document,
            "advmss",
            route.advmss.filter(|advmss| *advmss != 0),
        );
        put_number(
            &mut document,
            "priority",
            route.priority.filter(|priority| *priority != 0),
        );
        put_number(&mut document, "table", route.table);
        put_number(&mut document, "scope", route.scope.map(u32::from));
    }
    document.into()
}

fn dns_document(dns: &Dns) -> Value {
    let mut document = Map::new();
    for (key, list) in [
        ("nameservers", &dns.nameservers),
        ("search", &dns.search),
        ("options", &dns.options),
    ] {
        if !list.is_empty() {
            document.insert(key.to_owned(), json!(list));
        }
    }
    put_text(&mut document, "domain", dns.domain.as_deref());
    document.into()
}

fn put_text(document: &mut Map<String, Value>, key: &str, text: Option<&str>) {
    if let Some(text) = text.filter(|text| !text.is_empty()) {
        document.insert(key.to_owned(), text.into());
    }
}

fn put_number(document: &mut Map<String, Value>, key: &str, number: Option<u32>) {
    if let Some(number) = number {
        document.insert(key.to_owned(), number.into());
    }
}

fn put_address(document: &mut Map<String, Value>, key: &str, address: Option<IpAddr>) {
    if let Some(address) = address {
        document.insert(key.to_owned(), address.to_string().into());
    }
}
