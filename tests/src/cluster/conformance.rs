//! Upstream's own end-to-end tests of networks, run against a cluster by ginkgo.

use crate::cluster::{Cluster, tools};
use crate::machine::finish;
use anyhow::{Context, Result, ensure};
use std::time::Duration;

/// What became of the specs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// How many passed.
    pub passed: usize,
    /// The name of each that failed.
    pub failed: Vec<String>,
}

/// The specs that upstream calls conformance.
pub const CONFORMANCE: &str = r"\[sig-network\].*\[Conformance\]";

impl Cluster {
    /// Runs the specs whose names match `focus` and not `skip` (empty: none), four at once. `name` names the folder of
    /// the report.
    pub fn run_upstream(
        &self,
        name: &str,
        focus: &str,
        skip: &str,
        patience: Duration,
    ) -> Result<Verdict> {
        let folder = self.run().cache.join("reports").join(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder)?;
        let tools = tools()?;
        let mut command = self
            .control_plane()
            .node
            .machine
            .command(tools.join("ginkgo"));
        command
            .args(["--procs=4", "--no-color", "--timeout=60m"])
            .arg(format!("--focus={focus}"))
            .arg(format!("--output-dir={}", folder.display()))
            .arg("--junit-report=junit.xml");
        if !skip.is_empty() {
            command.arg(format!("--skip={skip}"));
        }
        command
            .arg(tools.join("network-e2e.test"))
            .arg("--")
            .arg(format!("--kubeconfig={}", self.kubeconfig().display()))
            .arg(format!(
                "--kubectl-path={}",
                tools.join("kubectl").display()
            ))
            .args(["--provider=skeleton", "--num-nodes=2", "--disable-log-dump"]);
        let outcome = finish(command, b"", patience)?;
        std::fs::write(folder.join("output.txt"), outcome.stdout + &outcome.stderr)?;
        let report = std::fs::read_to_string(folder.join("junit.xml"))
            .with_context(|| format!("no report; see {}", folder.join("output.txt").display()))?;
        let verdict = parse_junit(&report);
        ensure!(
            verdict.passed + verdict.failed.len() > 0,
            "no spec ran; see {}",
            folder.display()
        );
        Ok(verdict)
    }
}

/// ginkgo's report: one `<testcase name= ... status= ...>` for each spec, those that were not chosen as "skipped".
fn parse_junit(report: &str) -> Verdict {
    let mut verdict = Verdict::default();
    for case in report.split("<testcase ").skip(1) {
        let head = case.split('>').next().unwrap_or_default();
        let field = |name: &str| {
            let (_, rest) = head.split_once(&format!("{name}=\""))?;
            rest.split('"').next()
        };
        // The framework's own steps ([SynchronizedBeforeSuite] ...) are told as cases too.
        let name = field("name").unwrap_or_default();
        match field("status") {
            Some("skipped" | "pending") | None => {}
            Some("passed") if name.starts_with("[It]") => verdict.passed += 1,
            Some("passed") => {}
            Some(status) => verdict.failed.push(format!("{status}: {name}")),
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_tells_who_failed() {
        let report = r#"<testsuites><testcase name="[It] [sig-network] a" classname="x" status="passed" time="1"></testcase>
<testcase name="[It] b" status="skipped" time="0"></testcase>
<testcase name="[SynchronizedBeforeSuite]" status="passed" time="0"></testcase>
<testcase name="[It] c" status="failed" time="2"><failure message="x"></failure></testcase></testsuites>"#;
        assert_eq!(
            parse_junit(report),
            Verdict {
                passed: 1,
                failed: vec!["failed: [It] c".into()]
            }
        );
    }
}
