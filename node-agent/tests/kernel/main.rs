//! The agent on a real kernel, the real binary, each test in network and mount namespaces of its own. Where namespaces
//! cannot be made, the tests are reported as ignored, with the reason; NET_TESTS=1 makes that a failure.
//!
//! Each test is this program once more, inside `unshare`; SLASH32_KERNEL_TEST names it. To look around inside one:
//! `unshare -Urnm`, then run this program with that variable set.

mod faults;
mod node;
mod ports;
mod refusals;
mod routes;
mod uninstall;

use libtest_mimic::{Arguments, Failed, Trial};
use std::process::{Command, ExitCode, Stdio};

const INSIDE: &str = "SLASH32_KERNEL_TEST";

/// A test and the programs without which it cannot run.
struct Case {
    name: &'static str,
    needs: &'static [&'static str],
    body: fn(),
}

fn cases() -> Vec<Case> {
    let mut cases = routes::cases();
    cases.extend(ports::cases());
    cases.extend(refusals::cases());
    cases.extend(uninstall::cases());
    cases.extend(faults::cases());
    cases
}

fn main() -> ExitCode {
    if let Ok(name) = std::env::var(INSIDE) {
        let case = cases().into_iter().find(|case| case.name == name);
        (case.expect("a test of this name").body)();
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::from_args();
    let refusal = find_namespace_refusal();
    let must_run = std::env::var_os("NET_TESTS").is_some();
    let trials = cases().into_iter().map(|case| {
        let lacking = case.needs.iter().find(|program| !is_installed(program));
        let reason = refusal
            .clone()
            .or(lacking.map(|program| format!("{program} is not installed")));
        let ignored = reason.is_some() && !must_run;
        if let (Some(reason), true) = (&reason, ignored) {
            eprintln!("{}: not run: {reason}", case.name);
        }
        Trial::test(case.name, move || {
            reason.map_or_else(|| run_inside(case.name), |reason| Err(reason.into()))
        })
        .with_ignored_flag(ignored)
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// Root makes namespaces as they are; others need one of users too.
fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args(if nix::unistd::geteuid().is_root() {
        ["-n", "-m"].as_slice()
    } else {
        &["-U", "-r", "-n", "-m"]
    });
    command
}

fn find_namespace_refusal() -> Option<String> {
    match unshare()
        .args(["ip", "link"])
        .stdout(Stdio::null())
        .output()
    {
        Err(error) => Some(format!("unshare: {error}")),
        Ok(output) if !output.status.success() => Some(format!(
            "unshare: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Ok(_) => None,
    }
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).exists())
}

fn run_inside(name: &str) -> Result<(), Failed> {
    let program = std::env::current_exe()?;
    // Nothing of the caller's settings may reach the agent.
    let ours = std::env::vars()
        .map(|(key, _)| key)
        .filter(|key| key.starts_with("SLASH32_") || key == "NODE_NAME");
    let mut command = unshare();
    ours.for_each(|key| {
        command.env_remove(key);
    });
    let output = command
        .args(["timeout", "120"])
        .arg(program)
        .env(INSIDE, name)
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Err(format!(
        "{}\n{}{}",
        output.status,
        said(&output.stdout),
        said(&output.stderr)
    )
    .into())
}
