//! Left and right sides of matches, evaluated for one packet.

use super::packet::Packet;
use serde_json::Value;
use std::net::IpAddr;

/// What an expression comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Field {
    Address(IpAddr),
    Number(u64),
    Word(String),
    Many(Vec<Field>),
    /// Such a packet has no such field: the rule does not match.
    Absent,
    /// By lot.
    Random,
    /// Not understood.
    Unknown,
}

/// The left side.
pub(super) fn evaluate(expression: &Value, packet: &Packet) -> Field {
    let Some((kind, body)) = expression
        .as_object()
        .and_then(|object| object.iter().next())
    else {
        return literal(expression);
    };
    match kind.as_str() {
        "meta" => meta(body["key"].as_str().unwrap_or_default(), packet),
        "payload" => payload(body, packet),
        "ct" => conntrack(body["key"].as_str().unwrap_or_default(), packet),
        "fib" => fib(body, packet),
        "numgen" | "random" => Field::Random,
        "concat" => many(body, packet),
        "&" | "|" | "^" => arithmetic(kind, body, packet),
        _ => Field::Unknown,
    }
}

fn many(list: &Value, packet: &Packet) -> Field {
    let parts: Vec<Field> = list
        .as_array()
        .into_iter()
        .flatten()
        .map(|part| evaluate(part, packet))
        .collect();
    for poison in [Field::Absent, Field::Unknown, Field::Random] {
        if parts.contains(&poison) {
            return poison;
        }
    }
    Field::Many(parts)
}

fn arithmetic(operator: &str, pair: &Value, packet: &Packet) -> Field {
    match (evaluate(&pair[0], packet), evaluate(&pair[1], packet)) {
        (Field::Number(a), Field::Number(b)) => Field::Number(match operator {
            "&" => a & b,
            "|" => a | b,
            _ => a ^ b,
        }),
        (Field::Random, _) => Field::Random,
        _ => Field::Unknown,
    }
}

fn meta(key: &str, packet: &Packet) -> Field {
    let name = |link: &Option<String>| match link {
        Some(name) => Field::Word(name.clone()),
        None => Field::Absent,
    };
    match key {
        "iif" | "iifname" => name(&packet.iif),
        "oif" | "oifname" => name(&packet.oif),
        "l4proto" => Field::Word(packet.protocol.to_owned()),
        "nfproto" => Field::Word(if packet.to.is_ipv6() { "ipv6" } else { "ipv4" }.to_owned()),
        "protocol" => Field::Word(if packet.to.is_ipv6() { "ip6" } else { "ip" }.to_owned()),
        "mark" => Field::Number(packet.mark),
        "random" => Field::Random,
        _ => Field::Unknown,
    }
}

fn payload(body: &Value, packet: &Packet) -> Field {
    let (protocol, field) = (
        body["protocol"].as_str().unwrap_or_default(),
        body["field"].as_str().unwrap_or_default(),
    );
    match (protocol, field) {
        ("ip", _) if packet.to.is_ipv6() => Field::Absent,
        ("ip6", _) if packet.to.is_ipv4() => Field::Absent,
        ("ip" | "ip6", "saddr") => Field::Address(packet.from),
        ("ip" | "ip6", "daddr") => Field::Address(packet.to),
        ("ip", "protocol") | ("ip6", "nexthdr") => Field::Word(packet.protocol.to_owned()),
        ("th", "dport") => packet
            .port
            .map_or(Field::Absent, |port| Field::Number(port.into())),
        ("tcp" | "udp" | "sctp", "dport") if protocol == packet.protocol => packet
            .port
            .map_or(Field::Absent, |port| Field::Number(port.into())),
        ("tcp" | "udp" | "sctp" | "dccp", _) if protocol != packet.protocol => Field::Absent,
        ("icmp", "type") if packet.protocol == "icmp" => Field::Word("echo-request".to_owned()),
        ("icmpv6", "type") if packet.protocol == "ipv6-icmp" => {
            Field::Word("echo-request".to_owned())
        }
        ("icmp", _) if packet.protocol != "icmp" => Field::Absent,
        ("icmpv6", _) if packet.protocol != "ipv6-icmp" => Field::Absent,
        _ => Field::Unknown,
    }
}

/// It is the first packet of its connection.
fn conntrack(key: &str, packet: &Packet) -> Field {
    match key {
        "state" => Field::Word("new".to_owned()),
        "status" => Field::Word(if packet.dnat { "dnat" } else { "" }.to_owned()),
        "direction" => Field::Word("original".to_owned()),
        "mark" => Field::Number(0),
        _ => Field::Unknown,
    }
}

