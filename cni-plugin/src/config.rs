//! The plugin's own settings, from the network configuration: raw values in, valid values out.
//!
//! Keys: `mtu` (bytes), `stateDir` (absolute path). Everything else in the document belongs to
//! the protocol (crate cni-spec) or to the IPAM plugin.

use crate::error::Error;
use cni_spec::request::NetConf;
use node_state::StateDir;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The in-process IPAM (crate ipam); any other type is executed as a plugin.
pub(crate) const OWN_IPAM: &str = "slash32-ipam";

/// RFC 791: every link carries 68 bytes; RFC 8200 section 5 asks for 1,280 with IPv6, which is
/// checked when the addresses are known.
const MTU_RANGE: std::ops::RangeInclusive<u64> = 68..=65_535;

/// Settings of one request.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) state: StateDir,
    /// Bytes; `None` leaves the kernel's default of a veth (1,500).
    pub(crate) mtu: Option<u32>,
    pub(crate) ipam_type: String,
}

impl Config {
    pub(crate) fn parse(conf: &NetConf) -> Result<Config, Error> {
        let ipam_type = conf.ipam_type.clone().ok_or_else(ipam_type_missing)?;
        Ok(Config {
            state: StateDir::new(parse_state_dir(conf)?),
            mtu: parse_mtu(conf.get("mtu"))?,
            ipam_type,
        })
    }
}

pub(crate) fn ipam_type_missing() -> Error {
    Error::Config {
        key: "ipam.type",
        value: "nothing".into(),
        reason: format!("name an IPAM plugin, for example \"{OWN_IPAM}\""),
    }
}

/// `stateDir`, alone: DEL and GC need it even where the rest of the configuration is unusable.
pub(crate) fn parse_state_dir(conf: &NetConf) -> Result<PathBuf, Error> {
    match conf.get("stateDir") {
        None | Some(Value::Null) => Ok(PathBuf::from(StateDir::DEFAULT)),
        Some(Value::String(path)) if Path::new(path).is_absolute() => Ok(PathBuf::from(path)),
        Some(other) => Err(Error::Config {
            key: "stateDir",
            value: other.to_string(),
            reason: "must be an absolute path, for example \"/run/slash32\"".into(),
        }),
    }
}

/// 0 and null mean "not set", as the reference plugins have it.
fn parse_mtu(value: Option<&Value>) -> Result<Option<u32>, Error> {
    let refuse = |value: &Value| Error::Config {
        key: "mtu",
        value: value.to_string(),
        reason: format!(
            "must be a number of bytes from {} to {}, or 0 for the kernel's default",
            MTU_RANGE.start(),
            MTU_RANGE.end()
        ),
    };
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64().ok_or_else(|| refuse(value))? {
            0 => Ok(None),
            mtu if MTU_RANGE.contains(&mtu) => Ok(u32::try_from(mtu).ok()),
            _ => Err(refuse(value)),
        },
    }
}
