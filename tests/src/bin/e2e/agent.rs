//! The agent killed, upgraded and uninstalled, each under a steady exchange between two pods that loses nothing.

use crate::stage::{Test, test};
use anyhow::{Context, Result, ensure};
use slash32_tests::cluster::Cluster;
use slash32_tests::cluster::host::Host;
use slash32_tests::cluster::space::Space;
use slash32_tests::traffic::{Server, Stream};
use std::path::Path;
use std::time::Duration;

pub(crate) const TESTS: &[Test] = &[
    test("agent_killed_under_traffic_loses_nothing", agent_killed),
    test("agent_upgraded_under_traffic_loses_nothing", agent_upgraded),
    test("uninstall_leaves_nothing_on_the_nodes", uninstall).spoils(),
];

const AGENT: &str = "daemonset/slash32-agent";

/// A datagram every 5 ms and a connection every 50 ms from a pod of one worker to one of the other, while `work` goes on.
fn under_traffic(space: &Space, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let pods = space.pods(&[("client", "worker1"), ("server", "worker2")])?;
    let (client, server) = (space.network_of(&pods[0])?, space.network_of(&pods[1])?);
    let _server = Server::start(&server, 7000)?;
    let stream = Stream::start(&client, &pods[1].ip, 7000, Duration::from_millis(5))?;
    std::thread::sleep(Duration::from_secs(1));
    let worked = work();
    std::thread::sleep(Duration::from_secs(1));
    let tally = stream.finish()?;
    worked?;
    ensure!(tally.sent > 200, "hardly any traffic: {tally:?}");
    ensure!(
        tally.lost == 0,
        "{} of {} were lost",
        tally.lost,
        tally.sent
    );
    Ok(())
}

/// Process number of a node's agent.
fn agent_of(host: &Host) -> Option<i32> {
    host.processes().into_iter().find(|pid| {
        std::fs::read_to_string(format!("/proc/{pid}/comm"))
            .is_ok_and(|name| name.trim() == "slash32-agent")
    })
}

fn agent_killed(cluster: &Cluster) -> Result<()> {
    let space = Space::new(cluster, "agent-killed")?;
    under_traffic(&space, || {
        for host in cluster.workers() {
            let old = agent_of(host).with_context(|| format!("no agent on {}", host.name))?;
            nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(old),
                nix::sys::signal::Signal::SIGKILL,
            )?;
            cluster.wait_for(
                &format!("another agent on {}", host.name),
                Duration::from_secs(90),
                |_| Ok(agent_of(host).is_some_and(|new| new != old)),
            )?;
        }
        cluster.await_rollout("kube-system", AGENT)
    })
}

fn agent_upgraded(cluster: &Cluster) -> Result<()> {
    let space = Space::new(cluster, "agent-upgraded")?;
    let old: Vec<Option<i32>> = cluster.hosts.iter().map(agent_of).collect();
    under_traffic(&space, || {
        cluster.kubectl(&["-n", "kube-system", "rollout", "restart", AGENT])?;
        cluster.await_rollout("kube-system", AGENT)
    })?;
    let new: Vec<Option<i32>> = cluster.hosts.iter().map(agent_of).collect();
    ensure!(
        old.iter()
            .zip(&new)
            .all(|(old, new)| old.is_some() && new.is_some() && old != new),
        "agents before {old:?}, after {new:?}"
    );
    Ok(())
}

/// As the installation's document tells it. Running pods are not cut off: while there are any it refuses.
fn uninstall(cluster: &Cluster) -> Result<()> {
    const DONE: &str = "daemonset/slash32-uninstall";
    let space = Space::new(cluster, "uninstalled")?;
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("manifests/uninstall.yaml");
    under_traffic(&space, || {
        cluster.kubectl(&[
            "-n",
            "kube-system",
            "delete",
            AGENT,
            "--wait=true",
            "--timeout=90s",
        ])?;
        cluster.apply(&std::fs::read_to_string(manifest)?)?;
        cluster.wait_for("uninstalling refuses on worker1", Duration::from_secs(90), |cluster| {
            let tries = "jsonpath={range .items[?(@.spec.nodeName==\"worker1\")]}{.status.initContainerStatuses[0].restartCount}{end}";
            let list = ["-n", "kube-system", "get", "pods", "-l", "app.kubernetes.io/name=slash32-uninstall", "-o", tries];
            Ok(cluster.kubectl(&list)?.parse::<u32>().is_ok_and(|count| count >= 1))
        })
    })?;
    for worker in ["worker1", "worker2"] {
        cluster.kubectl(&[
            "drain",
            worker,
            "--ignore-daemonsets",
            "--delete-emptydir-data",
            "--force",
            "--timeout=120s",
        ])?;
    }
    cluster.await_rollout("kube-system", DONE)?;
    cluster.hosts.iter().try_for_each(expect_nothing_of_ours)
}

fn expect_nothing_of_ours(host: &Host) -> Result<()> {
    for path in [
        "/opt/cni/bin/slash32",
        "/opt/cni/bin/slash32-ipam",
        "/etc/cni/net.d/10-slash32.conflist",
        "/run/slash32",
    ] {
        ensure!(
            !host.path(path)?.exists(),
            "{path} is left on {}",
            host.name
        );
    }
    let look = "ip route show proto 32; ip -6 route show proto 32; ip -o link | grep -E ': (s32|b32)'; nft list tables | grep slash32; true";
    let left = host.read(&["sh", "-c", look])?;
    ensure!(left.is_empty(), "left on {}:\n{left}", host.name);
    Ok(())
}
