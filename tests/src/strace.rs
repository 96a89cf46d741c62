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
    /// How often the verb makes each system call, and the positions of `write` that are its answer on stdout.
    pub fn count(&self, verb: &str) -> Result<(BTreeMap<String, usize>, Vec<usize>)> {
        self.run(verb, &[])?;
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        let mut answers = Vec::new();
        let trace = std::fs::read_to_string(TRACE).context("read what strace wrote")?;
        for call in trace.lines().filter_map(|line| line.split_once(' ')) {
            let Some((name, arguments)) = call.1.trim_start().split_once('(') else {
                continue;
            };
            let count = counts.entry(name.to_owned()).or_default();
            *count += 1;
            if name == "write" && arguments.starts_with("1,") {
                answers.push(*count);
            }
        }
        Ok((counts, answers))
    }

    /// The verb with faults: strace's `-e inject=` expressions.
    pub fn run(&self, verb: &str, faults: &[&str]) -> Result<Outcome> {
        let mut command = self.site.node.machine.command("strace");
        command.args(["-f", "-qq", "-o", TRACE]);
        for fault in faults {
            command.args(["-e", &format!("inject={fault}")]);
        }
        let folder = programs::binaries()?;
        command
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
