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
