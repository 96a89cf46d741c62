//! `slash32-ipam`: address management as a CNI plugin of its own, under any main plugin (ptp, bridge, macvlan ...).
//!
//! Under `slash32` it is not run: there the library is linked in. stdout carries one JSON document or nothing (G14);
//! the exit code is 0 or 1. What is decided is in `plugin.rs`.

mod plugin;

use cni_spec::request::{Environment, Refusal, parse_request, read_stdin};
use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    match answer() {
        Ok(document) => print(document.as_deref().unwrap_or_default(), ExitCode::SUCCESS),
        Err(Refusal { error, version }) => print(&error.to_json(version), ExitCode::FAILURE),
    }
}

fn answer() -> Result<Option<String>, Refusal> {
    let environment = Environment::from_process();
    // By hand on a terminal there is no request: do not wait for one (G2).
    let stdin = if environment.command.is_some() {
        read_stdin(io::stdin().lock())?
    } else {
        Vec::new()
    };
    let request = parse_request(&environment, &stdin)?;
    plugin::run(request, environment.netns_override)
}

/// An answer that nobody can read is a failure, whatever it says.
fn print(document: &str, code: ExitCode) -> ExitCode {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(document.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Ok(()) => code,
        Err(error) => {
            eprintln!("slash32-ipam: write the answer to stdout: {error}");
            ExitCode::FAILURE
        }
    }
}
