//! The demo's table: what was tried, what was seen, and whether that is right.

use anyhow::Result;
use std::io::IsTerminal;
use std::process::ExitCode;

pub(crate) struct Table {
    failed: usize,
    passed: usize,
    colour: bool,
}

impl Table {
    pub(crate) fn new() -> Self {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Table {
            failed: 0,
            passed: 0,
            colour,
        }
    }

    pub(crate) fn section(&self, title: &str) {
        println!("\n{}", self.paint("1", title));
    }

    /// What was seen, or why it failed.
    pub(crate) fn row(&mut self, what: &str, seen: Result<String>) {
        let (mark, text) = match seen {
            Ok(text) => {
                self.passed += 1;
                (self.paint("32", " ok "), text)
            }
            Err(error) => {
                self.failed += 1;
                (self.paint("31", "FAIL"), format!("{error:#}"))
            }
        };
        println!("  {mark}  {what:<46} {text}");
    }

    pub(crate) fn finish(self) -> ExitCode {
        println!("\n{} passed, {} failed", self.passed, self.failed);
        if self.failed == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}
