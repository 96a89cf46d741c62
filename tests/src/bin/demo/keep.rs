//! `make demo KEEP=1`: the lab stays until it is ended; how to enter each machine.

use crate::steps::Stage;
use anyhow::Result;
use nix::sys::signal::{SigSet, Signal};
use slash32_tests::enter;
use std::process::ExitCode;

pub(crate) fn wanted() -> bool {
    std::env::var_os("KEEP").is_some_and(|value| value == "1")
}

/// Until SIGINT or SIGTERM.
pub(crate) fn hold(stage: Stage) -> Result<ExitCode> {
    let holder = enter::outer_pid();
    let user = if enter::as_ordinary_user() {
        " --user --preserve-credentials"
    } else {
        ""
    };
    println!("\nThe lab stays up. Enter a machine from another terminal, as the same user:\n");
    let lab = &stage.lab;
    let nodes = lab
        .nodes
        .iter()
        .map(|node| (node.name.clone(), &node.machine));
    let others = [
        ("client", &lab.client),
        ("internet", &lab.internet),
        ("router", &lab.router),
    ]
    .map(|(what, machine)| (what.to_owned(), machine));
    let pods = stage
        .pods
        .iter()
        .map(|pod| (format!("pod {}", pod.name), &pod.machine));
    for (what, machine) in nodes.chain(others).chain(pods) {
        println!(
            "  {what:<12} nsenter --target {holder}{user} --mount --pid --net {} {}",
            enter::ENTER_SCRIPT,
            machine.name
        );
    }
    for pod in &stage.pods {
        println!("  pod {:<8} {}", pod.name, pod.addresses().join("  "));
    }
    println!("\nEnd it with Ctrl-C here, or: kill -INT {holder}");
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
    signals.thread_block()?;
    signals.wait()?;
    drop(stage);
    println!("ended; nothing is left");
    Ok(ExitCode::SUCCESS)
}
