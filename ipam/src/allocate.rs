//! ADD: one address of each set, all or none.
//!
//! The order of writing is what makes a crash harmless at any point:
//! 1. the holder's file, naming the addresses: the only write that needs room, so a full disk changes nothing;
//! 2. the addresses leave the free list;
//! 3. each gets its claim.
//!
//! A crash after 1 or 2 leaves a holder's file with claims missing: the runtime's DEL (or GC, or the next ADD of the
//! key) reads it and puts the addresses back. Until then nobody else gets them, but for addresses still on the list.

use crate::choose::{From, Pick, choose};
use crate::claim::{Found, Holding, now_ms};
use crate::config::IpamConfig;
use crate::error::IpamError;
use crate::lines::Lines;
use crate::mark::write_mark;
use crate::network::Ipam;
use crate::number::from_ip;
use crate::release::{release_holding, release_torn};
use crate::request::{assign_requests, pick_requested};
use crate::store::Store;
use ipnetwork::IpNetwork;
use node_state::StateError;
use node_state::record::AttachmentKey;
use std::net::IpAddr;

/// One address as handed out: a /32 or /128 for slash32; `subnet` is the range's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: IpAddr,
    /// The subnet of its range; the address alone where no range of the configuration has it any more (I14).
    pub subnet: IpNetwork,
    /// The range's gateway, where one is configured.
    pub gateway: Option<IpAddr>,
}

/// What a key holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    /// One per set, in their order.
    pub leases: Vec<Lease>,
    /// false: the key held them already.
    pub fresh: bool,
}

impl Ipam {
    /// One address of each set, all or none; `requested` first where it lies in a set. Idempotent per key: existing
    /// claims of the key are returned as they are (A4, I3) with `fresh` false, unless they are of another boot (I15).
    pub fn allocate(
        &self,
        key: &AttachmentKey,
        config: &IpamConfig,
        requested: &[IpAddr],
    ) -> Result<Allocation, IpamError> {
        if config.sets.is_empty() {
            return Err(IpamError::config(
                "ranges",
                "no range given: the node's range is not known",
            ));
        }
        let wanted = assign_requests(&config.sets, requested)?;
        let boot_id = node_state::boot_id()?;
        let store = Store::ensure(self)?;
        let locked = store.lock()?;
        let mut lines = Lines::new(&locked);

        let hash = key.hash12();
        if let Some(held) = settle_former(&mut lines, &hash, key, &boot_id)? {
            return already_held(config, &held, requested);
        }
        let mut picks = Vec::with_capacity(config.sets.len());
        for (set, wanted) in config.sets.iter().zip(wanted) {
            picks.push(match wanted {
                Some(address) => pick_requested(&mut lines, set, address, &boot_id)?,
                None => choose(&mut lines, set, &boot_id)?,
            });
        }
        let addresses = picks.iter().map(|pick| pick.address).collect();
        let holding = Holding {
            key: key.clone(),
            boot_id,
            holder: self.holder,
            created_ms: now_ms(),
            addresses,
        };
        commit(&mut lines, &hash, &holding, &picks)?;
        let leases = picks
            .iter()
            .map(|pick| lease(config, pick.address))
            .collect();
        Ok(Allocation {
            leases,
            fresh: true,
        })
    }
}

/// Steps 1 to 3 of the module's text.
fn commit(
    lines: &mut Lines<'_>,
    hash: &str,
    holding: &Holding,
    picks: &[Pick<'_>],
) -> Result<(), IpamError> {
    let locked = lines.locked;
    locked.write_owner(hash, holding)?;
    for pick in picks {
        match pick.from {
            From::Queue { waiting, first } => lines.take(pick.address, waiting, first),
            // Failing costs the next walk a step: it finds the address claimed.
            From::Walk => drop(write_mark(
                locked,
                pick.range,
                from_ip(pick.address).checked_add(1),
            )),
            From::Nowhere => {}
        }
    }
    for pick in picks {
        let linked = locked
            .link_claim(hash, pick.address)
            .and_then(|linked| match linked {
                true => Ok(()),
                false => Err(StateError::Unreadable {
                    path: locked.claim_path(pick.address),
                    reason: "made by a program that does not take our lock".to_owned(),
                }),
            });
        if let Err(error) = linked {
            // What we report is the first error; a holder's file that stays is put right by DEL.
            let _ = release_holding(lines, hash, holding);
            return Err(error.into());
        }
    }
    Ok(())
}

/// What the key holds already: all of it, of this boot, or else nothing any more.
fn settle_former(
    lines: &mut Lines<'_>,
    hash: &str,
    key: &AttachmentKey,
    boot_id: &str,
) -> Result<Option<Holding>, IpamError> {
    let locked = lines.locked;
    match locked.owner(hash)? {
        Found::Absent => Ok(None),
        Found::Torn => release_torn(lines, hash).map(|_| None),
        Found::Held(held) if held.key != *key => Err(IpamError::State(StateError::Unreadable {
            path: locked.folder.path_of(&format!("owners/{hash}")),
            reason: format!("it is the file of {:?}", held.key),
        })),
        Found::Held(held) => {
            let claims = locked.own_claims(hash, &held)?;
            if held.boot_id == boot_id && claims.len() == held.addresses.len() {
                return Ok(Some(held));
            }
            release_holding(lines, hash, &held).map(|_| None)
        }
    }
}

fn already_held(
    config: &IpamConfig,
    held: &Holding,
    requested: &[IpAddr],
) -> Result<Allocation, IpamError> {
    if let Some(other) = requested
        .iter()
        .find(|address| !held.addresses.contains(address))
    {
        let held: Vec<String> = held.addresses.iter().map(IpAddr::to_string).collect();
        let reason = format!("this attachment holds {} already", held.join(" and "));
        return Err(IpamError::Unfulfillable {
            address: *other,
            reason,
        });
    }
    let leases = held
        .addresses
        .iter()
        .map(|address| lease(config, *address))
        .collect();
    Ok(Allocation {
        leases,
        fresh: false,
    })
}

fn lease(config: &IpamConfig, address: IpAddr) -> Lease {
    let mut ranges = config.sets.iter().flat_map(|set| &set.ranges);
    match ranges.find(|range| range.subnet.contains(address)) {
        Some(range) => Lease {
            address,
            subnet: range.subnet,
            gateway: range.gateway,
        },
        None => Lease {
            address,
            subnet: IpNetwork::from(address),
            gateway: None,
        },
    }
}
