//! What an allocation and its release cost with many claims present:
//! `cargo run --release -p ipam --example cost -- /dev/shm/s32 250 3000` (folder, claims, rounds, ranges as JSON).

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a tool for developers

use ipam::{Holder, Ipam, IpamConfig};
use node_state::record::AttachmentKey;
use std::time::{Duration, Instant};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().expect("a folder, best on a tmpfs");
    let claims: usize = arguments.next().map_or(250, |text| text.parse().unwrap());
    let rounds: usize = arguments.next().map_or(1000, |text| text.parse().unwrap());
    let ranges = arguments
        .next()
        .unwrap_or_else(|| r#"{"ranges":[[{"subnet":"10.0.0.0/15"}]]}"#.to_owned());
    let value: serde_json::Value = serde_json::from_str(&ranges).unwrap();
    let config = IpamConfig::parse(value.as_object().unwrap(), None).unwrap();

    let ipam = Ipam::open(folder, "cost", Holder::Slash32);
    for i in 0..claims {
        ipam.allocate(&key("held", i), &config, &[]).unwrap();
    }
    let (mut allocate, mut release, mut refused) = (Vec::new(), Vec::new(), 0);
    for i in 0..rounds {
        allocate.push(time(|| {
            refused += usize::from(ipam.allocate(&key("new", i), &config, &[]).is_err())
        }));
        release.push(time(|| drop(ipam.release(&key("new", i)).unwrap())));
    }
    println!(
        "{claims} claims: allocate {} ({refused} refused), release {}",
        percentiles(allocate),
        percentiles(release)
    );
    let again = time(|| drop(ipam.release(&key("new", 0)).unwrap()));
    let usage = time(|| assert!(ipam.usage(&config).is_ok()));
    println!("release of nothing {again:?}, usage {usage:?}");
}

fn key(kind: &str, number: usize) -> AttachmentKey {
    AttachmentKey {
        network: "cost".into(),
        container_id: format!("{kind}{number:060}"),
        ifname: "eth0".into(),
    }
}

fn time(step: impl FnOnce()) -> Duration {
    let start = Instant::now();
    step();
    start.elapsed()
}

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |percent: usize| {
        times
            .get(times.len() * percent / 100)
            .copied()
            .unwrap_or_default()
    };
    format!("p50 {:?} p95 {:?}", at(50), at(95))
}
