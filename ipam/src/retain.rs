//! GC: releases what nobody vouches for any more, and finishes what a crash has cut short.
//!
//! The agent's and the runtime's GC (I10), and the sweep of claims of another boot when the pool is full (I15). Judging
//! may be slow (the agent asks the kernel), so it is done without the lock; each release then takes the lock and looks
//! whether the claim is still the one that was judged.

use crate::claim::{Claim, Found, Holding};
use crate::error::IpamError;
use crate::lines::Lines;
use crate::network::Ipam;
use crate::release::{release_claims, release_holding};
use crate::store::{Locked, Store};
use node_state::StateError;
use node_state::folder::Entry;
use std::net::IpAddr;

impl Ipam {
    /// GC: releases what `keep` refuses; goes on after an error, returns all of them. Allocations that a crash has cut
    /// short are put right as well.
    pub fn retain(&self, keep: &dyn Fn(&Claim) -> bool) -> (Vec<IpAddr>, Vec<IpamError>) {
        let (mut freed, mut errors) = (Vec::new(), Vec::new());
        let store = match Store::open(self) {
            Ok(Some(store)) => store,
            Ok(None) => return (freed, errors),
            Err(error) => return (freed, vec![error.into()]),
        };
        match store.judge(keep) {
            Ok(refused) => {
                for judged in refused {
                    match store.release_judged(&judged) {
                        Ok(true) => freed.push(judged.address),
                        Ok(false) => {}
                        Err(error) => errors.push(error.into()),
                    }
                }
            }
            Err(error) => errors.push(error.into()),
        }
        if let Err(error) = store.finish_cut_short() {
            errors.push(error);
        }
        (freed, errors)
    }
}

/// A refused claim, and what tells it from a later one of the same address.
struct Judged {
    address: IpAddr,
    inode: Option<u64>,
    holding: Option<Holding>,
}

impl Store {
    fn judge(&self, keep: &dyn Fn(&Claim) -> bool) -> Result<Vec<Judged>, StateError> {
        let mut refused = Vec::new();
        for (address, inode) in self.claimed()? {
            let found = self.claim(address)?;
            if matches!(found, Found::Absent) {
                continue;
            }
            let claim = self.describe(address, &found)?;
            if !keep(&claim) {
                refused.push(Judged {
                    address,
                    inode: Some(inode),
                    holding: found.holding(),
                });
            }
        }
        Ok(refused)
    }

    fn release_judged(&self, judged: &Judged) -> Result<bool, StateError> {
        let locked = self.lock()?;
        let same = match (locked.claim(judged.address)?, &judged.holding) {
            (Found::Held(now), Some(then)) => now == *then,
            (Found::Torn, None) => locked.claim_inode(judged.address)? == judged.inode,
            _ => false,
        };
        if same {
            release_claims(&mut Lines::new(&locked), &[judged.address])?;
            if let Some(holding) = &judged.holding {
                locked.remove_owner_of(holding)?;
            }
        }
        Ok(same)
    }

    /// Holders' files none of whose addresses is claimed: allocations and releases that were cut short.
    fn finish_cut_short(&self) -> Result<(), IpamError> {
        for Entry { name: hash, .. } in self.owners()? {
            if !self.is_cut_short(&hash)? {
                continue;
            }
            // Under the lock nobody is in the middle of anything.
            let locked = self.lock()?;
            match locked.owner(&hash)? {
                Found::Held(holding) if locked.own_claims(&hash, &holding)?.is_empty() => {
                    release_holding(&mut Lines::new(&locked), &hash, &holding)?;
                }
                Found::Torn if locked.is_cut_short(&hash)? => drop(locked.remove_owner(&hash)?),
                _ => {}
            }
        }
        Ok(())
    }

    fn is_cut_short(&self, hash: &str) -> Result<bool, StateError> {
        match self.owner(hash)? {
            Found::Absent => Ok(false),
            Found::Held(holding) => Ok(self.own_claims(hash, &holding)?.is_empty()),
            Found::Torn => {
                let inode = self.owner_inode(hash)?;
                Ok(!self.claimed()?.iter().any(|claim| Some(claim.1) == inode))
            }
        }
    }
}

impl Locked<'_> {
    fn remove_owner_of(&self, holding: &Holding) -> Result<(), StateError> {
        let hash = holding.key.hash12();
        match self.owner(&hash)? {
            Found::Held(current) if current == *holding => {
                self.remove_owner_if_empty(&hash, holding)
            }
            _ => Ok(()),
        }
    }
}

/// Frees the claims of other boots: their pods died with it. Done once per boot, when addresses have run out; true
/// where any was freed.
pub(crate) fn sweep_other_boots(lines: &mut Lines<'_>, boot_id: &str) -> Result<bool, IpamError> {
    let locked = lines.locked;
    let mut freed = false;
    for (address, _) in locked.claimed()? {
        match locked.claim(address)? {
            Found::Held(holding) if holding.boot_id != boot_id => {
                release_claims(lines, &[address])?;
                locked.remove_owner_of(&holding)?;
                freed = true;
            }
            _ => {}
        }
    }
    locked.write_swept_boot(boot_id)?;
    Ok(freed)
}
