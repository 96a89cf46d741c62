//! Puts the tunnel's device, addresses and entries as they are wanted, and takes away those of another mode. Called by
//! `reconcile`. Every device of ours is recognised by its name or its alias, every address of ours on a device that is
//! not ours alone by its label: docs/ARCHITECTURE.md section 2.

use crate::desired::tunnel::Tunnel;
use crate::diff::diff_entries;
use crate::problem::{Problem, ProblemKind};
use crate::settings::encapsulation::{ChecksumOffload, Encapsulation, Mode};
use dataplane::address::AddressInfo;
use dataplane::error::KernelError;
use dataplane::link::LinkInfo;
use dataplane::names::{ADDRESS_LABEL, IPIP_LINK, TUNNEL_ALIAS, VXLAN_LINK};
use dataplane::netlink::Netlink;
use dataplane::tunnel::{EntryOp, TunnelInfo, TunnelKind, ensure_tx_checksum};
use std::net::IpAddr;

/// The first kernel that computes the checksum of an encapsulated packet right when its outer header is translated too
/// (commit ea64d8d6c675, "netfilter: nat: never update the UDP checksum when it's 0").
const CHECKSUMS_FIXED: (u32, u32) = (5, 7);

/// What had to be done.
#[derive(Debug, Default)]
pub(crate) struct TunnelChanges {
    /// The device was made: routes need its index.
    pub(crate) made: bool,
    /// Addresses, entries and values of the device that were put right.
    pub(crate) changes: usize,
    pub(crate) problems: Vec<Problem>,
}

/// The device, up, with everything on it. An error is of the device itself; entries fail one by one.
pub(crate) fn ensure_tunnel(
    netlink: &mut Netlink,
    wanted: &Tunnel,
) -> Result<TunnelChanges, Problem> {
    let (link, made) = ensure_link(netlink, wanted)?;
    let mut done = TunnelChanges {
        made,
        ..TunnelChanges::default()
    };
    if netlink
        .ensure_tunnel_values(&link, &wanted.spec)
        .map_err(refused)?
    {
        done.changes += 1;
    }
    if matches!(wanted.spec.kind, TunnelKind::Vxlan { .. }) {
        let on = offload_of(wanted.checksum_offload, &kernel_release());
        match ensure_tx_checksum(&wanted.spec.name, on) {
            Ok(changed) => done.changes += usize::from(changed),
            Err(error) => done.problems.push(refused(error)),
        }
    }
    add_addresses(netlink, &link, wanted, &mut done).map_err(refused)?;
    apply_entries(netlink, &link, wanted, Half::Missing, &mut done).map_err(refused)?;
    Ok(done)
}

/// What is too much on the device goes, once no route needs it any more: a route to a peer that is direct from now on
/// has to have moved before the peer's entries go.
pub(crate) fn sweep_tunnel(
    netlink: &mut Netlink,
    wanted: &Tunnel,
) -> Result<TunnelChanges, Problem> {
    let mut done = TunnelChanges::default();
    let Some(link) = netlink.find_link(&wanted.spec.name).map_err(refused)? else {
        return Ok(done);
    };
    remove_addresses(netlink, &link, wanted, &mut done).map_err(refused)?;
    apply_entries(netlink, &link, wanted, Half::TooMuch, &mut done).map_err(refused)?;
    Ok(done)
}

/// Which steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    Missing,
    TooMuch,
}

fn apply_entries(
    netlink: &mut Netlink,
    link: &LinkInfo,
    wanted: &Tunnel,
    half: Half,
    done: &mut TunnelChanges,
) -> Result<(), KernelError> {
    // An IPIP device has no neighbours; what others may have put there is theirs.
    if matches!(wanted.spec.kind, TunnelKind::Ipip { .. }) {
        return Ok(());
    }
    let there = netlink.list_entries(link.index)?;
    let mut ops = diff_entries(&wanted.entries, &there);
    ops.retain(|op| matches!(op, EntryOp::Set(_)) == (half == Half::Missing));
    for result in netlink.apply_entries(link.index, &ops) {
        match result {
            Ok(()) => done.changes += 1,
            Err(error) => done.problems.push(refused(error)),
        }
    }
    Ok(())
}

