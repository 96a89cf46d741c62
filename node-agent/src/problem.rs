//! What is wrong and goes on being wrong until somebody acts: the currency between the steps of a pass and the log, the
//! metrics, /readyz and the exit code of `run --once`. A problem is a value, compared between passes, so that each is
//! logged once when it appears and once when it is gone.

use std::collections::BTreeSet;

/// The kinds, as the label `kind` of slash32_problems spells them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ProblemKind {
    /// The file of Nodes cannot be read or is refused; an older view is kept where there is one.
    NodesFile,
    /// The API server cannot be used as the source of Nodes; an older view is kept where there is one.
    Api,
    /// This node's own Node is missing or not usable: nothing can be decided.
    OwnNode,
    /// A Node that cannot be used, or only for one family.
    InvalidNode,
    /// A podCIDR that belongs to two, or that covers what is not pods.
    CidrConflict,
    /// A peer that no link of this node reaches directly.
    OffLink,
    /// A route of another owner stands where ours belongs.
    ForeignRoute,
    /// Two pods hold the same host port.
    HostPortConflict,
    /// A single record or claim cannot be read or freed; the others go on.
    Record,
    /// The kernel refused something (netlink).
    Kernel,
    /// Our nftables table could not be laid or read.
    Nftables,
    /// What others filter could not be read, or not opened for pods: those of this node may work all the same.
    ForeignFilter,
    /// The tunnel to other nodes could not be made, or not as it should be.
    Tunnel,
    /// A sysctl could not be set.
    Sysctl,
    /// The state folder or the CNI folder cannot be read or written.
    State,
    /// No plugin that works is in the runtime's folder, and ours cannot be put there.
    PluginMissing,
    /// A plugin works there, and cannot be replaced by ours.
    PluginOutdated,
}

impl ProblemKind {
    pub(crate) const ALL: &[ProblemKind] = &[
        Self::NodesFile,
        Self::Api,
        Self::OwnNode,
        Self::InvalidNode,
        Self::CidrConflict,
        Self::OffLink,
        Self::ForeignRoute,
        Self::HostPortConflict,
        Self::Record,
        Self::Kernel,
        Self::Nftables,
        Self::ForeignFilter,
        Self::Tunnel,
        Self::Sysctl,
        Self::State,
        Self::PluginMissing,
        Self::PluginOutdated,
    ];

    /// The label.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::NodesFile => "nodes_file",
            Self::Api => "api",
            Self::OwnNode => "own_node",
            Self::InvalidNode => "invalid_node",
            Self::CidrConflict => "cidr_conflict",
            Self::OffLink => "off_link",
            Self::ForeignRoute => "foreign_route",
            Self::HostPortConflict => "host_port_conflict",
            Self::Record => "record",
            Self::Kernel => "kernel",
            Self::Nftables => "nftables",
            Self::ForeignFilter => "foreign_filter",
            Self::Tunnel => "tunnel",
            Self::Sysctl => "sysctl",
            Self::State => "state",
            Self::PluginMissing => "plugin_missing",
            Self::PluginOutdated => "plugin_outdated",
        }
    }

    /// True where this node's own pods could not work: it must not turn ready. Trouble with a single peer, or with new
    /// Nodes, is no reason to take a whole node out of service.
    pub(crate) fn blocks_ready(self) -> bool {
        matches!(
            self,
            Self::OwnNode
                | Self::Kernel
                | Self::Nftables
                | Self::Tunnel
                | Self::Sysctl
                | Self::State
                | Self::PluginMissing
        )
    }

    /// The reason of the Kubernetes Event on this node's Node, for what a user must act upon; `None` is told by log,
    /// metrics and /readyz alone. All of that is decided here; `kubernetes::event` says how often and about whom.
    pub(crate) fn event_reason(self) -> Option<&'static str> {
        match self {
            // No Event can be made without the API server, and none is with the file.
            Self::NodesFile | Self::Api => None,
            // Freed or read again by the agent itself.
            Self::Record => None,
            Self::OwnNode => Some("OwnNodeNotUsable"),
            Self::InvalidNode => Some("InvalidNode"),
            Self::CidrConflict => Some("PodCIDRConflict"),
            Self::OffLink => Some("PeerNotReachable"),
            Self::ForeignRoute => Some("ForeignRoute"),
            Self::HostPortConflict => Some("HostPortConflict"),
            Self::Kernel => Some("KernelRefused"),
            Self::Nftables => Some("NftablesFailed"),
            Self::ForeignFilter => Some("ForeignFilterClosed"),
            Self::Tunnel => Some("TunnelFailed"),
            Self::Sysctl => Some("SysctlFailed"),
            Self::State => Some("StateFolderFailed"),
            Self::PluginMissing => Some("PluginMissing"),
            Self::PluginOutdated => Some("PluginOutdated"),
        }
    }

    /// True where trying again by the clock can help, without any event.
    pub(crate) fn is_retried(self) -> bool {
        self.blocks_ready() && self != Self::OwnNode
            || matches!(
                self,
                Self::ForeignRoute | Self::ForeignFilter | Self::PluginOutdated
            )
    }
}

