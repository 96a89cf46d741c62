//! The condition NetworkUnavailable of this node's Node: set to False once a first pass has converged, and again where
//! somebody sets it otherwise, at a pace that never becomes a fight. Pure; `report` sends it.
//!
//! It is never set to True by us. Before the first pass has converged it stays as it is: a cloud that wants it sets
//! True by itself, and elsewhere there is no conflist yet, so that kubelet says NotReady. Later problems leave it
//! False: pods that run keep their network, and the taint that follows True would keep the scheduler from a node whose
//! trouble may be with a single peer.

use super::node::Condition;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// `type` of the condition.
pub(super) const TYPE: &str = "NetworkUnavailable";
const REASON: &str = "Slash32Ready";
const MESSAGE: &str = "Slash32 keeps this node's pod network";

/// Between two writings: doubled each time, since somebody undoes them.
const FIRST_REST: Duration = Duration::from_secs(10);
const LONGEST_REST: Duration = Duration::from_secs(600);

/// True where there is nothing to write.
pub(super) fn stands(condition: Option<&Condition>) -> bool {
    condition.is_some_and(|condition| {
        condition.status.as_ref() == "False" && condition.reason.as_ref() == REASON
    })
}

/// A strategic merge patch of the Node's status: conditions are merged by their type, the others stay. The heartbeat is
/// written along and never by itself: thousands of Nodes that change each minute would be for nothing.
pub(super) fn render_patch(before: Option<&Condition>, now: Timestamp) -> Value {
    let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let mut condition = json!({
        "type": TYPE, "status": "False", "reason": REASON, "message": MESSAGE, "lastHeartbeatTime": now,
    });
    if before.is_none_or(|before| before.status.as_ref() != "False") {
        condition["lastTransitionTime"] = now.into();
    }
    json!({"status": {"conditions": [condition]}})
}

/// When it may be written.
#[derive(Debug)]
pub(super) struct ConditionPace {
    not_before: Option<Instant>,
    rest: Duration,
}

impl Default for ConditionPace {
    fn default() -> ConditionPace {
        ConditionPace {
            not_before: None,
            rest: FIRST_REST,
        }
    }
}

impl ConditionPace {
    /// The moment from which it may be written, where it does not stand.
    pub(super) fn due(&self, now: Instant) -> Instant {
        self.not_before.unwrap_or(now)
    }

    /// It was written. Long peace before that makes the next rest a short one again.
    pub(super) fn written(&mut self, now: Instant) {
        let peace = self
            .not_before
            .is_some_and(|rested| now >= rested + LONGEST_REST);
        self.rest = if self.not_before.is_none() || peace {
            FIRST_REST
        } else {
            (self.rest * 2).min(LONGEST_REST)
        };
        self.not_before = Some(now + self.rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(status: &str, reason: &str) -> Condition {
        Condition {
            status: status.into(),
            reason: reason.into(),
        }
    }

    #[test]
    fn only_our_own_false_stands() {
        assert!(stands(Some(&condition("False", REASON))));
        for other in [
            None,
            Some(condition("True", REASON)),
            Some(condition("False", "RouteCreated")),
            Some(condition("Unknown", "NodeStatusNeverUpdated")),
        ] {
            assert!(!stands(other.as_ref()));
        }
    }

    #[test]
    fn the_patch_names_one_condition_and_a_transition_only_where_there_is_one() {
        let now = Timestamp::UNIX_EPOCH;
        let patch = render_patch(Some(&condition("True", "NoRouteCreated")), now);
        let conditions = patch["status"]["conditions"].as_array().unwrap();
        assert_eq!(conditions.len(), 1);
        assert_eq!(conditions[0]["lastTransitionTime"], "1970-01-01T00:00:00Z");
        let patch = render_patch(Some(&condition("False", "CalicoIsUp")), now);
        assert!(patch["status"]["conditions"][0]["lastTransitionTime"].is_null());
        assert_eq!(patch["status"]["conditions"][0]["reason"], REASON);
    }

    #[test]
    fn a_fight_ends_at_one_patch_in_ten_minutes_and_peace_is_forgiven() {
        let start = Instant::now();
        let mut pace = ConditionPace::default();
        let mut now = start;
        let mut patches = 0;
        while now < start + Duration::from_secs(24 * 3600) {
            now = pace.due(now).max(now + Duration::from_millis(50));
            pace.written(now);
            patches += 1;
        }
        assert!((144..=155).contains(&patches), "{patches} patches in a day");
        now += LONGEST_REST * 3;
        pace.written(now);
        assert_eq!(pace.due(now), now + FIRST_REST);
    }
}
