//! What a running agent tells of itself at /status, as JSON: the one thing that the commands cannot read from the kernel or
//! the state folder. `http` serves it, `look` asks for it, of the same or of another version: unknown keys are left alone,
//! and what is missing reads as empty.

use crate::problem::Problem;
use crate::view::{ClusterView, NodeView};
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// The whole report.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct AgentReport {
    pub(crate) version: String,
    /// Seconds since the process started.
    pub(crate) uptime_s: u64,
    pub(crate) ready: bool,
    /// Why it is not ready; empty once it is.
    pub(crate) waiting_for: String,
    pub(crate) problems: Vec<ReportedProblem>,
    pub(crate) repairs: Repairs,
    /// The Nodes in force, this node's own included; `None` before the first view.
    pub(crate) nodes: Option<Vec<ReportedNode>>,
}

/// One standing problem.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ReportedProblem {
    /// As the label `kind` of slash32_problems spells it.
    pub(crate) kind: String,
    pub(crate) text: String,
    /// This node's own pods could not work with it.
    pub(crate) blocks_ready: bool,
}

/// What other programs changed and the agent put right since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Repairs {
    pub(crate) routes: u64,
    /// The whole netfilter table.
    pub(crate) table: u64,
    /// Elements of host ports.
    pub(crate) host_ports: u64,
    /// Event sockets that overflowed.
    pub(crate) overruns: u64,
}

/// One Node of the view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReportedNode {
    pub(crate) name: Box<str>,
    #[serde(rename = "podCIDRs")]
    pub(crate) pod_cidrs: Vec<IpNetwork>,
    pub(crate) addresses: Vec<IpAddr>,
}

impl From<&NodeView> for ReportedNode {
    fn from(node: &NodeView) -> ReportedNode {
        ReportedNode {
            name: node.name.clone(),
            pod_cidrs: node.pod_cidrs.to_vec(),
            addresses: node.addresses.to_vec(),
        }
    }
}

impl From<&Problem> for ReportedProblem {
    fn from(problem: &Problem) -> ReportedProblem {
        ReportedProblem {
            kind: problem.kind.as_str().to_owned(),
            text: problem.text.clone(),
            blocks_ready: problem.kind.blocks_ready(),
        }
    }
}

impl AgentReport {
    /// The view that the agent works with; its problems are among those of the report.
    pub(crate) fn view(&self) -> Option<ClusterView> {
        let mut nodes: Vec<NodeView> = self
            .nodes
            .as_ref()?
            .iter()
            .map(|node| NodeView {
                name: node.name.clone(),
                pod_cidrs: node.pod_cidrs.clone().into(),
                addresses: node.addresses.clone().into(),
            })
            .collect();
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        Some(ClusterView {
            nodes,
            problems: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_another_version_is_read_as_far_as_it_goes() {
        let report: AgentReport =
            serde_json::from_str(r#"{"version": "9.0.0", "ready": true, "news": [1]}"#).unwrap();
        assert!(report.ready && report.problems.is_empty() && report.view().is_none());
    }

    #[test]
    fn the_view_survives_the_way_through_json() {
        let node = NodeView {
            name: "b".into(),
            pod_cidrs: ["10.244.2.0/24".parse().unwrap()].into(),
            addresses: ["192.0.2.2".parse().unwrap()].into(),
        };
        let report = AgentReport {
            nodes: Some(vec![ReportedNode::from(&node)]),
            ..AgentReport::default()
        };
        let text = serde_json::to_string(&report).unwrap();
        assert!(text.contains("\"podCIDRs\":[\"10.244.2.0/24\"]"), "{text}");
        let read: AgentReport = serde_json::from_str(&text).unwrap();
        assert_eq!(read.view().unwrap().nodes, [node]);
    }
}
