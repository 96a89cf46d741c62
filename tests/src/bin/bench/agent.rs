//! The agent: memory, the first pass with many Nodes, and how fast a deleted route is back.

use crate::measure::{ms, summarize};
use crate::setup::Bench;
use anyhow::{Context, Result, bail};
use slash32_tests::wait::seconds_of_day;
use std::fmt::Write as _;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
const REPAIRS: usize = 20;
/// Padding that brings a Node object to the 5 to 6 KB of a real one.
const NODE_PADDING: usize = 5200;

pub(crate) fn run(bench: &Bench) -> Result<()> {
    println!(
        "\nAgent             all routes after ms   first to last route ms     RSS KiB   deleted route back after ms (median, max of {REPAIRS})"
    );
    for nodes in [3, 1000, 5000] {
        write_nodes(nodes)?;
        let monitor = RouteMonitor::start()?;
        let started = Instant::now();
        let agent = Agent::start(bench)?;
        wait_for_routes(nodes - 1)?;
        let synced = started.elapsed();
        std::thread::sleep(Duration::from_millis(300));
        let spread = monitor.spread_of_additions()?;
        // For memory at rest, and not in the wake of the first pass.
        std::thread::sleep(Duration::from_secs(2));
        let rss = agent.rss_kib()?;
        let repairs = measure_repairs()?;
        let worst = repairs.iter().max().copied().unwrap_or_default();
        println!(
            "{nodes:>6} nodes {:>20.1} {:>24.1} {rss:>11} {:>14.2} {:>8.2}",
            ms(synced),
            ms(spread),
            ms(summarize(repairs).median),
            ms(worst)
        );
        drop(agent);
        super::setup::run("ip", &["route", "flush", "proto", "32"])?;
    }
    Ok(())
}

/// `ip monitor`, which tells each change of a route with the time at which it was told; into a file, since a pipe that
/// nobody empties would hold it up.
pub(crate) struct RouteMonitor {
    child: Child,
    read: usize,
}

const EVENTS: &str = "/run/route-events";

impl RouteMonitor {
    pub(crate) fn start() -> Result<RouteMonitor> {
        // Room for the events of thousands of routes.
        let child = Command::new("ip")
            .args(["-4", "-rcvbuf", "8388608", "-ts", "monitor", "route"])
            .stdout(std::fs::File::create(EVENTS)?)
            .spawn()?;
        std::thread::sleep(Duration::from_millis(200));
        Ok(RouteMonitor { child, read: 0 })
    }

    /// The whole lines since the last call.
    fn lines(&mut self) -> Result<Vec<String>> {
        let text = std::fs::read_to_string(EVENTS)?;
        let whole = text.rfind('\n').map_or(0, |last| last + 1);
        let lines = text[self.read..whole].lines().map(str::to_owned).collect();
        self.read = whole;
        Ok(lines)
    }

    /// The moment by the clock that `ip -ts` prints.
    pub(crate) fn now(&self) -> Result<f64> {
        let output = Command::new("date")
            .arg("+[%Y-%m-%dT%H:%M:%S.%6N]")
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        seconds_of_day(&text).with_context(|| format!("no time in {text:?}"))
    }

    /// Waits for the event of a route that is made, and tells how long after `since` that was.
    pub(crate) fn time_until_made(&mut self, destination: &str, since: f64) -> Result<Duration> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let made = |event: &&String| event.contains(destination) && !event.contains("Deleted ");
            if let Some(event) = self.lines()?.iter().find(made) {
                let at = seconds_of_day(event).with_context(|| format!("no time in {event:?}"))?;
                return Ok(Duration::from_secs_f64((at - since).max(0.0)));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        bail!("no route to {destination} within {} s", PATIENCE.as_secs())
    }

    /// From the first to the last route of ours that was made: the kernel's work and the agent's between.
    fn spread_of_additions(mut self) -> Result<Duration> {
        let made = |event: &String| {
            event.contains("proto 32")
                && !event.contains("Deleted ")
                && !event.contains("unreachable ")
        };
        let times: Vec<f64> = self
            .lines()?
            .iter()
            .filter(|event| made(event))
            .filter_map(|event| seconds_of_day(event))
            .collect();
        let (first, last) = (
            times.first().context("no route was made")?,
            times.last().context("no route was made")?,
        );
        Ok(Duration::from_secs_f64(last - first))
    }

    /// Waits for the route's deletion and its return, and tells the time between.
    fn time_until_back(&mut self, destination: &str) -> Result<Duration> {
        let deadline = Instant::now() + PATIENCE;
        let mut deleted = None;
        while Instant::now() < deadline {
            for event in self
                .lines()?
                .iter()
                .filter(|event| event.contains(destination))
            {
                let at = seconds_of_day(event).with_context(|| format!("no time in {event:?}"))?;
                match (event.contains("Deleted "), deleted) {
                    (true, _) => deleted = Some(at),
                    (false, Some(before)) => return Ok(Duration::from_secs_f64(at - before)),
                    (false, None) => {}
                }
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        bail!(
            "the route to {destination} was not back within {} s",
            PATIENCE.as_secs()
        )
    }
}

impl Drop for RouteMonitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) struct Agent {
    child: Child,
}

impl Agent {
    fn start(bench: &Bench) -> Result<Agent> {
        let source = ["--nodes-file", "/run/nodes.yaml", "--listen", ""];
        Agent::start_with(bench, &source, &[])
    }

    pub(crate) fn start_with(
        bench: &Bench,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Agent> {
        let log = std::fs::File::create("/run/agent.log")?;
        let child = Command::new(bench.agent())
            .args(["run", "--node-name", "n1", "--cni-conf-dir", "/run/cni"])
            .args(arguments)
            .envs(environment.iter().copied())
            .stderr(log)
            .spawn()
            .context("start slash32-agent")?;
        Ok(Agent { child })
    }

    fn rss_kib(&self) -> Result<u64> {
        self.memory_kib("VmRSS:")
    }

    /// User and system time so far, of all its threads.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let after_name = stat.rsplit(") ").next().unwrap_or_default();
        // Fields 14 and 15 of proc(5), in hundredths of a second; the third is the first after the name.
        let ticks: u64 = after_name
            .split(' ')
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        Ok(Duration::from_millis(ticks * 10))
    }

    /// A line of /proc/PID/status.
    pub(crate) fn memory_kib(&self, key: &str) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        status
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|text| text.parse().ok())
            .with_context(|| format!("no {key} the agent has ended, see its log"))
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

pub(crate) fn own_routes() -> Result<Vec<String>> {
    let output = Command::new("ip")
        .args(["-4", "route", "show", "proto", "32", "type", "unicast"])
        .output()?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect())
}

pub(crate) fn wait_for_routes(count: usize) -> Result<()> {
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
fn measure_repairs() -> Result<Vec<Duration>> {
    let mut monitor = RouteMonitor::start()?;
    let routes = own_routes()?;
    (0..REPAIRS)
        .map(|n| {
            let destination = routes[n % routes.len()]
                .split(' ')
                .next()
                .unwrap_or_default();
            super::setup::run("ip", &["route", "del", destination, "proto", "32"])?;
            let took = monitor.time_until_back(destination);
            std::thread::sleep(Duration::from_millis(100));
            took
        })
        .collect()
}
