//! What wakes the agent, and what does not.

use std::collections::BTreeSet;
use std::io::pipe;
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use dataplane::events::{Event, watch, watch_until};
use dataplane::hostport::Nfnetlink;
use dataplane::netlink::Netlink;
use dataplane::netns::Netns;
use dataplane::route::{RouteKey, RouteKind, RouteOp, RouteSpec};

use crate::hostports::{TABLE, entry};
use crate::lab::{Case, run};

pub(crate) const TRIALS: &[Case] = &[
    (
        "events::each_change_is_told_by_its_kind_within_milliseconds",
        each_change_is_told_by_its_kind,
    ),
    (
        "events::another_table_does_not_wake_us",
        another_table_does_not_wake_us,
    ),
    (
        "events::an_overrun_is_told_and_watching_goes_on",
        an_overrun_is_told_and_watching_goes_on,
    ),
    (
        "events::a_closed_stop_pipe_ends_the_watch",
        a_closed_stop_pipe_ends_the_watch,
    ),
];

/// A watcher of this namespace on a thread of its own, subscribed when this returns. It ends with the receiver.
fn watcher() -> Receiver<Event> {
    let here = Netns::current().expect("own namespace");
    let (sender, receiver) = channel();
    let body = move || {
        here.run(|| watch(|event| sender.send(event).is_ok()).expect("watch"))
            .expect("enter")
    };
    thread::spawn(body);
    assert_eq!(
        receiver.recv_timeout(Duration::from_secs(5)),
        Ok(Event::Subscribed),
        "the first"
    );
    receiver
}

/// What is told until nothing has come for a while.
fn told(receiver: &Receiver<Event>) -> BTreeSet<Event> {
    let mut events = BTreeSet::new();
    loop {
        match receiver.recv_timeout(Duration::from_millis(150)) {
            Ok(event) => events.insert(event),
            Err(RecvTimeoutError::Timeout) => return events,
            Err(RecvTimeoutError::Disconnected) => panic!("the watcher ended"),
        };
    }
}

fn blackholes(count: u32) -> Vec<RouteSpec> {
    let spec = |i: u32| RouteSpec {
        key: RouteKey::main(
            format!("10.{}.{}.0/24", i / 256, i % 256)
                .parse()
                .expect("a prefix"),
        ),
        kind: RouteKind::Blackhole,
        via: None,
        dev: None,
        onlink: false,
        mtu: None,
        src: None,
    };
    (0..count).map(spec).collect()
}

fn each_change_is_told_by_its_kind() {
    let events = watcher();
    let start = Instant::now();
    run("ip", "route add blackhole 10.1.2.0/24");
    assert_eq!(
        events.recv_timeout(Duration::from_secs(2)),
        Ok(Event::Route)
    );
    println!(
        "events: from starting `ip route add` to the event {:?}",
        start.elapsed()
    );
    run("ip", "route del blackhole 10.1.2.0/24");
    assert_eq!(told(&events), [Event::Route].into());
    run("ip", "link add br0 type bridge");
    assert!(told(&events).contains(&Event::Link));
    run("ip", "addr add 192.0.2.1/24 dev br0");
    assert!(told(&events).contains(&Event::Address));
    run("ip", "-6 addr add 2001:db8::1/64 dev br0 nodad");
    assert!(told(&events).contains(&Event::Address));
    run("ip", "-6 route add blackhole fd00:1::/64");
    assert!(told(&events).contains(&Event::Route));
    dataplane::nft::run_script("nft", TABLE).unwrap();
    assert_eq!(told(&events), [Event::NftTable].into());
    Nfnetlink::open()
        .unwrap()
        .add_host_ports(&[entry(None, 80, "10.1.0.5", 80)])
        .unwrap();
    assert_eq!(told(&events), [Event::NftTable].into());
    run("nft", "flush ruleset");
    assert_eq!(told(&events), [Event::NftTable].into());
}

fn another_table_does_not_wake_us() {
    let events = watcher();
    run("nft", "add table inet slash32x");
    run("nft", "add table ip slash32");
    run("nft", "add chain ip slash32 x");
    run("nft", "delete table inet slash32x");
    assert_eq!(told(&events), BTreeSet::new());
}

fn an_overrun_is_told_and_watching_goes_on() {
    let here = Netns::current().unwrap();
    let (sender, events) = channel();
    let (go, gate) = channel::<()>();
    let body = move || {
        let slow = |event| {
            sender.send(event).expect("the trial listens");
            // Asleep on the first event, as an agent that is starved, until the storm is over.
            gate.recv_timeout(Duration::from_secs(20)).is_ok() || event != Event::Subscribed
        };
        here.run(|| watch(slow).expect("watch")).expect("enter");
    };
    thread::spawn(body);
    assert_eq!(
        events.recv_timeout(Duration::from_secs(5)),
        Ok(Event::Subscribed)
    );
    let specs = blackholes(30_000);
    let mut netlink = Netlink::open().unwrap();
    for chunk in specs.chunks(5000) {
        let adds: Vec<_> = chunk.iter().cloned().map(RouteOp::Add).collect();
        assert!(netlink.apply_routes(&adds).iter().all(Result::is_ok));
    }
    (0..100).for_each(|_| go.send(()).expect("the watcher listens"));
    assert!(told(&events).contains(&Event::Overrun));
    run("ip", "link add br0 type bridge");
    assert!(told(&events).contains(&Event::Link), "watching goes on");
}

fn a_closed_stop_pipe_ends_the_watch() {
    let (reader, writer) = pipe().unwrap();
    let ended = thread::spawn(move || watch_until(reader.as_fd(), |_| true).is_ok());
    thread::sleep(Duration::from_millis(50));
    assert!(!ended.is_finished());
    drop(writer);
    assert!(ended.join().unwrap());
}