/// Found or made; true where it was made. A device of ours that differs in what cannot be changed is made anew.
fn ensure_link(netlink: &mut Netlink, wanted: &Tunnel) -> Result<(LinkInfo, bool), Problem> {
    let spec = &wanted.spec;
    match netlink.find_link(&spec.name).map_err(refused)? {
        Some(link) if fits(&link, &spec.kind) => return Ok((link, false)),
        Some(link) if is_ours(&link) => {
            netlink.remove_link(&link.name).map_err(refused)?;
        }
        Some(link) => return Err(foreign(&link, wanted)),
        None => {}
    }
    let created = netlink.create_tunnel(spec);
    let there = netlink.find_link(&spec.name).map_err(refused)?;
    match (created, there) {
        (Ok(()), Some(link)) => {
            if *spec.name != *IPIP_LINK {
                netlink
                    .set_alias(link.index, TUNNEL_ALIAS)
                    .map_err(refused)?;
            }
            tracing::info!(
                link = &*spec.name,
                kind = spec.kind.as_str(),
                mtu = spec.mtu,
                "made the tunnel device"
            );
            Ok((link, true))
        }
        // Asking for IPIP has loaded the module, which brought tunl0 along.
        (Err(_), Some(link)) if fits(&link, &spec.kind) => Ok((link, true)),
        (Err(error), _) if error.is_exists() => Err(problem(format!(
            "{error}; another device has the same VNI and port, or the same ends: {}",
            advice(&spec.kind)
        ))),
        (Err(error), _) => Err(refused(error)),
        (Ok(()), None) => Err(problem(format!(
            "link {} is gone right after it was made; another program deletes it",
            spec.name
        ))),
    }
}

fn fits(link: &LinkInfo, kind: &TunnelKind) -> bool {
    link.tunnel.as_ref().is_some_and(|tunnel| tunnel.fits(kind))
}

/// True for a device that we made.
fn is_ours(link: &LinkInfo) -> bool {
    let vxlan = matches!(link.tunnel, Some(TunnelInfo::Vxlan { .. }));
    (link.name == VXLAN_LINK && vxlan) || is_our_ipip(link)
}

fn is_our_ipip(link: &LinkInfo) -> bool {
    matches!(link.tunnel, Some(TunnelInfo::Ipip { .. }))
        && link.alias.as_deref() == Some(TUNNEL_ALIAS)
}

fn foreign(link: &LinkInfo, wanted: &Tunnel) -> Problem {
    problem(format!(
        "link {} is there and is not the {} device that is wanted{}; {}",
        link.name,
        wanted.spec.kind.as_str(),
        link.kind
            .as_ref()
            .map(|kind| format!(" (it is of kind {kind})"))
            .unwrap_or_default(),
        advice(&wanted.spec.kind)
    ))
}

fn advice(kind: &TunnelKind) -> &'static str {
    match kind {
        TunnelKind::Ipip { .. } => "remove it, or set ipipDevice to another name",
        TunnelKind::Vxlan { .. } => {
            "remove it, or set vxlanVNI or vxlanPort to another number on all nodes"
        }
    }
}

// ===== addresses =====

fn add_addresses(
    netlink: &mut Netlink,
    link: &LinkInfo,
    wanted: &Tunnel,
    done: &mut TunnelChanges,
) -> Result<(), KernelError> {
    let there = addresses_of(netlink, link)?;
    for address in &wanted.addresses {
        if there.iter().all(|info| info.address.ip() != *address) {
            let label = format!("{}{ADDRESS_LABEL}", link.name);
            netlink.ensure_address(link.index, *address, Some(&label))?;
            done.changes += 1;
        }
    }
    Ok(())
}

fn remove_addresses(
    netlink: &mut Netlink,
    link: &LinkInfo,
    wanted: &Tunnel,
    done: &mut TunnelChanges,
) -> Result<(), KernelError> {
    let there = addresses_of(netlink, link)?;
    for info in there.iter().filter(|info| is_our_address(info, link)) {
        if !wanted.addresses.contains(&info.address.ip()) {
            netlink.remove_address(link.index, info.address.ip())?;
            done.changes += 1;
        }
    }
    Ok(())
}

