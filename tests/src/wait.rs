//! Waiting for what will come true, with an end.

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// Polls until `ready` says yes, and tells how long that took; an error that names `what` after
/// `patience`.
pub fn until(
    what: &str,
    patience: Duration,
    mut ready: impl FnMut() -> Result<bool>,
) -> Result<Duration> {
    let started = Instant::now();
    loop {
        if ready()? {
            return Ok(started.elapsed());
        }
        if started.elapsed() > patience {
            bail!("{what}: not within {patience:?}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Seconds of the day in a line of `ip -ts monitor`: "[2026-11-21T08:14:04.123456] ...".
pub fn seconds_of_day(line: &str) -> Option<f64> {
    let clock = line
        .strip_prefix('[')?
        .split(']')
        .next()?
        .split('T')
        .nth(1)?;
    clock.split(':').try_fold(0.0, |sum, part| {
        Some(sum * 60.0 + part.parse::<f64>().ok()?)
    })
}
