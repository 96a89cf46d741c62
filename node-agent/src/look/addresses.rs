//! How full the node's ranges are, one by one: those of the CNI configuration in force, else those of the wish.

use super::conflist::ConflistLook;
use crate::desired::Desired;
use crate::problem::Problem;
use crate::settings::Settings;
use ipam::{Holder, Ipam, IpamConfig, IpamError};
use node_state::StateDir;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// One range set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RangeUsage {
    /// The subnets of the set.
    pub(crate) range: String,
    pub(crate) used: u64,
    /// As text: an IPv6 /64 has more than JSON's numbers hold.
    #[serde(serialize_with = "as_text")]
    pub(crate) free: u128,
    pub(crate) cooling: u64,
}

fn as_text<S: serde::Serializer>(free: &u128, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(free)
}

/// One entry per range set; empty where neither configuration nor Nodes are known.
pub(super) fn read_usage(
    settings: &Settings,
    state: &StateDir,
    conflist: Option<&ConflistLook>,
    wish: Option<&Result<Desired, Problem>>,
) -> Result<Vec<RangeUsage>, IpamError> {
    let object = match (conflist, wish) {
        (Some(conflist), _) => conflist.ipam.clone(),
        (None, Some(Ok(desired))) => ranges_of(desired),
        (None, _) => return Ok(Vec::new()),
    };
    let config = IpamConfig::parse(&object, None)?;
    let folder = config.data_dir.clone().unwrap_or_else(|| state.ipam_dir());
    let ipam = Ipam::open(folder, &settings.network_name, Holder::Slash32);
    let one = |set: &ipam::RangeSet| {
        let subnets: Vec<String> = set
            .ranges
            .iter()
            .map(|range| range.subnet.to_string())
            .collect();
        let alone = IpamConfig {
            sets: vec![set.clone()],
            routes: Vec::new(),
            data_dir: None,
        };
        ipam.usage(&alone).map(|usage| RangeUsage {
            range: subnets.join(","),
            used: usage.used,
            free: usage.free,
            cooling: usage.cooling,
        })
    };
    config.sets.iter().map(one).collect()
}

fn ranges_of(desired: &Desired) -> Map<String, Value> {
    let ranges: Vec<Value> = desired
        .pod_cidrs
        .iter()
        .map(|cidr| json!([{ "subnet": cidr }]))
        .collect();
    Map::from_iter([("ranges".to_owned(), Value::from(ranges))])
}
