//! The Nodes of the API server, slim, by name. Says of each event whether it matters, so that a kubelet's heartbeat
//! costs its parsing and nothing else. No I/O. Filled by `list` and `watch`.

use super::node::{ApiNode, OwnNode};
use crate::nodes::RawNode;
use crate::view::ClusterView;
use std::collections::BTreeMap;

/// All Nodes at one moment.
#[derive(Debug, Clone)]
pub(super) struct Store {
    own_name: Box<str>,
    nodes: BTreeMap<Box<str>, RawNode>,
    /// This node's, where it is among them.
    pub(super) own: Option<OwnNode>,
}

impl Store {
    pub(super) fn new(own_name: &str) -> Store {
        Store {
            own_name: own_name.into(),
            nodes: BTreeMap::new(),
            own: None,
        }
    }

    /// A Node that is new or has changed. True where the view of the cluster is another one now.
    pub(super) fn apply(&mut self, node: ApiNode) -> bool {
        let name = node.metadata.name.clone();
        if name == self.own_name {
            self.own = Some(node.own());
        }
        let slim = node.into_slim();
        match self.nodes.get_mut(&name) {
            Some(old) if *old == slim => false,
            Some(old) => {
                *old = slim;
                true
            }
            None => {
                self.nodes.insert(name, slim);
                true
            }
        }
    }

    /// A Node that is gone. True where it was there.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        if name == self.own_name.as_ref() {
            self.own = None;
        }
        self.nodes.remove(name).is_some()
    }

    /// The judged view of it.
    pub(super) fn view(&self) -> ClusterView {
        ClusterView::from_nodes(self.nodes.values())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node(name: &str, cidr: &str, heartbeat: &str, network_unavailable: &str) -> ApiNode {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "uid": format!("uid-{name}"), "resourceVersion": "7", "labels": {"a": "b"}},
            "spec": {"podCIDR": cidr, "podCIDRs": [cidr], "taints": [{"key": "k", "effect": "NoSchedule"}]},
            "status": {
                "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}, {"type": "Hostname", "address": name}],
                "conditions": [
                    {"type": "Ready", "status": "True", "lastHeartbeatTime": heartbeat, "reason": "KubeletReady"},
                    {"type": "NetworkUnavailable", "status": network_unavailable, "reason": "R"},
                ],
                "images": [{"names": ["x"], "sizeBytes": 5}],
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_heartbeat_changes_nothing() {
        let mut store = Store::new("a");
        assert!(store.apply(node("b", "10.0.1.0/24", "08:00", "True")));
        assert!(!store.apply(node("b", "10.0.1.0/24", "08:05", "False")));
        assert!(store.apply(node("b", "10.0.2.0/24", "08:05", "False")));
        assert!(store.own.is_none());
    }

    #[test]
    fn of_the_own_node_the_condition_is_kept_and_changes_no_view() {
        let mut store = Store::new("a");
        store.apply(node("a", "10.0.1.0/24", "08:00", "True"));
        let status = |store: &Store| {
            let own = store.own.clone().unwrap();
            assert_eq!(own.uid.as_ref(), "uid-a");
            own.network_unavailable.unwrap().status
        };
        assert_eq!(status(&store).as_ref(), "True");
        assert!(!store.apply(node("a", "10.0.1.0/24", "08:00", "False")));
        assert_eq!(status(&store).as_ref(), "False");
        assert!(store.remove("a") && store.own.is_none() && !store.remove("a"));
    }

    #[test]
    fn only_what_the_view_reads_is_kept() {
        let slim = node("a", "10.0.1.0/24", "08:00", "True").into_slim();
        assert_eq!(slim.status.addresses.len(), 1);
        assert_eq!(slim.status.addresses.capacity(), 1);
        assert_eq!(slim.spec.pod_cidr, None);
        assert_eq!(slim.spec.pod_cidrs.capacity(), 1);
    }

    #[test]
    fn a_node_without_spec_and_status_is_kept_for_the_view_to_complain() {
        let mut store = Store::new("a");
        assert!(store.apply(serde_json::from_str(r#"{"metadata":{"name":"b"}}"#).unwrap()));
        assert_eq!(store.view().problems.len(), 1);
    }

    proptest! {
        /// Whatever comes in whatever order: the store is what a map of the newest says, and "changed" is true exactly
        /// where the view differs.
        #[test]
        fn events_in_any_order_leave_the_newest(events in prop::collection::vec((0u8..4, prop::option::of(0u8..4)), 0..40)) {
            let mut store = Store::new("n0");
            let mut model: BTreeMap<u8, u8> = BTreeMap::new();
            for (name, cidr) in events {
                let before = store.view();
                let changed = match cidr {
                    Some(cidr) => {
                        model.insert(name, cidr);
                        store.apply(node(&format!("n{name}"), &format!("10.{name}.{cidr}.0/24"), "", ""))
                    }
                    None => {
                        model.remove(&name);
                        store.remove(&format!("n{name}"))
                    }
                };
                prop_assert_eq!(changed, before != store.view());
            }
            let cidrs: Vec<String> = store.view().nodes.iter().map(|node| node.pod_cidrs[0].to_string()).collect();
            let wanted: Vec<String> = model.iter().map(|(name, cidr)| format!("10.{name}.{cidr}.0/24")).collect();
            prop_assert_eq!(cidrs, wanted);
            prop_assert_eq!(store.own.is_some(), model.contains_key(&0));
        }
    }
}
