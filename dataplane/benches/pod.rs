//! What the kernel's part of an ADD costs beyond the start of the process: sockets, the pair, both sides.
//!
//! `cargo bench -p dataplane` as root; in namespaces of its own. Prints medians and 95th percentiles in microseconds.

use std::error::Error;
use std::io::Write;
use std::net::IpAddr;
use std::thread;
use std::time::Instant;

use dataplane::link::VethSpec;
use dataplane::names::HOST_MAC;
use dataplane::netlink::Netlink;
use dataplane::netns::Netns;
use dataplane::pod_side::{HostSideSpec, PodRoute, PodSideSpec};
use nix::sched::{CloneFlags, unshare};

const ROUNDS: usize = 300;
const POD_MAC: [u8; 6] = [2, 0, 0, 0, 0, 5];

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let mut out = std::io::stdout();
    let cases: [(&str, &[&str]); 2] = [
        ("ipv4", &["10.1.0.5"]),
        ("dual-stack", &["10.1.0.5", "fd00:1::5"]),
    ];
    for (name, addresses) in cases {
        let addresses: Vec<IpAddr> = addresses
            .iter()
            .map(|ip| ip.parse())
            .collect::<Result<_, _>>()?;
        let mut columns: [Vec<u128>; 5] = Default::default();
        for _ in 0..ROUNDS {
            let times = attach(&addresses)?;
            let total = times.iter().sum();
            columns
                .iter_mut()
                .zip(times.into_iter().chain([total]))
                .for_each(|(column, time)| column.push(time));
        }
        for (step, mut column) in ["sockets", "veth", "pod's side", "host's side", "all"]
            .into_iter()
            .zip(columns)
        {
            column.sort_unstable();
            let (median, p95) = (column[ROUNDS / 2], column[ROUNDS * 95 / 100]);
            writeln!(
                out,
                "{name:<10} {step:<12} median {median:>4} us, p95 {p95:>4} us"
            )?;
        }
    }
    Ok(())
}

/// One pod: microseconds of each step. The namespace is made before, the link removed afterwards, both unmeasured.
fn attach(addresses: &[IpAddr]) -> Outcome<[u128; 4]> {
    let make = || {
        unshare(CloneFlags::CLONE_NEWNET)
            .ok()
            .and_then(|()| Netns::current().ok())
    };
    let netns = thread::spawn(make)
        .join()
        .ok()
        .flatten()
        .ok_or("no namespace for the pod")?;
    let start = Instant::now();
    let mut host = Netlink::open()?;
    let mut pod = Netlink::open_in(&netns)?;
    let opened = start.elapsed();
    let pair = host.create_veth(&VethSpec {
        host_name: "s32bench",
        host_mac: HOST_MAC,
        alias: Some("default/bench eth0"),
        pod_name: "eth0",
        pod_mac: Some(POD_MAC),
        pod_netns: &netns,
        mtu: Some(1500),
    })?;
    let made = start.elapsed();
    let routes = addresses
        .iter()
        .map(default_route)
        .collect::<Outcome<_>>()?;
    let (index, gateway_mac) = (pair.pod_index, HOST_MAC);
    pod.configure_pod_side(&PodSideSpec {
        index,
        addresses: addresses.to_vec(),
        gateway_mac,
        routes,
    })?;
    let inside = start.elapsed();
    let (index, pod_mac) = (pair.host_index, POD_MAC);
    host.configure_host_side(&HostSideSpec {
        index,
        addresses: addresses.to_vec(),
        pod_mac,
    })?;
    let outside = start.elapsed();
    host.remove_link("s32bench")?;
    Ok([opened, made - opened, inside - made, outside - inside].map(|time| time.as_micros()))
}

fn default_route(ip: &IpAddr) -> Outcome<PodRoute> {
    let dst = if ip.is_ipv4() { "0.0.0.0/0" } else { "::/0" }.parse()?;
    Ok(PodRoute {
        dst,
        gw: None,
        mtu: None,
        advmss: None,
        priority: None,
        table: None,
        scope: None,
    })
}
