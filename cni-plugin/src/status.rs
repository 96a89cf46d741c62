//! STATUS: could an ADD be served now? Cheap, bounded, changes nothing (S1-S4).
//!
//! A full pool is not told here: code 50 makes the node NotReady, and Kubernetes would evict the
//! pods that run well. ADD tells it (code 11), and the agent's metrics.

use crate::config::{Config, OWN_IPAM};
use crate::delegate::Delegation;
use crate::error::Error;
use crate::ipam_driver::configured_data_dir;
use cni_spec::request::NetConf;
use ipam::{IpamConfig, IpamError};
use node_state::StateDir;

pub(crate) fn run(conf: &NetConf, delegation: &Delegation<'_>) -> Result<(), Error> {
    let config = Config::parse(conf)?;
    let not_ready = |reason: String| Error::AgentNotReady { reason };
    match config.state.read_ready()? {
        None => {
            return Err(not_ready(format!(
                "no stamp {}/ready",
                config.state.root().display()
            )));
        }
        Some(stamp) if stamp.boot_id != node_state::boot_id()? => {
            return Err(not_ready("its stamp is of an earlier boot".into()));
        }
        Some(_) => {}
    }
    config
        .state
        .probe_writable()
        .map_err(|error| Error::Unavailable {
            reason: error.to_string(),
        })?;
    if config.ipam_type != OWN_IPAM {
        return delegation.call(&config.ipam_type, "STATUS");
    }
    own_ipam_status(conf)
}

/// I14: no ranges is "not yet", not "wrong": the agent writes them once the Node has a podCIDR.
fn own_ipam_status(conf: &NetConf) -> Result<(), Error> {
    match IpamConfig::parse(&conf.ipam, None) {
        Err(IpamError::Config { key, reason }) => {
            return Err(Error::Unavailable {
                reason: format!("ipam {key}: {reason}"),
            });
        }
        Err(other) => return Err(other.into()),
        Ok(config) if config.sets.is_empty() => {
            return Err(Error::Unavailable {
                reason: Error::NoRanges.to_string(),
            });
        }
        Ok(_) => {}
    }
    match configured_data_dir(conf) {
        Some(folder) => {
            StateDir::new(folder)
                .probe_writable()
                .map_err(|error| Error::Unavailable {
                    reason: error.to_string(),
                })
        }
        None => Ok(()),
    }
}