fn addresses_of(netlink: &mut Netlink, link: &LinkInfo) -> Result<Vec<AddressInfo>, KernelError> {
    let mut all = netlink.list_addresses()?;
    all.retain(|info| info.index == link.index);
    Ok(all)
}

/// On a device that we made: all but link-local ones. On another: those with our label.
fn is_our_address(info: &AddressInfo, link: &LinkInfo) -> bool {
    let labelled = info
        .label
        .as_deref()
        .is_some_and(|label| label.ends_with(ADDRESS_LABEL));
    let link_local = match info.address.ip() {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    labelled || (is_ours(link) && !link_local)
}

// ===== the end of a mode =====

/// Takes away what another mode, or another device name, left here: after the routes have moved. `None`: everything, for
/// uninstall. Names what went.
pub(crate) fn remove_other_tunnels(
    netlink: &mut Netlink,
    keep: Option<&Encapsulation>,
) -> Result<Vec<String>, KernelError> {
    let wanted = keep.and_then(|keep| match keep.mode {
        Mode::None => None,
        Mode::Ipip => Some(keep.ipip_device.as_str()),
        Mode::Vxlan => Some(VXLAN_LINK),
    });
    let links = netlink.list_links()?;
    let mut removed = Vec::new();
    for link in links
        .iter()
        .filter(|link| Some(link.name.as_str()) != wanted)
    {
        if is_ours(link) {
            if netlink.remove_link(&link.name)? {
                removed.push(format!("link {}", link.name));
            }
        } else if link.name == IPIP_LINK {
            removed.extend(release_fallback(netlink, link)?);
        }
    }
    Ok(removed)
}

/// `tunl0` belongs to the kernel's module and cannot be deleted: our addresses go, and where nobody else has one on it, it
/// is set down. Untouched where none of ours is there.
fn release_fallback(netlink: &mut Netlink, link: &LinkInfo) -> Result<Vec<String>, KernelError> {
    let (ours, foreign): (Vec<AddressInfo>, Vec<AddressInfo>) = addresses_of(netlink, link)?
        .into_iter()
        .partition(|info| is_our_address(info, link));
    let mut removed = Vec::new();
    for address in &ours {
        netlink.remove_address(link.index, address.address.ip())?;
        removed.push(format!("address {} of {}", address.address, link.name));
    }
    if !ours.is_empty() && foreign.iter().all(|info| info.address.is_ipv6()) && link.up {
        netlink.set_link_down(link.index)?;
        removed.push(format!("link {} set down", link.name));
    }
    Ok(removed)
}

// ===== checksum offload =====

fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default()
}

/// Unknown releases are taken for new ones.
fn offload_of(setting: ChecksumOffload, release: &str) -> bool {
    match setting {
        ChecksumOffload::On => true,
        ChecksumOffload::Off => false,
        ChecksumOffload::Auto => {
            let mut numbers = release.split(|c: char| !c.is_ascii_digit());
            let mut next = || numbers.next().and_then(|text| text.parse::<u32>().ok());
            next()
                .zip(next())
                .is_none_or(|version| version >= CHECKSUMS_FIXED)
        }
    }
}

fn refused(error: KernelError) -> Problem {
    problem(error.to_string())
}

fn problem(text: String) -> Problem {
    Problem::new(ProblemKind::Tunnel, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offload_is_off_by_itself_on_kernels_with_the_fault_only() {
        for (release, on) in [
            ("4.19.0-27-amd64", false),
            ("5.6.19", false),
            ("5.7.0", true),
            ("5.15.0-100-generic", true),
            ("6.1.0-40-cloud-amd64", true),
            ("", true),
        ] {
            assert_eq!(offload_of(ChecksumOffload::Auto, release), on, "{release}");
            assert!(offload_of(ChecksumOffload::On, release));
            assert!(!offload_of(ChecksumOffload::Off, release));
        }
    }
}
