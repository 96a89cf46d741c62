//! The agent with a real API server: memory at rest and at its peak, start to all routes, and from a new Node to its
//! route, with 3 and with 5,000 Nodes of the size of real ones, while all kubelets send heartbeats and while none does.

use crate::agent::{Agent, RouteMonitor, own_routes, wait_for_routes};
use crate::measure::{ms, summarize};
use crate::setup::{Bench, run as run_program};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use slash32_tests::api_server::{self, ApiServer};
use slash32_tests::machine::Machine;
use std::time::{Duration, Instant};

const ACCOUNT: &str = "/run/secrets/kubernetes.io/serviceaccount";
const RBAC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/base/rbac.yaml");
/// Nodes that come one by one, for the median.
const NEWCOMERS: usize = 20;
/// What is told of a busy cluster: Node updates a second, as 5,000 kubelets send them in five minutes.
const HEARTBEATS: usize = 170;
/// Memory is looked at after this long without anything new.
const REST: Duration = Duration::from_secs(12);

pub(crate) fn run(bench: &Bench) -> Result<()> {
    if let Err(reason) = api_server::tools() {
        println!("\nAgent with an API server: not measured, {reason}");
        return Ok(());
    }
    // Beside the node, and reached by the same link as its peers.
    let control = Machine::new("control")?;
    run_program(
        "ip",
        &[
            "link", "add", "control", "type", "veth", "peer", "name", "eth0", "netns", "control",
        ],
    )?;
    run_program(
        "ip",
        &["address", "add", "198.51.100.1/24", "dev", "control"],
    )?;
    run_program("ip", &["link", "set", "control", "up"])?;
    control.run(&["ip", "address", "add", "198.51.100.2/24", "dev", "eth0"])?;
    control.run(&["ip", "link", "set", "eth0", "up"])?;
    let api = ApiServer::start(&control, "198.51.100.2")?;
    api.run_kubectl(&["apply", "-f", RBAC])?;
    std::fs::create_dir_all(ACCOUNT)?;
    std::fs::copy(api.certificates.path("ca.crt"), format!("{ACCOUNT}/ca.crt"))?;
    std::fs::write(format!("{ACCOUNT}/namespace"), "kube-system")?;
    std::fs::write(format!("{ACCOUNT}/token"), api.token("slash32-agent")?)?;
    println!(
        "\nAgent, API server     all routes after ms   RSS at rest KiB   peak KiB   new Node to route ms (median, max of {NEWCOMERS})   of it in the agent ms   CPU of a change ms   CPU at {HEARTBEATS} heartbeats/s"
    );
    let mut made = 0;
    for nodes in [3, 5000] {
        create_nodes(&api, made, nodes)?;
        made = nodes;
        measure(bench, &api, nodes)?;
        run_program("ip", &["route", "flush", "proto", "32"])?;
    }
    Ok(())
}

fn measure(bench: &Bench, api: &ApiServer, nodes: usize) -> Result<()> {
    let started = Instant::now();
    let agent = Agent::start_with(
        bench,
        &["--listen", "127.0.0.1:9533"],
        &[
            ("KUBERNETES_SERVICE_HOST", "198.51.100.2"),
            ("KUBERNETES_SERVICE_PORT", "6443"),
        ],
    )?;
    wait_for_routes(nodes - 1)?;
    let synced = started.elapsed();
    std::thread::sleep(REST);
    let (rss, peak) = (agent.memory_kib("VmRSS:")?, agent.memory_kib("VmHWM:")?);
    let (before, cpu_before) = (sum_of_agent()?, agent.cpu()?);
    let newcomers = measure_newcomers(api, nodes)?;
    let after = sum_of_agent()?;
    // Each comes and goes.
    let cpu_of_change = (agent.cpu()? - cpu_before) / (2 * NEWCOMERS as u32);
    let inside = (after.0 - before.0) / (after.1 - before.1) * 1e3;
    let worst = newcomers.iter().max().copied().unwrap_or_default();
    let cpu = measure_heartbeats(api, &agent, nodes)?;
    println!(
        "{nodes:>6} nodes {:>20.1} {rss:>17} {peak:>10} {:>24.2} {:>8.2} {inside:>24.2} {:>20.2} {:>17.1} %",
        ms(synced),
        ms(summarize(newcomers).median),
        ms(worst),
        ms(cpu_of_change),
        cpu * 100.0
    );
    Ok(())
}

/// From just before a Node is posted to the kernel's event of its route: the API server's own time and etcd's included.
fn measure_newcomers(api: &ApiServer, nodes: usize) -> Result<Vec<Duration>> {
    let mut monitor = RouteMonitor::start()?;
    (0..NEWCOMERS)
        .map(|n| {
            let node = node_object(100_000 + n, &format!("10.64.{n}.0/24"), "192.0.100.1");
            std::thread::sleep(Duration::from_millis(300));
            let posted = monitor.now()?;
            api.must("POST", "/api/v1/nodes", Some(&node))?;
            let took = monitor.time_until_made(&format!("10.64.{n}.0/24"), posted)?;
            api.must("DELETE", &format!("/api/v1/nodes/n{}", 100_000 + n), None)?;
            wait_until_routes_are(nodes - 1)?;
            Ok(took)
        })
        .collect()
}

fn wait_until_routes_are(count: usize) -> Result<()> {
    let patience = Duration::from_secs(30);
    slash32_tests::wait::until("the newcomer's route is gone", patience, || {
        Ok(own_routes()?.len() == count)
    })
    .map(drop)
}

