//! Rules of iptables, as `iptables-save` prints them, brought into nft's form. nft's own listing of iptables-nft rules hides
//! their extensions, and of iptables-legacy it shows nothing.

use super::{Base, Chain, Name, Ruleset};
use serde_json::{Value, json};

/// Adds the tables of one printout. `note` tells legacy tables from those of iptables-nft: `nat (legacy)`.
pub(super) fn add(ruleset: &mut Ruleset, text: &str, v6: bool, note: &str) {
    let family = if v6 { "ip6" } else { "ip" };
    let mut table = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name.to_owned();
        } else if let Some(rest) = line.strip_prefix(':') {
            let mut words = rest.split(' ');
            let (name, policy) = (words.next().unwrap_or_default(), words.next());
            let key = key(family, &table, note, name);
            ruleset.chains.entry(key).or_insert_with(|| Chain {
                base: base(&table, name, policy == Some("DROP")),
                rules: Vec::new(),
            });
        } else if let Some(rest) = line.strip_prefix("-A ") {
            let words = split(rest);
            let Some((chain, words)) = words.split_first() else {
                continue;
            };
            let rule = parse(words, v6);
            let key = key(family, &table, note, chain);
            ruleset.chains.entry(key).or_default().rules.push(rule);
        }
    }
}

fn key(family: &str, table: &str, note: &str, chain: &str) -> Name {
    (family.into(), format!("{table}{note}"), chain.into())
}

/// Where the kernel hooks the chains that iptables has from the start.
fn base(table: &str, chain: &str, drops: bool) -> Option<Base> {
    let hook = chain.to_lowercase();
    let known = ["prerouting", "input", "forward", "output", "postrouting"];
    if !known.contains(&hook.as_str()) || chain.chars().any(char::is_lowercase) {
        return None;
    }
    let priority = match (table, hook.as_str()) {
        ("raw", _) => -300,
        ("mangle", _) => -150,
        ("nat", "postrouting" | "input") => 100,
        ("nat", _) => -100,
        ("security", _) => 50,
        _ => 0,
    };
    Some(Base {
        kind: if table == "nat" { "nat" } else { "filter" }.into(),
        hook,
        priority,
        drops,
    })
}

