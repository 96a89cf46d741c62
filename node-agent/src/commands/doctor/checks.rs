//! The checks, by name. Each is a pure function from the sight to findings; `Err` says why it could not be made.

use super::finding::{CheckResult, Diagnosis, Finding};
use super::sight::Sight;

mod agent;
mod filters;
mod forwarding;
mod limits;
mod mtu;
mod neighbours;
mod pods;
mod routes;
mod runtime;

/// Findings, or why there are none to be had.
type Verdict = Result<Vec<Finding>, String>;

/// One check.
struct Check {
    name: &'static str,
    judge: fn(&Sight) -> Verdict,
}

/// All of them, in the order of docs/operations.md.
const CHECKS: [Check; 27] = [
    Check {
        name: "agent",
        judge: agent::check_agent,
    },
    Check {
        name: "readable",
        judge: agent::check_readable,
    },
    Check {
        name: "forwarding",
        judge: forwarding::check_forwarding,
    },
    Check {
        name: "rp-filter",
        judge: forwarding::check_rp_filter,
    },
    Check {
        name: "router-advertisements",
        judge: forwarding::check_router_advertisements,
    },
    Check {
        name: "table",
        judge: filters::check_table,
    },
    Check {
        name: "modules",
        judge: filters::check_modules,
    },
    Check {
        name: "forward-drop",
        judge: filters::check_forward,
    },
    Check {
        name: "mixed-iptables",
        judge: filters::check_mixed,
    },
    Check {
        name: "firewalld",
        judge: filters::check_firewalld,
    },
    Check {
        name: "nodes",
        judge: routes::check_nodes,
    },
    Check {
        name: "pod-cidr",
        judge: routes::check_pod_cidrs,
    },
    Check {
        name: "node-address",
        judge: routes::check_node_address,
    },
    Check {
        name: "routes",
        judge: routes::check_routes,
    },
    Check {
        name: "shadowed-routes",
        judge: routes::check_shadows,
    },
    Check {
        name: "mtu",
        judge: mtu::check_mtu,
    },
    Check {
        name: "mtu-path",
        judge: mtu::check_paths,
    },
    Check {
        name: "pods",
        judge: pods::check_pods,
    },
    Check {
        name: "addresses",
        judge: pods::check_addresses,
    },
    Check {
        name: "leaks",
        judge: pods::check_leaks,
    },
    Check {
        name: "conntrack",
        judge: limits::check_conntrack,
    },
    Check {
        name: "limits",
        judge: limits::check_limits,
    },
    Check {
        name: "clock",
        judge: limits::check_clock,
    },
    Check {
        name: "link-managers",
        judge: neighbours::check_managers,
    },
    Check {
        name: "old-cni",
        judge: neighbours::check_old_cni,
    },
    Check {
        name: "conflist",
        judge: runtime::check_conflist,
    },
    Check {
        name: "runtime",
        judge: runtime::check_runtime,
    },
];

/// Every check, whatever the others say.
pub(super) fn judge(sight: &Sight) -> Diagnosis {
    let result = |check: &Check| {
        let (findings, not_checked) = match (check.judge)(sight) {
            Ok(findings) => (findings, None),
            Err(reason) => (Vec::new(), Some(reason)),
        };
        CheckResult {
            check: check.name,
            findings,
            not_checked,
        }
    };
    Diagnosis {
        node: sight.look.node_name.clone(),
        checks: CHECKS.iter().map(result).collect(),
    }
}