/// Sum (in seconds) and count of slash32_view_to_kernel_seconds: from an event's arrival to the end of its pass.
fn sum_of_agent() -> Result<(f64, f64)> {
    let output = std::process::Command::new("curl")
        .args(["-s", "http://127.0.0.1:9533/metrics"])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let value = |name: &str| -> Result<f64> {
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("slash32_view_to_kernel_seconds_{name} ")));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
        value.with_context(|| format!("no {name} in the agent's metrics"))
    };
    Ok((value("sum")?, value("count")?))
}

/// The share of one core that the agent takes while kubelets report.
fn measure_heartbeats(api: &ApiServer, agent: &Agent, nodes: usize) -> Result<f64> {
    let threads = 4;
    let for_seconds = 10;
    let before = agent.cpu()?;
    let started = Instant::now();
    let sent: usize = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || -> Result<usize> {
                    let mut sent = 0;
                    while started.elapsed() < Duration::from_secs(for_seconds) {
                        let n = (sent * threads + thread) % nodes;
                        let beat = json!({"status": {"conditions": [{"type": "Ready", "lastHeartbeatTime": format!("2026-11-21T{:02}:{:02}:{:02}Z", sent / 3600 % 24, sent / 60 % 60, sent % 60)}]}});
                        api.must("PATCH", &format!("/api/v1/nodes/n{}/status", n + 1), Some(&beat))?;
                        sent += 1;
                        let due = Duration::from_secs_f64((sent * threads) as f64 / HEARTBEATS as f64);
                        std::thread::sleep(due.saturating_sub(started.elapsed()));
                    }
                    Ok(sent)
                })
            })
            .collect();
        handles
            .into_iter()
            .map(|handle| handle.join().unwrap_or(Ok(0)))
            .sum::<Result<usize>>()
    })?;
    anyhow::ensure!(sent > 0, "no heartbeat was sent");
    let took = started.elapsed();
    let share = (agent.cpu()? - before).as_secs_f64() / took.as_secs_f64();
    // As if all had been sent in time: a busy API server takes fewer.
    Ok(share * HEARTBEATS as f64 * took.as_secs_f64() / sent as f64)
}

/// Nodes from `made` to `wanted`, by several at once.
fn create_nodes(api: &ApiServer, made: usize, wanted: usize) -> Result<()> {
    let threads = 8;
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || -> Result<()> {
                    for n in (made..wanted).skip(thread).step_by(threads) {
                        let cidr = match n {
                            0 => "10.244.1.0/24".to_owned(),
                            _ => format!("10.{}.{}.0/24", 128 + n / 256, n % 256),
                        };
                        let address = match n {
                            0 => "192.0.2.1".to_owned(),
                            _ => format!("192.0.{}.{}", 2 + n / 250, n % 250 + 1),
                        };
                        api.must(
                            "POST",
                            "/api/v1/nodes",
                            Some(&node_object(n + 1, &cidr, &address)),
                        )?;
                    }
                    Ok(())
                })
            })
            .collect();
        handles
            .into_iter()
            .try_for_each(|handle| handle.join().unwrap_or(Ok(())))
    })
}

/// Between 5 and 6 KB as the API server sends it, with what makes up a real one: images, conditions, labels.
fn node_object(number: usize, cidr: &str, address: &str) -> Value {
    let name = format!("n{number}");
    let images: Vec<Value> = (0..22)
        .map(|image| {
            json!({"names": [format!("registry.example.org/project/component-{image}@sha256:{:064x}", image * 7919 + number), format!("registry.example.org/project/component-{image}:v1.{image}.3")], "sizeBytes": 30_000_000 + image})
        })
        .collect();
    let condition = |kind: &str, status: &str, reason: &str| json!({"type": kind, "status": status, "reason": reason, "message": format!("kubelet has told {reason}"), "lastHeartbeatTime": "2026-11-21T08:00:00Z", "lastTransitionTime": "2026-11-21T07:00:00Z"});
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", "kubernetes.io/hostname": name, "topology.kubernetes.io/zone": "zone-a", "node.kubernetes.io/instance-type": "large"},
            "annotations": {"node.alpha.kubernetes.io/ttl": "0", "volumes.kubernetes.io/controller-managed-attach-detach": "true"},
        },
        "spec": {"podCIDR": cidr, "podCIDRs": [cidr], "providerID": format!("bench:///{name}")},
        "status": {
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
            "capacity": {"cpu": "16", "memory": "65536Mi", "pods": "110", "ephemeral-storage": "100Gi"},
            "allocatable": {"cpu": "15", "memory": "64000Mi", "pods": "110", "ephemeral-storage": "90Gi"},
            "conditions": [condition("MemoryPressure", "False", "KubeletHasSufficientMemory"), condition("DiskPressure", "False", "KubeletHasNoDiskPressure"), condition("PIDPressure", "False", "KubeletHasSufficientPID"), condition("Ready", "True", "KubeletReady")],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "images": images,
            "nodeInfo": {"architecture": "amd64", "bootID": "b", "containerRuntimeVersion": "containerd://2.1.4", "kernelVersion": "6.18.0", "kubeProxyVersion": "", "kubeletVersion": "v1.36.3", "machineID": "m", "operatingSystem": "linux", "osImage": "Debian GNU/Linux 12", "systemUUID": "s"},
        },
    })
}