/// Words, with quotes as iptables-save sets them.
fn split(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut escaped) = (Vec::new(), String::new(), false, false);
    for letter in line.chars() {
        match letter {
            _ if escaped => {
                word.push(letter);
                escaped = false;
            }
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ' ' if !quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            _ => word.push(letter),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

fn parse(words: &[String], v6: bool) -> Vec<Value> {
    let ip = if v6 { "ip6" } else { "ip" };
    let (mut rule, mut action, mut not) = (Vec::new(), Vec::new(), false);
    let mut words = words.iter().map(String::as_str);
    while let Some(option) = words.next() {
        if option == "!" {
            not = true;
            continue;
        }
        let op = if std::mem::take(&mut not) { "!=" } else { "==" };
        let mut is = |left: Value, right: Value| {
            rule.push(json!({"match": {"op": op, "left": left, "right": right}}));
        };
        let mut next = || words.next().unwrap_or_default();
        match option {
            "-s" => is(payload(ip, "saddr"), network(next())),
            "-d" => is(payload(ip, "daddr"), network(next())),
            "-i" => is(meta("iifname"), name(next())),
            "-o" => is(meta("oifname"), name(next())),
            "-p" => is(meta("l4proto"), json!(protocol(next()))),
            "--dport" | "--dports" => is(payload("th", "dport"), ports(next())),
            "--ctstate" | "--state" => {
                let states: Vec<String> = next().split(',').map(str::to_lowercase).collect();
                is(json!({"ct": {"key": "state"}}), json!(states));
            }
            "--mark" => {
                let (value, mask) = masked(next());
                is(json!({"&": [meta("mark"), mask]}), json!(value));
            }
            "--dst-type" => {
                let fib = json!({"fib": {"result": "type", "flags": ["daddr"]}});
                is(fib, json!(next().to_lowercase()));
            }
            "--probability" | "--every" => {
                let _ = next();
                is(json!({"random": null}), json!(0));
            }
            "--comment" => rule.push(json!({"comment": next()})),
            "--mode" | "--packet" | "--reject-with" => drop(next()),
            "-m" => {
                let known = [
                    "comment",
                    "tcp",
                    "udp",
                    "sctp",
                    "conntrack",
                    "state",
                    "mark",
                    "addrtype",
                    "statistic",
                    "multiport",
                ];
                let module = next();
                if !known.contains(&module) {
                    rule.push(
                        json!({"match": {"op": "==", "left": {"unknown": module}, "right": 0}}),
                    );
                }
            }
            "-j" => action.push(target(next())),
            "-g" => action.push(json!({"goto": {"target": next()}})),
            "--to-destination" => action = vec![dnat(next())],
            "--to-source" => action = vec![json!({"snat": {"addr": next()}})],
            "--set-xmark" | "--set-mark" => action = vec![mark(next())],
            "--random-fully" | "--random" | "--persistent" => {}
            // Whatever belongs to a module that we do not know was told with the module.
            _ => {}
        }
    }
    rule.extend(action);
    rule
}

fn payload(protocol: &str, field: &str) -> Value {
    json!({"payload": {"protocol": protocol, "field": field}})
}

fn meta(key: &str) -> Value {
    json!({"meta": {"key": key}})
}

fn name(text: &str) -> Value {
    match text.strip_suffix('+') {
        Some(prefix) => json!(format!("{prefix}*")),
        None => json!(text),
    }
}

fn network(text: &str) -> Value {
    match text.split_once('/') {
        Some((address, length)) => {
            json!({"prefix": {"addr": address, "len": length.parse::<u64>().unwrap_or(128)}})
        }
        None => json!(text),
    }
}

fn protocol(text: &str) -> &str {
    match text {
        "icmpv6" => "ipv6-icmp",
        other => other,
    }
}

/// `80`, `80:90`, `80,443`.
fn ports(text: &str) -> Value {
    let number = |text: &str| text.parse::<u64>().unwrap_or_default();
    let one = |part: &str| match part.split_once(':') {
        Some((low, high)) => json!({"range": [number(low), number(high)]}),
        None => json!(number(part)),
    };
    json!({"set": text.split(',').map(one).collect::<Vec<_>>()})
}

/// `0x4000/0x4000`.
fn masked(text: &str) -> (u64, u64) {
    let number = |text: &str| {
        let hex = text.strip_prefix("0x");
        hex.map_or_else(|| text.parse(), |hex| u64::from_str_radix(hex, 16))
            .unwrap_or_default()
    };
    match text.split_once('/') {
        Some((value, mask)) => (number(value), number(mask)),
        None => (number(text), u64::from(u32::MAX)),
    }
}

/// xt_MARK: `mark = (mark & ~mask) ^ value`.
fn mark(text: &str) -> Value {
    let (value, mask) = masked(text);
    let kept = json!({"&": [meta("mark"), u64::from(u32::MAX) & !mask]});
    json!({"mangle": {"key": meta("mark"), "value": {"^": [kept, value]}}})
}

fn target(name: &str) -> Value {
    match name {
        "ACCEPT" => json!({"accept": null}),
        "DROP" => json!({"drop": null}),
        "REJECT" => json!({"reject": null}),
        "RETURN" => json!({"return": null}),
        "MASQUERADE" => json!({"masquerade": null}),
        "LOG" | "NFLOG" | "TRACE" | "CT" | "TCPMSS" => json!({"log": null}),
        // Their values follow as options of their own.
        "DNAT" | "SNAT" | "MARK" => json!({"unknown": name}),
        "REDIRECT" | "TPROXY" | "NFQUEUE" | "CONNMARK" | "NETMAP" => json!({"unknown": name}),
        chain => json!({"jump": {"target": chain}}),
    }
}

/// `192.0.2.1:6443`, `[fd00::1]:53`, or an address alone.
fn dnat(text: &str) -> Value {
    if let Ok(socket) = text.parse::<std::net::SocketAddr>() {
        return json!({"dnat": {"addr": socket.ip().to_string(), "port": socket.port()}});
    }
    json!({"dnat": {"addr": text}})
}
