//! ADD and DEL: ours, the reference plugins', and the floor, in a new order each round.

use crate::measure::{Cost, median_ratio, ms, run_process, summarize};
use crate::setup::{Bench, PodNetns};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// One way to attach a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Floor,
    Slash32,
    Ptp,
    Slash32HostPort,
    PtpPortmap,
}

impl Way {
    const ALL: [Way; 5] = [
        Way::Floor,
        Way::Slash32,
        Way::Ptp,
        Way::Slash32HostPort,
        Way::PtpPortmap,
    ];

    fn label(self) -> &'static str {
        match self {
            Way::Floor => "floor (bare netlink)",
            Way::Slash32 => "slash32",
            Way::Ptp => "ptp + host-local",
            Way::Slash32HostPort => "slash32, 1 host port",
            Way::PtpPortmap => "ptp + host-local + portmap",
        }
    }
}

/// What each round cost, by way: index as in [`Way::ALL`].
#[derive(Default)]
struct Samples {
    add: Vec<Cost>,
    del: Vec<Cost>,
}

pub(crate) fn run(bench: &Bench) -> Result<()> {
    let samples = run_rounds(bench)?;
    for (verb, pick) in [
        ("ADD", (|s: &Samples| &s.add) as fn(&Samples) -> &Vec<Cost>),
        ("DEL", |s| &s.del),
    ] {
        println!(
            "\n{verb}, {} rounds            median ms     p95     min   CPU ms   x floor   x ptp",
            bench.options.rounds
        );
        for (way, of_way) in Way::ALL.iter().zip(&samples) {
            print_row(*way, pick(of_way), pick(&samples[0]), pick(&samples[2]));
        }
    }
    let walls = |way: usize, pick: fn(&Samples) -> &Vec<Cost>| walls(pick(&samples[way]));
    println!(
        "\nADD: ptp + host-local takes {:.1} times as long as slash32; with a host port, portmap's chain {:.1} times.",
        median_ratio(&walls(2, |s| &s.add), &walls(1, |s| &s.add)),
        median_ratio(&walls(4, |s| &s.add), &walls(3, |s| &s.add))
    );
    println!(
        "DEL: slash32 takes {:.2} times as long as a bare link delete; with a host port {:.2} times.",
        median_ratio(&walls(1, |s| &s.del), &walls(0, |s| &s.del)),
        median_ratio(&walls(3, |s| &s.del), &walls(0, |s| &s.del))
    );
    print_peaks(bench)
}

/// One more ADD each, every plugin started by a parent that is smaller than any of them.
fn print_peaks(bench: &Bench) -> Result<()> {
    println!("\nPeak memory of an ADD (the largest process of the chain)");
    for way in [
        Way::Slash32,
        Way::Slash32HostPort,
        Way::Ptp,
        Way::PtpPortmap,
    ] {
        let pod = PodNetns::new("bench-pod")?;
        run_chain(bench, way, "ADD", &pod, Launch::Measured)?;
        let mut largest = 0;
        for conf in configurations(way) {
            let peak =
                std::fs::read_to_string(peak_file(conf["type"].as_str().unwrap_or_default()))?;
            largest = largest.max(peak.trim().parse::<u64>()?);
        }
        run_chain(bench, way, "DEL", &pod, Launch::Direct)?;
        println!("{:<28} {largest:>9} KiB", way.label());
    }
    Ok(())
}

/// How a plugin is started.
#[derive(Clone, Copy)]
enum Launch {
    Direct,
    /// By the launcher that writes the peak RSS to [`peak_file`].
    Measured,
}

fn peak_file(plugin: &str) -> String {
    format!("/run/peak.{plugin}")
}

fn walls(costs: &[Cost]) -> Vec<Duration> {
    costs.iter().map(|cost| cost.wall).collect()
}

fn print_row(way: Way, costs: &[Cost], floor: &[Cost], ptp: &[Cost]) {
    let wall = summarize(walls(costs));
    let cpu = summarize(costs.iter().map(|cost| cost.cpu).collect());
    println!(
        "{:<28} {:>9.2} {:>8.2} {:>7.2} {:>8.2} {:>9.2} {:>7.2}",
        way.label(),
        ms(wall.median),
        ms(wall.p95),
        ms(wall.min),
        ms(cpu.median),
        median_ratio(&walls(costs), &walls(floor)),
        median_ratio(&walls(costs), &walls(ptp)),
    );
}

