//! Where addresses come from: our own IPAM, linked in, or any other IPAM plugin, executed.

use crate::config::{OWN_IPAM, ipam_type_missing};
use crate::context::key_of;
use crate::delegate::Delegation;
use crate::error::Error;
use cni_spec::request::{Attachment, NetConf};
use cni_spec::result::{CniResult, Dns};
use ipam::{Holder, Ipam, IpamConfig};
use node_state::StateDir;
use node_state::record::{AttachmentKey, AttachmentRecord};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// What an ADD was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assigned {
    pub(crate) addresses: Vec<IpAddr>,
    /// Destinations that the IPAM configuration asks for; empty: the default routes.
    pub(crate) routes: Vec<cni_spec::result::Route>,
    pub(crate) dns: Dns,
    /// False: the key held them before this call, so this call's failure must not free them (A4).
    pub(crate) fresh: bool,
}

pub(crate) enum IpamDriver<'a> {
    Own {
        ipam: Ipam,
        key: AttachmentKey,
        data_dir: Option<PathBuf>,
    },
    Foreign {
        plugin: String,
        delegation: &'a Delegation<'a>,
    },
}

/// `ipam.dataDir` where it is set and usable; ADD refuses one that is not.
pub(crate) fn configured_data_dir(conf: &NetConf) -> Option<PathBuf> {
    IpamConfig::find_data_dir(&conf.ipam).ok().flatten()
}

impl<'a> IpamDriver<'a> {
    /// ADD's and CHECK's: by the configuration.
    pub(crate) fn new(
        attachment: &Attachment,
        state: &StateDir,
        plugin: &str,
        delegation: &'a Delegation<'a>,
    ) -> Self {
        if plugin != OWN_IPAM {
            return IpamDriver::Foreign {
                plugin: plugin.into(),
                delegation,
            };
        }
        let key = key_of(&attachment.id);
        let data_dir = configured_data_dir(&attachment.conf);
        let folder = data_dir.clone().unwrap_or_else(|| state.ipam_dir());
        IpamDriver::Own {
            ipam: Ipam::open(folder, &key.network, Holder::Slash32),
            key,
            data_dir,
        }
    }

    /// DEL's: by what ADD recorded, since the configuration may have changed (D9), else by it.
    pub(crate) fn for_removal(
        attachment: &Attachment,
        state: &StateDir,
        record: Option<&AttachmentRecord>,
        delegation: &'a Delegation<'a>,
    ) -> Result<Self, Error> {
        let recorded = record.map(|r| r.ipam_type.as_str());
        let plugin = match recorded.or(attachment.conf.ipam_type.as_deref()) {
            Some(plugin) => plugin,
            None => return Err(ipam_type_missing()),
        };
        let mut driver = Self::new(attachment, state, plugin, delegation);
        if let (IpamDriver::Own { ipam, key, .. }, Some(folder)) =
            (&mut driver, record.and_then(|r| r.ipam_data_dir.clone()))
        {
            *ipam = Ipam::open(folder, &key.network, Holder::Slash32);
        }
        Ok(driver)
    }

    /// ADD. Nothing is held when this fails.
    pub(crate) fn add(&self, attachment: &Attachment) -> Result<Assigned, Error> {
        let assigned = match self {
            IpamDriver::Own { ipam, key, .. } => add_own(ipam, key, attachment)?,
            IpamDriver::Foreign { plugin, delegation } => {
                match delegation.add(plugin, attachment.conf.version) {
                    Ok(result) => assigned_by(result),
                    // A4: the specification asks for a DEL here. It cannot free a live pod's address:
                    // an attachment that is up was refused before IPAM was asked.
                    Err(cause) => return Err(self.give_back(cause)),
                }
            }
        };
        if assigned.addresses.is_empty() {
            return Err(self.give_back(Error::Delegate {
                plugin: self.name().into(),
                reason: "answered ADD without any address (A5)".into(),
            }));
        }
        Ok(assigned)
    }

    fn give_back(&self, cause: Error) -> Error {
        match self.release() {
            Ok(()) => cause,
            Err(second) => Error::Several(vec![cause, second]),
        }
    }

    /// DEL. Absent is done.
    pub(crate) fn release(&self) -> Result<(), Error> {
        match self {
            IpamDriver::Own { ipam, key, .. } => {
                ipam.release(key)?;
                Ok(())
            }
            IpamDriver::Foreign { plugin, delegation } => delegation.call(plugin, "DEL"),
        }
    }

    /// CHECK: each of `expected` is claimed for this attachment (I9).
    pub(crate) fn check(&self, expected: &[IpAddr]) -> Result<(), Error> {
        match self {
            IpamDriver::Foreign { plugin, delegation } => delegation.call(plugin, "CHECK"),
            IpamDriver::Own { ipam, key, .. } => {
                let held = ipam.find(key)?;
                match expected.iter().find(|address| !held.contains(address)) {
                    None => Ok(()),
                    Some(missing) => Err(Error::Damaged {
                        what: format!(
                            "address {missing} is not claimed for this attachment in the IPAM store (claimed: {held:?}); delete and recreate the pod"
                        ),
                    }),
                }
            }
        }
    }

    /// The addresses that the key holds, where that can be told without executing anything.
    pub(crate) fn held(&self) -> Vec<IpAddr> {
        match self {
            IpamDriver::Own { ipam, key, .. } => ipam.find(key).unwrap_or_default(),
            IpamDriver::Foreign { .. } => Vec::new(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            IpamDriver::Own { .. } => OWN_IPAM,
            IpamDriver::Foreign { plugin, .. } => plugin,
        }
    }

    /// For the record: where the claims lie, when not in the default place.
    pub(crate) fn data_dir(&self) -> Option<&Path> {
        match self {
            IpamDriver::Own { data_dir, .. } => data_dir.as_deref(),
            IpamDriver::Foreign { .. } => None,
        }
    }
}

fn add_own(ipam: &Ipam, key: &AttachmentKey, attachment: &Attachment) -> Result<Assigned, Error> {
    let conf = &attachment.conf;
    let config = IpamConfig::parse(&conf.ipam, conf.runtime_config.ip_ranges.as_ref())?;
    if config.sets.is_empty() {
        return Err(Error::NoRanges);
    }
    let allocation = ipam.allocate(key, &config, &attachment.requested_ips())?;
    Ok(Assigned {
        addresses: allocation
            .leases
            .iter()
            .map(|lease| lease.address)
            .collect(),
        routes: config
            .routes
            .iter()
            .map(|(dst, gw)| cni_spec::result::Route::new(*dst, *gw))
            .collect(),
        dns: Dns::default(),
        fresh: allocation.fresh,
    })
}

/// Another plugin's answer. Its prefix lengths and gateways describe a shared link; a pod of
/// ours has none, so each address becomes a /32 or /128 and all routes lead to the node.
fn assigned_by(result: CniResult) -> Assigned {
    Assigned {
        addresses: result.ips.iter().map(|ip| ip.address.ip()).collect(),
        routes: result
            .routes
            .into_iter()
            .map(|route| cni_spec::result::Route { gw: None, ..route })
            .collect(),
        dns: result.dns,
        fresh: true,
    }
}
