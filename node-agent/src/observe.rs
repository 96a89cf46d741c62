//! Reads this node: links, addresses, the ways to peers, our routes, the records. Reads only; the values go to `desired`
//! and `diff`. The ways are the one thing that costs time (one question per peer), so they are asked for again only
//! when something underneath may have changed.

use crate::facts::Facts;
use crate::problem::{Problem, ProblemKind};
use dataplane::error::Result;
use dataplane::names::ADDRESS_LABEL;
use dataplane::netlink::Netlink;
use node_state::StateDir;
use node_state::record::AttachmentRecord;
use std::collections::HashSet;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

/// A node without any route answers no question; these are no faults of ours.
const UNREACHABLE_ERRNOS: [i32; 4] = [
    nix::libc::ENETUNREACH,
    nix::libc::EHOSTUNREACH,
    nix::libc::EACCES,
    nix::libc::EINVAL,
];

/// Links and addresses; `Facts::ways` is empty.
pub(crate) fn observe_links(netlink: &mut Netlink) -> Result<Facts> {
    let links = netlink.list_links()?;
    let addresses = netlink.list_addresses()?;
    let ours = |label: &str| label.ends_with(ADDRESS_LABEL);
    Ok(Facts::new(
        links,
        addresses
            .into_iter()
            .filter(|info| !info.label.as_deref().is_some_and(ours))
            .map(|info| (info.index, info.address)),
    ))
}

/// Asks the kernel for the way to each of `peers` that `facts` knows none to, and forgets those to others. A refusal is
/// an answer; any other error is ours.
pub(crate) fn observe_ways(
    netlink: &mut Netlink,
    facts: &mut Facts,
    peers: &[IpAddr],
) -> Result<()> {
    let wanted: HashSet<&IpAddr> = peers.iter().collect();
    facts.ways.retain(|address, _| wanted.contains(address));
    for peer in peers {
        if facts.ways.contains_key(peer) {
            continue;
        }
        let way = match netlink.lookup_route(*peer) {
            Ok(way) => Ok(way),
            Err(error) if UNREACHABLE_ERRNOS.contains(&error.errno) => Err(error.message),
            Err(error) => return Err(error),
        };
        facts.ways.insert(*peer, way);
    }
    Ok(())
}

/// Records of all boots. One that cannot be read is a problem and never hides the others.
pub(crate) fn observe_records(state: &StateDir) -> (Vec<AttachmentRecord>, Vec<Problem>) {
    match state.list_records() {
        Ok((records, unreadable)) => {
            let problems = unreadable
                .into_iter()
                .map(|error| Problem::new(ProblemKind::Record, error.to_string()));
            (records, problems.collect())
        }
        Err(error) => (
            Vec::new(),
            vec![Problem::new(ProblemKind::State, error.to_string())],
        ),
    }
}

/// Milliseconds since the epoch, as records count.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