/// One of them; `text` is a whole sentence in lower case that names its subject.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Problem {
    pub(crate) kind: ProblemKind,
    pub(crate) text: String,
    /// The Node that it is about, where that may be another than this node's.
    pub(crate) node: Option<Box<str>>,
}

impl Problem {
    pub(crate) fn new(kind: ProblemKind, text: impl Into<String>) -> Problem {
        Problem {
            kind,
            text: text.into(),
            node: None,
        }
    }

    /// The same, about this Node.
    pub(crate) fn about(self, node: &str) -> Problem {
        Problem {
            node: Some(node.into()),
            ..self
        }
    }

    /// True where it is this node's own trouble, or its own Node's.
    pub(crate) fn concerns(&self, own: &str) -> bool {
        self.node.as_deref().is_none_or(|node| node == own)
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.kind.as_str(), self.text)
    }
}

/// Log lines for what appeared and what went away.
#[derive(Debug, Default)]
pub(crate) struct ProblemLog {
    standing: BTreeSet<Problem>,
}

impl ProblemLog {
    /// A cluster of thousands of unreachable peers is one fault, not thousands of lines.
    const LINES_PER_CHANGE: usize = 20;

    /// Logs the difference to the last call. True when there was one.
    pub(crate) fn note(&mut self, now: &[Problem]) -> bool {
        let now: BTreeSet<Problem> = now.iter().cloned().collect();
        let (fresh, solved) = self.changes(&now);
        for problem in fresh.iter().take(Self::LINES_PER_CHANGE) {
            tracing::warn!(kind = problem.kind.as_str(), "{}", problem.text);
        }
        if let Some(more) = fresh
            .len()
            .checked_sub(Self::LINES_PER_CHANGE)
            .filter(|more| *more > 0)
        {
            tracing::warn!("and {more} more problems; /readyz lists them all");
        }
        for problem in solved.iter().take(Self::LINES_PER_CHANGE) {
            tracing::info!(kind = problem.kind.as_str(), "solved: {}", problem.text);
        }
        let changed = !fresh.is_empty() || !solved.is_empty();
        self.standing = now;
        changed
    }

    fn changes(&self, now: &BTreeSet<Problem>) -> (Vec<Problem>, Vec<Problem>) {
        let fresh = now.difference(&self.standing).cloned().collect();
        let solved = self.standing.difference(now).cloned().collect();
        (fresh, solved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_noted_when_it_appears_and_when_it_is_gone() {
        let problem = Problem::new(
            ProblemKind::OffLink,
            "node b (192.0.2.2) is not on a link of this node",
        );
        let mut log = ProblemLog::default();
        assert!(log.note(std::slice::from_ref(&problem)));
        assert!(!log.note(std::slice::from_ref(&problem)));
        assert!(log.note(&[]));
        assert!(!log.note(&[]));
    }

    #[test]
    fn labels_are_distinct_and_a_peer_never_blocks_the_node() {
        let labels: BTreeSet<&str> = ProblemKind::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(labels.len(), ProblemKind::ALL.len());
        for kind in [
            ProblemKind::OffLink,
            ProblemKind::InvalidNode,
            ProblemKind::CidrConflict,
            ProblemKind::ForeignRoute,
            ProblemKind::Record,
            ProblemKind::Api,
            ProblemKind::PluginOutdated,
        ] {
            assert!(!kind.blocks_ready());
        }
    }

    #[test]
    fn reasons_of_events_are_distinct_words_in_camel_case() {
        let reasons: Vec<&str> = ProblemKind::ALL
            .iter()
            .filter_map(|kind| kind.event_reason())
            .collect();
        let distinct: BTreeSet<&&str> = reasons.iter().collect();
        assert_eq!(distinct.len(), reasons.len());
        for reason in reasons {
            assert!(reason.starts_with(|first: char| first.is_ascii_uppercase()));
            assert!(reason.chars().all(|letter| letter.is_ascii_alphanumeric()));
        }
    }

    #[test]
    fn a_problem_concerns_the_node_it_is_about() {
        let problem = Problem::new(ProblemKind::InvalidNode, "x");
        assert!(problem.concerns("a"));
        let problem = problem.about("b");
        assert!(problem.concerns("b") && !problem.concerns("a"));
    }
}
