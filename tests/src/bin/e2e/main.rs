//! `make e2e`: the product on a real Kubernetes cluster of three nodes. An argument chooses tests by part of
//! their name; `--list` lists them; `sandboxes` measures instead (`make bench-cluster`).
//!
//! Each file here is a theme with a list of tests; a test gets a cluster of the kind that it asks for. Tests of one kind
//! run one after another on one cluster, in a namespace each; a test that spoils its cluster says so.

#![allow(
    clippy::print_stdout,
    reason = "how the tests went on stdout is what the program is for"
)]

mod agent;
mod lifecycle;
mod pods;
mod ports;
mod sandboxes;
mod services;
mod stage;
mod upstream;

use slash32_tests::cluster::node_init;
use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = node_init::run_if_asked() {
        return code;
    }
    if std::env::args().nth(1).as_deref() == Some("sandboxes") {
        return sandboxes::main();
    }
    let tests = [
        pods::TESTS,
        services::TESTS,
        ports::TESTS,
        lifecycle::TESTS,
        agent::TESTS,
        upstream::TESTS,
    ];
    stage::main(&tests.concat())
}
