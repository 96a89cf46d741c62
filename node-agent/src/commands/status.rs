//! `slash32-agent status`: this node at a glance. `observe` is `Look`; `report` is what is told; `show` renders it.

use super::format::{self, Format};
use super::paint::Paint;
use crate::cli::StatusArgs;
use crate::look::Look;
use crate::settings::Settings;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

mod peers;
pub(crate) mod report;
mod show;

/// Clears the screen and goes to its top left corner.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Once, or again and again until it is stopped or nobody reads any more.
pub(crate) fn run(settings: &Settings, args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let terminal = std::io::stdout().is_terminal();
    loop {
        let look = Look::take(settings)?;
        let text = tell(&look, args.output, args.operations, Paint::of_stdout())?;
        let clear = args.watch && terminal;
        let text = if clear {
            CLEAR.to_owned() + &text
        } else {
            text
        };
        let read = format::print(&text)?;
        if !args.watch || !read {
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(Duration::from_secs(args.interval.into()));
    }
}

/// The text of one look.
pub(crate) fn tell(
    look: &Look,
    format: Format,
    operations: usize,
    paint: Paint,
) -> anyhow::Result<String> {
    format::render(&report::compute_status(look, operations), format, paint)
}
