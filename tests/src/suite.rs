//! What all suites on a real kernel share: namespaces first, then the trials, told as cargo's own are.

use crate::enter::{NotPossible, enter};
use anyhow::Result;
use libtest_mimic::{Arguments, Conclusion, Failed, Trial};
use std::process::ExitCode;

/// One test: a sentence, and what it does.
pub type Test = (&'static str, fn() -> Result<()>);

/// A program that a suite needs is not on this machine; its tests are told as not run.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Missing(pub String);

/// The `main` of a suite. Where namespaces cannot be made its tests are told as ignored, with the
/// reason, and with NET_TESTS=1 (CI) as failed: never as passed.
pub fn main(tests: &[Test]) -> ExitCode {
    main_needing(|| Ok(()), tests)
}

/// The same for a suite with software of others; `need` answers [`Missing`] where that is not there.
pub fn main_needing(need: fn() -> Result<()>, tests: &[Test]) -> ExitCode {
    run(need, tests).exit_code()
}

/// The same for a program that says something of its own at the end.
pub fn run(need: fn() -> Result<()>, tests: &[Test]) -> Conclusion {
    let mut arguments = Arguments::from_args();
    // Each lab is a small network of processes; two cores carry one at a time.
    arguments.test_threads = Some(1);
    let listing = arguments.list;
    let possible = if listing {
        Ok(())
    } else {
        enter().and_then(|()| need())
    };
    let trials = tests
        .iter()
        .map(|(name, test)| trial(name, *test, &possible))
        .collect();
    libtest_mimic::run(&arguments, trials)
}

fn trial(name: &'static str, test: fn() -> Result<()>, possible: &Result<()>) -> Trial {
    match possible {
        Ok(()) => Trial::test(name, move || {
            test().map_err(|error| Failed::from(format!("{error:#}")))
        }),
        Err(error) => {
            let reason = format!("{error:#}");
            let in_ci = std::env::var_os("NET_TESTS").is_some_and(|value| value == "1");
            let must_run = match error.downcast_ref::<NotPossible>() {
                Some(_) => in_ci,
                None => error.downcast_ref::<Missing>().is_none(),
            };
            let told = format!("{name} (not run: {reason})");
            Trial::test(told, move || Err(Failed::from(reason))).with_ignored_flag(!must_run)
        }
    }
}
