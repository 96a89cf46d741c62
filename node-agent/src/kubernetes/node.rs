//! A Node as the API server sends it, as far as the agent reads it. A real one has 5 to 6 KB; what is not named here is
//! skipped by the parser and never allocated. Kubernetes API, core/v1.

use crate::nodes::{RawAddress, RawMetadata, RawNode, RawSpec, RawStatus};
use serde::Deserialize;

/// One Node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct ApiNode {
    pub(super) metadata: ApiMetadata,
    spec: RawSpec,
    status: ApiStatus,
}

/// `metadata`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ApiMetadata {
    pub(super) name: Box<str>,
    uid: Box<str>,
    pub(super) resource_version: Box<str>,
}

/// `status`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct ApiStatus {
    addresses: Vec<RawAddress>,
    conditions: Vec<ApiCondition>,
}

/// One of `status.conditions`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct ApiCondition {
    #[serde(rename = "type")]
    kind: Box<str>,
    status: Box<str>,
    reason: Box<str>,
}

/// One page of `GET /api/v1/nodes`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct ApiNodeList {
    pub(super) metadata: ApiListMetadata,
    pub(super) items: Vec<ApiNode>,
}

/// Its `metadata`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ApiListMetadata {
    pub(super) resource_version: Box<str>,
    #[serde(rename = "continue")]
    pub(super) next: Option<String>,
}

/// What the agent has to know of its own Node to write to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct OwnNode {
    /// For Events.
    pub(super) uid: Box<str>,
    /// NetworkUnavailable, where there is such a condition.
    pub(super) network_unavailable: Option<Condition>,
}

/// A condition without its times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) status: Box<str>,
    pub(super) reason: Box<str>,
}

impl ApiNode {
    /// What is written for this node's own Node.
    pub(super) fn own(&self) -> OwnNode {
        let conditions = &self.status.conditions;
        let found = conditions
            .iter()
            .find(|condition| condition.kind.as_ref() == super::condition::TYPE);
        OwnNode {
            uid: self.metadata.uid.clone(),
            network_unavailable: found.map(|found| Condition {
                status: found.status.clone(),
                reason: found.reason.clone(),
            }),
        }
    }

    /// What is kept, in allocations of exactly its size: thousands of them stand for months.
    pub(super) fn into_slim(self) -> RawNode {
        let addresses = self.status.addresses.into_iter();
        let addresses: Box<[RawAddress]> = addresses
            .filter(|address| address.kind.as_ref() == "InternalIP")
            .collect();
        let pod_cidrs = self.spec.pod_cidrs.into_boxed_slice();
        RawNode {
            kind: None,
            metadata: RawMetadata {
                name: Some(self.metadata.name),
            },
            spec: RawSpec {
                // The first of podCIDRs, where there are such.
                pod_cidr: self.spec.pod_cidr.filter(|_| pod_cidrs.is_empty()),
                pod_cidrs: pod_cidrs.into_vec(),
            },
            status: RawStatus {
                addresses: addresses.into_vec(),
            },
        }
    }
}
