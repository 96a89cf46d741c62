//! The nft program: a whole script by `nft -f -`, which is one transaction.
//!
//! Text is the only documented interface of nftables and the one that an administrator can read. Who calls: the agent, which
//! lays the table; never the plugin.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::error::{KernelError, Result};

/// 10,000 elements take nft less than a second.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Of an error; nft repeats the offending lines.
const MAX_MESSAGE: usize = 2000;

/// Runs the script as one transaction: all of it or nothing. The error carries what nft said.
pub fn run_script(program: &str, script: &str) -> Result<()> {
    run(program, &["-f", "-"], script).map(drop)
}

/// What `nft --version` prints (`nftables v1.0.6 (Lester Gooch #5)`), or an error that says how to install it.
pub fn version(program: &str) -> Result<String> {
    Ok(run(program, &["--version"], "")?.trim().to_owned())
}

/// Has nft and the kernel look at the script without carrying it out: what this kernel cannot do is the error.
pub fn check_script(program: &str, script: &str) -> Result<()> {
    run(program, &["--check", "-f", "-"], script).map(drop)
}

/// What nft prints for these arguments, which must only read: `list ruleset`, `-j list chains`.
pub fn list(program: &str, arguments: &[&str]) -> Result<String> {
    run(program, arguments, "")
}

/// Runs nft; returns its output. Files in memory instead of pipes: neither side ever waits for the other.
fn run(program: &str, arguments: &[&str], input: &str) -> Result<String> {
    let what = || format!("run {program} {}", arguments.join(" "));
    let io = |e: std::io::Error| KernelError::from_io(what(), &e);
    let mut stdin = memory_file().map_err(io)?;
    stdin
        .write_all(input.as_bytes())
        .and_then(|()| stdin.seek(SeekFrom::Start(0)))
        .map_err(io)?;
    let (mut stdout, mut stderr) = (memory_file().map_err(io)?, memory_file().map_err(io)?);
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::from(stdout.try_clone().map_err(io)?))
        .stderr(Stdio::from(stderr.try_clone().map_err(io)?))
        .spawn()
        .map_err(|e| cannot_start(what(), &e))?;
    let status = wait(&mut child).map_err(io)?;
    match status {
        Some(status) if status.success() => read_back(&mut stdout).map_err(io),
        Some(status) => Err(failed(what(), status, &read_back(&mut stderr).map_err(io)?)),
        None => Err(KernelError::new(
            format!("{}: killed after {} s", what(), TIMEOUT.as_secs()),
            libc::ETIMEDOUT,
        )),
    }
}

fn memory_file() -> std::io::Result<File> {
    Ok(memfd_create("slash32-nft", MFdFlags::MFD_CLOEXEC)?.into())
}

fn read_back(file: &mut File) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `None`: it took too long and was killed.
fn wait(child: &mut Child) -> std::io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    let mut pause = Duration::from_micros(500);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() > TIMEOUT {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

fn cannot_start(what: String, error: &std::io::Error) -> KernelError {
    let mut error = KernelError::from_io(what, error);
    if error.errno == libc::ENOENT {
        error.message = "there is no such program; install nftables (apt install nftables)".into();
    }
    error
}

fn failed(what: String, status: ExitStatus, said: &str) -> KernelError {
    let end = (0..=said.len().min(MAX_MESSAGE))
        .rev()
        .find(|end| said.is_char_boundary(*end))
        .unwrap_or(0);
    KernelError::other(what, format!("{status}: {}", said[..end].trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_says_how_to_install_it() {
        let error = version("/nonexistent/nft").expect_err("absent");
        assert!(
            error.is_not_found() && error.to_string().contains("apt install nftables"),
            "{error}"
        );
    }

    #[test]
    fn a_failing_program_is_told_with_its_words() {
        let error = run("sh", &["-c", "echo no such thing >&2; exit 3"], "").expect_err("fails");
        assert!(
            error.to_string().contains("exit status: 3: no such thing"),
            "{error}"
        );
    }

    #[test]
    fn input_beyond_a_pipes_capacity_is_taken_whole() {
        let input = "x".repeat(1 << 20);
        assert_eq!(run("cat", &[], &input).expect("cat").len(), input.len());
    }
}
