//! Reads the rules of this network namespace: nft's listing, and where iptables has rules that nft does not show, the
//! printout of the iptables that made them.

use super::{Ruleset, save};
use serde_json::Value;

/// What could be read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    pub(crate) ruleset: Ruleset,
    /// iptables-legacy has tables of its own here.
    pub(crate) legacy: bool,
    /// iptables-nft has tables of its own here.
    pub(crate) compat: bool,
    /// What is hidden from us, and why.
    pub(crate) blind: Vec<String>,
}

/// The tables that iptables owns, in nft's view.
const OF_IPTABLES: [&str; 5] = ["filter", "nat", "mangle", "raw", "security"];

/// Everything. Err: not even nft's own rules can be read.
pub(crate) fn read(nft: &str) -> Result<Rules, String> {
    let text =
        dataplane::nft::list(nft, &["-j", "list", "ruleset"]).map_err(|error| error.to_string())?;
    let ruleset = Ruleset::parse(&text).map_err(|reason| format!("read nft's rules: {reason}"))?;
    let mut rules = Rules {
        ruleset,
        ..Rules::default()
    };
    for (v6, family, program) in [(false, "ip", "iptables"), (true, "ip6", "ip6tables")] {
        let of_iptables =
            |name: &super::Name| name.0 == family && OF_IPTABLES.contains(&name.1.as_str());
        let hidden = rules
            .ruleset
            .chains
            .iter()
            .filter(|(name, _)| of_iptables(name))
            .any(|(_, chain)| chain.rules.iter().flatten().any(hides));
        rules.compat |= rules.ruleset.chains.keys().any(of_iptables);
        if hidden {
            match dataplane::nft::list(&format!("{program}-nft-save"), &[]) {
                Ok(text) => {
                    rules.ruleset.chains.retain(|name, _| !of_iptables(name));
                    save::add(&mut rules.ruleset, &text, v6, "");
                }
                Err(error) => rules
                    .blind
                    .push(format!("rules of {program} (nf_tables): {error}")),
            }
        }
        read_legacy(&mut rules, v6, program);
    }
    Ok(rules)
}

/// Only where the kernel has such tables here: asking would make them.
fn read_legacy(rules: &mut Rules, v6: bool, program: &str) {
    let list = if v6 {
        "/proc/net/ip6_tables_names"
    } else {
        "/proc/net/ip_tables_names"
    };
    if std::fs::read_to_string(list).is_ok_and(|names| !names.trim().is_empty()) {
        match dataplane::nft::list(&format!("{program}-legacy-save"), &[]) {
            Ok(text) => {
                // Tables that somebody merely looked at have no rules and drop nothing.
                rules.legacy |= text
                    .lines()
                    .any(|line| line.starts_with("-A ") || line.contains(" DROP "));
                save::add(&mut rules.ruleset, &text, v6, " (legacy)");
            }
            Err(error) => {
                rules.legacy = true;
                rules
                    .blind
                    .push(format!("rules of {program} (legacy): {error}"));
            }
        }
    }
}

fn hides(expression: &Value) -> bool {
    expression.get("xt").is_some()
}
