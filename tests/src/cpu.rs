//! What a process used, as the kernel counts it.

use anyhow::{Context, Result};
use std::time::Duration;

/// Processor time of a process, all its threads, and its children that have ended (nft).
///
/// Threads by the scheduler's own account in nanoseconds: ticks miss what wakes up for less than one.
pub fn time_of(pid: u32) -> Result<Duration> {
    let mut nanoseconds = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        let on_cpu = text.split_whitespace().next().unwrap_or_default();
        nanoseconds += on_cpu
            .parse::<u64>()
            .context("a schedstat without numbers")?;
    }
    Ok(Duration::from_nanos(nanoseconds) + time_of_children(pid)?)
}

fn time_of_children(pid: u32) -> Result<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // proc_pid_stat(5): cutime and cstime are fields 16 and 17; behind the name, which may hold spaces, the third is first.
    let fields = text.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = fields
        .split_whitespace()
        .skip(13)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    // USER_HZ is 100 on every architecture that Rust knows.
    Ok(Duration::from_millis(ticks * 10))
}

/// Resident memory in KiB.
pub fn resident_kib(pid: u32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    Ok(number.context("no VmRSS")?.parse()?)
}

/// Open descriptors.
pub fn descriptors(pid: u32) -> Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}
