//! Requested addresses (I7): which set serves them, and whether they can be had. An unmet request names the reason: out of
//! range, reserved, or by whom it is held.

use crate::choose::{From, Pick};
use crate::claim::{Found, Holding};
use crate::error::IpamError;
use crate::lines::Lines;
use crate::range::{RangeSet, why_not_served};
use crate::release::release_holding;
use std::net::IpAddr;

/// Which set serves which requested address; each at most one. Pure.
pub(crate) fn assign_requests(
    sets: &[RangeSet],
    requested: &[IpAddr],
) -> Result<Vec<Option<IpAddr>>, IpamError> {
    let mut wanted: Vec<Option<IpAddr>> = vec![None; sets.len()];
    for address in requested {
        let refuse = |reason| IpamError::Unfulfillable {
            address: *address,
            reason,
        };
        let set = sets.iter().position(|set| set.range_of(*address).is_some());
        let set = set.ok_or_else(|| refuse(why_not_served(sets, *address)))?;
        match wanted[set].replace(*address) {
            Some(other) if other != *address => {
                return Err(refuse(format!(
                    "{other} of the same range set is requested as well"
                )));
            }
            _ => {}
        }
    }
    Ok(wanted)
}

/// A requested address, if nobody holds it. A claim of another boot is nobody's (I15).
pub(crate) fn pick_requested<'a>(
    lines: &mut Lines<'_>,
    set: &'a RangeSet,
    address: IpAddr,
    boot_id: &str,
) -> Result<Pick<'a>, IpamError> {
    let refuse = |reason| IpamError::Unfulfillable { address, reason };
    match lines.locked.claim(address)? {
        Found::Held(former) if former.boot_id != boot_id => {
            release_holding(lines, &former.key.hash12(), &former)?;
        }
        Found::Held(Holding { key, .. }) => {
            return Err(refuse(format!(
                "held by container {} interface {}",
                key.container_id, key.ifname
            )));
        }
        Found::Torn => {
            let path = lines.locked.claim_path(address);
            return Err(refuse(format!(
                "its claim cannot be read: {}",
                path.display()
            )));
        }
        Found::Absent => {}
    }
    let range = set
        .range_of(address)
        .ok_or_else(|| refuse("it lies in no range".to_owned()))?;
    let from = match lines.find(address)? {
        Some(waiting) => From::Queue {
            waiting,
            first: false,
        },
        None => From::Nowhere,
    };
    Ok(Pick {
        address,
        range,
        from,
    })
}
