//! Logs to stderr: text for a person at a terminal, one JSON object per line otherwise. stdout stays empty.

use crate::settings::{LogFormat, Settings};
use std::io::IsTerminal;
use tracing_subscriber::filter::LevelFilter;

/// Once, before anything is logged. NO_COLOR is honoured (no-color.org).
pub(crate) fn start(settings: &Settings) {
    let terminal = std::io::stderr().is_terminal();
    let text = match settings.log_format {
        LogFormat::Auto => terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let builder = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_max_level(LevelFilter::from_level(settings.log_level));
    if text {
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        builder.with_ansi(colour).init();
    } else {
        builder.json().flatten_event(true).init();
    }
}
