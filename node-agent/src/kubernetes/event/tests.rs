//! Which problems are told, once, in what words, and how often at most.

use super::*;
use proptest::prelude::*;

fn problem(kind: ProblemKind, text: &str) -> Problem {
    Problem::new(kind, text)
}

fn off_link(peer: usize) -> Problem {
    let name = format!("n{peer}");
    problem(ProblemKind::OffLink, &format!("node {name} is far")).about(&name)
}

/// All that is told until nothing is due any more, with the moments.
fn run(
    ledger: &mut Ledger,
    standing: &[Problem],
    nodes: usize,
    from: Instant,
) -> Vec<(Duration, Telling)> {
    let (mut now, mut told) = (from, Vec::new());
    for _ in 0..1000 {
        let standing = select(standing, "own", nodes);
        let (telling, again) = ledger.next(&standing, nodes, now);
        match (telling, again) {
            (Some(telling), _) => {
                ledger.told(&telling, now);
                told.push((now - from, telling));
            }
            (None, Some(again)) => now = again,
            (None, None) => break,
        }
    }
    told
}

#[test]
fn one_bad_node_among_thousands_is_told_by_itself_only() {
    let bad = problem(ProblemKind::CidrConflict, "node bad overlaps").about("bad");
    assert!(select(std::slice::from_ref(&bad), "own", 5000).is_empty());
    assert_eq!(select(std::slice::from_ref(&bad), "bad", 5000).len(), 1);
    // Of two peers, one is half of them.
    assert_eq!(select(&[bad], "own", 3).len(), 1);
}

#[test]
fn a_node_that_reaches_none_of_its_peers_tells_so_in_one_event() {
    let problems: Vec<Problem> = (0..4999).map(off_link).collect();
    let told = run(&mut Ledger::new(0.0), &problems, 5000, Instant::now());
    assert_eq!(told.len(), 1);
    let note = &told[0].1.note;
    assert!(
        note.len() <= 1024 && note.starts_with("node n0 is far; "),
        "{note}"
    );
    assert!(note.contains(" more: /readyz"), "{note}");
    assert_eq!(told[0].1.reason, "PeerNotReachable");
}

#[test]
fn what_passes_by_is_not_told_and_what_stands_is_told_once() {
    let now = Instant::now();
    let mut ledger = Ledger::new(0.0);
    let own = [problem(ProblemKind::OwnNode, "no podCIDR yet")];
    let standing = select(&own, "own", 3);
    assert_eq!(ledger.next(&standing, 3, now), (None, Some(now + SETTLE)));
    assert_eq!(ledger.next(&[], 3, now + SETTLE), (None, None));
    let told = run(&mut ledger, &own, 3, now);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].1.note, "no podCIDR yet");
    assert!(run(&mut ledger, &own, 3, now + HOUR * 5).is_empty());
    // Gone for a while, and back: known. Gone for longer than an hour: news.
    ledger.next(&[], 3, now + HOUR * 5 + SETTLE);
    assert!(run(&mut ledger, &own, 3, now + HOUR * 5 + SETTLE * 2).is_empty());
    ledger.next(&[], 3, now + HOUR * 7);
    assert_eq!(run(&mut ledger, &own, 3, now + HOUR * 8).len(), 1);
}

#[test]
fn agents_of_a_large_cluster_do_not_tell_in_the_same_moment() {
    let own = [problem(ProblemKind::State, "x")];
    let moment = |spread| run(&mut Ledger::new(spread), &own, 5000, Instant::now())[0].0;
    assert_eq!(moment(0.0), SETTLE);
    assert_eq!(moment(0.5), SETTLE + Duration::from_secs(250));
}

#[test]
fn what_only_the_log_tells_is_no_event() {
    let quiet = [
        ProblemKind::Api,
        ProblemKind::NodesFile,
        ProblemKind::Record,
    ];
    let problems: Vec<Problem> = quiet.iter().map(|kind| problem(*kind, "x")).collect();
    assert!(select(&problems, "own", 3).is_empty());
}

#[test]
fn the_event_is_one_of_a_node_in_the_namespace_default() {
    let telling = compose((
        ProblemKind::Kernel,
        vec![&problem(ProblemKind::Kernel, "x")],
    ))
    .unwrap();
    let event = render(&telling, "a", "u", Timestamp::UNIX_EPOCH);
    assert_eq!(event["eventTime"], "1970-01-01T00:00:00.000000Z");
    assert_eq!(event["regarding"]["uid"], "u");
    assert_eq!(event["metadata"]["namespace"], "default");
    assert_eq!(event["reason"], "KernelRefused");
    let long = "a.".repeat(126) + "a";
    let name = name(&long, Timestamp::now());
    assert!(name.len() <= 253 && !name.contains(".."), "{name}");
}

proptest! {
    /// A program that makes new trouble all day gets its dozen Events an hour, each note within its limit.
    #[test]
    fn never_more_than_the_hourly_number(texts in prop::collection::vec("\\PC{0,40}", 1..200), step in 1u64..600) {
        let start = Instant::now();
        let mut ledger = Ledger::new(0.3);
        let mut sent: Vec<Instant> = Vec::new();
        let mut now = start;
        for (at, text) in texts.iter().enumerate() {
            let kind = ProblemKind::ALL[at % ProblemKind::ALL.len()];
            let problems = [problem(kind, text), problem(ProblemKind::Kernel, text)];
            for _ in 0..3 {
                now += Duration::from_secs(step);
                let standing = select(&problems, "own", 3);
                if let (Some(telling), _) = ledger.next(&standing, 3, now) {
                    prop_assert!(telling.note.len() <= 1024);
                    ledger.told(&telling, now);
                    sent.push(now);
                }
            }
        }
        for first in &sent {
            let within = sent.iter().filter(|other| *other >= first && **other < *first + HOUR).count();
            prop_assert!(within <= HOURLY, "{within} within an hour");
        }
    }
}
