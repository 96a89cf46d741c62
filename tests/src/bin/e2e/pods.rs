//! Pods: to each other, to the internet, from kubelet.

use crate::stage::{Test, test, usual};
use anyhow::{Context, Result, ensure};
use slash32_tests::cluster::space::{HTTP, Space};
use slash32_tests::cluster::{Cluster, Containerd, Options, Topology};
use slash32_tests::lab::INTERNET;
use slash32_tests::traffic::Server;
use std::time::Duration;

pub(crate) const TESTS: &[Test] = &[
    test(
        "nodes_turn_ready_only_when_the_network_is_in",
        nodes_turn_ready_only_when_the_network_is_in,
    ),
    test(
        "pods_reach_each_other_on_one_node_and_across",
        pods_reach_each_other_on_one_node_and_across,
    ),
    test(
        "pod_to_internet_is_seen_as_its_node",
        pod_to_internet_is_seen_as_its_node,
    ),
    test("kubelet_probes_reach_pods", kubelet_probes_reach_pods),
    test(
        "nodes_turn_ready_only_when_the_network_is_in_with_containerd_2",
        nodes_turn_ready_only_when_the_network_is_in,
    )
    .on(containerd_2),
    test(
        "pods_reach_each_other_with_containerd_2",
        pods_reach_each_other_on_one_node_and_across,
    )
    .on(containerd_2),
    test(
        "pods_reach_each_other_over_a_router_that_knows_no_pod_cidr",
        pods_reach_each_other_on_one_node_and_across,
    )
    .on(split),
    test(
        "pod_to_internet_is_seen_as_its_node_behind_a_router",
        pod_to_internet_is_seen_as_its_node,
    )
    .on(split),
];

fn containerd_2() -> Options {
    Options {
        containerd: Containerd::V2,
        ..usual()
    }
}

fn split() -> Options {
    Options {
        topology: Topology::Split,
        ..usual()
    }
}

fn nodes_turn_ready_only_when_the_network_is_in(cluster: &Cluster) -> Result<()> {
    ensure!(
        cluster.before_network.len() == 3,
        "{:?}",
        cluster.before_network
    );
    for (node, told) in &cluster.before_network {
        ensure!(
            told.starts_with("ready=false") && told.contains("cni"),
            "before the network was in, {node} told {told}"
        );
    }
    for host in &cluster.hosts {
        let (ready, message) = cluster.readiness(&host.name)?.context("no condition")?;
        ensure!(ready, "{}: {message}", host.name);
    }
    Ok(())
}

fn pods_reach_each_other_on_one_node_and_across(cluster: &Cluster) -> Result<()> {
    let space = Space::new(cluster, "pod-to-pod")?;
    let pods = space.pods(&[("a", "worker1"), ("b", "worker1"), ("c", "worker2")])?;
    for from in &pods {
        for to in &pods {
            let seen = space.seen_from(&from.name, &to.ip, HTTP)?;
            ensure!(
                seen == from.ip,
                "{} saw {} as {seen}, not {}",
                to.name,
                from.name,
                from.ip
            );
        }
    }
    Ok(())
}

fn pod_to_internet_is_seen_as_its_node(cluster: &Cluster) -> Result<()> {
    let space = Space::new(cluster, "to-internet")?;
    let pods = space.pods(&[("a", "worker1"), ("b", "worker2")])?;
    let _server = Server::start(&cluster.lab.internet, 7000)?;
    for pod in &pods {
        let node = cluster.host(&pod.node)?.node.addresses();
        for program in ["nc -w3 {} 7000 </dev/null", "echo | nc -u -w2 {} 7000"] {
            let line = program.replace("{}", INTERNET[0]);
            let seen = space.exec(&pod.name, &["sh", "-c", &line])?;
            ensure!(
                seen == node[0],
                "{line} in {}: the server saw {seen:?}, not {}",
                pod.name,
                node[0]
            );
        }
    }
    Ok(())
}

/// Each kind of probe that goes over the network; one of them asks a port that nobody serves.
fn kubelet_probes_reach_pods(cluster: &Cluster) -> Result<()> {
    let space = Space::new(cluster, "probes")?;
    let probes = format!(
        ", startupProbe: {{httpGet: {{path: /hostname, port: {HTTP}}}, periodSeconds: 1, failureThreshold: 60}}, livenessProbe: {{tcpSocket: {{port: {HTTP}}}, periodSeconds: 1, failureThreshold: 3}}"
    );
    let wrong = ", livenessProbe: {tcpSocket: {port: 9}, periodSeconds: 1, failureThreshold: 10}";
    space.pod_with("good", "worker1", &probes)?;
    space.pod_with("bad", "worker1", wrong)?;
    let restarts = |pod: &str| -> Result<u64> {
        let object = space.get(&format!("pods/{pod}"))?;
        let count = object["status"]["containerStatuses"][0]["restartCount"].as_u64();
        count.context("no count of restarts")
    };
    cluster.wait_for(
        "the pod whose probe fails is started again",
        Duration::from_secs(90),
        |_| Ok(restarts("bad")? > 0),
    )?;
    ensure!(
        restarts("good")? == 0,
        "a pod whose probes answer was started again"
    );
    Ok(())
}