fn run_rounds(bench: &Bench) -> Result<Vec<Samples>> {
    let mut samples: Vec<Samples> = Way::ALL.iter().map(|_| Samples::default()).collect();
    for round in 0..bench.options.rounds {
        for turn in 0..Way::ALL.len() {
            // Another order each round (5 is prime), so that nobody always follows the same neighbour.
            let position = (turn * (1 + round % 4) + round) % Way::ALL.len();
            let way = Way::ALL[position];
            let (add, del) = attach_and_detach(bench, way)
                .with_context(|| format!("{} in round {round}", way.label()))?;
            samples[position].add.push(add);
            samples[position].del.push(del);
        }
    }
    Ok(samples)
}

/// One pod's life: namespace, ADD (looked at), DEL (looked at). Only ADD and DEL are timed.
fn attach_and_detach(bench: &Bench, way: Way) -> Result<(Cost, Cost)> {
    let pod = PodNetns::new("bench-pod")?;
    let add = match way {
        Way::Floor => floor(
            bench,
            &["add", &pod.path(), "s32floor", "eth0", "10.244.9.9"],
        )?,
        _ => run_chain(bench, way, "ADD", &pod, Launch::Direct)?,
    };
    let present = Command::new("ip")
        .args([
            "-n",
            "bench-pod",
            "-4",
            "-o",
            "address",
            "show",
            "dev",
            "eth0",
        ])
        .output()?;
    if !String::from_utf8_lossy(&present.stdout).contains("inet ") {
        bail!("after ADD the pod has no address on eth0");
    }
    let del = match way {
        Way::Floor => floor(bench, &["del", "s32floor"])?,
        _ => run_chain(bench, way, "DEL", &pod, Launch::Direct)?,
    };
    if Command::new("ip")
        .args(["-n", "bench-pod", "link", "show", "eth0"])
        .output()?
        .status
        .success()
    {
        bail!("after DEL the pod still has eth0");
    }
    Ok((add, del))
}

fn floor(bench: &Bench, arguments: &[&str]) -> Result<Cost> {
    Ok(run_process(Command::new(&bench.options.floor).args(arguments), b"")?.1)
}

/// The plugins of a chain one after another, as a runtime executes them; DEL in reverse.
fn run_chain(bench: &Bench, way: Way, verb: &str, pod: &PodNetns, launch: Launch) -> Result<Cost> {
    let mut chain = configurations(way);
    if verb == "DEL" {
        chain.reverse();
    }
    let mut total = Cost::default();
    let mut previous: Option<Value> = None;
    for mut conf in chain {
        let plugin = conf["type"].as_str().unwrap_or_default().to_owned();
        if let Some(result) = &previous {
            conf["prevResult"] = result.clone();
        } else if verb == "DEL" && plugin == "portmap" {
            conf["prevResult"] =
                json!({"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.2/24"}]});
        }
        let folder = if plugin == "slash32" {
            &bench.options.binaries
        } else {
            &bench.options.reference
        };
        let (output, cost) = run_process(
            &mut plugin_command(bench, folder, &plugin, verb, pod, launch),
            conf.to_string().as_bytes(),
        )?;
        total = total + cost;
        previous = serde_json::from_str(&output).ok();
    }
    Ok(total)
}

fn plugin_command(
    bench: &Bench,
    folder: &Path,
    plugin: &str,
    verb: &str,
    pod: &PodNetns,
    launch: Launch,
) -> Command {
    let program = folder.join(plugin);
    let mut command = match launch {
        Launch::Direct => Command::new(program),
        Launch::Measured => {
            let mut command = Command::new(&bench.options.floor);
            command.args(["peak", &peak_file(plugin)]).arg(program);
            command
        }
    };
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("CNI_COMMAND", verb)
        .env("CNI_CONTAINERID", "bench")
        .env("CNI_NETNS", pod.path())
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", folder)
        .env(
            "CNI_ARGS",
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=bench",
        );
    command
}

fn configurations(way: Way) -> Vec<Value> {
    let slash32 = json!({"cniVersion": "1.0.0", "name": "slash32", "type": "slash32", "mtu": 1500, "ipam": {"type": "slash32-ipam", "ranges": [[{"subnet": "10.244.1.0/24"}]]}});
    let ptp = json!({"cniVersion": "1.0.0", "name": "ptp", "type": "ptp", "mtu": 1500, "ipam": {"type": "host-local", "dataDir": "/run/host-local", "ranges": [[{"subnet": "10.1.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}});
    let ports =
        json!({"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]});
    let with_ports = |mut conf: Value| {
        conf["runtimeConfig"] = ports.clone();
        conf
    };
    let portmap = json!({"cniVersion": "1.0.0", "name": "ptp", "type": "portmap", "snat": true});
    match way {
        Way::Floor => vec![],
        Way::Slash32 => vec![slash32],
        Way::Ptp => vec![ptp],
        Way::Slash32HostPort => vec![with_ports(slash32)],
        Way::PtpPortmap => vec![ptp, with_ports(portmap)],
    }
}
