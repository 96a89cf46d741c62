//! The agent: memory, the first pass with many Nodes, and how fast a deleted route is back.

use crate::measure::{ms, summarize};
use crate::setup::Bench;
use anyhow::{Context, Result, bail};
use slash32_tests::wait::seconds_of_day;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
/// Padding that brings a Node object to the 5 to 6 KB of a real one.
const NODE_PADDING: usize = 5200;

pub(crate) fn run(bench: &Bench) -> Result<()> {
    println!(
        "\nAgent                          all routes after ms      RSS KiB   deleted route back after ms (median, max of 20)"
    );
    for nodes in [3, 1000, 5000] {
        write_nodes(nodes)?;
        let started = Instant::now();
        let agent = Agent::start(bench)?;
        wait_for_routes(nodes - 1)?;
        let synced = started.elapsed();
        std::thread::sleep(Duration::from_secs(2));
        let rss = agent.rss_kib()?;
        let repairs = measure_repairs(20)?;
        let worst = repairs.iter().max().copied().unwrap_or_default();
        println!(
            "{nodes:>6} nodes                  {:>14.1} {:>15} {:>12.2} {:>8.2}",
            ms(synced),
            rss,
            ms(summarize(repairs).median),
            ms(worst)
        );
        drop(agent);
        super::setup::run("ip", &["route", "flush", "proto", "32"])?;
    }
    Ok(())
}

struct Agent {
    child: Child,
}

impl Agent {
    fn start(bench: &Bench) -> Result<Agent> {
        let log = std::fs::File::create("/run/agent.log")?;
        let child = Command::new(bench.agent())
            .args([
                "run",
                "--node-name",
                "n1",
                "--nodes-file",
                "/run/nodes.yaml",
                "--cni-conf-dir",
                "/run/cni",
                "--listen",
                "",
            ])
            .stderr(log)
            .spawn()
            .context("start slash32-agent")?;
        Ok(Agent { child })
    }

    fn rss_kib(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|text| text.parse().ok())
            .context("no VmRSS: the agent has ended, see its log")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write_nodes(count: usize) -> Result<()> {
    let mut text = String::from("apiVersion: v1\nkind: List\nitems:\n");
    let padding = "x".repeat(NODE_PADDING);
    for n in 0..count {
        let (name, address) = (
            format!("n{}", n + 1),
            format!("192.0.{}.{}", 2 + n / 250, n % 250 + 1),
        );
        let cidr = if n == 0 {
            "10.244.1.0/24".into()
        } else {
            format!("10.{}.{}.0/24", 128 + n / 256, n % 256)
        };
        writeln!(
            text,
            "- apiVersion: v1\n  kind: Node\n  metadata: {{name: {name}, annotations: {{padding: {padding}}}}}\n  spec: {{podCIDR: {cidr}, podCIDRs: [{cidr}]}}\n  status: {{addresses: [{{type: InternalIP, address: {address}}}]}}"
        )?;
    }
    std::fs::write("/run/nodes.yaml.new", text)?;
    Ok(std::fs::rename("/run/nodes.yaml.new", "/run/nodes.yaml")?)
}

fn own_routes() -> Result<Vec<String>> {
    let output = Command::new("ip")
        .args(["-4", "route", "show", "proto", "32", "type", "unicast"])
        .output()?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect())
}

fn wait_for_routes(count: usize) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = own_routes()?.len();
        if found >= count {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!(
                "the agent made {found} of {count} routes within {} s; its log:\n{}",
                PATIENCE.as_secs(),
                std::fs::read_to_string("/run/agent.log").unwrap_or_default()
            );
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Between the two events, by the times at which `ip monitor` was told of them.
fn measure_repairs(times: usize) -> Result<Vec<Duration>> {
    let mut monitor = Command::new("ip")
        .args(["-4", "-ts", "monitor", "route"])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut events =
        BufReader::new(monitor.stdout.take().context("no pipe from ip monitor")?).lines();
    std::thread::sleep(Duration::from_millis(200));
    let routes = own_routes()?;
    let mut took = Vec::new();
    for n in 0..times {
        let destination = routes[n % routes.len()]
            .split(' ')
            .next()
            .unwrap_or_default()
            .to_owned();
        super::setup::run("ip", &["route", "del", &destination, "proto", "32"])?;
        let mut deleted_at = None;
        for event in events.by_ref() {
            let event = event?;
            let at = seconds_of_day(&event).with_context(|| format!("no time in {event:?}"))?;
            match (event.contains("Deleted "), event.contains(&destination)) {
                (true, true) => deleted_at = Some(at),
                (false, true) => {
                    took.push(Duration::from_secs_f64(
                        at - deleted_at.context("the deletion was not seen")?,
                    ));
                    break;
                }
                _ => {}
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    monitor.kill()?;
    monitor.wait()?;
    Ok(took)
}
