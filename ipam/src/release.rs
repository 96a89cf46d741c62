//! DEL: what a key holds goes back to the end of the line. Absent is done.
//!
//! Backwards through the steps of `allocate.rs`: each claim, then its place in the line, and the holder's file last. So
//! a crash leaves the holder's file, and whoever comes next (DEL again, GC, ADD of the same key) finishes the work: a
//! claim that is missing then, and does not wait in line either, is put there.

use crate::claim::{Found, Holding};
use crate::error::IpamError;
use crate::lines::Lines;
use crate::network::Ipam;
use crate::store::{Locked, Store};
use node_state::StateError;
use node_state::record::AttachmentKey;
use std::collections::HashSet;
use std::net::IpAddr;

impl Ipam {
    /// Releases what `key` holds and says which addresses that was. Absent is done: also where the folder is missing or
    /// read-only (I8). Only claims whose content names `key` (D5).
    pub fn release(&self, key: &AttachmentKey) -> Result<Vec<IpAddr>, IpamError> {
        let Some(store) = Store::open(self)? else {
            return Ok(Vec::new());
        };
        let hash = key.hash12();
        // Looked at before the lock is taken: a repeated DEL has nothing to write, and must not need to.
        if store.owner_inode(&hash)?.is_none() && store.scan(key)?.is_empty() {
            return Ok(Vec::new());
        }
        let locked = store.lock()?;
        let mut lines = Lines::new(&locked);
        match locked.owner(&hash)? {
            Found::Torn => release_torn(&mut lines, &hash),
            Found::Held(holding) if holding.key == *key => {
                release_holding(&mut lines, &hash, &holding)
            }
            // The holder's file is gone (removed by hand), or another's: go by the claims.
            Found::Held(_) | Found::Absent => {
                let claims = locked.scan(key)?;
                release_claims(&mut lines, &claims)?;
                Ok(claims)
            }
        }
    }
}

/// Releases what a holder's file names.
pub(crate) fn release_holding(
    lines: &mut Lines<'_>,
    hash: &str,
    holding: &Holding,
) -> Result<Vec<IpAddr>, IpamError> {
    let locked = lines.locked;
    let claims = locked.own_claims(hash, holding)?;
    release_claims(lines, &claims)?;
    for address in holding
        .addresses
        .iter()
        .filter(|address| !claims.contains(address))
    {
        // Cut short by a crash between the steps: taken from the line and never claimed, or unclaimed and not put back.
        if !locked.is_claimed(*address)? && lines.find(*address)?.is_none() {
            lines.push(*address);
        }
    }
    locked.remove_owner(hash)?;
    Ok(claims)
}

/// Releases the claims of a holder's file that cannot be read: they are the same file, and so is their inode.
pub(crate) fn release_torn(lines: &mut Lines<'_>, hash: &str) -> Result<Vec<IpAddr>, IpamError> {
    let locked = lines.locked;
    let inode = locked.owner_inode(hash)?;
    let same = |claim: &(IpAddr, u64)| Some(claim.1) == inode;
    let claims: Vec<IpAddr> = locked
        .claimed()?
        .into_iter()
        .filter(same)
        .map(|(address, _)| address)
        .collect();
    release_claims(lines, &claims)?;
    locked.remove_owner(hash)?;
    Ok(claims)
}

/// Removes claims, which the caller has found to be the holder's, and lines their addresses up. Goes on after an error
/// and returns the first.
pub(crate) fn release_claims(lines: &mut Lines<'_>, claims: &[IpAddr]) -> Result<(), StateError> {
    let mut failed = Ok(());
    for address in claims {
        match lines.locked.remove_claim(*address) {
            Ok(_) => lines.push(*address),
            Err(error) => failed = failed.and(Err(error)),
        }
    }
    failed
}

impl Store {
    /// Those addresses of a holder's file whose claims are its own.
    pub(crate) fn own_claims(
        &self,
        hash: &str,
        holding: &Holding,
    ) -> Result<Vec<IpAddr>, StateError> {
        let inode = self.owner_inode(hash)?;
        let mut claims = Vec::with_capacity(holding.addresses.len());
        for address in &holding.addresses {
            let claim = self.claim_inode(*address)?;
            // One inode is one content. Copied files (a restored backup) have two: then the content decides.
            if claim.is_some() && (claim == inode || self.claim(*address)?.is_of(&holding.key)) {
                claims.push(*address);
            }
        }
        Ok(claims)
    }

    /// The claims whose content names `key`, for keys whose holder's file is gone. A claim that is one file with some
    /// holder's is that holder's: only the others are read, and as a rule there are none.
    pub(crate) fn scan(&self, key: &AttachmentKey) -> Result<Vec<IpAddr>, StateError> {
        let owned: HashSet<u64> = self
            .owners()?
            .into_iter()
            .map(|owner| owner.inode)
            .collect();
        let mut claims = Vec::new();
        for (address, inode) in self.claimed()? {
            if !owned.contains(&inode) && self.claim(address)?.is_of(key) {
                claims.push(address);
            }
        }
        Ok(claims)
    }
}

impl Locked<'_> {
    /// Removes a holder's file once none of its addresses is claimed by it any more.
    pub(crate) fn remove_owner_if_empty(
        &self,
        hash: &str,
        holding: &Holding,
    ) -> Result<(), StateError> {
        if self.own_claims(hash, holding)?.is_empty() {
            self.remove_owner(hash)?;
        }
        Ok(())
    }
}
