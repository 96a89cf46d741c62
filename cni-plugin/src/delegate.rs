//! Another IPAM plugin, executed as the specification says (section 4, "Plugin Delegation"):
//! same environment but for CNI_COMMAND, same stdin, its stderr passed through.

use crate::error::Error;
use cni_spec::error::CniError;
use cni_spec::request::{Environment, search_path};
use cni_spec::result::CniResult;
use cni_spec::version::SpecVersion;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::Value;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// A plugin that answers nothing for this long is ended; the runtime's own limit is minutes (2.4),
/// and an error that names the plugin beats a SIGKILL that names nobody.
const PATIENCE: Duration = Duration::from_secs(30);
/// An IPAM answer is a few hundred bytes.
const ANSWER_LIMIT: usize = 1 << 20;

/// The request as it came, for whoever it is handed on to.
pub(crate) struct Delegation<'a> {
    stdin: &'a [u8],
    path: Vec<PathBuf>,
    pub(crate) netns_override: bool,
}

impl<'a> Delegation<'a> {
    pub(crate) fn new(environment: &Environment, stdin: &'a [u8]) -> Self {
        Delegation {
            stdin,
            path: search_path(environment),
            netns_override: environment.netns_override,
        }
    }

    /// ADD: the plugin's result.
    pub(crate) fn add(&self, plugin: &str, version: SpecVersion) -> Result<CniResult, Error> {
        let answer = self.execute(plugin, "ADD")?;
        let value: Value = serde_json::from_slice(&answer).map_err(|error| Error::Delegate {
            plugin: plugin.into(),
            reason: format!("answered ADD with what is not JSON: {error}"),
        })?;
        Ok(CniResult::from_value(&value, version)?)
    }

    /// DEL, CHECK, GC, STATUS: nothing is expected back.
    pub(crate) fn call(&self, plugin: &str, command: &'static str) -> Result<(), Error> {
        self.execute(plugin, command).map(drop)
    }

    fn execute(&self, plugin: &str, command: &'static str) -> Result<Vec<u8>, Error> {
        let fail = |reason: String| Error::Delegate {
            plugin: plugin.into(),
            reason,
        };
        let program = self.find(plugin)?;
        let mut child = Command::new(&program)
            .env("CNI_COMMAND", command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| fail(format!("execute {}: {error}", program.display())))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A plugin may answer without reading its input: its exit code tells, not this write.
            let _ = stdin.write_all(self.stdin);
        }
        let answer = child.stdout.take().map_or(Ok(Vec::new()), read_bounded);
        let answer = match answer {
            Ok(answer) => answer,
            Err(reason) => {
                end(&mut child);
                return Err(fail(format!("{command}: {reason}")));
            }
        };
        let status = child
            .wait()
            .map_err(|error| fail(format!("wait for {command}: {error}")))?;
        if status.success() {
            Ok(answer)
        } else {
            Err(read_error(plugin, command, &answer, status.to_string()))
        }
    }

    /// First match in CNI_PATH, in order (A3).
    fn find(&self, plugin: &str) -> Result<PathBuf, Error> {
        self.path.iter().map(|folder| folder.join(plugin)).find(|candidate| candidate.is_file()).ok_or_else(|| {
            let searched = self.path.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(":");
            Error::Delegate { plugin: plugin.into(), reason: format!("no such program in CNI_PATH={searched}; install it there, or correct ipam.type") }
        })
    }
}

/// Reads to the end, bounded in time and size: a grandchild may hold the pipe for ever (G21).
fn read_bounded(mut stdout: ChildStdout) -> Result<Vec<u8>, String> {
    let deadline = Instant::now() + PATIENCE;
    let mut answer = Vec::new();
    let mut buffer = [0u8; 8192];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let ready = match poll(
            &mut [PollFd::new(stdout.as_fd(), PollFlags::POLLIN)],
            timeout,
        ) {
            Err(nix::errno::Errno::EINTR) => continue,
            other => other.map_err(|error| format!("wait for its answer: {error}"))?,
        };
        if ready == 0 {
            return Err(format!(
                "gave no answer within {} s and was ended",
                PATIENCE.as_secs()
            ));
        }
        match stdout.read(&mut buffer) {
            Ok(0) => return Ok(answer),
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("read its answer: {error}")),
        }
        if answer.len() > ANSWER_LIMIT {
            return Err(format!("answered with more than {ANSWER_LIMIT} bytes"));
        }
    }
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Its error document with its own code; an opaque failure keeps what it printed.
fn read_error(plugin: &str, command: &str, answer: &[u8], status: String) -> Error {
    match CniError::from_json(answer) {
        Some(error) => Error::Delegated(CniError {
            msg: format!("IPAM plugin {plugin}: {}", error.msg),
            ..error
        }),
        None => Error::Delegate {
            plugin: plugin.into(),
            reason: format!(
                "{command} failed ({status}) and printed no error document: {:?}",
                String::from_utf8_lossy(answer)
            ),
        },
    }
}
