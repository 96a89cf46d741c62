//! Which problems become Kubernetes Events, about whom, and how often. Pure; `report` sends them, `ProblemKind` says
//! which kinds and by what reason.
//!
//! An Event is attached to this agent's own Node. A Node that is bad for all is one Event of its own agent, and not one
//! of each of thousands that see it: trouble with a peer is told only where this node has it with more than one peer
//! in ten, since then the trouble is this node's, or the cluster's settings'. Such a fault may still be seen by all
//! nodes at once: each waits for a random part of 0.1 s for each Node before it tells. All problems of a kind are one
//! Event; each problem is told once when it appears, and again only after it was gone for an hour.

use crate::problem::{Problem, ProblemKind};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

/// What is solved within this time was never worth an Event.
const SETTLE: Duration = Duration::from_secs(5);
/// Of the random wait, for each Node of the cluster; and its limit.
const SPREAD_PER_NODE: Duration = Duration::from_millis(100);
const LONGEST_SPREAD: Duration = Duration::from_secs(600);
/// Between two Events of one kind.
const REST_OF_KIND: Duration = Duration::from_secs(300);
/// In an hour, of all kinds.
const HOURLY: usize = 12;
const HOUR: Duration = Duration::from_secs(3600);
/// events.k8s.io/v1: a note has at most 1,024 bytes; the rest of it is for the count of what was left out.
const NOTE: usize = 900;
/// A problem with peers is told from one peer in so many.
const PEERS_SHARE: usize = 10;

/// The problems that may be told, of all that stand on this node.
pub(super) fn select<'a>(problems: &'a [Problem], own: &str, nodes: usize) -> Vec<&'a Problem> {
    let mut of_peers: BTreeMap<ProblemKind, usize> = BTreeMap::new();
    for problem in problems.iter().filter(|problem| !problem.concerns(own)) {
        *of_peers.entry(problem.kind).or_default() += 1;
    }
    let peers = nodes.saturating_sub(1);
    let many = |kind| {
        of_peers
            .get(&kind)
            .is_some_and(|count| count * PEERS_SHARE > peers)
    };
    let told = |problem: &&Problem| {
        problem.kind.event_reason().is_some() && (problem.concerns(own) || many(problem.kind))
    };
    problems.iter().filter(told).collect()
}

/// One Event to send, and what it tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Telling {
    kind: ProblemKind,
    pub(super) reason: &'static str,
    pub(super) note: String,
    keys: Vec<u64>,
}

/// What has been told already.
#[derive(Debug)]
pub(super) struct Ledger {
    /// From 0 to 1, this agent's own.
    spread: f64,
    known: BTreeMap<u64, Known>,
    last_of_kind: BTreeMap<ProblemKind, Instant>,
    sent: VecDeque<Instant>,
}

#[derive(Debug)]
struct Known {
    first: Instant,
    last: Instant,
    told: bool,
}

impl Ledger {
    pub(super) fn new(spread: f64) -> Ledger {
        Ledger {
            spread,
            known: BTreeMap::new(),
            last_of_kind: BTreeMap::new(),
            sent: VecDeque::new(),
        }
    }

    /// What to tell now of what stands (`select`), and when to ask again without news.
    pub(super) fn next(
        &mut self,
        standing: &[&Problem],
        nodes: usize,
        now: Instant,
    ) -> (Option<Telling>, Option<Instant>) {
        self.remember(standing, now);
        let count = u32::try_from(nodes).unwrap_or(u32::MAX);
        let spread = SPREAD_PER_NODE
            .saturating_mul(count)
            .min(LONGEST_SPREAD)
            .mul_f64(self.spread);
        let mut ripe: BTreeMap<ProblemKind, Vec<&Problem>> = BTreeMap::new();
        let mut again: Option<Instant> = None;
        for problem in standing {
            let Some(known) = self.known.get(&key(problem)).filter(|known| !known.told) else {
                continue;
            };
            let due = (known.first + SETTLE + spread).max(self.free_from(problem.kind, now));
            if due <= now {
                ripe.entry(problem.kind).or_default().push(problem);
            } else {
                again = Some(again.map_or(due, |other| other.min(due)));
            }
        }
        let telling = ripe.into_iter().next().and_then(compose);
        (telling, again)
    }

    /// It was sent.
    pub(super) fn told(&mut self, telling: &Telling, now: Instant) {
        for key in &telling.keys {
            if let Some(known) = self.known.get_mut(key) {
                known.told = true;
            }
        }
        self.last_of_kind.insert(telling.kind, now);
        self.sent.push_back(now);
    }

    fn remember(&mut self, standing: &[&Problem], now: Instant) {
        for problem in standing {
            let known = self.known.entry(key(problem)).or_insert(Known {
                first: now,
                last: now,
                told: false,
            });
            known.last = now;
        }
        self.known
            .retain(|_, known| known.last == now || known.told && now < known.last + HOUR);
        while self.sent.front().is_some_and(|sent| now >= *sent + HOUR) {
            self.sent.pop_front();
        }
    }

    /// When the next Event of this kind may be sent.
    fn free_from(&self, kind: ProblemKind, now: Instant) -> Instant {
        let of_kind = self
            .last_of_kind
            .get(&kind)
            .map(|last| *last + REST_OF_KIND);
        let of_all = (self.sent.len() >= HOURLY)
            .then(|| self.sent.front().map(|first| *first + HOUR))
            .flatten();
        of_kind.into_iter().chain(of_all).fold(now, Instant::max)
    }
}

fn key(problem: &Problem) -> u64 {
    let mut hasher = DefaultHasher::new();
    (problem.kind, &problem.text).hash(&mut hasher);
    hasher.finish()
}

fn compose((kind, problems): (ProblemKind, Vec<&Problem>)) -> Option<Telling> {
    let mut note = String::new();
    let mut left = problems.len();
    for problem in &problems {
        let text = cut(&problem.text, NOTE);
        if !note.is_empty() && note.len() + text.len() > NOTE {
            break;
        }
        if !note.is_empty() {
            note.push_str("; ");
        }
        note.push_str(text);
        left -= 1;
    }
    if left > 0 {
        note.push_str(&format!(
            "; and {left} more: /readyz of the agent lists them"
        ));
    }
    Some(Telling {
        kind,
        reason: kind.event_reason()?,
        note,
        keys: problems.iter().map(|problem| key(problem)).collect(),
    })
}

/// At most `bytes` of a text, never half a character.
fn cut(text: &str, bytes: usize) -> &str {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The Node and the moment, as all senders of Events do: a DNS subdomain of at most 253 characters.
fn name(node: &str, now: Timestamp) -> String {
    let node = cut(node, 230).trim_end_matches(['.', '-']);
    format!("{node}.{:x}", now.as_nanosecond())
}

/// The object, events.k8s.io/v1, on the Node `node`. Events about what has no namespace live in `default`.
pub(super) fn render(telling: &Telling, node: &str, uid: &str, now: Timestamp) -> Value {
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": name(node, now), "namespace": "default"},
        "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(),
        "reportingController": "slash32-agent",
        // At most 128 characters, where a Node's name has 253.
        "reportingInstance": cut(node, 128),
        "action": "Reconcile",
        "type": "Warning",
        "reason": telling.reason,
        "note": telling.note,
        "regarding": {"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid},
    })
}

#[cfg(test)]
mod tests;
