//! One run of one process, as the operating system accounts for it; and what many runs say.

use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// From before fork to after the exit was seen.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    /// User and system time of the process and the children that it waited for.
    pub(crate) cpu: Duration,
}

impl std::ops::Add for Cost {
    type Output = Cost;
    fn add(self, other: Cost) -> Cost {
        Cost {
            wall: self.wall + other.wall,
            cpu: self.cpu + other.cpu,
        }
    }
}

/// Runs a process with `stdin`, and returns its stdout beside its cost; a failure is an error.
pub(crate) fn run_process(command: &mut Command, stdin: &[u8]) -> Result<(String, Cost)> {
    let name = format!("{command:?}");
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    let started = Instant::now();
    let mut child = command.spawn().with_context(|| format!("start {name}"))?;
    if let Some(mut pipe) = child.stdin.take() {
        // A program that needs no input may have ended already.
        let _ = pipe.write_all(stdin);
    }
    let mut output = String::new();
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_string(&mut output)?;
    }
    let (status, cpu) = wait_with_usage(child.id())?;
    let wall = started.elapsed();
    if status != 0 {
        bail!("{name} ended with wait status {status}: {output}");
    }
    Ok((output, Cost { wall, cpu }))
}

/// wait4(2), since std's wait tells no resource usage.
fn wait_with_usage(pid: u32) -> Result<(i32, Duration)> {
    let mut status = 0;
    // SAFETY: rusage is plain data for which all zeros is a valid value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live locals; the pid is our own unreaped child, which std's
    // Child does not wait for again since it is dropped without a wait.
    let reaped = unsafe { libc::wait4(pid as libc::pid_t, &mut status, 0, &mut usage) };
    if reaped < 0 {
        return Err(std::io::Error::last_os_error()).context("wait4");
    }
    let time = |t: libc::timeval| {
        Duration::from_secs(t.tv_sec as u64) + Duration::from_micros(t.tv_usec as u64)
    };
    Ok((status, time(usage.ru_utime) + time(usage.ru_stime)))
}

/// Median, 95th percentile and minimum of what was measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Summary {
    pub(crate) median: Duration,
    pub(crate) p95: Duration,
    pub(crate) min: Duration,
}

/// # Panics
/// On an empty slice: nothing was measured.
pub(crate) fn summarize(mut values: Vec<Duration>) -> Summary {
    assert!(!values.is_empty(), "nothing was measured");
    values.sort_unstable();
    let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
    Summary {
        median: at(0.5),
        p95: at(0.95),
        min: values[0],
    }
}

/// The median of the ratios of pairs that were measured in the same round: a machine whose speed
/// drifts moves both sides.
pub(crate) fn median_ratio(ours: &[Duration], theirs: &[Duration]) -> f64 {
    let mut ratios: Vec<f64> = ours
        .iter()
        .zip(theirs)
        .map(|(a, b)| a.as_secs_f64() / b.as_secs_f64())
        .collect();
    ratios.sort_unstable_by(f64::total_cmp);
    ratios[ratios.len() / 2]
}

pub(crate) fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
