//! The allocator against a model of ten lines: exact order, exact errors, whatever the sequence of calls (I4, I5, I7,
//! I13); and its safety when files of the store are torn, lost or removed by hand (I11).

#![allow(clippy::unwrap_used)] // a test fails by panicking

use ipam::{Holder, Ipam, IpamConfig, IpamError};
use node_state::record::AttachmentKey;
use proptest::prelude::*;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::net::IpAddr;
use std::path::Path;

fn key(number: u8) -> AttachmentKey {
    AttachmentKey {
        network: "n".into(),
        container_id: format!("c{number}"),
        ifname: "eth0".into(),
    }
}

fn config(value: serde_json::Value) -> IpamConfig {
    IpamConfig::parse(value.as_object().unwrap(), None).unwrap()
}

/// A v4 set of two ranges with a gateway in one, and a v6 set: 12 and 10 addresses.
fn dual_stack() -> IpamConfig {
    config(json!({"ranges": [
        [{"subnet": "10.0.0.0/29", "gateway": "10.0.0.3"}, {"subnet": "10.0.9.0/28", "rangeStart": "10.0.9.8"}],
        [{"subnet": "fd00::/124", "rangeEnd": "fd00::a"}]
    ]}))
}

fn addresses(config: &IpamConfig, set: usize) -> Vec<IpAddr> {
    let all = config.sets[set]
        .ranges
        .iter()
        .flat_map(|range| range.subnet.iter());
    all.filter(|address| config.sets[set].range_of(*address).is_some())
        .collect()
}

#[derive(Debug, Clone)]
enum Op {
    Allocate(u8),
    Request(u8, usize),
    Release(u8),
    Collect(u8),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        5 => (0..16u8).prop_map(Op::Allocate),
        2 => ((0..16u8), (0..22usize)).prop_map(|(key, address)| Op::Request(key, address)),
        4 => (0..16u8).prop_map(Op::Release),
        1 => (0..16u8).prop_map(Op::Collect),
    ];
    prop::collection::vec(op, 1..120)
}

/// Free addresses of a set: those never used in ascending order, then those released, oldest first.
struct Model {
    never: Vec<VecDeque<IpAddr>>,
    line: Vec<VecDeque<IpAddr>>,
    held: BTreeMap<u8, Vec<IpAddr>>,
}

impl Model {
    fn next(&self, set: usize) -> Option<IpAddr> {
        self.never[set].front().or(self.line[set].front()).copied()
    }

    fn hold(&mut self, key: u8, addresses: Vec<IpAddr>) {
        for (set, address) in addresses.iter().enumerate() {
            self.never[set].retain(|free| free != address);
            self.line[set].retain(|free| free != address);
        }
        self.held.insert(key, addresses);
    }

