//! The `ipam` object of a network configuration: range sets as host-local spells them, so that users can switch.
//!
//! `ranges`: a list of range sets, one address from each; `subnet`, `rangeStart`, `rangeEnd`, `gateway` at the top level
//! (host-local's older spelling) make one more set, before them. `routes`, `dataDir`. Keys in any case, as Go reads
//! them (G10, X2); keys that we do not know are left alone (G8). Called by `slash32` and `slash32-ipam`.

use crate::error::IpamError;
use crate::range::{Range, RangeSet};
use ipnetwork::IpNetwork;
use serde_json::{Map, Value};
use std::net::IpAddr;
use std::path::PathBuf;

/// The `ipam` object of the configuration, validated.
#[derive(Debug, Clone)]
pub struct IpamConfig {
    /// One address of each. Empty where the configuration names none: the node's range is not known yet (I14), which
    /// [`crate::Ipam::allocate`] refuses, while DEL and GC go on.
    pub sets: Vec<RangeSet>,
    /// Routes to hand on with the addresses, with their gateway where one is set.
    pub routes: Vec<(IpNetwork, Option<IpAddr>)>,
    /// Where the claims are kept, when it is not the default.
    pub data_dir: Option<PathBuf>,
}

impl IpamConfig {
    /// Reads and validates the `ipam` object. `ip_ranges` is the `ipRanges` capability, which replaces all ranges of
    /// the object (I7). Errors name key and value.
    pub fn parse(
        ipam: &Map<String, Value>,
        ip_ranges: Option<&Value>,
    ) -> Result<IpamConfig, IpamError> {
        let sets = match ip_ranges.filter(|value| !is_empty(value)) {
            Some(ip_ranges) => parse_sets("ipRanges", ip_ranges)?,
            None => {
                let mut sets = Vec::new();
                if get(ipam, "subnet").is_some() {
                    let range = parse_range("", ipam)?;
                    sets.push(RangeSet {
                        ranges: vec![range],
                    });
                }
                if let Some(ranges) = get(ipam, "ranges") {
                    sets.extend(parse_sets("ranges", ranges)?);
                }
                sets
            }
        };
        refuse_overlaps(&sets)?;
        Ok(IpamConfig {
            sets,
            routes: parse_routes(ipam)?,
            data_dir: Self::find_data_dir(ipam)?,
        })
    }

    /// `dataDir` alone: DEL and GC need nothing else, and must not fail for a range that became wrong since (D9).
    pub fn find_data_dir(ipam: &Map<String, Value>) -> Result<Option<PathBuf>, IpamError> {
        match text(ipam, "dataDir", &str::to_owned)? {
            None | Some("") => Ok(None),
            Some(path) if path.starts_with('/') => Ok(Some(PathBuf::from(path))),
            Some(path) => Err(IpamError::config(
                "dataDir",
                format!("{path:?} is not an absolute path"),
            )),
        }
    }

    /// host-local's habit, for main plugins which need a gateway (bridge, ptp): a range without one gets the subnet's
    /// first address, which is then not handed out. Not for /31, /32, /127 and /128, where it would take what is needed.
    pub fn with_default_gateways(mut self) -> IpamConfig {
        for range in self.sets.iter_mut().flat_map(|set| &mut set.ranges) {
            let host_bits = if range.subnet.is_ipv4() { 32 } else { 128 } - range.subnet.prefix();
            if range.gateway.is_none() && host_bits > 1 {
                let first = crate::number::from_ip(range.subnet.network()) + 1;
                range.gateway = Some(crate::number::to_ip(first));
            }
        }
        self
    }
}

fn parse_sets(key: &str, value: &Value) -> Result<Vec<RangeSet>, IpamError> {
    let sets = list(key, value)?;
    sets.iter()
        .enumerate()
        .map(|(i, set)| parse_set(&format!("{key}[{i}]"), set))
        .collect()
}

fn parse_set(key: &str, value: &Value) -> Result<RangeSet, IpamError> {
    let mut ranges = Vec::new();
    for (i, range) in list(key, value)?.iter().enumerate() {
        let key = format!("{key}[{i}]");
        let object = range
            .as_object()
            .ok_or_else(|| IpamError::config(&key, format!("{range} is no object")))?;
        ranges.push(parse_range(&key, object)?);
    }
    match ranges.first() {
        None => Err(IpamError::config(key, "an empty range set")),
        Some(first)
            if ranges
                .iter()
                .any(|range| range.subnet.is_ipv4() != first.subnet.is_ipv4()) =>
        {
            Err(IpamError::config(
                key,
                "IPv4 and IPv6 ranges in one set; give each family a set of its own",
            ))
        }
        Some(_) => Ok(RangeSet { ranges }),
    }
}

