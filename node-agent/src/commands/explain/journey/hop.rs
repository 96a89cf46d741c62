//! Steps of the way, and its end.

use serde::Serialize;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::commands::explain) struct Hop {
    /// pod, link, node, rules, route, conntrack.
    pub(in crate::commands::explain) place: &'static str,
    pub(in crate::commands::explain) what: String,
    pub(in crate::commands::explain) why: Vec<String>,
    /// Bytes, where the step has a bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::commands::explain) mtu: Option<u32>,
}

impl Hop {
    pub(super) fn new(place: &'static str, what: impl Into<String>, why: Vec<String>) -> Hop {
        Hop {
            place,
            what: what.into(),
            why,
            mtu: None,
        }
    }

    pub(super) fn with_mtu(self, mtu: Option<u32>) -> Hop {
        Hop { mtu, ..self }
    }
}

/// Where it ends, as far as this node can tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "camelCase")]
pub(in crate::commands::explain) enum Outcome {
    /// On this node.
    Arrives { at: String },
    /// It leaves this node.
    GoesOn { to: String, then: String },
    /// It does not get there.
    Ends { reason: String, cure: String },
}
