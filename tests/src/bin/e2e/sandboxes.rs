//! `make bench-cluster`: how long kubelet waits for a pod's sandbox with Slash32, beside the reference plugins (ptp and
//! host-local, with static routes) on a cluster of the same make. Both clusters are up at once and take turns.

use anyhow::{Context, Result};
use serde_json::Value;
use slash32_tests::cluster::run::Run;
use slash32_tests::cluster::space::Space;
use slash32_tests::cluster::{Cluster, Network, Options};
use slash32_tests::enter::enter;
use std::process::ExitCode;
use std::sync::Arc;

/// Turns of each network; a ratio is of two turns that follow each other.
const ROUNDS: usize = 12;
/// Pods of a turn, one after another.
const PODS: usize = 5;
const NODE: &str = "worker1";

pub(crate) fn main() -> ExitCode {
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-cluster: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<()> {
    enter()?;
    let run = Arc::new(Run::begin()?);
    let clusters = [Network::Ptp, Network::Slash32].map(|network| {
        let options = Options {
            network,
            ..Options::default()
        };
        Cluster::start(&run, options)
    });
    let [ptp, ours] = clusters;
    let (ptp, ours) = (ptp?, ours?);
    let mut turns = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        // The first of a round is another one each time.
        let mut order = [(0, &ptp), (1, &ours)];
        order.rotate_left(round % 2);
        for (which, cluster) in order {
            turns[which].push(turn(cluster, round)?);
        }
    }
    tell(&turns, &plugin_ms(&ours)?);
    drop((ptp, ours));
    Arc::into_inner(run)
        .context("something still holds the run")?
        .end()
}

/// Milliseconds per sandbox: kubelet's own measure of RunPodSandbox, over the pods of one turn.
fn turn(cluster: &Cluster, round: usize) -> Result<f64> {
    let space = Space::new(cluster, &format!("round-{round}"))?;
    let (sum, count) = sandboxes(cluster)?;
    for number in 0..PODS {
        space.pods(&[(&format!("pod-{number}"), NODE)])?;
    }
    let (sum_after, count_after) = sandboxes(cluster)?;
    space.kubectl(&["delete", "pods", "--all", "--wait=true", "--grace-period=1"])?;
    Ok((sum_after - sum) / (count_after - count) * 1e3)
}

/// Seconds and number of all sandboxes that this node's kubelet has run.
fn sandboxes(cluster: &Cluster) -> Result<(f64, f64)> {
    let metrics = cluster.get_text(&format!("/api/v1/nodes/{NODE}/proxy/metrics"))?;
    let of = |suffix: &str| -> Result<f64> {
        let name = format!("kubelet_run_podsandbox_duration_seconds_{suffix}{{");
        let values = metrics.lines().filter(|line| line.starts_with(&name));
        let values = values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        Some(values.sum::<f64>())
            .filter(|sum| *sum > 0.0)
            .with_context(|| format!("kubelet of {NODE} tells nothing of {name}"))
    };
    Ok((of("sum")?, of("count")?))
}

/// Of each ADD, from the plugin's own operation log.
fn plugin_ms(cluster: &Cluster) -> Result<Vec<f64>> {
    let log = cluster
        .host(NODE)?
        .read(&["cat", "/run/slash32/operations.jsonl"])?;
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let adds = lines.filter(|line| line["command"] == "ADD");
    Ok(adds
        .filter_map(|line| Some(line["durationUs"].as_f64()? / 1e3))
        .collect())
}

fn tell(turns: &[Vec<f64>; 2], plugin: &[f64]) {
    let [ptp, ours] = turns;
    let ratios: Vec<f64> = ours.iter().zip(ptp).map(|(ours, ptp)| ours / ptp).collect();
    println!("Pod sandbox, {ROUNDS} turns of {PODS} pods      median ms     min     max");
    for (name, turns) in [("ptp + host-local", ptp), ("slash32", ours)] {
        println!(
            "{name:<38}{:>9.1}{:>8.1}{:>8.1}",
            median(turns),
            turns.iter().copied().fold(f64::INFINITY, f64::min),
            turns.iter().copied().fold(0.0, f64::max)
        );
    }
    println!(
        "slash32 takes {:.2} times as long as ptp + host-local (median of {ROUNDS} ratios)",
        median(&ratios)
    );
    println!(
        "the plugin's share: {:.2} ms (median of {} ADDs)",
        median(plugin),
        plugin.len()
    );
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
