//! Waiting for what will come true, with an end.

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// How much slower than usual this machine is: SLASH32_SLOWNESS, for a kernel in software emulation. It stretches what is
/// waited for at most, and nothing that is compared.
pub fn stretched(patience: Duration) -> Duration {
    let factor = std::env::var("SLASH32_SLOWNESS").ok();
    patience
        * factor
            .and_then(|text| text.parse().ok())
            .unwrap_or(1)
            .max(1)
}

/// Polls until `ready` says yes, and tells how long that took; an error that names `what` after
/// `patience`.
pub fn until(
    what: &str,
    patience: Duration,
    mut ready: impl FnMut() -> Result<bool>,
) -> Result<Duration> {
    let (started, patience) = (Instant::now(), stretched(patience));
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
