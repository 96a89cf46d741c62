//! What the stand-alone plugin answers to each verb (I1-I15).
//!
//! As host-local does, and other than under `slash32`: an address is told with the prefix length of its subnet, and with
//! a gateway, by default the subnet's first address, which is then never handed out: bridge and ptp set that address up
//! themselves. Claims are kept in `dataDir`, by default where the agent looks for them too, marked as standing alone.

use cni_spec::error::{CniError, ErrorCode};
use cni_spec::request::{Attachment, AttachmentId, NetConf, Refusal, Request};
use cni_spec::result::{CniResult, IpConfig, Route};
use ipam::{Claim, Holder, Ipam, IpamConfig, IpamError};
use ipnetwork::IpNetwork;
use node_state::StateDir;
use node_state::record::AttachmentKey;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

/// The document to print on success, if any; or the error, in the version of the request.
pub(crate) fn run(request: Request, netns_override: bool) -> Result<Option<String>, Refusal> {
    let version = match &request {
        Request::Add(attachment) | Request::Check(attachment) | Request::Del(attachment) => {
            attachment.conf.version
        }
        Request::Gc { conf, .. } | Request::Status { conf } => conf.version,
        Request::Version(document) => return Ok(Some(document.clone())),
        Request::About => {
            eprintln!(
                "slash32-ipam {}: CNI IPAM plugin of Slash32",
                env!("CARGO_PKG_VERSION")
            );
            return Ok(None);
        }
    };
    let done = match &request {
        Request::Add(attachment) => {
            refuse_host_netns(attachment, netns_override).and_then(|()| add(attachment).map(Some))
        }
        Request::Check(attachment) => check(attachment).map(|()| None),
        Request::Del(attachment) => del(attachment).map(|()| None),
        Request::Gc { conf, valid } => gc(conf, valid.as_deref()).map(|()| None),
        Request::Status { conf } => status(conf).map(|()| None),
        Request::Version(_) | Request::About => Ok(None),
    };
    done.map_err(|error| Refusal { error, version })
}

fn add(attachment: &Attachment) -> Result<String, CniError> {
    let (conf, key) = (&attachment.conf, key(&attachment.id));
    let config = config(conf)?;
    let store = store(conf);
    let allocation = store.allocate(&key, &config, &attachment.requested_ips())?;
    let ip = |lease: &ipam::Lease| IpConfig {
        address: with_prefix(lease.address, lease.subnet.prefix()),
        gateway: lease.gateway,
        interface: None,
    };
    let result = CniResult {
        ips: allocation.leases.iter().map(ip).collect(),
        routes: config
            .routes
            .iter()
            .map(|(dst, gw)| Route::new(*dst, *gw))
            .collect(),
        ..CniResult::default()
    };
    result.to_json(conf.version).inspect_err(|_| {
        // What cannot be told must not be held; should even this fail, the runtime's DEL does it.
        if allocation.fresh {
            let _ = store.release(&key);
        }
    })
}

/// The addresses that are held are those that prevResult tells of (I9); it may tell of others, which are not ours (C3).
fn check(attachment: &Attachment) -> Result<(), CniError> {
    let (store, key) = (store(&attachment.conf), key(&attachment.id));
    let held = store.find(&key)?;
    if held.is_empty() {
        return Err(IpamError::NoClaim {
            key,
            dir: store.dir(),
        }
        .into());
    }
    let told = attachment
        .conf
        .prev_result
        .iter()
        .flat_map(|result| &result.ips)
        .map(|ip| ip.address.ip());
    let told: Vec<IpAddr> = told.collect();
    match held.iter().find(|address| !told.contains(address)) {
        None => Ok(()),
        Some(address) => {
            let msg = format!(
                "container {} holds {address}, which prevResult does not tell of",
                key.container_id
            );
            Err(CniError::new(ErrorCode::Plugin(ipam::NO_CLAIM_CODE), msg))
        }
    }
}

