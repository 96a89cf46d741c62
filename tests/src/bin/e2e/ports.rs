//! hostPort: wherever the packet comes from, and gone with its pod.

use crate::stage::{Test, test};
use anyhow::{Context, Result, ensure};
use slash32_tests::cluster::Cluster;
use slash32_tests::cluster::space::{HTTP, Space, await_seen_from_outside, seen_from_outside};
use slash32_tests::lab::CLIENT;
use std::time::Duration;

pub(crate) const TESTS: &[Test] = &[test(
    "host_port_in_all_directions",
    host_port_in_all_directions,
)];

const PORT: u16 = 18080;

fn host_port_in_all_directions(cluster: &Cluster) -> Result<()> {
    let space = Space::new(cluster, "host-port")?;
    let fields = format!(", ports: [{{containerPort: {HTTP}, hostPort: {PORT}}}]");
    let web = space.pod_with("web", "worker1", &fields)?;
    space.pods(&[("near", "worker1"), ("far", "worker2")])?;
    let own = cluster.host("worker1")?;
    let other = cluster.host("worker2")?;
    let [address, _] = own.node.addresses();
    // From outside and from another node: with the client's own address.
    for (machine, is) in [
        (&cluster.lab.client, CLIENT[0].to_owned()),
        (&other.node.machine, other.node.addresses()[0].clone()),
    ] {
        let seen = await_seen_from_outside(machine, &address, PORT)?;
        ensure!(seen == is, "{} was seen as {seen}, not {is}", machine.name);
    }
    // From the node itself, at its address and over loopback.
    for host in [address.as_str(), "127.0.0.1"] {
        seen_from_outside(&own.node.machine, host, PORT)
            .with_context(|| format!("from the node at {host}"))?;
    }
    // From pods: beside it, on the other node, and from the pod itself.
    for pod in ["near", "far", "web"] {
        space
            .seen_from(pod, &address, PORT)
            .with_context(|| format!("from pod {pod}"))?;
    }
    space.kubectl(&["delete", "pod", &web.name, "--wait=true", "--timeout=60s"])?;
    cluster.wait_for(
        "the host port is gone with its pod",
        Duration::from_secs(30),
        |cluster| Ok(seen_from_outside(&cluster.lab.client, &address, PORT).is_err()),
    )
}
