//! A diagnosis for people: what is wrong first, the worst first.

use super::finding::{Diagnosis, Finding, Severity};
use crate::commands::format::Tell;
use crate::commands::paint::Paint;
use crate::commands::words;
use std::fmt::Write;

impl Tell for Diagnosis {
    fn render_table(&self, paint: Paint) -> String {
        let mut all: Vec<(&str, &Finding)> = self
            .checks
            .iter()
            .flat_map(|check| check.findings.iter().map(|finding| (check.check, finding)))
            .collect();
        all.sort_by_key(|(_, finding)| std::cmp::Reverse(finding.severity));
        let mut text = String::new();
        for (check, finding) in &all {
            let word = match finding.severity {
                Severity::Error => paint.bad("ERROR"),
                Severity::Warning => paint.warn("WARNING"),
                Severity::Note => paint.dim("NOTE"),
            };
            let _ = writeln!(text, "{word} {}: {}", paint.bold(check), finding.text);
            let _ = writeln!(text, "  {} {}\n", paint.dim("cure:"), finding.cure);
        }
        for check in &self.checks {
            if let Some(reason) = &check.not_checked {
                let _ = writeln!(
                    text,
                    "{} {}: {reason}",
                    paint.dim("not checked"),
                    check.check
                );
            }
        }
        let made = self
            .checks
            .iter()
            .filter(|check| check.not_checked.is_none())
            .count();
        let of = |severity| {
            let count = all
                .iter()
                .filter(|(_, finding)| finding.severity == severity);
            count.count() as u64
        };
        let (errors, warnings) = (of(Severity::Error), of(Severity::Warning));
        let sum = if errors + warnings == 0 {
            paint.good("no trouble found")
        } else {
            format!(
                "{}, {}",
                words::count(errors, "error"),
                words::count(warnings, "warning")
            )
        };
        let _ = writeln!(
            text,
            "{} on node {}: {sum}",
            words::count(made as u64, "check"),
            self.node
        );
        text
    }
}
