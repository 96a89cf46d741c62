//! The agent itself, and what this process may read.

use super::Verdict;
use crate::commands::doctor::finding::Finding;
use crate::commands::doctor::sight::Sight;
use crate::look::agent::AgentLook;

/// Kinds that checks of their own tell better, from the live kernel.
const TOLD_ELSEWHERE: [&str; 5] = [
    "own_node",
    "invalid_node",
    "cidr_conflict",
    "off_link",
    "foreign_route",
];

/// Runs, of this version, ready, without problems.
pub(super) fn check_agent(sight: &Sight) -> Verdict {
    let report = match &sight.look.agent {
        AgentLook::Running(report) => report,
        AgentLook::Off => {
            return Err("the setting listen is empty: the agent cannot be asked".into());
        }
        AgentLook::Silent(reason) => {
            return Ok(vec![Finding::warning(
                format!(
                    "the agent does not answer ({reason}): nothing is repaired, new Nodes get no routes"
                ),
                "start it, and see its log: kubectl -n kube-system logs -l app.kubernetes.io/name=slash32-agent, or journalctl",
            )]);
        }
    };
    let mut findings = Vec::new();
    if !report.ready {
        findings.push(Finding::error(
            format!(
                "the agent is not ready: it waits for {}",
                report.waiting_for
            ),
            "cure what it waits for; the node takes no pods before",
        ));
    }
    if report.version != env!("CARGO_PKG_VERSION") {
        findings.push(Finding::note(
            format!(
                "the running agent is {}, this program {}",
                report.version,
                env!("CARGO_PKG_VERSION")
            ),
            "nothing, while an upgrade is under way; else restart the agent",
        ));
    }
    for problem in &report.problems {
        if TOLD_ELSEWHERE.contains(&problem.kind.as_str()) {
            continue;
        }
        let cure = "the agent tries again by itself; see its log for what it met";
        findings.push(if problem.blocks_ready {
            Finding::error(problem.text.clone(), cure)
        } else {
            Finding::warning(problem.text.clone(), cure)
        });
    }
    Ok(findings)
}

/// What could not be read is a finding: a file that nobody can read is often the trouble itself.
pub(super) fn check_readable(sight: &Sight) -> Verdict {
    let mut unread = sight.look.blind.clone();
    if let Ok(rules) = &sight.rules {
        unread.extend(rules.blind.iter().cloned());
    }
    Ok(unread
        .into_iter()
        .map(|text| {
            Finding::warning(
                text,
                "run as root on the node, or in the agent's pod; a file that is torn can be removed once its pod is gone",
            )
        })
        .collect())
}
