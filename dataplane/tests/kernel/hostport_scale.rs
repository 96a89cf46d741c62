//! Host ports by the thousand: one more costs the same as the first.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use dataplane::hostport::{HostPortError, Nfnetlink, PortEntry};

use crate::hostports::{entry, lay_table};
use crate::lab::{self, Case};

pub(crate) const TRIALS: &[Case] = &[
    (
        "hostport_scale::ten_thousand_in_one_transaction_and_one_more_costs_the_same",
        ten_thousand_and_one_more,
    ),
    (
        "hostport_scale::one_taken_among_three_thousand_adds_none",
        one_taken_among_three_thousand_adds_none,
    ),
];

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn ten_thousand_and_one_more() {
    let mut nfnetlink = lay_table();
    let one_more = |nfnetlink: &mut Nfnetlink| {
        let sample = |i: u16| {
            let one = [entry(Some("198.51.100.1"), i + 1, "10.2.0.5", 80)];
            let start = Instant::now();
            nfnetlink.add_host_ports(&one).unwrap();
            let time = start.elapsed();
            nfnetlink
                .remove_host_ports(&one, &["10.2.0.5".parse().unwrap()])
                .unwrap();
            time
        };
        median((0..51).map(sample).collect())
    };
    let empty = one_more(&mut nfnetlink);
    let many: Vec<_> = (0..10_000_u16)
        .map(|i| {
            entry(
                Some("192.0.2.1"),
                i + 1,
                &format!("10.1.{}.{}", i / 200, i % 200 + 1),
                80,
            )
        })
        .collect();
    let start = Instant::now();
    match nfnetlink.add_host_ports(&many) {
        // Root of a user namespace may not widen the socket's buffer so far.
        Err(HostPortError::Kernel(error))
            if error.errno == nix::libc::EMSGSIZE && lab::in_user_namespace() =>
        {
            many.chunks(5000)
                .for_each(|chunk| nfnetlink.add_host_ports(chunk).unwrap());
        }
        result => result.unwrap(),
    }
    let all = start.elapsed();
    let full = one_more(&mut nfnetlink);
    println!("host ports: one more with 0 {empty:?}, with 10,000 {full:?}; 10,000 at once {all:?}");
    assert!(
        full < empty * 3 / 2 + Duration::from_micros(20),
        "{empty:?} {full:?}"
    );
    assert_eq!(nfnetlink.list_host_ports().unwrap().len(), 10_000);
    many.chunks(5000)
        .for_each(|chunk| nfnetlink.remove_host_ports(chunk, &pods(chunk)).unwrap());
    assert!(
        nfnetlink.list_host_ports().unwrap().is_empty()
            && nfnetlink.list_hairpin().unwrap().is_empty()
    );
}

fn pods(entries: &[PortEntry]) -> Vec<IpAddr> {
    entries.iter().map(|entry| entry.pod_ip).collect()
}

fn one_taken_among_three_thousand_adds_none() {
    let mut nfnetlink = lay_table();
    nfnetlink
        .add_host_ports(&[entry(None, 1700, "10.9.0.9", 80)])
        .unwrap();
    let many: Vec<_> = (1..3000)
        .map(|port| entry(None, port, "10.1.0.5", 80))
        .collect();
    assert!(
        matches!(nfnetlink.add_host_ports(&many), Err(HostPortError::Taken { entry, .. }) if entry.key.host_port == 1700)
    );
    assert_eq!(nfnetlink.list_host_ports().unwrap().len(), 1);
}
