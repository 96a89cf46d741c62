//! `make torture`: what the suites do once or with small numbers, here with large ones and with chance: kills, faults,
//! storms, hostile programs on the node, hostile pods, boots, attackers. One file per theme.
//!
//! SEED=n repeats a run, KILLS=n and FIGHT_SECONDS=n make it longer. Runs in namespaces of its own and leaves nothing
//! behind. With MINUTES=n it is the soak instead (make soak). docs/reliability.md tells what a run found.

#![allow(
    clippy::print_stdout,
    reason = "the seed and the closing line are for whoever runs it"
)]

mod agent_faults;
mod attackers;
mod boots;
mod fights;
mod hostile_node;
mod hostile_pod;
mod kills;
mod plugin_faults;
mod scale;
mod soak;
mod storms;

use slash32_tests::suite::{self, Test};
use slash32_tests::{enter, random};
use std::process::ExitCode;

const THEMES: [&[Test]; 9] = [
    kills::TESTS,
    storms::TESTS,
    plugin_faults::TESTS,
    agent_faults::TESTS,
    fights::TESTS,
    hostile_node::TESTS,
    hostile_pod::TESTS,
    attackers::TESTS,
    boots::TESTS,
];

fn main() -> ExitCode {
    if enter::is_inside() {
        println!("seed {0} (SEED={0} repeats this run)", random::seed());
    }
    // MINUTES is what 'make soak' sets.
    let tests = match std::env::var_os("MINUTES") {
        Some(_) => soak::TESTS.to_vec(),
        None => THEMES.concat(),
    };
    let conclusion = suite::run(|| Ok(()), &tests);
    for line in scale::told().iter() {
        println!("{line}");
    }
    println!(
        "{} passed, {} failed, {} skipped",
        conclusion.num_passed, conclusion.num_failed, conclusion.num_ignored
    );
    conclusion.exit_code()
}
