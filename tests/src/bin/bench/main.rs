//! `make bench`: what an ADD, a DEL, a host port and a route cost, beside the reference plugins and
//! beside a bare netlink program, all pairs interleaved in one run.
//!
//! Everything runs in namespaces of its own. Absolute times are this machine's of this minute; the
//! ratios are what holds (docs/benchmarks.md).

#![allow(
    clippy::print_stdout,
    reason = "the table on stdout is what the bench is for"
)]

mod agent;
mod api;
mod host_ports;
mod measure;
mod plugins;
mod report;
mod setup;

use anyhow::Result;

/// One part of the bench, which prints its table.
type Part = fn(&setup::Bench) -> Result<()>;

fn main() -> Result<()> {
    let options = setup::Options::from_environment()?;
    setup::enter_private_namespaces()?;
    let bench = setup::Bench::prepare(options)?;
    report::heading(&bench)?;
    let parts: [(&str, Part); 4] = [
        ("plugins", plugins::run),
        ("host-ports", host_ports::run),
        ("agent", agent::run),
        ("api", api::run),
    ];
    for (_, part) in parts.iter().filter(|(name, _)| bench.wants(name)) {
        part(&bench)?;
    }
    report::sizes(&bench)
}
