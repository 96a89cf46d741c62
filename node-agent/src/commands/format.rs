//! What is printed, and how: a table for people, JSON or YAML for programs. A reader that goes away early (`| head`) is no
//! error.

use super::paint::Paint;
use anyhow::Context;
use clap::ValueEnum;
use serde::Serialize;
use std::io::{ErrorKind, Write};

/// `-o`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// For programs
    Json,
    /// The same as YAML
    Yaml,
}

/// A value that can be told in all three.
pub(crate) trait Tell: Serialize {
    /// The table, with a newline at its end.
    fn render_table(&self, paint: Paint) -> String;
}

/// The text of one value.
pub(crate) fn render(value: &impl Tell, format: Format, paint: Paint) -> anyhow::Result<String> {
    match format {
        Format::Table => Ok(value.render_table(paint)),
        Format::Json => {
            let mut text = serde_json::to_string_pretty(value).context("render as JSON")?;
            text.push('\n');
            Ok(text)
        }
        Format::Yaml => {
            let mut text = serde_saphyr::to_string(value).context("render as YAML")?;
            if !text.ends_with('\n') {
                text.push('\n');
            }
            Ok(text)
        }
    }
}

/// Writes to stdout. False: nobody reads any more.
pub(crate) fn print(text: &str) -> anyhow::Result<bool> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("write to stdout"),
    }
}
