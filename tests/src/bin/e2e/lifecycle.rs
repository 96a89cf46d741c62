//! Pods and nodes come and go: nothing is left behind, and what stays goes on.

use crate::stage::{Test, test};
use anyhow::{Context, Result, ensure};
use slash32_tests::cluster::Cluster;
use slash32_tests::cluster::host::Host;
use slash32_tests::cluster::space::{HTTP, Space, await_seen_from_outside};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

pub(crate) const TESTS: &[Test] = &[
    test(
        "deleted_pods_give_their_addresses_back",
        deleted_pods_give_their_addresses_back,
    ),
    test("drained_node_holds_nothing", drained_node_holds_nothing),
    test(
        "pods_start_and_stop_while_the_api_is_gone",
        pods_start_and_stop_while_the_api_is_gone,
    ),
    test(
        "rebooted_node_has_its_pods_back_and_no_address_leaked",
        rebooted_node_has_its_pods_back,
    ),
    test(
        "removed_node_loses_its_routes_and_comes_back",
        removed_node_loses_its_routes_and_comes_back,
    )
    .spoils(),
    test(
        "node_that_changes_its_address_is_found_at_the_new_one",
        node_that_changes_its_address,
    )
    .spoils(),
];

const MINUTE: Duration = Duration::from_secs(60);

fn deleted_pods_give_their_addresses_back(cluster: &Cluster) -> Result<()> {
    let space = Space::new(cluster, "deleted")?;
    let host = cluster.host("worker1")?;
    let pods = space.pods(&[("a", "worker1"), ("b", "worker1"), ("c", "worker1")])?;
    cluster.expect_no_leak(host)?;
    space.kubectl(&["delete", "pods", "--all", "--wait=true", "--timeout=60s"])?;
    cluster.expect_no_leak(host)?;
    let held = cluster.held(host)?;
    for pod in &pods {
        ensure!(
            !held.claims.contains(&pod.ip),
            "{} of {} is still claimed",
            pod.ip,
            pod.name
        );
    }
    Ok(())
}

fn drained_node_holds_nothing(cluster: &Cluster) -> Result<()> {
    let space = Space::new(cluster, "drained")?;
    space.pods(&[("a", "worker2"), ("b", "worker2")])?;
    let host = cluster.host("worker2")?;
    let drain = [
        "drain",
        "worker2",
        "--ignore-daemonsets",
        "--delete-emptydir-data",
        "--force",
        "--timeout=120s",
    ];
    cluster.kubectl(&drain)?;
    let waited = cluster.wait_for("the drained node holds nothing", MINUTE, |cluster| {
        Ok(cluster.expect_nothing_held(host).is_ok())
    });
    cluster.kubectl(&["uncordon", "worker2"])?;
    waited?;
    // Wherever CoreDNS went, it is needed by the next tests.
    cluster.await_rollout("kube-system", "deployment/coredns")
}

/// Static pods need a kubelet and a runtime, no API server: so does our plugin.
fn pods_start_and_stop_while_the_api_is_gone(cluster: &Cluster) -> Result<()> {
    let space = Space::new(cluster, "no-api")?;
    let before = space.pods(&[("near", "worker1"), ("far", "worker2")])?;
    let host = cluster.host("worker1")?;
    cluster.expect_no_leak(host)?;
    let claims = cluster.held(host)?.claims;
    cluster.control_plane().kill_component("kube-apiserver")?;
    let done = static_pod_comes_and_goes(cluster, host, &claims);
    cluster.control_plane().start_component("kube-apiserver")?;
    cluster.await_api()?;
    done?;
    for host in &cluster.hosts {
        cluster.await_readiness(&host.name, true)?;
    }
    space.await_seen_from("near", &before[1].ip, HTTP)?;
    cluster.expect_no_leak(host)
}

fn static_pod_comes_and_goes(
    cluster: &Cluster,
    host: &Host,
    before: &BTreeSet<String>,
) -> Result<()> {
    let manifest = format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: static, namespace: kube-system}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{{name: netexec, image: \"{}\", imagePullPolicy: Never, args: [netexec]}}]
",
        slash32_tests::cluster::images::AGNHOST
    );
    let started = Instant::now();
    let mut round = 0;
    while started.elapsed() < MINUTE {
        round += 1;
        host.write_config("manifests/static.yaml", &manifest)?;
        let mut fresh = None;
        cluster.wait_for("the static pod has an address", MINUTE, |cluster| {
            fresh = cluster
                .held(host)?
                .claims
                .difference(before)
                .next()
                .cloned();
            Ok(fresh.is_some())
        })?;
        let address = fresh.context("no address")?;
        // From the other worker: its routes are as they were.
        let other = &cluster.host("worker2")?.node;
        let seen = await_seen_from_outside(&other.machine, &address, HTTP)
            .with_context(|| format!("round {round}"))?;
        ensure!(seen == other.addresses()[0], "seen as {seen}");
        std::fs::remove_file(host.path("/etc/kubernetes/manifests/static.yaml")?)?;
        cluster.wait_for("the static pod's address is free", MINUTE, |cluster| {
            Ok(cluster.held(host)?.claims == *before)
        })?;
    }
    Ok(())
}

