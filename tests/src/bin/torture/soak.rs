//! Hours of churn: pods, host ports, Nodes, pods that vanish without DEL. After each spell everything is taken down, and what
//! the agent and the kernel then hold is what they held after the first.

use crate::scale::{soak, tell};
use anyhow::{Context, Result, ensure};
use slash32_tests::cpu::{descriptors, resident_kib};
use slash32_tests::lab::Lab;
use slash32_tests::node::Node;
use slash32_tests::nodes_file::NodeEntry;
use slash32_tests::pod::Pod;
use slash32_tests::random::Random;
use slash32_tests::site::files_below;
use slash32_tests::suite::Test;
use slash32_tests::wait;
use std::time::{Duration, Instant};

pub(crate) const TESTS: &[Test] = &[(
    "soak_leaves_memory_descriptors_and_kernel_objects_flat",
    churn,
)];

const SLOTS: usize = 20;
/// Operations between two looks.
const SPELL: usize = 400;
const EAGER: [&str; 4] = ["--resync-interval", "1s", "--leak-grace-period", "1s"];

/// What is held when nothing is attached.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    links: usize,
    routes: usize,
    neighbours: usize,
    table_lines: usize,
    namespaces: usize,
    files: usize,
    descriptors: usize,
    threads: usize,
}

struct Churn {
    lab: Lab,
    pid: u32,
    slots: Vec<Option<Pod>>,
    random: Random,
    number: usize,
    added: usize,
    vanished: usize,
}

fn churn() -> Result<()> {
    let (mut churn, _agents) = Churn::new()?;
    let start = Instant::now();
    // The first spell fills caches and makes folders.
    churn.spell()?;
    let (first, first_kib) = churn.look()?;
    let (mut last, mut kib, mut highest) = (first.clone(), first_kib, first_kib);
    let mut spells = 1;
    while start.elapsed() < soak() || spells < 3 {
        churn.spell()?;
        (last, kib) = churn.look()?;
        highest = highest.max(kib);
        spells += 1;
    }
    tell(format_args!(
        "soak: {:?}, {spells} spells, {} pods added, {} of them vanished without DEL; agent's memory {first_kib} KiB after the first spell, {kib} after the last, {highest} at most; held at the end {last:?}",
        start.elapsed(),
        churn.added,
        churn.vanished
    ));
    ensure!(last == first, "first {first:?}, last {last:?}");
    ensure!(
        kib <= first_kib + first_kib / 4 + 1024,
        "the agent's memory grew from {first_kib} to {kib} KiB"
    );
    Ok(())
}

impl Churn {
    fn new() -> Result<(Churn, Vec<slash32_tests::machine::Running>)> {
        let lab = Lab::flat("soak", 2)?;
        let agents = lab.start_agents_with(&EAGER)?;
        let churn = Churn {
            pid: agents[0].child.id(),
            lab,
            slots: (0..SLOTS).map(|_| None).collect(),
            random: Random::named("soak"),
            number: 0,
            added: 0,
            vanished: 0,
        };
        Ok((churn, agents))
    }

    fn node(&self) -> &Node {
        &self.lab.nodes[0]
    }

    /// Some hundred operations, then all pods go.
    fn spell(&mut self) -> Result<()> {
        for _ in 0..SPELL {
            match self.random.below(20) {
                0 => self.change_nodes()?,
                _ => self.change_a_pod()?,
            }
        }
        for slot in 0..SLOTS {
            if let Some(pod) = self.slots[slot].take() {
                pod.del()?;
            }
        }
        self.lab.write_nodes(&self.lab.entries())?;
        let node = self.node();
        wait::until("nothing is left", Duration::from_secs(60), || {
            let routes = node.routes()?;
            Ok(node.leftovers()?.is_empty()
                && !routes.contains("10.245.")
                && !routes.contains("fd00:245"))
        })
        .with_context(|| format!("{:?}", node.leftovers()))
        .map(drop)
    }

    fn change_a_pod(&mut self) -> Result<()> {
        let slot = usize::try_from(self.random.below(SLOTS as u64))?;
        let Some(pod) = self.slots[slot].take() else {
            self.number += 1;
            self.added += 1;
            let name = format!("p{}", self.number);
            let port = 8000 + u16::try_from(slot)?;
            let ports = [(port, 80, "tcp"), (port, 80, "udp")];
            // The port of a pod that vanished a moment ago is taken over from the dead.
            let pod = match self.random.below(2) {
                0 => self.node().add_pod(&name)?,
                _ => self.node().add_pod_with_ports(&name, &ports)?,
            };
            self.slots[slot] = Some(pod);
            return Ok(());
        };
        if self.random.below(8) > 0 {
            return pod.del();
        }
        self.vanished += 1;
        self.node()
            .machine
            .run(&["ip", "link", "del", &pod.host_link()])?;
        pod.machine.remove()
    }

    /// Other nodes that come and go.
    fn change_nodes(&mut self) -> Result<()> {
        let mut entries = self.lab.entries();
        for number in 0..self.random.below(30) {
            entries.push(NodeEntry::new(
                &format!("guest{number}"),
                &[
                    &format!("10.245.{number}.0/24"),
                    &format!("fd00:245:{number}::/64"),
                ],
                &[
                    &format!("192.0.2.{}", 50 + number),
                    &format!("2001:db8:2::{}", 50 + number),
                ],
            ));
        }
        self.lab.write_nodes(&entries)
    }

    /// What is held, and the agent's memory in KiB.
    fn look(&self) -> Result<(Held, u64)> {
        let machine = &self.node().machine;
        let lines =
            |arguments: &[&str]| -> Result<usize> { Ok(machine.read(arguments)?.lines().count()) };
        let held = Held {
            links: lines(&["ip", "-o", "link"])?,
            routes: lines(&["ip", "route", "show", "table", "all"])?
                + lines(&["ip", "-6", "route", "show", "table", "all"])?,
            neighbours: lines(&["ip", "neigh", "show", "nud", "permanent"])?,
            table_lines: lines(&["nft", "list", "table", "inet", "slash32"])?,
            namespaces: std::fs::read_dir("/run/netns")?.count(),
            files: files_below(&machine.folder("/run/slash32"))?
                .iter()
                .filter(|(path, _)| !path.contains("operations.jsonl"))
                .count(),
            descriptors: descriptors(self.pid)?,
            threads: std::fs::read_dir(format!("/proc/{}/task", self.pid))?.count(),
        };
        Ok((held, resident_kib(self.pid)?))
    }
}
