//! `make demo`: three nodes on one link, an internet that has no route to pods, a client outside; real
//! agents from a file of Nodes, real CNI ADDs; then the main job, line by line, with what was seen.
//!
//! Runs in namespaces of its own and leaves nothing behind. Exit code 1 if any line fails.
//! KEEP=1 leaves the lab up until it is ended, and tells how to enter each node.

#![allow(
    clippy::print_stdout,
    reason = "the table on stdout is what the demo is for"
)]

mod keep;
mod steps;
mod table;

use anyhow::{Context, Result};
use slash32_tests::enter;
use std::process::ExitCode;

fn main() -> ExitCode {
    demonstrate().unwrap_or_else(|error| {
        eprintln!("demo: {error:#}");
        ExitCode::FAILURE
    })
}

fn demonstrate() -> Result<ExitCode> {
    enter::enter().context(
        "the demo needs namespaces: run it as root, or allow unprivileged user namespaces",
    )?;
    let mut table = table::Table::new();
    let stage = steps::prepare(&mut table)?;
    if keep::wanted() {
        return keep::hold(stage);
    }
    steps::run(stage, &mut table)?;
    Ok(table.finish())
}
