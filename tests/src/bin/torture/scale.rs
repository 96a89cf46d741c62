//! How much of it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Kills of ADD, and as many of DEL, in each of the two tests that kill: KILLS.
pub(crate) fn kills() -> usize {
    number("KILLS", 500)
}

/// How long a hostile program fights the agent: FIGHT_SECONDS.
pub(crate) fn fight() -> Duration {
    Duration::from_secs(number("FIGHT_SECONDS", 10))
}

/// How long the soak churns: MINUTES.
pub(crate) fn soak() -> Duration {
    Duration::from_secs(60 * number::<u64>("MINUTES", 60))
}

/// Errors that are tried at each system call, of those that there are; the seed says which: FAULTS_PER_CALL.
pub(crate) fn faults_per_call() -> usize {
    number("FAULTS_PER_CALL", 2)
}

static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// One line of what was tried and measured, shown at the end.
pub(crate) fn tell(what: impl std::fmt::Display) {
    told().push(what.to_string());
}

/// What was told so far.
pub(crate) fn told() -> MutexGuard<'static, Vec<String>> {
    TOLD.lock().unwrap_or_else(PoisonError::into_inner)
}

fn number<T: std::str::FromStr>(variable: &str, otherwise: T) -> T {
    let given = std::env::var(variable).ok();
    given
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}
