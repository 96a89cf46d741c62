//! The system calls of the agent's pass refused in turn, on a node whose routes, table, stamp and conflist were just
//! taken away, so that there is all the work to do: the pass says what failed, and the next one finishes.

use crate::plugin_faults::choose_errors;
use crate::scale::tell;
use anyhow::{Context, Result, ensure};
use slash32_tests::fault_sweep::BEFORE_MAIN;
use slash32_tests::judge::kernel_state;
use slash32_tests::lab::Lab;
use slash32_tests::machine::{Outcome, PATIENCE, finish};
use slash32_tests::node::Node;
use slash32_tests::programs;
use slash32_tests::random::Random;
use slash32_tests::strace::{Traced, count_calls, traced};
use slash32_tests::suite::Test;

pub(crate) const TESTS: &[Test] = &[(
    "every_call_of_the_agents_pass_refused_is_told_and_the_next_pass_converges",
    every_call_of_a_pass,
)];

/// A pass reads and writes netlink hundreds of times: so many places of each call, drawn anew with each seed.
const PLACES_PER_CALL: usize = 8;

const FOREIGN: &str = "203.0.113.0/24";

fn pass(node: &Node, faults: &[&str]) -> Result<Outcome> {
    let mut command = traced(&node.machine, faults);
    command
        .arg(programs::binaries()?.join("slash32-agent"))
        .args(["run", "--once", "--node-name", &node.name])
        .args(["--nodes-file", "/etc/slash32/nodes.yaml"]);
    finish(command, b"", PATIENCE)
}

/// Takes away what the agent answers for.
fn wreck(node: &Node) -> Result<()> {
    for family in ["-4", "-6"] {
        node.machine
            .run(&["ip", family, "route", "flush", "proto", "32"])?;
    }
    node.machine
        .nft("add table inet slash32; delete table inet slash32")?;
    for path in [
        node.conflist_path(),
        node.machine.folder("/run/slash32").join("ready"),
    ] {
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

/// Kernel, stamp and conflist, without the link-local addresses and the carrier that the kernel adds in its own time.
fn state(node: &Node) -> Result<String> {
    let conflist = std::fs::read_to_string(node.conflist_path()).unwrap_or_default();
    let ready = node.machine.folder("/run/slash32").join("ready").is_file();
    let kernel = kernel_state(node)?.replace("state UNKNOWN", "state UP");
    let own_time = ["fe80:", "ff00:", "NO-CARRIER", "state LOWERLAYERDOWN"];
    let mut lines: Vec<&str> = kernel
        .lines()
        .filter(|line| !own_time.iter().any(|mark| line.contains(mark)))
        .collect();
    lines.sort_unstable();
    Ok(format!("{}\nready: {ready}\n{conflist}", lines.join("\n")))
}

fn every_call_of_a_pass() -> Result<()> {
    let lab = Lab::flat("af", 3)?;
    let node = &lab.nodes[0];
    node.machine
        .run(&["ip", "route", "add", FOREIGN, "via", "192.0.2.254"])?;
    node.machine
        .nft("table inet other { chain c { type filter hook input priority 0; counter; }; }")?;
    ensure!(pass(node, &[])?.status.success());
    let good = state(node)?;
    wreck(node)?;
    ensure!(pass(node, &[])?.status.success());
    let (counts, answers) = count_calls()?;
    same(&good, &state(node)?).context("a pass after the wreck")?;
    let mut random = Random::named("agent faults");
    let (mut tried, mut hit, mut told, mut failures) = (0, 0, 0, Vec::new());
    for (call, count) in &counts {
        for position in some_of(*count, &mut random) {
            // One at each call: a pass under strace takes its time. Another seed takes others.
            let Some(error) = choose_errors(call, &mut random, 1).pop() else {
                continue;
            };
            let fault = format!("{call}:error={error}:when={position}");
            let speechless = BEFORE_MAIN.contains(&call.as_str())
                || (call == "write" && answers.contains(&position));
            tried += 1;
            match refuse(node, &fault, speechless, &good).with_context(|| fault.clone()) {
                Ok(end) => {
                    told += usize::from(end.failed);
                    hit += usize::from(end.hit);
                }
                Err(error) => failures.push(format!("{error:#}")),
            }
        }
    }
    tell(format_args!(
        "{tried} faults of a pass, {hit} of which came about; it mended them by itself but for {told}, which it told"
    ));
    ensure!(
        hit > 100,
        "{tried} faults, of which {hit} came about: the trace has aged"
    );
    ensure!(
        failures.is_empty(),
        "{} of {tried} faults:\n{}",
        failures.len(),
        failures.join("\n")
    );
    Ok(())
}

/// All places where there are few of them.
fn some_of(count: usize, random: &mut Random) -> Vec<usize> {
    let mut places: Vec<usize> = (1..=count).collect();
    while places.len() > PLACES_PER_CALL {
        let out = random.below(places.len() as u64);
        places.remove(usize::try_from(out).unwrap_or(0));
    }
    places
}

/// What became of one fault.
struct End {
    /// The pass failed, and said so.
    failed: bool,
    /// strace had the occasion to refuse the call.
    hit: bool,
}

/// One fault, and what has to hold after it.
fn refuse(node: &Node, fault: &str, speechless: bool, good: &str) -> Result<End> {
    wreck(node)?;
    let outcome = pass(node, &[fault])?;
    let failed = !outcome.status.success();
    let hit = Traced::trace().contains("(INJECTED)");
    if failed && !speechless {
        ensure!(
            outcome.status.code().is_some() && outcome.stderr.len() > 20,
            "ended with {} and said only {:?}",
            outcome.status,
            outcome.stderr
        );
    }
    ensure!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
    if !failed {
        same(good, &state(node)?)
            .with_context(|| format!("it said that it converged: {}", outcome.stderr))?;
    }
    let next = pass(node, &[])?;
    ensure!(
        next.status.success(),
        "the next pass failed too: {}",
        next.stderr
    );
    same(good, &state(node)?).context("after the next pass")?;
    Ok(End { failed, hit })
}

/// The lines that differ.
fn same(good: &str, now: &str) -> Result<()> {
    let only = |of: &str, other: &str| -> Vec<String> {
        let lines = of.lines().filter(|line| !other.contains(line));
        lines.map(str::to_owned).collect()
    };
    let (lost, new) = (only(good, now), only(now, good));
    ensure!(
        lost.is_empty() && new.is_empty(),
        "lost {lost:?}, new {new:?}"
    );
    Ok(())
}
