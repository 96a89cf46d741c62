//! One packet through the chains of a hook, rule by rule, as the kernel would do it. Where a rule cannot be judged it is taken
//! as not matching, and named in `unsure`; where the lot decides, every choice is gathered, and the walk goes on with one.

use super::expression::{Field, evaluate, is_in, literal};
use super::packet::Packet;
use super::{Name, Ruleset};
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};

/// Chains that call each other deeper than this are not followed (the kernel's own bound is 16).
const DEEPEST: usize = 16;

/// Where a destination is translated to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) address: IpAddr,
    /// `None`: the port stays.
    pub(crate) port: Option<u16>,
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}", SocketAddr::new(self.address, port)),
            None => write!(f, "{}", self.address),
        }
    }
}

/// How a hook ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    Passed,
    /// By this chain.
    Dropped(String),
}

/// The walk, and what it met.
#[derive(Debug, Clone)]
pub(crate) struct Walk<'a> {
    ruleset: &'a Ruleset,
    /// As the rules have changed it.
    pub(crate) packet: Packet,
    /// The destination was translated, by this chain.
    pub(crate) dnat: Option<(Target, String)>,
    /// Every destination that the lot could have chosen.
    pub(crate) choices: Vec<Target>,
    /// The source is translated, to the outgoing link's address where no other is named; by this chain.
    pub(crate) snat: Option<(Option<IpAddr>, String)>,
    /// Chains with rules that could have decided, and that we do not understand.
    pub(crate) unsure: Vec<String>,
    /// Chains that the packet went through, base chains and those they called.
    pub(crate) through: Vec<String>,
}

