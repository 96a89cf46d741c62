//! A fingerprint of our table: has anybody deleted, added or replaced a rule, chain, set or map, or laid the table anew?
//!
//! Hashes the attributes that describe them, handles included (the kernel never gives one out twice), and leaves out what
//! changes by itself or by the plugin: counters, use counts, generation numbers, elements of maps and hairpin sets. Who calls: the agent, on an event and by its timer.

use super::Nfnetlink;
use super::message::{self, LIST_ELEMENTS};
use crate::error::{KernelError, Result};
use crate::names::{NFT_TABLE, SET_CLUSTER4, SET_CLUSTER6};
use crate::nfnetlink::{HEADER, NFPROTO_INET, SUBSYS_NFTABLES, push};
use crate::wire::attribute::{Attribute, Attributes, put_string};
use crate::wire::batch::{Batch, F_DUMP};
use crate::wire::message::Message;

/// A kind of object: the messages that ask for it and carry it, and the attributes that describe it. A list of what counts,
/// not of what does not: newer kernels add counts (`NFTA_SET_COUNT` in 6.16). In all of them attribute 1 is the table's name.
struct Kind {
    get: u16,
    new: u16,
    described_by: &'static [u16],
    expressions: Option<u16>,
}

/// Name, flags, handle, userdata.
const TABLE: Kind = Kind {
    get: 1,
    new: 0,
    described_by: &[1, 2, 4, 6],
    expressions: None,
};
const OBJECTS: [Kind; 3] = [
    // Table, handle, name, hook, policy, type, flags, userdata.
    Kind {
        get: 4,
        new: 3,
        described_by: &[1, 2, 3, 4, 5, 7, 10, 12],
        expressions: None,
    },
    // Table, chain, handle, expressions, position, userdata.
    Kind {
        get: 7,
        new: 6,
        described_by: &[1, 2, 3, 4, 6, 7],
        expressions: Some(4),
    },
    // Table, name, flags, types and lengths of key and data, policy, timeout, gc interval, userdata, object type, handle.
    Kind {
        get: 10,
        new: 9,
        described_by: &[1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 15, 16],
        expressions: None,
    },
];

const NAME_OF_TABLE: u16 = 1;
/// `NFT_MSG_NEWGEN`, `NFT_MSG_GETGEN`, `NFTA_GEN_ID`.
const NEW_GENERATION: u16 = SUBSYS_NFTABLES << 8 | 15;
const GET_GENERATION: u16 = SUBSYS_NFTABLES << 8 | 16;
const GENERATION_ID: u16 = 1;
const EXPR_NAME: u16 = 1;
/// Expressions that count while packets pass.
const COUNTING: [&str; 4] = ["counter", "quota", "last", "connlimit"];

impl Nfnetlink {
    /// How many nftables transactions, anybody's, this namespace has seen: one more after each. Tells whether what was read
    /// since is of one's own transaction alone.
    pub fn ruleset_generation(&mut self) -> Result<u32> {
        let what = || "read the generation of the nftables ruleset";
        let mut batch = Batch::new();
        push(&mut batch, GET_GENERATION, 0, 0, |_| {});
        let mut generation = None;
        let refused = self
            .channel
            .exchange(&mut batch, &mut |_, message| {
                if message.kind == NEW_GENERATION {
                    let id = Attributes::after(message.payload, HEADER).find_kind(GENERATION_ID);
                    generation = id.and_then(|id| id.be32());
                }
            })
            .map_err(|refusal| refusal.during(what()))?;
        if let Some((_, refusal)) = refused.into_iter().next() {
            return Err(refusal.during(what()));
        }
        generation.ok_or_else(|| {
            let silent = std::io::Error::from(std::io::ErrorKind::InvalidData);
            KernelError::from_io(what(), &silent)
        })
    }

