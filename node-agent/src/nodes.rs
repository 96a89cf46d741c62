//! Nodes as a source gives them: a slim form of the Kubernetes object, everything else dropped while it is read, so that
//! thousands of Nodes cost a few hundred kilobytes. `document` reads text, `file` watches a file; `kubernetes` has the
//! watch of the API server. `view` judges what they say.

use serde::Deserialize;

pub(crate) mod document;
pub(crate) mod file;

/// One Node, unvalidated. Keys as in the Kubernetes API, core/v1.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct RawNode {
    pub(crate) kind: Option<Box<str>>,
    pub(crate) metadata: RawMetadata,
    pub(crate) spec: RawSpec,
    pub(crate) status: RawStatus,
}

/// `metadata`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct RawMetadata {
    pub(crate) name: Option<Box<str>>,
}

/// `spec`. podCIDR is the first of podCIDRs; both are read since hand-written files often have only the former.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct RawSpec {
    #[serde(rename = "podCIDR")]
    pub(crate) pod_cidr: Option<Box<str>>,
    #[serde(rename = "podCIDRs")]
    pub(crate) pod_cidrs: Vec<Box<str>>,
}

/// `status`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct RawStatus {
    pub(crate) addresses: Vec<RawAddress>,
}

/// One of `status.addresses`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct RawAddress {
    #[serde(rename = "type")]
    pub(crate) kind: Box<str>,
    pub(crate) address: Box<str>,
}
