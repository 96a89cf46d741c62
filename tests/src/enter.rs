//! Private namespaces for the whole program, before any thread starts.

use crate::machine::run_here;
use anyhow::{Context, Result};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Set in the process that runs inside.
const INSIDE: &str = "SLASH32_LAB_INSIDE";

/// The kernel or its administrator does not let this user make namespaces; suites tell their tests as
/// not run then.
#[derive(Debug, thiserror::Error)]
#[error("namespaces cannot be made here: {0}")]
pub struct NotPossible(pub String);

/// Runs the program again in network, mount and process namespaces of its own (with a user namespace
/// for an ordinary user), then returns there. Call it first in `main`: before threads, with the
/// program's arguments untouched.
///
/// The process namespace is what ends every child when the program ends, also by SIGKILL.
pub fn enter() -> Result<()> {
    if std::env::var_os(INSIDE).is_some() {
        return lay_floor();
    }
    let flags = unshare_flags();
    let probe = Command::new("unshare")
        .args(&flags)
        .arg("true")
        .output()
        .map_err(|error| NotPossible(format!("run unshare: {error}")))?;
    if !probe.status.success() {
        return Err(NotPossible(String::from_utf8_lossy(&probe.stderr).trim().to_owned()).into());
    }
    let error = Command::new("unshare")
        .args(&flags)
        .arg("--")
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec();
    Err(error).context("run unshare")
}

fn unshare_flags() -> Vec<&'static str> {
    let mut flags = vec![
        "--net",
        "--mount",
        "--propagation",
        "private",
        "--pid",
        "--fork",
        "--kill-child",
    ];
    if !nix::unistd::geteuid().is_root() {
        flags.extend(["--user", "--map-root-user"]);
    }
    flags
}

/// Fresh /proc (for the process namespace), /sys (for the network) and /run, and overlays on /etc and
/// /var/lib, so that the machine's own files stay as they are.
fn lay_floor() -> Result<()> {
    for (kind, target) in [("proc", "/proc"), ("sysfs", "/sys"), ("tmpfs", "/run")] {
        run_here(&["mount", "-t", kind, kind, target])?;
    }
    for folder in ["/etc", "/var/lib", "/opt"] {
        let upper = format!("/run/overlay{folder}/upper");
        let work = format!("/run/overlay{folder}/work");
        std::fs::create_dir_all(&upper)?;
        std::fs::create_dir_all(&work)?;
        let options = format!("lowerdir={folder},upperdir={upper},workdir={work}");
        run_here(&["mount", "-t", "overlay", "overlay", "-o", &options, folder])?;
    }
    std::fs::create_dir_all("/run/netns")?;
    run_here(&["ip", "link", "set", "lo", "up"])?;
    Ok(())
}

/// True inside.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}