fn rebooted_node_has_its_pods_back(cluster: &Cluster) -> Result<()> {
    let space = Space::new(cluster, "rebooted")?;
    let pods = space.pods(&[("near", "worker1"), ("a", "worker2"), ("b", "worker2")])?;
    let host = cluster.host("worker2")?;
    cluster.power_off(host)?;
    cluster.power_on(host)?;
    for pod in &pods[1..] {
        cluster.wait_for(&format!("pod {} runs again", pod.name), MINUTE * 3, |_| {
            let object = space.get(&format!("pods/{}", pod.name))?;
            let container = &object["status"]["containerStatuses"][0];
            Ok(container["ready"] == true && container["restartCount"].as_u64() >= Some(1))
        })?;
        let now = space.pod(&pod.name)?;
        let seen = space.await_seen_from("near", &now.ip, HTTP)?;
        ensure!(seen == pods[0].ip, "seen as {seen}");
    }
    cluster.await_readiness("worker2", true)?;
    cluster.await_rollout("kube-system", "deployment/coredns")?;
    cluster.expect_no_leak(host)
}

fn removed_node_loses_its_routes_and_comes_back(cluster: &Cluster) -> Result<()> {
    let space = Space::new(cluster, "removed")?;
    let near = space.pods(&[("near", "worker1")])?;
    let host = cluster.host("worker2")?;
    let cidr = cluster.pod_cidr("worker2")?.context("no podCIDR")?;
    let others = [cluster.host("cp")?, cluster.host("worker1")?];
    let route_is = |host: &Host, cidr: &str| -> Result<bool> {
        let routes = host
            .node
            .machine
            .read(&["ip", "route", "show", "proto", "32"])?;
        Ok(routes.lines().any(|line| line.starts_with(cidr)))
    };
    for other in others {
        ensure!(
            route_is(other, &cidr)?,
            "{} has no route to {cidr}",
            other.name
        );
    }
    cluster.power_off(host)?;
    cluster.kubectl(&["delete", "node", "worker2", "--wait=true", "--timeout=60s"])?;
    for other in others {
        cluster.wait_for(
            &format!("{} has no route to {cidr}", other.name),
            MINUTE,
            |_| Ok(!route_is(other, &cidr)?),
        )?;
    }
    cluster.power_on(host)?;
    cluster.wait_for("worker2 is back with a podCIDR", MINUTE * 2, |cluster| {
        Ok(cluster.pod_cidr("worker2")?.is_some())
    })?;
    let fresh = cluster.pod_cidr("worker2")?.context("no podCIDR")?;
    cluster.await_readiness("worker2", true)?;
    // The conflist on the disk is that of the Node before: its agent has to come first.
    cluster.wait_for("worker2's agent has met the new podCIDR", MINUTE, |_| {
        let list = std::fs::read_to_string(host.path("/etc/cni/net.d/10-slash32.conflist")?)?;
        Ok(list.contains(&fresh))
    })?;
    let back = space.pods(&[("back", "worker2")])?;
    let seen = space.await_seen_from("near", &back[0].ip, HTTP)?;
    ensure!(seen == near[0].ip, "seen as {seen}");
    cluster.expect_no_leak(host)
}

fn node_that_changes_its_address(cluster: &Cluster) -> Result<()> {
    let space = Space::new(cluster, "moved")?;
    let pods = space.pods(&[("near", "worker1"), ("far", "worker2")])?;
    let host = cluster.host("worker2")?;
    let cidr = cluster.pod_cidr("worker2")?.context("no podCIDR")?;
    let wanted = format!("{cidr} via {} ", host.spare_address());
    host.change_address()?;
    for other in [cluster.host("cp")?, cluster.host("worker1")?] {
        cluster.wait_for(&format!("{} routes {wanted}", other.name), MINUTE, |_| {
            let machine = &other.node.machine;
            let routes = machine.read(&["ip", "route", "show", "proto", "32"])?;
            Ok(routes.lines().any(|line| line.starts_with(&wanted)))
        })?;
    }
    // The pod that ran all the while, both ways, and one that comes now.
    let seen = space.await_seen_from("near", &pods[1].ip, HTTP)?;
    ensure!(seen == pods[0].ip, "seen as {seen}");
    let seen = space.await_seen_from("far", &pods[0].ip, HTTP)?;
    ensure!(seen == pods[1].ip, "seen as {seen}");
    let fresh = space.pods(&[("fresh", "worker2")])?;
    space.await_seen_from("near", &fresh[0].ip, HTTP).map(drop)
}
