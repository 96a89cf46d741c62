//! Private namespaces for the whole program, before any thread starts.

use crate::machine::run_here;
use anyhow::{Context, Result};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::OnceLock;

/// Set in the process that runs inside; says whether it was made by an ordinary user.
const INSIDE: &str = "SLASH32_LAB_INSIDE";

/// Inside: starts a shell (or a command) on a machine of the lab, with its network and its folders.
pub const ENTER_SCRIPT: &str = "/run/enter";

static OUTER_PID: OnceLock<String> = OnceLock::new();

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
        .env(
            INSIDE,
            if nix::unistd::geteuid().is_root() {
                "root"
            } else {
                "user"
            },
        )
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
    // The /proc that is still there is the outer namespace's, and numbers us as it does.
    let outer = std::fs::read_link("/proc/self").context("read /proc/self")?;
    OUTER_PID.get_or_init(|| outer.display().to_string());
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
    std::fs::write(ENTER_SCRIPT, render_enter_script())?;
    std::fs::set_permissions(ENTER_SCRIPT, PermissionsExt::from_mode(0o755))?;
    run_here(&["ip", "link", "set", "lo", "up"])?;
    Ok(())
}

fn render_enter_script() -> String {
    let binds: String = crate::machine::OWN_FOLDERS
        .iter()
        .map(|folder| format!("mount --bind /run/machines/$machine{folder} {folder}; "))
        .collect();
    format!(
        "#!/bin/sh\n# {ENTER_SCRIPT} MACHINE [COMMAND...]\nmachine=$1; shift; [ $# -gt 0 ] || set -- bash\nexport machine\nexec nsenter --net=/run/netns/$machine unshare --mount sh -ec 'mount -t sysfs sysfs /sys; {binds}exec \"$@\"' sh \"$@\"\n"
    )
}

/// This process as the namespace outside numbers it.
pub fn outer_pid() -> &'static str {
    OUTER_PID.get().map_or("", String::as_str)
}

/// This process is the one inside.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// The lab was made without root.
pub fn as_ordinary_user() -> bool {
    std::env::var_os(INSIDE).is_some_and(|value| value == "user")
}
