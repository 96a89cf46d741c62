//! Looking without changing: CHECK, the agent's status and its metrics. None of it takes the lock.

use crate::claim::{Claim, Found, now_ms};
use crate::config::IpamConfig;
use crate::error::IpamError;
use crate::network::Ipam;
use crate::number::to_ip;
use crate::queue::Queue;
use crate::store::Store;
use node_state::StateError;
use node_state::record::AttachmentKey;
use std::net::IpAddr;
use std::time::Duration;

/// How full the ranges of a configuration are, all sets together; ask with one set to tell families apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Claimed addresses of the ranges, those included whose claims cannot be read.
    pub used: u64,
    /// What can still be handed out, the cooling ones included.
    pub free: u128,
    /// Released and waiting in line: they go out after all that were never used.
    pub cooling: u64,
}

impl Ipam {
    /// The addresses of `key` (CHECK, I9); none is no error here.
    pub fn find(&self, key: &AttachmentKey) -> Result<Vec<IpAddr>, IpamError> {
        let Some(store) = Store::open(self)? else {
            return Ok(Vec::new());
        };
        let hash = key.hash12();
        match store.owner(&hash)? {
            Found::Held(holding) if holding.key == *key => Ok(store.own_claims(&hash, &holding)?),
            _ => Ok(store.scan(key)?),
        }
    }

    /// All claims, those included that cannot be read.
    pub fn claims(&self) -> Result<Vec<Claim>, IpamError> {
        let Some(store) = Store::open(self)? else {
            return Ok(Vec::new());
        };
        let mut claims = Vec::new();
        for (address, _) in store.claimed()? {
            match store.claim(address)? {
                // Released since we listed.
                Found::Absent => {}
                found => claims.push(store.describe(address, &found)?),
            }
        }
        Ok(claims)
    }

    /// How full the ranges of `config` are. Reads names and the waiting line, no claim: cheap enough for a metrics page.
    pub fn usage(&self, config: &IpamConfig) -> Result<Usage, IpamError> {
        let ranges = || config.sets.iter().flat_map(|set| &set.ranges);
        let capacity = ranges().fold(0u128, |sum, range| sum.saturating_add(range.capacity()));
        let Some(store) = Store::open(self)? else {
            return Ok(Usage {
                used: 0,
                free: capacity,
                cooling: 0,
            });
        };
        let claimed = store.claimed()?;
        let used = claimed
            .iter()
            .filter(|(address, _)| ranges().any(|range| range.serves(*address)))
            .count() as u64;
        let mut cooling = 0;
        for v4 in [true, false] {
            Queue::open(&store, v4)?.each(|waiting| {
                cooling += u64::from(ranges().any(|range| range.serves(to_ip(waiting.number))));
                Ok(true)
            })?;
        }
        Ok(Usage {
            used,
            free: capacity.saturating_sub(used.into()),
            cooling,
        })
    }
}

impl Store {
    pub(crate) fn describe(&self, address: IpAddr, found: &Found) -> Result<Claim, StateError> {
        // None where it is of the future: the clock was set back, and the age is unknown.
        let since = |then: u64| now_ms().checked_sub(then).map(Duration::from_millis);
        Ok(match found {
            Found::Held(holding) => Claim {
                address,
                owner: Some(holding.key.clone()),
                holder: Some(holding.holder),
                boot_id: Some(holding.boot_id.clone()),
                age: since(holding.created_ms),
            },
            Found::Absent | Found::Torn => {
                let age = self.claim_modified_ms(address)?.and_then(since);
                Claim {
                    address,
                    owner: None,
                    holder: None,
                    boot_id: None,
                    age,
                }
            }
        })
    }
}
