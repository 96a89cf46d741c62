//! The rules as scripts for iptables-restore: our chains anew, whatever was in them, and one rule in each of the kernel's
//! chains that leads there. Pure; the golden files under tests/golden are its output. Each table of a script is changed
//! whole or not at all; other chains are left alone (`--noflush`).
//!
//! The same behaviour as nft/render.rs, rule for rule. What iptables cannot say: a way in at POSTROUTING, so what pods send
//! is known there by its source.

use super::saved::{Saved, SavedTable};
use crate::nft::render::TableModel;
use dataplane::iptables::ports::port_rules;
use dataplane::names::{
    CHAIN_FROM_POD, CHAIN_HAIRPIN, CHAIN_HOSTPORTS, CHAIN_MASQUERADE, CHAIN_POSTROUTING,
    CHAIN_TUNNEL, HOST_LINK_PREFIX,
};
use ipnetwork::IpNetwork;
use std::fmt::Write;

mod tunnels;

/// The chains of a table, and the rules in and to them, as this agent wants them.
struct Wanted {
    table: &'static str,
    chains: Vec<&'static str>,
    /// With comments; a line that starts with `-I` goes first in its chain.
    jumps: Vec<String>,
    rules: Vec<String>,
}

/// All rules of one family in place of what is there of ours.
pub(crate) fn render_rules(model: &TableModel, v6: bool, there: &Saved) -> String {
    let mut text = String::from("# Slash32 pod networking: laid and kept by slash32-agent\n");
    for wanted in [
        wanted_raw(model, v6),
        wanted_mangle(model, v6),
        wanted_nat(model, v6),
    ] {
        let there = there.table(wanted.table);
        if !wanted.chains.is_empty() || !there.chains.is_empty() || !there.jumps.is_empty() {
            render_table(&mut text, &wanted, &there);
        }
    }
    text
}

/// Nothing of ours any more, in any table. Empty where there is nothing.
pub(crate) fn render_removal(there: &Saved) -> String {
    let mut text = String::new();
    for (name, table) in there.own_tables() {
        let _ = writeln!(text, "*{name}");
        push_removals(&mut text, table, &[]);
        text.push_str("COMMIT\n");
    }
    text
}

fn render_table(text: &mut String, wanted: &Wanted, there: &SavedTable) {
    let _ = writeln!(text, "*{}", wanted.table);
    for chain in &wanted.chains {
        let _ = writeln!(text, ":{chain} - [0:0]");
    }
    push_removals(text, there, &wanted.chains);
    for line in wanted.jumps.iter().chain(&wanted.rules) {
        let _ = writeln!(text, "{line}");
    }
    text.push_str("COMMIT\n");
}

/// Every way into our chains, then the chains but for those to `keep`: emptied before any is deleted, since they refer to
/// each other.
fn push_removals(text: &mut String, there: &SavedTable, keep: &[&str]) {
    let gone = there
        .chains
        .iter()
        .filter(|chain| !keep.contains(&chain.as_str()));
    let jumps = there
        .jumps
        .iter()
        .filter_map(|jump| jump.strip_prefix("-A "));
    let flush = gone.clone().map(|chain| format!("-F {chain}"));
    let delete = gone.map(|chain| format!("-X {chain}"));
    for line in jumps
        .map(|jump| format!("-D {jump}"))
        .chain(flush)
        .chain(delete)
    {
        let _ = writeln!(text, "{line}");
    }
}

// ===== what is wanted =====