fn fib(body: &Value, packet: &Packet) -> Field {
    let flags: Vec<&str> = match &body["flags"] {
        Value::String(one) => vec![one],
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    match (body["result"].as_str(), flags.as_slice()) {
        (Some("type"), ["daddr"]) => {
            Field::Word(if packet.to_local { "local" } else { "unicast" }.to_owned())
        }
        // 0 where there is no way back, else the number of a link.
        (Some("oif" | "check"), ["saddr", "iif"]) => Field::Number(packet.way_back.into()),
        _ => Field::Unknown,
    }
}

/// A value as JSON spells it.
pub(super) fn literal(value: &Value) -> Field {
    match value {
        Value::Number(number) => number.as_u64().map_or(Field::Unknown, Field::Number),
        Value::Bool(truth) => Field::Number((*truth).into()),
        Value::String(text) => match (text.parse::<IpAddr>(), text.parse::<u64>()) {
            (Ok(address), _) => Field::Address(address),
            (_, Ok(number)) => Field::Number(number),
            _ => Field::Word(text.clone()),
        },
        Value::Object(object) => match object.get("concat").and_then(Value::as_array) {
            Some(parts) => Field::Many(parts.iter().map(literal).collect()),
            None => Field::Unknown,
        },
        _ => Field::Unknown,
    }
}

/// Whether the field is what the right side names: one value, a wildcard, a prefix, a range, any of several. `None`: not
/// understood. Named sets (`@name`) are the caller's to look up.
pub(super) fn is_in(field: &Field, right: &Value) -> Option<bool> {
    match right {
        Value::Array(all) => any(field, all),
        Value::Object(object) => {
            let (kind, body) = object.iter().next()?;
            match kind.as_str() {
                "set" => any(field, body.as_array()?),
                "prefix" => {
                    let network: ipnetwork::IpNetwork =
                        format!("{}/{}", body["addr"].as_str()?, body["len"].as_u64()?)
                            .parse()
                            .ok()?;
                    match field {
                        Field::Address(address) => Some(network.contains(*address)),
                        _ => None,
                    }
                }
                "range" => is_between(field, &literal(&body[0]), &literal(&body[1])),
                "elem" => is_in(field, &body["val"]),
                "concat" => is_each_in(field, body.as_array()?),
                _ => None,
            }
        }
        single => is_equal(field, &literal(single)),
    }
}

fn any(field: &Field, all: &[Value]) -> Option<bool> {
    let verdicts: Vec<Option<bool>> = all.iter().map(|one| is_in(field, one)).collect();
    if verdicts.contains(&Some(true)) {
        return Some(true);
    }
    (!verdicts.contains(&None)).then_some(false)
}

/// Concatenations may hold prefixes and ranges in their parts.
fn is_each_in(field: &Field, parts: &[Value]) -> Option<bool> {
    let Field::Many(fields) = field else {
        return None;
    };
    let mut sure = true;
    for (field, part) in fields.iter().zip(parts) {
        match is_in(field, part) {
            Some(true) => {}
            Some(false) => return Some(false),
            None => sure = false,
        }
    }
    sure.then_some(fields.len() == parts.len())
}

fn is_between(field: &Field, low: &Field, high: &Field) -> Option<bool> {
    match (field, low, high) {
        (Field::Address(at), Field::Address(low), Field::Address(high)) => {
            Some(low.is_ipv4() == at.is_ipv4() && low <= at && at <= high)
        }
        (Field::Number(at), Field::Number(low), Field::Number(high)) => {
            Some(low <= at && at <= high)
        }
        _ => None,
    }
}

fn is_equal(field: &Field, other: &Field) -> Option<bool> {
    match (field, other) {
        (Field::Unknown | Field::Random, _) | (_, Field::Unknown) => None,
        (Field::Word(word), Field::Word(pattern)) => Some(match pattern.strip_suffix('*') {
            Some(prefix) => word.starts_with(prefix),
            None => word == pattern,
        }),
        // nft prints some protocols as numbers.
        (Field::Word(word), Field::Number(number)) => Some(protocol_number(word) == Some(*number)),
        (a, b) => Some(a == b),
    }
}

fn protocol_number(word: &str) -> Option<u64> {
    Some(match word {
        "icmp" => 1,
        "tcp" => 6,
        "udp" => 17,
        "ipv6-icmp" => 58,
        "sctp" => 132,
        _ => return None,
    })
}
