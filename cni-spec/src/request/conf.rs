//! The network configuration: what stands on stdin, validated (G6, G8-G12, K4, X8).

use super::environment::is_valid_name;
use crate::{
    error::{CniError, ErrorCode},
    json::{self, BadValue, object, string},
    result::{CniResult, Dns, dns_of, result_of},
    runtime_config::RuntimeConfig,
    version::{SpecVersion, supported_list},
};
use serde_json::{Map, Value};

/// The network configuration, validated.
#[derive(Debug, Clone)]
pub struct NetConf {
    /// Its `cniVersion`; 0.1.0 where absent (G11).
    pub version: SpecVersion,
    /// The network's name, with the characters of rule G6 only.
    pub name: String,
    /// `type`: the plugin that was meant to be called.
    pub plugin_type: Option<String>,
    /// The document as it came, for delegation and for the plugin's own keys. Of a key that stood twice, in whatever case,
    /// only the last is there.
    pub raw: Map<String, Value>,
    /// The `ipam` object, {} where absent.
    pub ipam: Map<String, Value>,
    /// `ipam.type`: the name of a file without a path (K4).
    pub ipam_type: Option<String>,
    /// What the plugins before us in the chain made (ADD), or the whole chain (CHECK, DEL); read in the configuration's version (X8).
    pub prev_result: Option<CniResult>,
    /// What is asked for by capability. On DEL and GC a bad one is empty: they act on keys alone.
    pub runtime_config: RuntimeConfig,
    /// `args.cni.ips` (I7, X7), as it is written.
    pub args_ips: Vec<String>,
    /// `dns`, where it says anything.
    pub dns: Option<Dns>,
    /// prevResult was present but could not be read: DEL goes on without it (D1), CHECK and ADD are refused.
    pub prev_result_error: Option<CniError>,
}

/// Whether all of the configuration must be good, or only what the verb needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strictness {
    /// ADD, CHECK, STATUS.
    All,
    /// DEL and GC: an ADD that was refused for its runtimeConfig is followed by a DEL with the same one, which must succeed (G20, D1).
    KeysOnly,
}

impl NetConf {
    /// A key of the plugin's own, whatever its case (X2, G10).
    pub fn get(&self, key: &str) -> Option<&Value> {
        json::find(&self.raw, key)
    }
}

/// stdin as an object; null is one without keys, as Go takes it (G8).
pub(super) fn decode_conf(stdin: &[u8]) -> Result<Map<String, Value>, CniError> {
    let refused = |cause: String| {
        let msg = format!(
            "decode network configuration on stdin, {} bytes",
            stdin.len()
        );
        CniError::new(ErrorCode::Decode, msg).with_details(cause)
    };
    match json::decode(stdin) {
        Ok(Value::Object(conf)) => Ok(conf),
        Ok(Value::Null) => Ok(Map::new()),
        Ok(_) => Err(refused("wanted one JSON object".to_owned())),
        Err(cause) => Err(refused(cause.to_string())),
    }
}

/// `cniVersion`, by exact match (G11).
pub(super) fn read_version(conf: &Map<String, Value>) -> Result<SpecVersion, CniError> {
    let text = string(conf, "cniVersion").map_err(|bad| bad.into_error(ErrorCode::Decode))?;
    let Some(text) = text else {
        return Ok(SpecVersion::V0_1_0);
    };
    SpecVersion::parse(text).ok_or_else(|| {
        let msg = format!(
            "incompatible CNI version: cniVersion is {}",
            json::quote(text)
        );
        let details = format!(
            "supported versions: {}; set cniVersion in the network configuration to one of them",
            supported_list()
        );
        CniError::new(ErrorCode::IncompatibleVersion, msg).with_details(details)
    })
}

/// The rest of the configuration, once its version is known to be ours.
pub(super) fn read_conf(
    raw: Map<String, Value>,
    version: SpecVersion,
    strictness: Strictness,
) -> Result<NetConf, CniError> {
    let name = read_name(&raw)?;
    let plugin_type = read_type(&raw).map_err(invalid)?;
    let ipam = object(&raw, "ipam")
        .map_err(invalid)?
        .cloned()
        .unwrap_or_default();
    let ipam_type = read_type(&ipam).map_err(|bad| invalid(bad.within("ipam")))?;
    let lenient = strictness == Strictness::KeysOnly;
    let runtime_config = match RuntimeConfig::from_conf(&raw) {
        Err(_) if lenient => RuntimeConfig::default(),
        read => read?,
    };
    let dns = match dns_of(&raw) {
        Err(_) if lenient => Dns::default(),
        read => read.map_err(invalid)?,
    };
    let (prev_result, prev_result_error) = match read_prev_result(&raw, version) {
        Ok(found) => (found, None),
        Err(error) => (None, Some(error)),
    };
    Ok(NetConf {
        version,
        name,
        plugin_type,
        ipam,
        ipam_type,
        prev_result,
        runtime_config,
        args_ips: read_args_ips(&raw),
        dns: (!dns.is_empty()).then_some(dns),
        prev_result_error,
        raw,
    })
}

fn invalid(bad: BadValue) -> CniError {
    bad.into_error(ErrorCode::InvalidConfig)
}

/// A name of another type than string is code 6, as in libcni, whose decoder sees it first.
fn read_name(conf: &Map<String, Value>) -> Result<String, CniError> {
    const WANTED: &str =
        "the network's name: letters, digits, '_', '.' and '-', a letter or digit first";
    match string(conf, "name").map_err(|bad| bad.into_error(ErrorCode::Decode))? {
        None => Err(
            CniError::new(ErrorCode::InvalidConfig, "missing network name")
                .with_details(format!("set the key name to {WANTED}")),
        ),
        Some(name) if is_valid_name(name) => Ok(name.to_owned()),
        Some(name) => Err(invalid(BadValue::new("name", &name.into(), WANTED))),
    }
}

/// A plugin's `type`: looked up in the folders of CNI_PATH, never outside them (K4).
fn read_type(map: &Map<String, Value>) -> Result<Option<String>, BadValue> {
    let Some(name) = string(map, "type")? else {
        return Ok(None);
    };
    if name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(BadValue::new(
            "type",
            &name.into(),
            "a plugin's file name, without a path",
        ));
    }
    Ok(Some(name.to_owned()))
}

fn read_prev_result(
    conf: &Map<String, Value>,
    version: SpecVersion,
) -> Result<Option<CniResult>, CniError> {
    match object(conf, "prevResult").map_err(invalid)? {
        None => Ok(None),
        Some(document) => result_of(document, version)
            .map(Some)
            .map_err(|bad| invalid(bad.within("prevResult"))),
    }
}

/// Metadata that is never an error (X7): what is of another shape is not there.
fn read_args_ips(conf: &Map<String, Value>) -> Vec<String> {
    let object_at = |map, key| object(map, key).ok().flatten();
    let ips = object_at(conf, "args")
        .and_then(|args| object_at(args, "cni"))
        .and_then(|cni| json::list(cni, "ips").ok());
    ips.unwrap_or_default()
        .iter()
        .filter_map(|item| item.as_str())
        .map(str::to_owned)
        .collect()
}
