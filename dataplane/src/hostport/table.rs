//! Our table as a whole, without the nft program: is it there, and away with it. For a node that has left nftables, where
//! that program may be missing.

use super::Nfnetlink;
use crate::error::Result;
use crate::names::NFT_TABLE;
use crate::nfnetlink::{NFPROTO_INET, SUBSYS_NFTABLES, push, transaction};
use crate::wire::attribute::put_string;
use crate::wire::batch::Batch;

const GET_TABLE: u16 = SUBSYS_NFTABLES << 8 | 1;
const DELETE_TABLE: u16 = SUBSYS_NFTABLES << 8 | 2;
const NAME: u16 = 1;
/// No such table, or no nftables at all (net/netfilter/nfnetlink.c answers an unknown subsystem so).
const ABSENT: [i32; 5] = [
    libc::ENOENT,
    libc::EINVAL,
    libc::EOPNOTSUPP,
    libc::EPROTONOSUPPORT,
    libc::EAFNOSUPPORT,
];

impl Nfnetlink {
    /// True where the kernel holds our table. A kernel without nftables holds none. `Err` where the kernel gave no answer:
    /// what is not known to be absent may be there.
    pub fn has_table(&mut self) -> Result<bool> {
        self.has_inet_table(NFT_TABLE)
    }

    /// The same for anybody's table of family inet.
    pub fn has_inet_table(&mut self, name: &str) -> Result<bool> {
        let mut batch = Batch::new();
        push_table(&mut batch, GET_TABLE, name);
        let what = || format!("look for table inet {name}");
        let refused = self
            .channel
            .exchange(&mut batch, &mut |_, _| {})
            .map_err(|refusal| refusal.during(what()))?;
        match refused.into_iter().next() {
            None => Ok(true),
            Some((_, refusal)) if ABSENT.contains(&refusal.errno) => Ok(false),
            Some((_, refusal)) => Err(refusal.during(what())),
        }
    }

    /// Deletes it with all that is in it. False where there was none.
    pub fn remove_table(&mut self) -> Result<bool> {
        if !self.has_table()? {
            return Ok(false);
        }
        let what = || format!("delete table inet {NFT_TABLE}");
        let mut batch = transaction(|batch| push_table(batch, DELETE_TABLE, NFT_TABLE));
        let refused = self
            .channel
            .exchange(&mut batch, &mut |_, _| {})
            .map_err(|refusal| refusal.during(what()))?;
        match refused.into_iter().next() {
            Some((_, refusal)) if refusal.errno == libc::ENOENT => Ok(false),
            Some((_, refusal)) => Err(refusal.during(what())),
            None => Ok(true),
        }
    }
}

fn push_table(batch: &mut Batch, kind: u16, name: &str) {
    push(batch, kind, 0, NFPROTO_INET, |out| {
        put_string(out, NAME, name);
    });
}
