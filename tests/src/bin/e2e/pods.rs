//! Pods: to each other, to the internet, from kubelet.

use crate::stage::{Test, test};
use anyhow::{Context, Result, ensure};
use slash32_tests::cluster::Cluster;
use slash32_tests::cluster::space::{HTTP, Space};
use slash32_tests::lab::INTERNET;
use slash32_tests::traffic::Server;

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
];

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
