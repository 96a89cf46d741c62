//! Everything that this crate does, on a real kernel, checked with software that we did not write (iproute2, nft, iperf3).
//!
//! The process moves into namespaces of its own before any thread starts, and every trial runs in a fresh network namespace.
//! Where the kernel does not allow it all trials are reported as ignored, with the reason; with NET_TESTS=1 that is a failure.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "clippy sees no tests where there is no harness"
)]

mod conntrack;
mod events;
mod hostport_scale;
mod hostports;
mod lab;
mod links;
mod pods;
mod route_batches;
mod routes;
mod shaping;
mod table;
mod tunnels;

use libtest_mimic::{Arguments, Trial};

fn main() {
    let mut arguments = Arguments::from_args();
    // One at a time: some measure, and the machine is shared.
    arguments.test_threads = Some(1);
    let reason = lab::isolate().err();
    if let Some(reason) = &reason {
        eprintln!("no network namespace for the trials: {reason}");
        if std::env::var_os("NET_TESTS").is_some_and(|value| value == "1") {
            std::process::exit(101);
        }
    }
    let trials = [
        links::TRIALS,
        pods::TRIALS,
        routes::TRIALS,
        route_batches::TRIALS,
        hostports::TRIALS,
        hostport_scale::TRIALS,
        table::TRIALS,
        conntrack::TRIALS,
        shaping::TRIALS,
        events::TRIALS,
        tunnels::TRIALS,
    ]
    .concat();
    let trials = trials.into_iter().map(|(name, trial)| {
        Trial::test(name, move || lab::in_fresh_namespace(trial))
            .with_ignored_flag(reason.is_some())
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}