fn del(attachment: &Attachment) -> Result<(), CniError> {
    store(&attachment.conf).release(&key(&attachment.id))?;
    Ok(())
}

/// Frees what belongs to no valid attachment of this network; what cannot be read belongs to none. A claim made since
/// we began is spared (GC6).
fn gc(conf: &NetConf, valid: Option<&[(String, String)]>) -> Result<(), CniError> {
    let start = Instant::now();
    let Some(valid) = valid else {
        eprintln!("slash32-ipam: GC without cni.dev/valid-attachments: nothing is removed");
        return Ok(());
    };
    let keep = |claim: &Claim| {
        let listed = |owner: &AttachmentKey| {
            valid.iter().any(|(container_id, ifname)| {
                owner.container_id == *container_id && owner.ifname == *ifname
            })
        };
        claim.owner.as_ref().is_some_and(listed)
            || claim.age.is_some_and(|age| age < start.elapsed())
    };
    let (_, errors) = store(conf).retain(&keep);
    if errors.is_empty() {
        return Ok(());
    }
    let all: Vec<String> = errors.iter().map(IpamError::to_string).collect();
    Err(CniError::new(
        ErrorCode::Io,
        format!("{} claims could not be freed", all.len()),
    )
    .with_details(all.join("; ")))
}

/// 50 where an ADD cannot be served: no range, or a folder that cannot be written to (S2). A full pool is no such case.
fn status(conf: &NetConf) -> Result<(), CniError> {
    let unavailable = |msg: String| CniError::new(ErrorCode::NotAvailable, msg);
    if parse(conf)?.sets.is_empty() {
        return Err(unavailable(
            "ipam ranges: no range given: the node's range is not known".to_owned(),
        ));
    }
    store(conf)
        .probe_writable()
        .map_err(|error| unavailable(error.to_string()))
}

// ===== from the request =====

fn parse(conf: &NetConf) -> Result<IpamConfig, CniError> {
    Ok(IpamConfig::parse(
        &conf.ipam,
        conf.runtime_config.ip_ranges.as_ref(),
    )?)
}

fn config(conf: &NetConf) -> Result<IpamConfig, CniError> {
    parse(conf).map(IpamConfig::with_default_gateways)
}

/// Needs nothing but `dataDir`, so that DEL and GC work whatever has become of the ranges (D9).
fn store(conf: &NetConf) -> Ipam {
    let data_dir = IpamConfig::find_data_dir(&conf.ipam).ok().flatten();
    Ipam::open(
        data_dir.unwrap_or_else(|| StateDir::default().ipam_dir()),
        &conf.name,
        Holder::Standalone,
    )
}

fn key(id: &AttachmentId) -> AttachmentKey {
    AttachmentKey {
        network: id.network.clone(),
        container_id: id.container_id.clone(),
        ifname: id.ifname.clone(),
    }
}

fn with_prefix(address: IpAddr, prefix: u8) -> IpNetwork {
    IpNetwork::new(address, prefix).unwrap_or_else(|_| IpNetwork::from(address))
}

/// CNI_NETNS must not be our own namespace (G18). A path that leads nowhere is the main plugin's to refuse.
fn refuse_host_netns(attachment: &Attachment, netns_override: bool) -> Result<(), CniError> {
    let identity = |path: &Path| {
        std::fs::metadata(path)
            .ok()
            .map(|file| (file.dev(), file.ino()))
    };
    let Some(netns) = attachment.netns.as_deref().filter(|_| !netns_override) else {
        return Ok(());
    };
    let own = identity(Path::new("/proc/thread-self/ns/net"));
    if own.is_some() && identity(netns) == own {
        let msg = format!(
            "CNI_NETNS {} is the plugin's own network namespace",
            netns.display()
        );
        return Err(CniError::new(ErrorCode::InvalidNetns, msg));
    }
    Ok(())
}
