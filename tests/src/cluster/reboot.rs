//! A node loses its power and comes back: nothing of its network, its /run and its processes is left, its disk is.
//! The kernel's boot ID stays the same: no container can be told another one than the machine's.

use crate::cluster::Cluster;
use crate::cluster::host::Host;
use anyhow::Result;

impl Cluster {
    /// Off at once; everybody else takes the node for dead.
    pub fn power_off(&self, host: &Host) -> Result<()> {
        host.power_off()
    }

    /// On again, with a fresh network namespace and all components that ran before.
    pub fn power_on(&self, host: &Host) -> Result<()> {
        self.lab.renew_network(&host.node)?;
        host.power_on()?;
        host.start_components()
    }
}
