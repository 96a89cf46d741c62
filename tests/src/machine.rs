//! One machine of the lab: a network namespace, and folders that stand in for those of a real machine.

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Nothing in the lab may take longer than this unless it says so.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How long what a program printed may still be on its way after its end.
const PIPE_PATIENCE: Duration = Duration::from_secs(3);

/// Folders that each machine has for itself.
pub(crate) const OWN_FOLDERS: [&str; 4] = [
    "/run/slash32",
    "/etc/cni/net.d",
    "/etc/slash32",
    "/var/lib/cni",
];

/// A named network namespace with folders of its own. Cheap to clone: it is a name and a path.
#[derive(Debug, Clone)]
pub struct Machine {
    /// As in `ip netns`.
    pub name: String,
    folders: PathBuf,
}

/// What a command printed, and how it ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Exit status.
    pub status: ExitStatus,
    /// Standard output, as text.
    pub stdout: String,
    /// Standard error, as text.
    pub stderr: String,
}

impl Machine {
    /// Makes the namespace (lo up, forwarding off, as a machine boots) and its folders.
    pub fn new(name: &str) -> Result<Machine> {
        let machine = Machine {
            name: name.into(),
            folders: PathBuf::from("/run/machines").join(name),
        };
        for folder in OWN_FOLDERS {
            std::fs::create_dir_all(machine.folder(folder))?;
            // What is mounted over; on the lab's own overlay.
            std::fs::create_dir_all(folder)?;
        }
        machine.boot()?;
        Ok(machine)
    }

    /// Folders and an empty file for a namespace that was made elsewhere; the caller mounts it there.
    pub fn adopt(name: &str) -> Result<Machine> {
        let machine = Machine {
            name: name.into(),
            folders: PathBuf::from("/run/machines").join(name),
        };
        for folder in OWN_FOLDERS {
            std::fs::create_dir_all(machine.folder(folder))?;
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(machine.netns(), "")?;
        Ok(machine)
    }

    /// The namespace anew, as after a reboot; the folders stay.
    pub fn renew(&self) -> Result<()> {
        run_here(&["ip", "netns", "del", &self.name])?;
        self.boot()
    }

    fn boot(&self) -> Result<()> {
        run_here(&["ip", "netns", "add", &self.name])?;
        self.run(&["ip", "link", "set", "lo", "up"])?;
        self.run(&[
            "sysctl",
            "-qw",
            "net.ipv4.ip_forward=0",
            "net.ipv6.conf.all.forwarding=0", // A lab has no second to wait for duplicate address detection.
            "net.ipv6.conf.default.accept_dad=0",
        ])
        .map(drop)
    }

    /// The namespace's file.
    pub fn netns(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// Where one of the machine's own folders lies, seen from outside.
    pub fn folder(&self, inside: &str) -> PathBuf {
        self.folders.join(inside.trim_start_matches('/'))
    }

    /// A command that will run on this machine: its network, its /sys, its own folders.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let netns = self.netns();
        let mounts: Vec<(PathBuf, &str)> = OWN_FOLDERS
            .iter()
            .map(|folder| (self.folder(folder), *folder))
            .collect();
        // SAFETY: between fork and exec only system calls are made; what they need was allocated before.
        unsafe {
            command.pre_exec(move || {
                enter(&netns, &mounts)?;
                Ok(())
            });
        }
        command
    }

    /// Runs to the end; a failure is an error with all that was printed.
    pub fn run(&self, arguments: &[&str]) -> Result<Outcome> {
        let outcome = self.try_run(arguments)?;
        if !outcome.status.success() {
            bail!(
                "on {}: {} ended with {}\n{}{}",
                self.name,
                arguments.join(" "),
                outcome.status,
                outcome.stdout,
                outcome.stderr
            );
        }
        Ok(outcome)
    }

    /// Runs to the end, whatever the end.
    pub fn try_run(&self, arguments: &[&str]) -> Result<Outcome> {
        let mut command = self.command(arguments[0]);
        command.args(&arguments[1..]);
        finish(command, b"", PATIENCE)
    }

    /// Standard output of a command that must succeed, trimmed.
    pub fn read(&self, arguments: &[&str]) -> Result<String> {
        Ok(self.run(arguments)?.stdout.trim().to_owned())
    }

    /// Starts what goes on running; it is ended when the handle is dropped.
    pub fn start(&self, command: &mut Command) -> Result<Running> {
        Ok(Running {
            name: format!("{command:?} on {}", self.name),
            child: command
                .spawn()
                .with_context(|| format!("start {command:?} on {}", self.name))?,
        })
    }

    /// Runs `work` on a thread of its own inside the namespace; no other thread ever leaves its own.
    pub fn inside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        self.spawn_inside(work)?
            .join()
            .map_err(|_| anyhow::anyhow!("the thread on {} ended by a panic", self.name))?
    }

