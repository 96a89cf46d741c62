//! Other people's programs (nft, iptables): input from memory, output into memory, a bound on their time.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::error::{KernelError, Result};

/// 10,000 elements take nft less than a second.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Of an error; the programs repeat the offending lines.
const MAX_MESSAGE: usize = 2000;
/// Where administrators' programs are, for a runtime that was started with a user's PATH.
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

/// How a program ended that ran to its end.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a program; returns its output. Anything but success is an error with what it said; `install` says what to do where
/// there is no such program.
pub(crate) fn run(program: &str, arguments: &[&str], input: &str, install: &str) -> Result<String> {
    let ended = run_to_end(program, arguments, input, install)?;
    if ended.status.success() {
        Ok(ended.stdout)
    } else {
        Err(failed(program, arguments, &ended))
    }
}

/// The same, whatever the program's end. Files in memory instead of pipes: neither side ever waits for the other.
pub(crate) fn run_to_end(
    program: &str,
    arguments: &[&str],
    input: &str,
    install: &str,
) -> Result<Ended> {
    let what = || describe(program, arguments);
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
        .map_err(|e| cannot_start(what(), &e, install))?;
    match wait(&mut child).map_err(io)? {
        Some(status) => Ok(Ended {
            status,
            stdout: read_back(&mut stdout).map_err(io)?,
            stderr: read_back(&mut stderr).map_err(io)?,
        }),
        None => Err(KernelError::new(
            format!("{}: killed after {} s", what(), TIMEOUT.as_secs()),
            libc::ETIMEDOUT,
        )),
    }
}

/// The error of a program that ended otherwise than it should have.
pub(crate) fn failed(program: &str, arguments: &[&str], ended: &Ended) -> KernelError {
    let said = &ended.stderr;
    let end = (0..=said.len().min(MAX_MESSAGE))
        .rev()
        .find(|end| said.is_char_boundary(*end))
        .unwrap_or(0);
    KernelError::other(
        describe(program, arguments),
        format!("{}: {}", ended.status, said[..end].trim()),
    )
}

/// Where the program is: along PATH, then where administrators' programs are.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let along_path: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let folders = along_path
        .iter()
        .map(PathBuf::as_path)
        .chain(SYSTEM_FOLDERS.iter().map(Path::new));
    folders
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

fn describe(program: &str, arguments: &[&str]) -> String {
    format!("run {program} {}", arguments.join(" "))
}

fn memory_file() -> std::io::Result<File> {
    Ok(memfd_create("slash32-program", MFdFlags::MFD_CLOEXEC)?.into())
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
    let handle = open_handle(child);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let left = TIMEOUT.saturating_sub(start.elapsed());
        if left.is_zero() {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        sleep_until_ended(handle.as_ref(), left);
    }
}

/// A descriptor that becomes readable when the child ends (Linux 5.3); without one it is looked after now and then.
fn open_handle(child: &Child) -> Option<OwnedFd> {
    // SAFETY: a system call on numbers; a descriptor that it returns is ours alone.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, child.id() as libc::pid_t, 0);
        (fd >= 0).then(|| OwnedFd::from_raw_fd(fd as i32))
    }
}

fn sleep_until_ended(handle: Option<&OwnedFd>, left: Duration) {
    let Some(handle) = handle else {
        return std::thread::sleep(Duration::from_millis(1));
    };
    let mut polled = libc::pollfd {
        fd: handle.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let patience = i32::try_from(left.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: one pollfd, alive and exclusively ours during the call. Whatever it answers, the caller looks again.
    unsafe { libc::poll(&raw mut polled, 1, patience.max(1)) };
}

fn cannot_start(what: String, error: &std::io::Error, install: &str) -> KernelError {
    let mut error = KernelError::from_io(what, error);
    if error.errno == libc::ENOENT {
        error.message = format!("there is no such program; {install}");
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_is_told_with_its_words() {
        let error =
            run("sh", &["-c", "echo no such thing >&2; exit 3"], "", "").expect_err("fails");
        assert!(
            error.to_string().contains("exit status: 3: no such thing"),
            "{error}"
        );
    }

    #[test]
    fn input_beyond_a_pipes_capacity_is_taken_whole() {
        let input = "x".repeat(1 << 20);
        assert_eq!(run("cat", &[], &input, "").expect("cat").len(), input.len());
    }

    #[test]
    fn a_program_is_found_by_name_alone() {
        assert!(find("sh").is_some_and(|path| path.is_absolute()));
        assert_eq!(find("no-such-program-of-slash32"), None);
    }
}
