//! `slash32-agent doctor`: every known way in which a node breaks pod networking, looked for in the live kernel and told with
//! its cure. `sight` observes, `checks` judge (each a small pure function), `show` renders. Changes nothing.

use super::format;
use super::paint::Paint;
use crate::cli::DoctorArgs;
use crate::settings::Settings;
use sight::Sight;
use std::process::ExitCode;
use std::time::Duration;

mod checks;
pub(crate) mod finding;
mod show;
mod sight;

use finding::{Diagnosis, Severity};

/// Warnings, none worse.
const EXIT_WARNINGS: u8 = 1;
/// At least one error.
const EXIT_ERRORS: u8 = 2;
/// The node could not even be looked at; clap and settings use 2, so scripts ask `-o json` to tell them apart.
const PROBE_PATIENCE: Duration = Duration::from_millis(600);

/// Looks, judges, tells.
pub(crate) fn run(settings: &Settings, args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let diagnosis = diagnose(settings, !args.no_probes)?;
    format::print(&format::render(
        &diagnosis,
        args.output,
        Paint::of_stdout(),
    )?)?;
    Ok(match diagnosis.worst() {
        Some(Severity::Error) => ExitCode::from(EXIT_ERRORS),
        Some(Severity::Warning) => ExitCode::from(EXIT_WARNINGS),
        Some(Severity::Note) | None => ExitCode::SUCCESS,
    })
}

/// The whole diagnosis; `probes`: packets are sent to peers.
pub(crate) fn diagnose(settings: &Settings, probes: bool) -> anyhow::Result<Diagnosis> {
    let sight = Sight::take(settings, probes.then_some(PROBE_PATIENCE))?;
    Ok(checks::judge(&sight))
}