fn wanted_raw(model: &TableModel, v6: bool) -> Wanted {
    let chain = CHAIN_FROM_POD;
    let drop = |what: &str| format!("-A {chain} {what} -j DROP");
    let mut rules = tunnels::rules_from_pods(model, v6);
    if v6 {
        rules.push(
            "# a pod is no router, and asks for none: it has a permanent neighbour".to_owned(),
        );
        rules.push(drop("-p icmpv6 -m icmp6 --icmpv6-type router-solicitation"));
        rules.push(drop(
            "-p icmpv6 -m icmp6 --icmpv6-type router-advertisement",
        ));
        rules.push(drop("-p icmpv6 -m icmp6 --icmpv6-type redirect"));
        rules.push("# questions would fill the node's table of neighbours; duplicate address detection asks from ::".to_owned());
        rules.push(drop(
            "! -s ::/128 -p icmpv6 -m icmp6 --icmpv6-type neighbour-solicitation",
        ));
    } else {
        rules.push("# links with host ports route 127.0.0.0/8; what a pod sends there is an attack (CVE-2020-8558)".to_owned());
        rules.push(drop("-d 127.0.0.0/8"));
        rules.push("# a pod is no router".to_owned());
        rules.push(drop("-p icmp -m icmp --icmp-type redirect"));
    }
    if model.anti_spoofing {
        rules.push("# a source that this node would not route back to the very same link is not the pod's own".to_owned());
        rules.push(drop("-m rpfilter --invert"));
    }
    Wanted {
        table: "raw",
        chains: vec![chain],
        jumps: vec![
            "# packets from pods, before anything else looks at them".to_owned(),
            format!(
                "-I PREROUTING -i {HOST_LINK_PREFIX}+ {} -j {chain}",
                comment("what no pod may send")
            ),
        ],
        rules,
    }
}

/// What a tunnel's packets need on their way in; nothing without a tunnel.
fn wanted_mangle(model: &TableModel, v6: bool) -> Wanted {
    let input = tunnels::rules_of_input(model, v6);
    let (jumps, rules) = input.clone().unwrap_or_default();
    Wanted {
        table: "mangle",
        chains: input.map(|_| CHAIN_TUNNEL).into_iter().collect(),
        jumps,
        rules,
    }
}

fn wanted_nat(model: &TableModel, v6: bool) -> Wanted {
    let to_ports = format!(
        "-m addrtype --dst-type LOCAL {} -j {CHAIN_HOSTPORTS}",
        comment("host ports of pods")
    );
    let mut chains = vec![CHAIN_HOSTPORTS, CHAIN_HAIRPIN, CHAIN_POSTROUTING];
    let mut rules = vec![
        "# a pod that reaches itself must get the answer from where it asked".to_owned(),
        format!("-A {CHAIN_POSTROUTING} -m conntrack --ctstate DNAT -j {CHAIN_HAIRPIN}"),
    ];
    if !v6 {
        rules.push(
            "# host ports asked for at 127.0.0.1: a pod cannot answer to that address".to_owned(),
        );
        rules.push(format!(
            "-A {CHAIN_POSTROUTING} -s 127.0.0.0/8 -o {HOST_LINK_PREFIX}+ -j MASQUERADE"
        ));
    }
    if model.masquerade {
        chains.push(CHAIN_MASQUERADE);
        push_masquerade(&mut rules, model, v6);
    }
    rules.extend(port_rules(v6, model.ports.values()));
    Wanted {
        table: "nat",
        chains,
        jumps: vec![
            "# last in their chains, after the service proxies, so that what they claim stays theirs".to_owned(),
            format!("-A PREROUTING {to_ports}"),
            format!("-A OUTPUT {to_ports}"),
            format!(
                "-A POSTROUTING {} -j {CHAIN_POSTROUTING}",
                comment("the node's address in place of a pod's")
            ),
        ],
        rules,
    }
}

fn push_masquerade(rules: &mut Vec<String>, model: &TableModel, v6: bool) {
    let of_family = |cidrs: &[IpNetwork]| -> Vec<IpNetwork> {
        let cidrs = cidrs.iter().filter(|cidr| cidr.is_ipv6() == v6);
        cidrs.copied().collect()
    };
    rules.push("# pods towards the world; random ports keep two of them from meeting on one (lost DNS answers)".to_owned());
    for own in of_family(&model.own) {
        rules.push(format!(
            "-A {CHAIN_POSTROUTING} -s {own} ! -o {HOST_LINK_PREFIX}+ -j {CHAIN_MASQUERADE}"
        ));
    }
    for cidr in of_family(&model.cluster) {
        rules.push(format!("-A {CHAIN_MASQUERADE} -d {cidr} -j RETURN"));
    }
    rules.push(format!(
        "-A {CHAIN_MASQUERADE} -j MASQUERADE --random-fully"
    ));
}

/// For whoever reads the kernel's chains.
fn comment(text: &str) -> String {
    format!("-m comment --comment \"Slash32: {text}\"")
}

#[cfg(test)]
mod tests;
