//! Where the commands have the Nodes from: the file where the settings name one, else the agent that runs here, else
//! nowhere; then only the kernel's own routes tell of peers.

use super::agent::AgentLook;
use crate::nodes::file;
use crate::settings::Settings;
use crate::view::ClusterView;
use serde::Serialize;

/// Who named the Nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NodesSource {
    /// The setting nodesFile.
    File,
    /// The agent that runs on this node.
    Agent,
    /// Nobody: peers are what the routes of protocol 32 say.
    Kernel,
}

/// The newest Nodes that can be had. A file that cannot be read is told, and the agent may still know an older view.
pub(super) fn find_view(
    settings: &Settings,
    agent: &AgentLook,
    blind: &mut Vec<String>,
) -> (Option<ClusterView>, NodesSource) {
    if let Some(path) = &settings.nodes_file {
        match file::read_view(path) {
            Ok(view) => return (Some(view), NodesSource::File),
            Err(problem) => blind.push(problem.text),
        }
    }
    match agent.report().and_then(|report| report.view()) {
        Some(view) => (Some(view), NodesSource::Agent),
        None => (None, NodesSource::Kernel),
    }
}