    /// A number for our table's chains, rules, sets and maps, and for the elements of the sets that are the agent's alone; `None`: there is no such table.
    pub fn table_fingerprint(&mut self) -> Result<Option<u64>> {
        let mut hash = Fnv::new();
        // Asked for by name, so that no other table is ever read.
        let mut batch = Batch::new();
        push_get(&mut batch, &TABLE, 0);
        let what = || "read table inet slash32";
        let refused = self
            .channel
            .exchange(&mut batch, &mut |_, message| {
                hash_object(&mut hash, &TABLE, &message)
            })
            .map_err(|refusal| refusal.during(what()))?;
        match refused.into_iter().next() {
            Some((_, refusal)) if refusal.errno == libc::ENOENT => return Ok(None),
            Some((_, refusal)) => return Err(refusal.during(what())),
            None => {}
        }
        for kind in OBJECTS {
            let request = |batch: &mut Batch| push_get(batch, &kind, F_DUMP);
            let own = |message: Message<'_>| {
                let mut own = Fnv::new();
                is_ours(&message).then(|| hash_object(&mut own, &kind, &message))?;
                Some(own.0)
            };
            let objects = self
                .channel
                .dump(request, own)
                .map_err(|refusal| refusal.during(what()))?;
            hash.add(&(objects.len() as u64).to_be_bytes());
            objects
                .iter()
                .for_each(|object| hash.add(&object.to_be_bytes()));
        }
        for set in [SET_CLUSTER4, SET_CLUSTER6] {
            hash.add(&self.elements_hash(set)?.to_be_bytes());
        }
        Ok(Some(hash.0))
    }

    /// Of the elements of a set, in whatever order the kernel tells them; 0 where there are none.
    fn elements_hash(&mut self, set: &'static str) -> Result<u64> {
        let request = |batch: &mut Batch| message::push_get_set(batch, set, F_DUMP);
        let own = |message: Message<'_>| {
            let list = Attributes::after(message.payload, HEADER).find_kind(LIST_ELEMENTS)?;
            let one = |element: Attribute<'_>| {
                let mut own = Fnv::new();
                own.add_attribute(&element);
                own.0
            };
            Some(list.nested().map(one).fold(0, u64::wrapping_add))
        };
        match self.channel.dump(request, own) {
            Ok(hashes) => Ok(hashes.into_iter().fold(0, u64::wrapping_add)),
            Err(refusal) if refusal.errno == libc::ENOENT => Ok(0),
            Err(refusal) => Err(refusal.during(format!("list {set} of table inet slash32"))),
        }
    }
}

fn push_get(batch: &mut Batch, kind: &Kind, flags: u16) {
    push(
        batch,
        SUBSYS_NFTABLES << 8 | kind.get,
        flags,
        NFPROTO_INET,
        |out| {
            put_string(out, NAME_OF_TABLE, NFT_TABLE);
        },
    );
}

/// Older kernels dump the chains of all tables.
fn is_ours(message: &Message<'_>) -> bool {
    let table = Attributes::after(message.payload, HEADER)
        .find_kind(NAME_OF_TABLE)
        .and_then(|name| name.string());
    message.payload.first() == Some(&NFPROTO_INET) && table.as_deref() == Some(NFT_TABLE)
}

fn hash_object(hash: &mut Fnv, kind: &Kind, message: &Message<'_>) {
    if message.kind != SUBSYS_NFTABLES << 8 | kind.new {
        return;
    }
    for attribute in Attributes::after(message.payload, HEADER) {
        if kind.expressions == Some(attribute.kind) {
            attribute
                .nested()
                .for_each(|expression| hash_expression(hash, &expression));
        } else if kind.described_by.contains(&attribute.kind) {
            hash.add_attribute(&attribute);
        }
    }
}

fn hash_expression(hash: &mut Fnv, expression: &Attribute<'_>) {
    let name = expression
        .nested()
        .find_kind(EXPR_NAME)
        .and_then(|name| name.string())
        .unwrap_or_default();
    if COUNTING.contains(&name.as_str()) {
        hash.add(name.as_bytes());
    } else {
        hash.add_attribute(expression);
    }
}

/// For the fuzz targets.
#[cfg(any(test, fuzzing))]
pub(super) fn hash_any(message: &Message<'_>) {
    let mut hash = Fnv::new();
    if is_ours(message) {
        for kind in OBJECTS.iter().chain([&TABLE]) {
            hash_object(&mut hash, kind, message);
        }
    }
}

/// FNV-1a, 64 bits: the same in every process and version, which the standard library does not promise of its own.
struct Fnv(u64);

impl Fnv {
    fn new() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn add_attribute(&mut self, attribute: &Attribute<'_>) {
        self.add(&attribute.kind.to_be_bytes());
        self.add(&(attribute.value.len() as u64).to_be_bytes());
        self.add(attribute.value);
    }
}
