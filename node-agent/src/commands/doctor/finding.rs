//! What doctor says.

use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// Good to know; nothing has to be done.
    Note,
    /// It will break, or breaks some of it.
    Warning,
    /// Pods of this node have no network, or not all of it.
    Error,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    /// What is wrong, with values.
    pub(crate) text: String,
    /// What to do.
    pub(crate) cure: String,
}

impl Finding {
    fn new(severity: Severity, text: impl Into<String>, cure: impl Into<String>) -> Finding {
        Finding {
            severity,
            text: text.into(),
            cure: cure.into(),
        }
    }

    pub(crate) fn error(text: impl Into<String>, cure: impl Into<String>) -> Finding {
        Finding::new(Severity::Error, text, cure)
    }

    pub(crate) fn warning(text: impl Into<String>, cure: impl Into<String>) -> Finding {
        Finding::new(Severity::Warning, text, cure)
    }

    pub(crate) fn note(text: impl Into<String>, cure: impl Into<String>) -> Finding {
        Finding::new(Severity::Note, text, cure)
    }
}

/// What one check came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CheckResult {
    /// Its name, as docs/operations.md lists it.
    pub(crate) check: &'static str,
    pub(crate) findings: Vec<Finding>,
    /// Why it could not be made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) not_checked: Option<String>,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Diagnosis {
    pub(crate) node: String,
    pub(crate) checks: Vec<CheckResult>,
}

impl Diagnosis {
    /// The worst severity of all findings.
    pub(crate) fn worst(&self) -> Option<Severity> {
        let findings = self.checks.iter().flat_map(|check| &check.findings);
        findings.map(|finding| finding.severity).max()
    }
}