fn parse_range(key: &str, object: &Map<String, Value>) -> Result<Range, IpamError> {
    let below = |name: &str| {
        if key.is_empty() {
            name.to_owned()
        } else {
            format!("{key}.{name}")
        }
    };
    let subnet = match text(object, "subnet", &below)? {
        // Without a prefix it would read as /32: a typo, not a subnet.
        Some(text) if !text.contains('/') => {
            return Err(IpamError::config(
                below("subnet"),
                format!("{text:?} has no prefix length, as in 10.244.1.0/24"),
            ));
        }
        Some(text) => parse(&below("subnet"), text, "a subnet such as 10.244.1.0/24")?,
        None => return Err(IpamError::config(below("subnet"), "missing")),
    };
    let address = |name: &str| -> Result<Option<IpAddr>, IpamError> {
        let text = text(object, name, &below)?.filter(|text| !text.is_empty());
        text.map(|text| parse(&below(name), text, "an address"))
            .transpose()
    };
    Range::new(
        subnet,
        address("rangeStart")?,
        address("rangeEnd")?,
        address("gateway")?,
    )
    .map_err(|(name, reason)| IpamError::config(below(name), reason))
}

fn refuse_overlaps(sets: &[RangeSet]) -> Result<(), IpamError> {
    let ranges: Vec<&Range> = sets.iter().flat_map(|set| &set.ranges).collect();
    for (i, one) in ranges.iter().enumerate() {
        if let Some(other) = ranges[..i].iter().find(|other| one.overlaps(other)) {
            let reason = format!(
                "{}-{} overlaps {}-{}",
                one.first, one.last, other.first, other.last
            );
            return Err(IpamError::config("ranges", reason));
        }
    }
    Ok(())
}

fn parse_routes(ipam: &Map<String, Value>) -> Result<Vec<(IpNetwork, Option<IpAddr>)>, IpamError> {
    let Some(routes) = get(ipam, "routes") else {
        return Ok(Vec::new());
    };
    let parse_route = |(i, route): (usize, &Value)| {
        let key = format!("routes[{i}]");
        let below = |name: &str| format!("{key}.{name}");
        let object = route
            .as_object()
            .ok_or_else(|| IpamError::config(&key, format!("{route} is no object")))?;
        let dst = text(object, "dst", &below)?
            .ok_or_else(|| IpamError::config(below("dst"), "missing"))?;
        let gw = text(object, "gw", &below)?.filter(|gw| !gw.is_empty());
        let gw = gw
            .map(|gw| parse(&below("gw"), gw, "an address"))
            .transpose()?;
        Ok((
            parse(&below("dst"), dst, "a destination such as 0.0.0.0/0")?,
            gw,
        ))
    };
    list("routes", routes)?
        .iter()
        .enumerate()
        .map(parse_route)
        .collect()
}

// ===== reading JSON as Go does =====

/// A key, exact or in any case; null is absent.
fn get<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    let any_case = || {
        object
            .iter()
            .rfind(|(name, _)| name.eq_ignore_ascii_case(key))
            .map(|(_, value)| value)
    };
    object
        .get(key)
        .or_else(any_case)
        .filter(|value| !value.is_null())
}

fn text<'a>(
    object: &'a Map<String, Value>,
    name: &str,
    path: &dyn Fn(&str) -> String,
) -> Result<Option<&'a str>, IpamError> {
    let value = get(object, name);
    let no_text = |value: &Value| IpamError::config(path(name), format!("{value} is no string"));
    value
        .map(|value| value.as_str().ok_or_else(|| no_text(value)))
        .transpose()
}

fn list<'a>(key: &str, value: &'a Value) -> Result<&'a [Value], IpamError> {
    let list = value.as_array().map(Vec::as_slice);
    list.ok_or_else(|| IpamError::config(key, format!("{value} is no list")))
}

fn parse<T: std::str::FromStr>(key: &str, text: &str, wanted: &str) -> Result<T, IpamError> {
    text.parse()
        .map_err(|_| IpamError::config(key, format!("{text:?} is not {wanted}")))
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

#[cfg(test)]
mod tests;
