//! Host ports: what a new one costs, and a connection through it, with 1 and with 10,000 in place.

use crate::measure::{ms, run_process, summarize};
use crate::setup::{Bench, PodNetns};
use anyhow::{Context, Result, bail};
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::json;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const CONNECTIONS: usize = 2000;
const ADDS: usize = 30;

pub(crate) fn run(bench: &Bench) -> Result<()> {
    println!(
        "\nHost ports in place            ADD of one more, median ms   connect through it, median us   p95 us"
    );
    let mut first: Option<(Duration, Duration)> = None;
    for count in [0u32, 1_000, 10_000] {
        fill(count)?;
        let (add, connect) =
            measure(bench).with_context(|| format!("with {count} host ports in place"))?;
        let (base_add, base_connect) = *first.get_or_insert((add.median, connect.median));
        println!(
            "{count:>8} {:>38.2} {:>31.1} {:>8.1}   ({:.2}x, {:.2}x of the first)",
            ms(add.median),
            ms(connect.median) * 1e3,
            ms(connect.p95) * 1e3,
            add.median.as_secs_f64() / base_add.as_secs_f64(),
            connect.median.as_secs_f64() / base_connect.as_secs_f64(),
        );
    }
    fill(0)
}

/// Makes `count` elements of other pods be in the map, by nft.
fn fill(count: u32) -> Result<()> {
    let mut script = String::from("flush map inet slash32 hostports4-any\n");
    for chunk in (0..count).collect::<Vec<_>>().chunks(1000) {
        let elements: Vec<String> = chunk
            .iter()
            .map(|n| {
                format!(
                    "{} . {} : 10.244.2.{} . {}",
                    if n % 2 == 0 { "tcp" } else { "udp" },
                    20_000 + n / 2,
                    n % 250 + 1,
                    1000 + n % 9000
                )
            })
            .collect();
        script.push_str(&format!(
            "add element inet slash32 hostports4-any {{ {} }}\n",
            elements.join(", ")
        ));
    }
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .context("start nft")?;
    nft.stdin
        .take()
        .context("no pipe to nft")?
        .write_all(script.as_bytes())?;
    if !nft.wait()?.success() {
        bail!("nft refused the host ports of the bench");
    }
    Ok(())
}

fn measure(bench: &Bench) -> Result<(crate::measure::Summary, crate::measure::Summary)> {
    let mut adds = Vec::new();
    for turn in 0..ADDS {
        let pod = PodNetns::new("bench-port")?;
        adds.push(call(bench, "ADD", &pod, turn)?);
        call(bench, "DEL", &pod, turn)?;
    }
    let pod = PodNetns::new("bench-port")?;
    call(bench, "ADD", &pod, ADDS)?;
    let server = serve(&pod.path())?;
    let connects = in_namespace("/run/netns/client", connect_many)?;
    drop(server);
    call(bench, "DEL", &pod, ADDS)?;
    Ok((summarize(adds), summarize(connects?)))
}

fn call(bench: &Bench, verb: &str, pod: &PodNetns, turn: usize) -> Result<Duration> {
    let conf = json!({
        "cniVersion": "1.0.0", "name": "slash32", "type": "slash32", "mtu": 1500,
        "ipam": {"type": "slash32-ipam", "ranges": [[{"subnet": "10.244.1.0/24"}]]},
        "runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]},
    });
    let mut command = Command::new(bench.slash32());
    command
        .env("CNI_COMMAND", verb)
        .env("CNI_CONTAINERID", format!("port-{turn}"))
        .env("CNI_NETNS", pod.path())
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", &bench.options.binaries);
    Ok(run_process(&mut command, conf.to_string().as_bytes())?
        .1
        .wall)
}

/// Accepts and drops connections on port 80 of the pod until the program ends.
fn serve(netns: &str) -> Result<std::sync::Arc<TcpListener>> {
    let listener = std::sync::Arc::new(in_namespace(netns, || TcpListener::bind("0.0.0.0:80"))??);
    let accepting = listener.clone();
    std::thread::spawn(move || {
        for stream in accepting.incoming().take(CONNECTIONS) {
            drop(stream);
        }
    });
    Ok(listener)
}

/// Connection set-up only: what DNAT's first packet costs.
fn connect_many() -> Result<Vec<Duration>> {
    let address = "192.0.2.1:8080".parse()?;
    let mut took = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let started = Instant::now();
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        took.push(started.elapsed());
        // No TIME_WAIT: thousands of connections between one pair of addresses.
        setsockopt(
            &stream,
            sockopt::Linger,
            &libc::linger {
                l_onoff: 1,
                l_linger: 0,
            },
        )?;
    }
    Ok(took)
}

/// On a thread of its own, which ends there: no other thread ever leaves its namespace.
fn in_namespace<T: Send + 'static>(
    path: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let file = std::fs::File::open(path).with_context(|| format!("open {path}"))?;
    std::thread::spawn(move || -> Result<T> {
        nix::sched::setns(&file, nix::sched::CloneFlags::CLONE_NEWNET)?;
        Ok(work())
    })
    .join()
    .map_err(|_| anyhow::anyhow!("the thread in {path} ended by a panic"))?
}
