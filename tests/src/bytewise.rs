//! The real plugin with reads and writes of one byte each, which every kernel may answer and few do. A tracer of our own:
//! strace can refuse a call, not shorten it. It sets the count of each call to 1 on its way into the kernel.

use crate::kill::Target;
use crate::machine::Outcome;
use crate::programs;
use anyhow::{Context, Result, bail};
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::io::{Read, Seek, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::ExitStatus;

const COUNTED: [libc::c_long; 4] = [
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
];

/// Runs a verb for the target; how many calls were shortened.
pub fn run(target: &Target<'_>, verb: &str) -> Result<(Outcome, usize)> {
    let file = || tempfile::tempfile().context("make a file");
    let (mut stdin, mut stdout, mut stderr) = (file()?, file()?, file()?);
    stdin.write_all(target.request.to_string().as_bytes())?;
    stdin.rewind()?;
    let folder = programs::binaries()?;
    let mut command = target.site.node.machine.command(folder.join("slash32"));
    command
        .env("CNI_COMMAND", verb)
        .env("CNI_CONTAINERID", target.id)
        .env("CNI_NETNS", target.netns.netns())
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", &folder)
        .stdin(stdin.try_clone()?)
        .stdout(stdout.try_clone()?)
        .stderr(stderr.try_clone()?);
    // SAFETY: one system call between fork and exec.
    unsafe {
        command.pre_exec(|| Ok(ptrace::traceme()?));
    }
    let child = command.spawn().context("start slash32")?;
    let (status, shortened) = trace(Pid::from_raw(child.id().cast_signed()))?;
    let text = |file: &mut std::fs::File| -> Result<String> {
        let mut text = String::new();
        file.rewind()?;
        file.read_to_string(&mut text)?;
        Ok(text)
    };
    let outcome = Outcome {
        status,
        stdout: text(&mut stdout)?,
        stderr: text(&mut stderr)?,
    };
    Ok((outcome, shortened))
}

/// Until its end. The plugin has one thread and is stopped at the entry and at the exit of each call.
fn trace(pid: Pid) -> Result<(ExitStatus, usize)> {
    let mut shortened = 0;
    let mut entering = true;
    let mut started = false;
    loop {
        match waitpid(pid, None)? {
            WaitStatus::Exited(_, code) => return Ok((ExitStatus::from_raw(code << 8), shortened)),
            WaitStatus::Signaled(_, signal, _) => {
                return Ok((ExitStatus::from_raw(signal as i32), shortened));
            }
            WaitStatus::PtraceSyscall(_) => {
                if entering {
                    shortened += usize::from(shorten(pid)?);
                }
                entering = !entering;
                ptrace::syscall(pid, None)?;
            }
            WaitStatus::Stopped(_, Signal::SIGTRAP) if !started => {
                started = true;
                ptrace::setoptions(
                    pid,
                    ptrace::Options::PTRACE_O_TRACESYSGOOD | ptrace::Options::PTRACE_O_EXITKILL,
                )?;
                ptrace::syscall(pid, None)?;
            }
            WaitStatus::Stopped(_, signal) => ptrace::syscall(pid, signal)?,
            other => bail!("the plugin under trace: {other:?}"),
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn shorten(pid: Pid) -> Result<bool> {
    let mut registers = ptrace::getregs(pid)?;
    let counted = COUNTED.contains(&registers.orig_rax.cast_signed());
    if !counted || registers.rdx <= 1 {
        return Ok(false);
    }
    registers.rdx = 1;
    ptrace::setregs(pid, registers)?;
    Ok(true)
}

#[cfg(not(target_arch = "x86_64"))]
fn shorten(_: Pid) -> Result<bool> {
    bail!("the registers of this architecture are not known here")
}
