//! Colour: on a terminal only, and not where NO_COLOR asks for none (no-color.org). Never the only bearer of a meaning.

use std::io::IsTerminal;

/// Whether to paint; a value, so that renderers stay pure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Paint {
    on: bool,
}

impl Paint {
    /// Never: pipes, files, golden tests.
    pub(crate) const PLAIN: Paint = Paint { on: false };

    /// For this process's stdout.
    pub(crate) fn of_stdout() -> Paint {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Paint {
            on: wanted && std::io::stdout().is_terminal(),
        }
    }

    /// Well.
    pub(crate) fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    /// Worth a look.
    pub(crate) fn warn(self, text: &str) -> String {
        self.with("33", text)
    }

    /// Broken.
    pub(crate) fn bad(self, text: &str) -> String {
        self.with("31", text)
    }

    /// A heading.
    pub(crate) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    /// By the way.
    pub(crate) fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.on && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_painted_unless_wanted() {
        assert_eq!(Paint::PLAIN.bad("x"), "x");
        assert_eq!(Paint { on: true }.bad("x"), "\x1b[31mx\x1b[0m");
        assert_eq!(Paint { on: true }.bad(""), "");
    }
}
