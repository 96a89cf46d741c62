//! Kubernetes' own tests of networks.

use crate::stage::{Test, test};
use anyhow::{Result, ensure};
use slash32_tests::cluster::Cluster;
use slash32_tests::cluster::conformance::CONFORMANCE;
use std::time::Duration;

pub(crate) const TESTS: &[Test] = &[test(
    "upstream_network_conformance_passes",
    upstream_network_conformance_passes,
)];

/// As many as Kubernetes 1.36 has.
const SPECS: usize = 47;

fn upstream_network_conformance_passes(cluster: &Cluster) -> Result<()> {
    let verdict =
        cluster.run_upstream("conformance", CONFORMANCE, "", Duration::from_secs(1200))?;
    ensure!(
        verdict.failed.is_empty(),
        "{} passed; failed:\n{}",
        verdict.passed,
        verdict.failed.join("\n")
    );
    ensure!(
        verdict.passed == SPECS,
        "{} specs ran, not {SPECS}",
        verdict.passed
    );
    Ok(())
}
