//! Bandwidth: what `tc` shows, what is read back, and what iperf3 measures.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dataplane::netlink::Netlink;
use dataplane::netns::Netns;
use dataplane::shaping::Shaping;

use crate::lab::{self, Case, Pod, run, run_in};

pub(crate) const TRIALS: &[Case] = &[
    (
        "shaping::what_is_applied_is_shown_by_tc_and_read_back",
        what_is_applied_is_read_back,
    ),
    (
        "shaping::an_unlimited_pod_has_no_queue_and_no_ifb",
        an_unlimited_pod_has_nothing,
    ),
    (
        "shaping::a_lost_redirect_is_seen_c4",
        a_lost_redirect_is_seen,
    ),
    (
        "shaping::applying_again_over_leftovers_works",
        applying_again_over_leftovers_works,
    ),
    (
        "shaping::a_foreign_device_of_the_shapers_name_is_an_error",
        a_foreign_device_is_an_error,
    ),
    (
        "shaping::iperf3_measures_both_limits_within_15_percent_x4",
        iperf3_measures_both_limits,
    ),
];

fn mbit(ingress: u64, egress: u64) -> Shaping {
    let burst = 800_000;
    Shaping {
        ingress_rate: ingress * 1_000_000,
        ingress_burst: burst,
        egress_rate: egress * 1_000_000,
        egress_burst: burst,
    }
}

fn pod() -> (Netlink, Pod) {
    let mut host = Netlink::open().unwrap();
    let pod = Pod::new(&mut host, "s32a", &["10.1.0.2"]);
    (host, pod)
}

fn what_is_applied_is_read_back() {
    let (mut host, pod) = pod();
    for shaping in [
        mbit(20, 40),
        Shaping {
            ingress_rate: 100_000_000_000,
            ingress_burst: (1 << 32) - 1,
            egress_rate: 8_000,
            egress_burst: 8,
        },
    ] {
        host.apply_shaping(pod.pair.host_index, "b32a", 1450, &shaping)
            .unwrap();
        assert_eq!(
            host.find_shaping(pod.pair.host_index, "b32a").unwrap(),
            shaping.effective(1450)
        );
    }
    host.apply_shaping(pod.pair.host_index, "b32a", 1450, &mbit(20, 40))
        .unwrap();
    assert_eq!(mbit(20, 40).effective(1450), mbit(20, 40));
    let shown = run("tc", "qdisc show dev s32a");
    assert!(
        shown.contains("qdisc tbf 1: root") && shown.contains("rate 20Mbit burst 100000b lat 25"),
        "{shown}"
    );
    assert!(shown.contains("qdisc ingress ffff:"), "{shown}");
    assert!(run("tc", "qdisc show dev b32a").contains("rate 40Mbit burst 100000b"));
    let filter = run("tc", "filter show dev s32a parent ffff:");
    assert!(
        filter.contains("mirred (Egress Redirect to device b32a)"),
        "{filter}"
    );
    assert!(run("ip", "link show b32a").contains("mtu 1450"));
    assert!(host.remove_link("b32a").unwrap());
}

fn an_unlimited_pod_has_nothing() {
    let (mut host, pod) = pod();
    host.apply_shaping(pod.pair.host_index, "b32a", 1450, &Shaping::default())
        .unwrap();
    assert_eq!(
        host.find_shaping(pod.pair.host_index, "b32a").unwrap(),
        Shaping::default()
    );
    assert_eq!(host.find_link("b32a").unwrap(), None);
    assert!(run("tc", "qdisc show dev s32a").contains("noqueue"));
}

fn a_lost_redirect_is_seen() {
    let (mut host, pod) = pod();
    host.apply_shaping(pod.pair.host_index, "b32a", 1450, &mbit(20, 40))
        .unwrap();
    run("tc", "filter del dev s32a parent ffff:");
    let found = host.find_shaping(pod.pair.host_index, "b32a").unwrap();
    assert_eq!((found.ingress_rate, found.egress_rate), (20_000_000, 0));
    run("tc", "qdisc del dev s32a ingress");
    run("tc", "qdisc del dev s32a root");
    assert_eq!(
        host.find_shaping(pod.pair.host_index, "b32a").unwrap(),
        Shaping::default()
    );
}

fn applying_again_over_leftovers_works() {
    let (mut host, pod) = pod();
    host.apply_shaping(pod.pair.host_index, "b32a", 1450, &mbit(20, 40))
        .unwrap();
    // As after an ADD that was killed: the ifb is another one now, the redirect points at nothing.
    host.remove_link("b32a").unwrap();
    run("ip", "link add b32a type ifb");
    host.apply_shaping(pod.pair.host_index, "b32a", 1450, &mbit(30, 50))
        .unwrap();
    assert_eq!(
        host.find_shaping(pod.pair.host_index, "b32a").unwrap(),
        mbit(30, 50)
    );
    assert_eq!(
        run("tc", "filter show dev s32a parent ffff:")
            .matches("Egress Redirect")
            .count(),
        1
    );
}

fn a_foreign_device_is_an_error() {
    let (mut host, pod) = pod();
    run("ip", "link add b32a type bridge");
    let error = host
        .apply_shaping(pod.pair.host_index, "b32a", 1450, &mbit(0, 40))
        .unwrap_err();
    assert!(
        error.is_exists()
            && error
                .to_string()
                .contains("create ifb b32a: a bridge has that name"),
        "{error}"
    );
}

/// An iperf3 server in the pod, ended with this.
struct Server(Child);

impl Server {
    fn start(netns: &Netns) -> Server {
        let spawn = || {
            Command::new("iperf3")
                .args(["-s"])
                .stdout(Stdio::null())
                .spawn()
                .expect("iperf3")
        };
        let server = Server(netns.run(spawn).expect("enter"));
        for _ in 0..100 {
            if run_in(netns, "ss", "-Hltn sport = :5201").contains("5201") {
                return server;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("iperf3 does not listen");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// Megabits per second that arrived, the first second left out.
fn measure(arguments: &str) -> f64 {
    let report = run("iperf3", &format!("-c 10.1.0.2 -t 3 -O 1 -f m {arguments}"));
    let line = report
        .lines()
        .find(|line| line.trim_end().ends_with("receiver"))
        .expect("a receiver's line");
    let words: Vec<_> = line.split_whitespace().collect();
    let at = words
        .iter()
        .position(|word| *word == "Mbits/sec")
        .expect("a rate");
    words[at - 1].parse().expect("a number")
}

fn iperf3_measures_both_limits() {
    lab::forward();
    let (mut host, pod) = pod();
    run("ip", "addr add 192.0.2.1/32 dev lo");
    host.apply_shaping(pod.pair.host_index, "b32a", 1450, &mbit(20, 40))
        .unwrap();
    let _server = Server::start(&pod.netns);
    let (to_pod, from_pod) = (measure(""), measure("-R"));
    println!(
        "shaping: towards the pod {to_pod} of 20 Mbit/s, from the pod {from_pod} of 40 Mbit/s"
    );
    for (measured, wanted) in [(to_pod, 20.0), (from_pod, 40.0)] {
        assert!(
            (measured - wanted).abs() < wanted * 0.15,
            "{measured} of {wanted} Mbit/s"
        );
    }
}
