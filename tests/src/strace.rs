//! The real plugin under strace: its system calls counted, one of them refused, or the program killed before it.
//!
//! Positions count per system call from 1. strace answers an injected error in the kernel's place, so the call
//! does not happen; a signal comes before it.

use crate::machine::{Machine, Outcome, PATIENCE, finish};
use crate::programs;
use crate::site::Site;
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Command;

const TRACE: &str = "/run/strace.out";

/// A verb for one attachment (eth0), again and again.
#[derive(Debug)]
pub struct Traced<'a> {
    /// The node.
    pub site: &'a Site,
    /// Container ID.
    pub id: &'a str,
    /// The pod.
    pub netns: &'a Machine,
    /// stdin.
    pub request: &'a Value,
}

impl Traced<'_> {
    /// As [`count_calls`] for the verb.
    pub fn count(&self, verb: &str) -> Result<(BTreeMap<String, usize>, Vec<usize>)> {
        self.run(verb, &[])?;
        count_calls()
    }

    /// The verb with faults: strace's `-e inject=` expressions.
    pub fn run(&self, verb: &str, faults: &[&str]) -> Result<Outcome> {
        let mut command = traced(&self.site.node.machine, faults);
        let folder = programs::binaries()?;
        command
            .arg("-f")
            .arg(folder.join("slash32"))
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", self.id)
            .env("CNI_NETNS", self.netns.netns())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", &folder);
        finish(command, self.request.to_string().as_bytes(), PATIENCE)
    }

    /// What strace saw last.
    pub fn trace() -> String {
        std::fs::read_to_string(TRACE).unwrap_or_default()
    }
}

/// strace on a machine, with faults; what it is to run comes after. Without `-f` children are left alone.
pub fn traced(machine: &Machine, faults: &[&str]) -> Command {
    let mut command = machine.command("strace");
    command.args(["-qq", "-o", TRACE]);
    for fault in faults {
        command.args(["-e", &format!("inject={fault}")]);
    }
    command
}

/// How often what was traced last made each system call, and the positions of `write` to stdout or stderr: the answer.
pub fn count_calls() -> Result<(BTreeMap<String, usize>, Vec<usize>)> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut answers = Vec::new();
    let trace = std::fs::read_to_string(TRACE).context("read what strace wrote")?;
    for line in trace.lines() {
        // With -f a process number stands before the call.
        let call = line.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == ' ');
        let Some((name, arguments)) = call.split_once('(') else {
            continue;
        };
        let count = counts.entry(name.to_owned()).or_default();
        *count += 1;
        if name == "write" && ["1,", "2,"].iter().any(|fd| arguments.starts_with(fd)) {
            answers.push(*count);
        }
    }
    Ok((counts, answers))
}
