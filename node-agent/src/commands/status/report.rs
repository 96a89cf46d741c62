//! What `status` tells, as a value. Pure: one `Look` in, one report out.

use super::peers::{Peer, compute_peers};
use crate::commands::words;
use crate::look::addresses::RangeUsage;
use crate::look::agent::AgentLook;
use crate::look::{Look, NodesSource};
use crate::report::{Repairs, ReportedProblem};
use node_state::record::AttachmentRecord;
use serde::Serialize;

/// The whole report; its keys are an interface: none is renamed or removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    pub(crate) node: String,
    /// Milliseconds since the epoch.
    pub(crate) at_ms: u64,
    pub(crate) agent: Agent,
    pub(crate) backend: Backend,
    pub(crate) nodes_from: NodesSource,
    pub(crate) peers: Vec<Peer>,
    pub(crate) addresses: Vec<RangeUsage>,
    pub(crate) pods: Vec<Pod>,
    /// The newest last.
    pub(crate) operations: Vec<Operation>,
    pub(crate) problems: Vec<String>,
    /// What could not be read, and why.
    pub(crate) unread: Vec<String>,
}

/// The agent of this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Agent {
    pub(crate) running: bool,
    /// Why nothing is known of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) silent: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) uptime_seconds: Option<u64>,
    pub(crate) ready: Option<bool>,
    pub(crate) waiting_for: Option<String>,
    /// What was repaired since it started.
    pub(crate) repairs: Option<Repairs>,
}

/// What does the filtering and translating.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Backend {
    pub(crate) name: String,
    /// Our table or chains are in the kernel; absent: could not be asked.
    pub(crate) in_place: Option<bool>,
}

/// One attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) container_id: String,
    pub(crate) interface: String,
    pub(crate) addresses: Vec<String>,
    /// The host's side.
    pub(crate) link: String,
    pub(crate) link_state: LinkState,
    pub(crate) mtu: Option<u32>,
    pub(crate) host_ports: Vec<String>,
    pub(crate) created_ms: u64,
}

/// Of the host's side of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LinkState {
    Up,
    Down,
    Missing,
}

/// One operation of the plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Operation {
    pub(crate) at_ms: u64,
    pub(crate) command: String,
    /// The pod, where its record is still there, else the container's id.
    pub(crate) of: String,
    pub(crate) duration_us: u64,
    /// Of the CNI error; 0 is success.
    pub(crate) code: u32,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) error: String,
}

/// Everything; `operations` of the last ones.
pub(crate) fn compute_status(look: &Look, operations: usize) -> Status {
    let skipped = look.operations.len().saturating_sub(operations);
    Status {
        node: look.node_name.clone(),
        at_ms: look.at_ms,
        agent: compute_agent(&look.agent),
        backend: Backend {
            name: look.backend.to_string(),
            in_place: look.table,
        },
        nodes_from: look.nodes_source,
        peers: compute_peers(look),
        addresses: look.usage.clone(),
        pods: look
            .records
            .iter()
            .map(|record| compute_pod(look, record))
            .collect(),
        operations: look.operations[skipped..]
            .iter()
            .map(|operation| compute_operation(look, operation))
            .collect(),
        problems: compute_problems(look),
        unread: look.blind.clone(),
    }
}

fn compute_agent(agent: &AgentLook) -> Agent {
    let report = agent.report();
    Agent {
        running: report.is_some(),
        silent: match agent {
            AgentLook::Running(_) => None,
            AgentLook::Silent(reason) => Some(reason.clone()),
            AgentLook::Off => Some("the setting listen is empty: nobody can ask it".to_owned()),
        },
        version: report.map(|report| report.version.clone()),
        uptime_seconds: report.map(|report| report.uptime_s),
        ready: report.map(|report| report.ready),
        waiting_for: report
            .map(|report| report.waiting_for.clone())
            .filter(|text| !text.is_empty()),
        repairs: report.map(|report| report.repairs),
    }
}

fn compute_pod(look: &Look, record: &AttachmentRecord) -> Pod {
    let link = look.find_link(&record.host_link);
    Pod {
        name: words::pod_name(record),
        container_id: record.key.container_id.clone(),
        interface: record.key.ifname.clone(),
        addresses: record
            .addresses
            .iter()
            .map(|address| address.ip().to_string())
            .collect(),
        link: record.host_link.clone(),
        link_state: match link {
            None => LinkState::Missing,
            Some(link) if link.up => LinkState::Up,
            Some(_) => LinkState::Down,
        },
        mtu: link.map(|link| link.mtu).or(record.mtu),
        host_ports: record.host_ports.iter().map(words::host_port).collect(),
        created_ms: record.created_ms,
    }
}

fn compute_operation(look: &Look, operation: &node_state::oplog::Operation) -> Operation {
    let record = look.records.iter().find(|record| {
        record.key.container_id == operation.container_id && record.key.ifname == operation.ifname
    });
    let id = || operation.container_id.chars().take(13).collect();
    Operation {
        at_ms: operation.at_ms,
        command: operation.command.clone(),
        of: record.map_or_else(id, words::pod_name),
        duration_us: operation.duration_us,
        code: operation.code,
        error: operation.error.clone(),
    }
}

/// The agent's own words; without an agent, what follows from the same Nodes.
fn compute_problems(look: &Look) -> Vec<String> {
    if let Some(report) = look.agent.report() {
        let text = |problem: &ReportedProblem| problem.text.clone();
        return report.problems.iter().map(text).collect();
    }
    let of_view = look.view.iter().flat_map(|view| &view.problems);
    let of_wish = look.wish.iter().flat_map(|wish| match wish {
        Ok(desired) => desired.problems.iter(),
        Err(problem) => std::slice::from_ref(problem).iter(),
    });
    of_view
        .chain(of_wish)
        .map(|problem| problem.text.clone())
        .collect()
}
