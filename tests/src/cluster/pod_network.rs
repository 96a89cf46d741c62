//! A pod's network namespace as a machine of the lab, so that the lab's servers and streams run in pods too.

use crate::cluster::space::{PodInfo, Space};
use crate::machine::{Machine, run_here};
use anyhow::{Context, Result};
use std::ops::Deref;

/// Let go of when dropped: held longer it would keep the namespace of a deleted pod alive.
#[derive(Debug)]
pub struct PodNetwork(Machine);

impl Deref for PodNetwork {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        &self.0
    }
}

impl Drop for PodNetwork {
    fn drop(&mut self) {
        // Unmounts the name; the namespace itself is the runtime's.
        if let Err(error) = self.0.clone().remove() {
            eprintln!("e2e: {error:#}");
        }
    }
}

impl Space<'_> {
    /// The namespace of a running pod.
    pub fn network_of(&self, pod: &PodInfo) -> Result<PodNetwork> {
        let object = self.get(&format!("pods/{}", pod.name))?;
        let uid = object["metadata"]["uid"]
            .as_str()
            .context("a pod without UID")?;
        let mark = format!("/pod{uid}/");
        let host = self.cluster.host(&pod.node)?;
        let process = host
            .processes()
            .into_iter()
            .find(|pid| {
                std::fs::read_to_string(format!("/proc/{pid}/cgroup"))
                    .is_ok_and(|text| text.contains(&mark))
            })
            .with_context(|| format!("no process of pod {} on {}", pod.name, pod.node))?;
        let machine = Machine::adopt(&format!("pod-{}-{}", self.name, pod.name))?;
        let netns = machine.netns();
        run_here(&[
            "mount",
            "--bind",
            &format!("/proc/{process}/ns/net"),
            &netns.to_string_lossy(),
        ])?;
        Ok(PodNetwork(machine))
    }
}