    fn release(&mut self, key: u8) -> Vec<IpAddr> {
        let addresses = self.held.remove(&key).unwrap_or_default();
        for (set, address) in addresses.iter().enumerate() {
            self.line[set].push_back(*address);
        }
        addresses
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_call_answers_as_the_model_does_i13(ops in ops()) {
        let dir = tempfile::tempdir().unwrap();
        let config = dual_stack();
        let all = [addresses(&config, 0), addresses(&config, 1)];
        prop_assert_eq!((all[0].len(), all[1].len()), (5 + 7, 10));
        let mut model = Model {
            never: all.iter().map(|set| set.iter().copied().collect()).collect(),
            line: vec![VecDeque::new(); 2],
            held: BTreeMap::new(),
        };
        for op in ops {
            // A new process each time: nothing is remembered but in the files.
            let ipam = Ipam::open(dir.path(), "n", Holder::Slash32);
            match op {
                Op::Allocate(k) | Op::Request(k, _) => {
                    let wanted = match op { Op::Request(_, i) => Some([&all[0][..], &all[1][..]].concat()[i]), _ => None };
                    let requested: Vec<IpAddr> = wanted.into_iter().collect();
                    let answer = ipam.allocate(&key(k), &config, &requested);
                    if let Some(held) = model.held.get(&k) {
                        if wanted.is_some_and(|wanted| !held.contains(&wanted)) {
                            prop_assert!(matches!(answer, Err(IpamError::Unfulfillable { .. })), "{:?}", answer);
                            continue;
                        }
                        let answer = answer.unwrap();
                        prop_assert!(!answer.fresh);
                        prop_assert_eq!(&answer.leases.iter().map(|l| l.address).collect::<Vec<_>>(), held);
                        continue;
                    }
                    let taken = |wanted: &IpAddr| model.held.values().flatten().any(|held| held == wanted);
                    if wanted.as_ref().is_some_and(taken) {
                        let error = answer.unwrap_err().to_string();
                        let v4_full = model.next(0).is_none() && !wanted.unwrap().is_ipv4();
                        prop_assert!(error.contains("held by container") || v4_full && error.contains("no IP"), "{}", error);
                        continue;
                    }
                    let pick = |set: usize| match wanted {
                        Some(wanted) if wanted.is_ipv4() == (set == 0) => Some(wanted),
                        _ => model.next(set),
                    };
                    match (pick(0), pick(1)) {
                        (Some(v4), Some(v6)) => {
                            let answer = answer.unwrap();
                            prop_assert!(answer.fresh);
                            prop_assert_eq!(answer.leases.iter().map(|l| l.address).collect::<Vec<_>>(), [v4, v6]);
                            model.hold(k, vec![v4, v6]);
                        }
                        _ => prop_assert!(matches!(answer, Err(IpamError::Exhausted { .. })), "{:?}", answer),
                    }
                }
                Op::Release(k) => prop_assert_eq!(ipam.release(&key(k)).unwrap(), model.release(k)),
                Op::Collect(k) => {
                    let (freed, errors) = ipam.retain(&|claim| claim.owner != Some(key(k)));
                    prop_assert!(errors.is_empty(), "{:?}", errors);
                    prop_assert_eq!(freed.into_iter().collect::<BTreeSet<_>>(), model.release(k).into_iter().collect());
                }
            }
            let held: BTreeSet<IpAddr> = model.held.values().flatten().copied().collect();
            let claims: BTreeSet<IpAddr> = ipam.claims().unwrap().into_iter().map(|claim| claim.address).collect();
            prop_assert_eq!(&claims, &held);
            let usage = ipam.usage(&config).unwrap();
            prop_assert_eq!((usage.used as usize, usage.free as usize), (held.len(), 22 - held.len()));
            prop_assert_eq!(usage.cooling as usize, model.line[0].len() + model.line[1].len());
        }
    }

    #[test]
    fn torn_lost_and_removed_files_never_double_nor_lose_an_address_i11(
        steps in prop::collection::vec((0..12u8, 0..10u8, any::<prop::sample::Index>(), 0..3u8), 1..60)
    ) {
        let dir = tempfile::tempdir().unwrap();
        let config = dual_stack();
        let ipam = Ipam::open(dir.path(), "n", Holder::Slash32);
        let mut held: BTreeMap<u8, HashSet<IpAddr>> = BTreeMap::new();
        for (k, action, index, damage) in steps {
            match action {
                0..=4 => if let Ok(allocation) = ipam.allocate(&key(k), &config, &[]) {
                    held.insert(k, allocation.leases.iter().map(|lease| lease.address).collect());
                },
                5..=7 => {
                    ipam.release(&key(k)).unwrap();
                    held.remove(&k);
                }
                _ => spoil(&ipam.dir(), index, damage),
            }
            let all: Vec<IpAddr> = held.values().flatten().copied().collect();
            let distinct: HashSet<IpAddr> = all.iter().copied().collect();
            prop_assert_eq!(all.len(), distinct.len(), "held twice: {:?}", held);
            for claim in ipam.claims().unwrap().iter().filter(|claim| claim.owner.is_some()) {
                let holder = held.iter().find(|(_, addresses)| addresses.contains(&claim.address));
                prop_assert!(holder.is_none_or(|(k, _)| claim.owner == Some(key(*k))), "{:?} {:?}", claim, held);
            }
        }
        let (_, errors) = ipam.retain(&|_| false);
        prop_assert!(errors.is_empty(), "{:?}", errors);
        prop_assert!(ipam.claims().unwrap().is_empty());
        let mut v4 = HashSet::new();
        for k in 0..10 {
            v4.insert(ipam.allocate(&key(100 + k), &config, &[]).unwrap().leases[0].address);
        }
        prop_assert_eq!(v4.len(), 10);
        let full = ipam.allocate(&key(200), &config, &[]);
        prop_assert!(matches!(full, Err(IpamError::Exhausted { .. })), "{:?}", full);
    }
}

/// Empties, fills with garbage, or removes one file of the store; never a claim that is sound (nobody does that to a
/// running pod and keeps its address), nor a folder.
fn spoil(dir: &Path, index: prop::sample::Index, damage: u8) {
    let mut files = Vec::new();
    for folder in [dir.to_owned(), dir.join("owners"), dir.join("addresses")] {
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        files.extend(
            entries
                .filter(|entry| entry.file_type().unwrap().is_file())
                .map(|entry| entry.path()),
        );
    }
    files.retain(|path| !path.ends_with("lock"));
    if files.is_empty() {
        return;
    }
    files.sort();
    let path = index.get(&files);
    let is_claim = path
        .parent()
        .is_some_and(|parent| parent.ends_with("addresses"));
    match damage {
        0 => std::fs::write(path, "").unwrap(),
        1 => std::fs::write(
            path,
            "garbage, longer than a mark and than a header of a queue is",
        )
        .unwrap(),
        _ if is_claim => {}
        _ => std::fs::remove_file(path).unwrap(),
    }
}
