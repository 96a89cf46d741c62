//! The one thing of another owner that we add to: an accept for pods in iptables' chain FORWARD, where that chain drops what
//! nobody accepts. Docker does so by the policy, firewalld (with its iptables back-end) by its last rule. An accept in a table
//! of our own cannot overrule either. Both flavours are looked at whatever our own back-end: what drops there drops.

use crate::iptables::rules::observe;
use crate::iptables::saved::{Forward, SavedTable};
use dataplane::error::Result;
use dataplane::iptables::{Flavour, has_legacy_tables, is_installed, restore};
use dataplane::names::{CHAIN_FORWARD, HOST_LINK_PREFIX};
use std::fmt::Write;

/// What was found and done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) changed: bool,
    /// There are legacy tables, of which nobody tells when they change.
    pub(crate) legacy: bool,
}

/// Opens FORWARD where it drops, and takes our chain away where it no longer does.
pub(crate) fn ensure(ipv6: bool) -> Result<Opened> {
    let mut opened = Opened::default();
    for flavour in Flavour::ALL.into_iter().filter(|one| is_installed(*one)) {
        for v6 in [false, true].into_iter().filter(|v6| ipv6 || !v6) {
            let filter = observe(flavour, v6)?.table("filter");
            if let Some(script) = render_change(&filter) {
                restore(flavour, v6, &script)?;
                opened.changed = true;
                tell(flavour, v6, filter.forward);
            }
            opened.legacy |= flavour == Flavour::Legacy && has_legacy_tables(v6);
        }
    }
    Ok(opened)
}

fn tell(flavour: Flavour, ipv6: bool, forward: Forward) {
    match forward {
        Forward::Accepts => {
            tracing::info!(%flavour, ipv6, "FORWARD accepts by itself again: removed our accept");
        }
        Forward::PolicyDrops | Forward::RuleRefuses => tracing::info!(
            %flavour, ipv6,
            "chain FORWARD drops what nobody accepts (Docker, firewalld): added an accept for pods"
        ),
    }
}

// ===== rendering (pure) =====

fn rules() -> [String; 2] {
    ["-i", "-o"].map(|way| format!("-A {CHAIN_FORWARD} {way} {HOST_LINK_PREFIX}+ -j ACCEPT"))
}

/// The script that puts the table right; `None` where it is.
fn render_change(filter: &SavedTable) -> Option<String> {
    let wanted = filter.forward != Forward::Accepts;
    let own = |line: &&String| line.starts_with(&format!("-A {CHAIN_FORWARD} "));
    let rules_there: Vec<&String> = filter.rules.iter().filter(own).collect();
    let whole = filter.jumps.len() == 1 && rules_there == rules().iter().collect::<Vec<_>>();
    let nothing = filter.jumps.is_empty() && filter.chains.is_empty();
    if if wanted { whole } else { nothing } {
        return None;
    }
    let mut text = String::from("*filter\n");
    for jump in filter
        .jumps
        .iter()
        .filter_map(|jump| jump.strip_prefix("-A "))
    {
        let _ = writeln!(text, "-D {jump}");
    }
    if wanted {
        // Where a rule refuses everything, and others before it their part, only the first place helps. Where the policy
        // drops, the last one does, and leaves the word to whoever filters on purpose.
        let place = match filter.forward {
            Forward::RuleRefuses => "-I",
            Forward::PolicyDrops | Forward::Accepts => "-A",
        };
        let _ = write!(
            text,
            ":{CHAIN_FORWARD} - [0:0]\n{}\n{place} FORWARD -m comment --comment \"Slash32: pods, which this chain would drop\" -j {CHAIN_FORWARD}\n",
            rules().join("\n")
        );
    } else {
        for chain in &filter.chains {
            let _ = writeln!(text, "-F {chain}\n-X {chain}");
        }
    }
    text.push_str("COMMIT\n");
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iptables::saved::parse_saved;

    fn filter(policy: &str, rules: &str) -> SavedTable {
        parse_saved(&format!(
            "*filter\n:FORWARD {policy} [0:0]\n{rules}COMMIT\n"
        ))
        .table("filter")
    }

    const DOCKER: &str = ":DOCKER-USER - [0:0]\n-A FORWARD -j DOCKER-USER\n";
    const OURS: &str = ":SLASH32-FORWARD - [0:0]\n-A FORWARD -j SLASH32-FORWARD\n\
        -A SLASH32-FORWARD -i s32+ -j ACCEPT\n-A SLASH32-FORWARD -o s32+ -j ACCEPT\n";

    #[test]
    fn a_policy_that_drops_gets_an_accept_at_the_end_and_once() {
        let script = render_change(&filter("DROP", DOCKER)).unwrap();
        assert_eq!(
            script,
            "*filter\n:SLASH32-FORWARD - [0:0]\n\
             -A SLASH32-FORWARD -i s32+ -j ACCEPT\n\
             -A SLASH32-FORWARD -o s32+ -j ACCEPT\n\
             -A FORWARD -m comment --comment \"Slash32: pods, which this chain would drop\" -j SLASH32-FORWARD\n\
             COMMIT\n"
        );
        assert_eq!(
            render_change(&filter("DROP", &format!("{DOCKER}{OURS}"))),
            None
        );
    }

    #[test]
    fn a_rule_that_refuses_gets_it_in_front() {
        let script = render_change(&filter("ACCEPT", "-A FORWARD -j REJECT\n")).unwrap();
        assert!(script.contains("-I FORWARD "), "{script}");
    }

    #[test]
    fn a_chain_that_accepts_is_left_alone_or_given_back() {
        assert_eq!(render_change(&filter("ACCEPT", DOCKER)), None);
        assert_eq!(
            render_change(&filter("ACCEPT", OURS)).unwrap(),
            "*filter\n-D FORWARD -j SLASH32-FORWARD\n-F SLASH32-FORWARD\n-X SLASH32-FORWARD\nCOMMIT\n"
        );
    }

    #[test]
    fn half_an_accept_is_laid_anew() {
        let half = OURS.replace("-A SLASH32-FORWARD -o s32+ -j ACCEPT\n", "");
        let script = render_change(&filter("DROP", &half)).unwrap();
        assert!(
            script.starts_with("*filter\n-D FORWARD -j SLASH32-FORWARD\n:SLASH32-FORWARD"),
            "{script}"
        );
    }
}
