//! Ten boots in a row: /run is lost, namespaces are gone, /etc and /var stay.

use crate::scale::tell;
use anyhow::{Context, Result, ensure};
use slash32_tests::lab::Lab;
use slash32_tests::reboot::reboot;
use slash32_tests::suite::Test;
use slash32_tests::traffic::{Server, expect_seen};
use std::time::{Duration, Instant};

pub(crate) const TESTS: &[Test] = &[(
    "ten_boots_leave_nothing_and_the_first_pod_is_networked_soon",
    ten_boots,
)];

const BOOTS: usize = 10;
/// A bound for a busy machine, not a promise; the report has what was measured.
const SOON: Duration = Duration::from_secs(10);

fn ten_boots() -> Result<()> {
    let (lab, mut agents) = Lab::with_agents("b1", 2)?;
    let node = &lab.nodes[0];
    let mut took = Vec::new();
    let mut pods = Vec::new();
    for boot in 0..BOOTS {
        let told = || format!("boot {boot}");
        for number in 0..4 {
            let port = 8080 + number;
            let name = format!("old{boot}-{number}");
            pods.push(node.add_pod_with_ports(&name, &[(port, 80, "tcp"), (port, 80, "udp")])?);
        }
        agents.remove(0).kill()?;
        // The plugin needs no agent, so that the conflist of the boot before lets pods come at once; without the table a
        // host port has to wait.
        reboot(node, pods.drain(..)).with_context(told)?;
        let early = node.add_pod(&format!("early{boot}")).with_context(told)?;
        let start = Instant::now();
        agents.insert(0, node.spawn_agent()?);
        let first = loop {
            let name = format!("first{boot}-{}", took.len());
            match node.add_pod_with_ports(&name, &[(8080, 80, "tcp"), (8080, 80, "udp")]) {
                Ok(pod) => break pod,
                Err(_) if start.elapsed() < SOON => std::thread::sleep(Duration::from_millis(2)),
                Err(error) => return Err(error.context(told())),
            }
        };
        took.push(start.elapsed());
        node.wait_converged().with_context(told)?;
        ensure!(
            node.routes()?.contains("10.244.2.0/24"),
            "{}: no route to the other node",
            told()
        );
        let server = Server::start(&first.machine, 80)?;
        expect_seen(&lab.client, "192.0.2.1", 8080, "192.0.2.200").with_context(told)?;
        expect_seen(&early.machine, &first.v4(), 80, &early.v4()).with_context(told)?;
        drop(server);
        ensure!(
            [first.v4(), early.v4()]
                .iter()
                .all(|address| address.starts_with("10.244.1.")),
            "{}",
            told()
        );
        first.del()?;
        early.del()?;
        node.expect_clean().with_context(told)?;
    }
    took.sort();
    tell(format_args!(
        "boots: first pod with a host port networked {:?} after the agent's start (median of {BOOTS}, longest {:?})",
        took[BOOTS / 2],
        took[BOOTS - 1]
    ));
    Ok(())
}
