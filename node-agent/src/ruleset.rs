//! Everybody's packet filter rules, as values, and what they would do with one given packet. Read for `doctor` (would a pod's
//! packet be dropped?) and `explain` (who translates it to what?), never for decisions of the agent.
//!
//! nftables is read as nft's own JSON (libnftables-json(5)); rules of iptables are brought into the same form. What we do not
//! understand is `unsure`, told, and never guessed at. Pure, but for `read`.

use serde_json::Value;
use std::collections::BTreeMap;

mod expression;
mod packet;
pub(crate) mod read;
mod save;
mod services;
mod walk;

pub(crate) use packet::Packet;
pub(crate) use walk::{End, Target, Walk};

/// The address of a chain, set or map: family, table, name.
type Name = (String, String, String);

/// All tables.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Ruleset {
    pub(crate) chains: BTreeMap<Name, Chain>,
    /// Elements of named sets and maps: the key, and of maps the value.
    elements: BTreeMap<Name, Vec<(Value, Option<Value>)>>,
}

/// One chain.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Chain {
    /// Where packets enter it by themselves.
    pub(crate) base: Option<Base>,
    /// The expressions of each rule.
    pub(crate) rules: Vec<Vec<Value>>,
}

/// The hook of a base chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Base {
    /// filter, nat or route.
    pub(crate) kind: String,
    /// prerouting, forward, postrouting, ...
    pub(crate) hook: String,
    /// Lower ones first.
    pub(crate) priority: i64,
    /// The policy is drop.
    pub(crate) drops: bool,
}

impl Ruleset {
    /// Reads what `nft -j list ruleset` prints.
    pub(crate) fn parse(text: &str) -> Result<Ruleset, String> {
        let document: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let objects = document["nftables"]
            .as_array()
            .ok_or("it has no list nftables")?;
        let mut ruleset = Ruleset::default();
        for object in objects.iter().filter_map(Value::as_object) {
            for (kind, body) in object {
                ruleset.add(kind, body);
            }
        }
        Ok(ruleset)
    }

    fn add(&mut self, kind: &str, body: &Value) {
        match kind {
            "chain" => {
                let base = body["hook"].as_str().map(|hook| Base {
                    kind: word(body, "type"),
                    hook: hook.to_owned(),
                    priority: body["prio"].as_i64().unwrap_or_default(),
                    drops: body["policy"] == "drop",
                });
                self.chains.entry(name_of(body, "name")).or_default().base = base;
            }
            "rule" => {
                let chain = self.chains.entry(name_of(body, "chain")).or_default();
                let expressions = body["expr"].as_array().cloned().unwrap_or_default();
                chain.rules.push(expressions);
            }
            "set" | "map" => {
                let elements = body["elem"].as_array().cloned().unwrap_or_default();
                let elements = elements.into_iter().map(element).collect();
                self.elements.insert(name_of(body, "name"), elements);
            }
            _ => {}
        }
    }

    /// True where a table of this name is there, in any family.
    pub(crate) fn has_table(&self, table: &str) -> bool {
        self.chains.keys().any(|name| name.1 == table)
    }

    /// Chains whose name begins so, in tables of this name (empty: all).
    pub(crate) fn chains_like<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a Name, &'a Chain)> {
        self.chains
            .iter()
            .filter(move |(name, _)| name.2.starts_with(prefix))
    }

    /// Base chains of one hook that a packet of this family meets, in their order.
    fn on_hook(&self, hook: &str, v6: bool) -> Vec<(&Name, &Base)> {
        let family = |name: &Name| match name.0.as_str() {
            "inet" => true,
            "ip" => !v6,
            "ip6" => v6,
            _ => false,
        };
        let mut chains: Vec<(&Name, &Base)> = self
            .chains
            .iter()
            .filter_map(|(name, chain)| Some((name, chain.base.as_ref()?)))
            .filter(|(name, base)| base.hook == hook && family(name))
            .collect();
        chains.sort_by_key(|(_, base)| base.priority);
        chains
    }
}

fn word(body: &Value, key: &str) -> String {
    body[key].as_str().unwrap_or_default().to_owned()
}

fn name_of(body: &Value, key: &str) -> Name {
    (word(body, "family"), word(body, "table"), word(body, key))
}

/// Elements of maps are pairs; an element with a comment or a timeout is wrapped.
fn element(element: Value) -> (Value, Option<Value>) {
    let unwrap = |value: Value| value.pointer("/elem/val").cloned().unwrap_or(value);
    match element {
        Value::Array(pair) if pair.len() == 2 => {
            let mut parts = pair.into_iter();
            let key = parts.next().map(unwrap).unwrap_or_default();
            (key, parts.next())
        }
        single => (unwrap(single), None),
    }
}

#[cfg(test)]
mod tests;
