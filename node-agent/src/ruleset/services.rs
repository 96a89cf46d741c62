//! Services that kube-proxy has rules for on this node, by name: nftables mode names its chains after them, iptables mode
//! writes the name into comments.

use super::Ruleset;
use super::expression::{Field, literal};
use serde_json::Value;
use std::net::IpAddr;

/// One port of one Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    pub(crate) protocol: &'static str,
}

impl Ruleset {
    /// By `namespace/name`, or by name alone; all ports.
    pub(crate) fn find_services(&self, name: &str) -> Vec<Service> {
        let mut found: Vec<Service> = Vec::new();
        for (map, elements) in &self.elements {
            if map.2 == "service-ips" || map.2 == "no-endpoint-services" {
                let of_map = elements
                    .iter()
                    .filter(|(key, value)| is_named(name, key, value.as_ref()));
                found.extend(of_map.filter_map(|(key, _)| by_key(key)));
            }
        }
        let rules = self
            .chains
            .iter()
            .filter(|(chain, _)| chain.2 == "KUBE-SERVICES");
        found.extend(
            rules
                .flat_map(|(_, chain)| &chain.rules)
                .filter_map(|rule| by_comment(name, rule)),
        );
        found.dedup();
        found
    }
}

/// `goto service-NWBZK7IH-kube-system/kube-dns/udp/dns`.
fn is_named(name: &str, _key: &Value, value: Option<&Value>) -> bool {
    let target = value.and_then(|value| value.pointer("/goto/target"));
    let chain = target.and_then(Value::as_str).unwrap_or_default();
    let service = chain.splitn(3, '-').nth(2).unwrap_or_default();
    let mut parts = service.split('/');
    let (namespace, of) = (parts.next(), parts.next());
    match name.split_once('/') {
        Some((wanted, service)) => namespace == Some(wanted) && of == Some(service),
        None => of == Some(name),
    }
}

fn by_key(key: &Value) -> Option<Service> {
    let Field::Many(parts) = literal(key) else {
        return None;
    };
    match parts.as_slice() {
        [
            Field::Address(address),
            Field::Word(protocol),
            Field::Number(port),
        ] => Some(Service {
            address: *address,
            port: (*port).try_into().ok()?,
            protocol: known_protocol(protocol)?,
        }),
        _ => None,
    }
}

/// `-d 10.96.0.1/32 -p tcp -m comment --comment "default/kubernetes:https cluster IP" -m tcp --dport 443`.
fn by_comment(name: &str, rule: &[Value]) -> Option<Service> {
    let comment = rule.iter().find_map(|part| part.get("comment")?.as_str())?;
    let service = comment.split([':', ' ']).next()?;
    let bare = service.split_once('/').map_or(service, |(_, bare)| bare);
    if !comment.ends_with("cluster IP") || !(service == name || bare == name) {
        return None;
    }
    let right = |left: &Value| {
        rule.iter()
            .filter_map(|part| part.get("match"))
            .find(|part| part["left"] == *left)
            .map(|part| &part["right"])
    };
    let payload = |protocol: &str, field: &str| serde_json::json!({"payload": {"protocol": protocol, "field": field}});
    let to = right(&payload("ip", "daddr")).or_else(|| right(&payload("ip6", "daddr")))?;
    let protocol = right(&serde_json::json!({"meta": {"key": "l4proto"}}))?;
    Some(Service {
        address: to
            .pointer("/prefix/addr")
            .unwrap_or(to)
            .as_str()?
            .parse()
            .ok()?,
        port: right(&payload("th", "dport"))?
            .pointer("/set/0")?
            .as_u64()?
            .try_into()
            .ok()?,
        protocol: known_protocol(protocol.as_str()?)?,
    })
}

fn known_protocol(word: &str) -> Option<&'static str> {
    ["tcp", "udp", "sctp"]
        .into_iter()
        .find(|known| *known == word)
}