enum Flow {
    On,
    Return,
    Accept,
    Drop,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(ruleset: &'a Ruleset, packet: Packet) -> Walk<'a> {
        Walk {
            ruleset,
            packet,
            dnat: None,
            choices: Vec::new(),
            snat: None,
            unsure: Vec::new(),
            through: Vec::new(),
        }
    }

    /// Through all base chains of one hook, in their order.
    pub(crate) fn hook(&mut self, hook: &str) -> End {
        let (source_side, v6) = (hook == "postrouting", self.packet.to.is_ipv6());
        for (name, base) in self.ruleset.on_hook(hook, v6) {
            let translated = if source_side {
                self.snat.is_some()
            } else {
                self.dnat.is_some()
            };
            // The first translation binds; later chains of type nat are not asked.
            if base.kind == "nat" && translated {
                continue;
            }
            match self.chain(name, 0) {
                Flow::Drop => return End::Dropped(place(name)),
                Flow::On | Flow::Return if base.drops => {
                    return End::Dropped(format!("{} (policy drop)", place(name)));
                }
                Flow::On | Flow::Return | Flow::Accept => {}
            }
        }
        End::Passed
    }

    fn chain(&mut self, name: &Name, depth: usize) -> Flow {
        let Some(chain) = self.ruleset.chains.get(name) else {
            return Flow::On;
        };
        self.through.push(place(name));
        if depth > DEEPEST {
            return self.give_up(name);
        }
        for rule in &chain.rules {
            match self.rule(name, rule, depth) {
                Flow::On => {}
                Flow::Return => return Flow::On,
                decided => return decided,
            }
        }
        Flow::On
    }

    fn rule(&mut self, name: &Name, rule: &[Value], depth: usize) -> Flow {
        let mut random = false;
        for expression in rule {
            let Some((kind, body)) = expression
                .as_object()
                .and_then(|object| object.iter().next())
            else {
                continue;
            };
            match kind.as_str() {
                "match" => match self.matches(name, body) {
                    Some(Verdict::Yes) => {}
                    Some(Verdict::No) => return Flow::On,
                    Some(Verdict::Lot) => random = true,
                    None => {
                        if decides(rule) {
                            self.give_up(name);
                        }
                        return Flow::On;
                    }
                },
                "counter" | "comment" | "log" => {}
                _ if random => {
                    // Taken or not: whatever it would choose is one of the choices.
                    let mut other = self.clone();
                    other.act(name, kind, body, depth);
                    self.choices.extend(other.dnat.map(|(target, _)| target));
                    return Flow::On;
                }
                _ => match self.act(name, kind, body, depth) {
                    Flow::On => {}
                    decided => return decided,
                },
            }
        }
        Flow::On
    }

    fn act(&mut self, name: &Name, kind: &str, body: &Value, depth: usize) -> Flow {
        match kind {
            "accept" => Flow::Accept,
            "drop" | "reject" => Flow::Drop,
            "return" => Flow::Return,
            "jump" => self.chain(&self.target_chain(name, body), depth + 1),
            // The caller of this chain goes on, which `Return` says.
            "goto" => match self.chain(&self.target_chain(name, body), depth + 1) {
                Flow::On => Flow::Return,
                decided => decided,
            },
            "vmap" => self.verdict_map(name, body, depth),
            "dnat" | "redirect" => self.translate_destination(name, body),
            "masquerade" => {
                self.snat = Some((None, place(name)));
                Flow::Accept
            }
            "snat" => {
                let address = body["addr"].as_str().and_then(|text| text.parse().ok());
                self.snat = Some((address, place(name)));
                Flow::Accept
            }
            "mangle" => {
                let mark = body["key"]["meta"]["key"] == "mark";
                if let (true, Field::Number(value)) = (mark, evaluate(&body["value"], &self.packet))
                {
                    self.packet.mark = value;
                }
                Flow::On
            }
            // An unknown target of iptables.
            "unknown" => self.give_up(name),
            // Counters, logs, limits, comments.
            _ => Flow::On,
        }
    }

    fn target_chain(&self, name: &Name, body: &Value) -> Name {
        let target = body["target"].as_str().unwrap_or_default();
        (name.0.clone(), name.1.clone(), target.to_owned())
    }

    fn verdict_map(&mut self, name: &Name, body: &Value, depth: usize) -> Flow {
        let pairs = self.pairs(name, &body["data"]);
        match evaluate(&body["key"], &self.packet) {
            Field::Absent => Flow::On,
            Field::Unknown => self.give_up(name),
            Field::Random => {
                let mut first = None;
                for (_, verdict) in &pairs {
                    let mut other = self.clone();
                    let flow = verdict
                        .as_ref()
                        .map(|verdict| other.verdict(name, verdict, depth));
                    let target = other.dnat.as_ref().map(|(target, _)| *target);
                    let choices: Vec<Target> = self.choices.iter().copied().chain(target).collect();
                    self.choices = choices.clone();
                    if first.is_none() {
                        other.choices = choices;
                        first = flow.map(|flow| (other, flow));
                    }
                }
                let Some((mut chosen, flow)) = first else {
                    return Flow::On;
                };
                chosen.choices.clone_from(&self.choices);
                *self = chosen;
                flow
            }
            field => {
                let found = pairs
                    .iter()
                    .find(|(key, _)| is_in(&field, key) == Some(true));
                match found.and_then(|(_, verdict)| verdict.clone()) {
                    Some(verdict) => self.verdict(name, &verdict, depth),
                    None => Flow::On,
                }
            }
        }
    }

    fn verdict(&mut self, name: &Name, verdict: &Value, depth: usize) -> Flow {
        match verdict.as_object().and_then(|object| object.iter().next()) {
            Some((kind, body)) => self.act(name, kind, body, depth),
            None => Flow::On,
        }
    }

    fn translate_destination(&mut self, name: &Name, body: &Value) -> Flow {
        if let Some(v6) = body["family"].as_str().map(|family| family == "ip6")
            && v6 != self.packet.to.is_ipv6()
        {
            return Flow::On;
        }
        let target = match body["addr"].get("map") {
            None => fixed_target(body),
            Some(map) => {
                let field = evaluate(&map["key"], &self.packet);
                let pairs = self.pairs(name, &map["data"]);
                let found = pairs
                    .into_iter()
                    .find(|(key, _)| is_in(&field, key) == Some(true));
                match found.and_then(|(_, value)| mapped_target(&value?)) {
                    Some(target) => Some(target),
                    None => return Flow::On,
                }
            }
        };
        let Some(target) = target else {
            return self.give_up(name);
        };
        self.packet.to = target.address;
        self.packet.port = target.port.or(self.packet.port);
        self.packet.dnat = true;
        self.dnat = Some((target, place(name)));
        Flow::Accept
    }

    /// The pairs of a map, named or written in the rule.
    fn pairs(&self, name: &Name, data: &Value) -> Vec<(Value, Option<Value>)> {
        match data {
            Value::String(named) => self.named(name, named).cloned().unwrap_or_default(),
            other => {
                let pairs = other["set"].as_array().cloned().unwrap_or_default();
                pairs.into_iter().map(super::element).collect()
            }
        }
    }

    fn named(&self, name: &Name, at: &str) -> Option<&Vec<(Value, Option<Value>)>> {
        let own = at.trim_start_matches('@').to_owned();
        self.ruleset
            .elements
            .get(&(name.0.clone(), name.1.clone(), own))
    }

    fn matches(&self, name: &Name, body: &Value) -> Option<Verdict> {
        let field = evaluate(&body["left"], &self.packet);
        match field {
            Field::Absent => return Some(Verdict::No),
            Field::Unknown => return None,
            Field::Random => return Some(Verdict::Lot),
            _ => {}
        }
        let right = &body["right"];
        let truth = match (body["op"].as_str().unwrap_or("=="), right) {
            (operator, Value::String(named)) if named.starts_with('@') => {
                let mut among = Some(false);
                for (key, _) in self.named(name, named)? {
                    match is_in(&field, key) {
                        Some(true) => among = Some(true),
                        Some(false) => {}
                        None => among = among.filter(|found| *found),
                    }
                }
                Some(among? == (operator != "!="))
            }
            ("==" | "in", _) => is_in(&field, right),
            ("!=", _) => is_in(&field, right).map(|equal| !equal),
            (operator, _) => compare(operator, &field, &literal(right)),
        };
        truth.map(|truth| if truth { Verdict::Yes } else { Verdict::No })
    }

    fn give_up(&mut self, name: &Name) -> Flow {
        let place = place(name);
        if !self.unsure.contains(&place) {
            self.unsure.push(place);
        }
        Flow::On
    }
}

enum Verdict {
    Yes,
    No,
    Lot,
}

/// True for a rule that ends or redirects, other than one that merely counts or logs.
fn decides(rule: &[Value]) -> bool {
    let kinds = rule
        .iter()
        .filter_map(|expression| expression.as_object()?.keys().next());
    let idle = [
        "match", "counter", "log", "limit", "xt", "comment", "return", "mangle",
    ];
    kinds.into_iter().any(|kind| !idle.contains(&kind.as_str()))
}

fn compare(operator: &str, field: &Field, other: &Field) -> Option<bool> {
    let (Field::Number(a), Field::Number(b)) = (field, other) else {
        return None;
    };
    Some(match operator {
        "<" => a < b,
        ">" => a > b,
        "<=" => a <= b,
        ">=" => a >= b,
        _ => return None,
    })
}

fn fixed_target(body: &Value) -> Option<Target> {
    Some(Target {
        address: body["addr"].as_str()?.parse().ok()?,
        port: body["port"].as_u64().and_then(|port| port.try_into().ok()),
    })
}

/// `10.244.1.2 . 80`, or an address alone.
fn mapped_target(value: &Value) -> Option<Target> {
    match literal(value) {
        Field::Address(address) => Some(Target {
            address,
            port: None,
        }),
        Field::Many(parts) => match parts.as_slice() {
            [Field::Address(address), Field::Number(port)] => Some(Target {
                address: *address,
                port: (*port).try_into().ok(),
            }),
            _ => None,
        },
        _ => None,
    }
}

/// `ip kube-proxy, chain services`.
pub(super) fn place(name: &Name) -> String {
    format!("table {} {}, chain {}", name.0, name.1, name.2)
}