    /// The same without waiting.
    pub fn spawn_inside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<std::thread::JoinHandle<Result<T>>> {
        let netns = File::open(self.netns())
            .with_context(|| format!("open the namespace of {}", self.name))?;
        Ok(std::thread::spawn(move || {
            setns(netns, CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        }))
    }

    /// Removes the namespace. Its links go with it.
    pub fn remove(self) -> Result<()> {
        run_here(&["ip", "netns", "del", &self.name]).map(drop)
    }

    /// Loads an nftables script.
    pub fn nft(&self, script: &str) -> Result<Outcome> {
        let mut command = self.command("nft");
        command.args(["-f", "-"]);
        let outcome = finish(command, script.as_bytes(), PATIENCE)?;
        if !outcome.status.success() {
            bail!(
                "on {}: nft refused:\n{script}\n{}",
                self.name,
                outcome.stderr
            );
        }
        Ok(outcome)
    }
}

/// Only system calls: it runs between fork and exec.
fn enter(netns: &Path, mounts: &[(PathBuf, &str)]) -> std::io::Result<()> {
    setns(File::open(netns)?, CloneFlags::CLONE_NEWNET)?;
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)?;
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none)?;
    for (from, to) in mounts {
        mount(Some(from.as_path()), *to, none, MsFlags::MS_BIND, none)?;
    }
    Ok(())
}

/// A process that goes on running, ended (by its own pid) when dropped.
#[derive(Debug)]
pub struct Running {
    name: String,
    /// The process.
    pub child: Child,
}

impl Running {
    /// SIGKILL, and its end awaited.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// A signal.
    pub fn signal(&self, signal: nix::sys::signal::Signal) -> Result<()> {
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(self.child.id().cast_signed()),
            signal,
        )
        .with_context(|| format!("signal {}", self.name))
    }

    /// Waits for its end, for a bounded time.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + crate::wait::stretched(patience);
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("{} has not ended within {patience:?}", self.name);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command in the lab's own namespace; a failure is an error.
pub fn run_here(arguments: &[&str]) -> Result<Outcome> {
    let mut command = Command::new(arguments[0]);
    command.args(&arguments[1..]);
    let outcome = finish(command, b"", PATIENCE)?;
    if !outcome.status.success() {
        bail!(
            "{} ended with {}: {}",
            arguments.join(" "),
            outcome.status,
            outcome.stderr.trim()
        );
    }
    Ok(outcome)
}

/// Runs a command to its end with bounded patience; then it is killed and that is an error.
pub fn finish(mut command: Command, stdin: &[u8], patience: Duration) -> Result<Outcome> {
    use std::io::Write;
    let name = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {name}"))?;
    let mut input = child.stdin.take().context("no pipe")?;
    let stdin = stdin.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&stdin));
    let stdout = drain(child.stdout.take().context("no pipe")?);
    let stderr = drain(child.stderr.take().context("no pipe")?);
    let mut running = Running { name, child };
    let status = running.wait(patience)?;
    // A program may end without reading its input.
    let _ = writer.join();
    // A child that outlives the program and holds its pipes is a fault of its own: runtimes wait for it (G21).
    let text = |pipe: Receiver<Vec<u8>>| match pipe
        .recv_timeout(crate::wait::stretched(PIPE_PATIENCE))
    {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(_) => bail!(
            "{} has ended, but something that it started holds its stdout or stderr since {PIPE_PATIENCE:?}",
            running.name
        ),
    };
    Ok(Outcome {
        status,
        stdout: text(stdout)?,
        stderr: text(stderr)?,
    })
}

fn drain(mut pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut all = Vec::new();
        let _ = pipe.read_to_end(&mut all);
        // Nobody waits any more where the patience was over.
        let _ = sender.send(all);
    });
    receiver
}
