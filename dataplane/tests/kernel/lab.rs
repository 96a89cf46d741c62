//! Namespaces and programs for the trials.

use std::process::{Command, Stdio};
use std::thread;

use dataplane::link::{VethPair, VethSpec};
use dataplane::names::HOST_MAC;
use dataplane::netlink::Netlink;
use dataplane::netns::Netns;
use dataplane::pod_side::{HostSideSpec, PodRoute, PodSideSpec};
use libtest_mimic::Failed;
use nix::sched::{CloneFlags, unshare};

/// A trial's name and body.
pub(crate) type Case = (&'static str, fn());

pub(crate) const POD_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x05];

/// Moves the whole process into namespaces of its own; must run before any thread starts.
pub(crate) fn isolate() -> Result<(), String> {
    let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
    let mut flags = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
    if !uid.is_root() {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    unshare(flags).map_err(|e| format!("unshare: {e}"))?;
    if !uid.is_root() {
        let write = |file: &str, text: String| {
            std::fs::write(file, text).map_err(|e| format!("write {file}: {e}"))
        };
        write("/proc/self/setgroups", "deny".into())?;
        write("/proc/self/uid_map", format!("0 {uid} 1"))?;
        write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    }
    Ok(())
}

/// Root here is not root of the machine.
pub(crate) fn in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").expect("uid_map");
    map.split_whitespace().last() != Some("4294967295")
}

/// Runs the trial on a fresh thread in a fresh network namespace; a panic is a failure.
pub(crate) fn in_fresh_namespace(trial: fn()) -> Result<(), Failed> {
    let body = move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a fresh network namespace");
        run("ip", "link set lo up");
        trial();
    };
    thread::spawn(body).join().map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Failed::from(
            text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
                .unwrap_or_default(),
        )
    })
}

/// A namespace of its own for a pod, loopback up.
pub(crate) fn pod_netns() -> Netns {
    let make = || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a pod's network namespace");
        run("ip", "link set lo up");
        Netns::current().expect("the namespace just made")
    };
    thread::spawn(make)
        .join()
        .expect("thread of the pod's namespace")
}

/// Runs a program with arguments split at white space; its standard output. Panics with its standard error.
pub(crate) fn run(program: &str, arguments: &str) -> String {
    let output = Command::new(program)
        .args(arguments.split_whitespace())
        .stdin(Stdio::null())
        .output();
    let output = output.unwrap_or_else(|e| panic!("{program}: {e}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn run_in(netns: &Netns, program: &str, arguments: &str) -> String {
    netns
        .run(|| run(program, arguments))
        .expect("enter namespace")
}

/// True when a ping went through within two seconds.
pub(crate) fn pings(netns: &Netns, to: &str) -> bool {
    let ping = || {
        Command::new("ping")
            .args(["-c1", "-W2", "-q", to])
            .output()
            .expect("ping")
            .status
            .success()
    };
    netns.run(ping).expect("enter namespace")
}

pub(crate) fn veth<'a>(host_name: &'a str, pod_netns: &'a Netns) -> VethSpec<'a> {
    VethSpec {
        host_name,
        host_mac: HOST_MAC,
        alias: Some("default/web-0 eth0"),
        pod_name: "eth0",
        pod_mac: Some(POD_MAC),
        pod_netns,
        mtu: Some(1450),
    }
}

pub(crate) fn pod_route(dst: &str) -> PodRoute {
    let dst = dst.parse().expect("a prefix");
    PodRoute {
        dst,
        gw: None,
        mtu: None,
        advmss: None,
        priority: None,
        table: None,
        scope: None,
    }
}

pub(crate) fn default_routes() -> Vec<PodRoute> {
    vec![pod_route("0.0.0.0/0"), pod_route("::/0")]
}

/// A pod as an ADD makes it.
pub(crate) struct Pod {
    pub(crate) netns: Netns,
    pub(crate) pair: VethPair,
}

impl Pod {
    /// With these addresses and default routes of their families.
    pub(crate) fn new(host: &mut Netlink, host_name: &str, addresses: &[&str]) -> Pod {
        let netns = pod_netns();
        let pair = host
            .create_veth(&veth(host_name, &netns))
            .expect("create veth");
        let addresses: Vec<std::net::IpAddr> = addresses
            .iter()
            .map(|ip| ip.parse().expect("an address"))
            .collect();
        let has = |v4: bool| addresses.iter().any(|ip| ip.is_ipv4() == v4);
        let routes = default_routes()
            .into_iter()
            .filter(|route| has(route.dst.is_ipv4()))
            .collect();
        let inside = PodSideSpec {
            index: pair.pod_index,
            addresses: addresses.clone(),
            gateway_mac: HOST_MAC,
            routes,
        };
        Netlink::open_in(&netns)
            .expect("open inside")
            .configure_pod_side(&inside)
            .expect("pod's side");
        let outside = HostSideSpec {
            index: pair.host_index,
            addresses,
            pod_mac: POD_MAC,
        };
        host.configure_host_side(&outside).expect("host's side");
        Pod { netns, pair }
    }
}

/// Lets this namespace forward between its pods.
pub(crate) fn forward() {
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("ip_forward");
    std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").expect("ipv6 forwarding");
}
