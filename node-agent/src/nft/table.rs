//! Keeps table inet slash32 as `render` would write it. The table itself is recognised by its fingerprint, taken right
//! after it was laid; the elements of maps and hairpin sets are compared one by one, since the plugin changes them too.
//! Both sides change elements under the host-port lock, record first: read without it, change only with it.

use super::elements::ensure_elements;
use super::render::{TableModel, render_cluster_update, render_table};
use crate::desired::ports::Ports;
use dataplane::hostport::{HostPortError, Nfnetlink};
use node_state::{StateDir, StateError};
use std::time::Duration;

/// The plugin holds the lock for microseconds; the agent for one run of nft.
pub(crate) const LOCK_PATIENCE: Duration = Duration::from_secs(5);

const NFT_TABLE_IS: &str = "table inet slash32 is";

/// Another program that writes nftables rules needs a pause of some 30 ms for one of these to be undisturbed.
const LAY_ATTEMPTS: u32 = 5;

/// What went wrong; the table stands as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TableError {
    #[error(transparent)]
    Kernel(#[from] dataplane::error::KernelError),
    #[error(transparent)]
    HostPort(#[from] HostPortError),
    #[error(transparent)]
    State(#[from] StateError),
    /// It was laid, and is not there: another program deletes it.
    #[error("{0} gone right after being laid; another program deletes what is ours")]
    Vanished(&'static str),
}

/// What `Table::ensure` had to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TableChanges {
    /// The whole table was written.
    pub(crate) laid: bool,
    /// It was written since it was gone or another.
    pub(crate) repaired: bool,
    /// The sets of destinations were written.
    pub(crate) cluster: bool,
    /// Elements added and removed.
    pub(crate) elements: usize,
}

impl TableChanges {
    pub(crate) fn any(self) -> bool {
        self.laid || self.cluster || self.elements > 0
    }
}

/// What we remember of the table that we laid; a fresh process remembers nothing and lays it anew.
#[derive(Debug, Default)]
pub(crate) struct Table {
    laid: Option<Laid>,
}

#[derive(Debug)]
struct Laid {
    fingerprint: u64,
    model: TableModel,
}

impl Table {
    /// Brings the kernel's table to `model`; `ports` reads the records again, for use under the lock.
    pub(crate) fn ensure(
        &mut self,
        program: &str,
        state: &StateDir,
        netfilter: &mut Nfnetlink,
        model: &TableModel,
        ports: &mut dyn FnMut() -> Result<Ports, StateError>,
    ) -> Result<TableChanges, TableError> {
        let seen = netfilter.ruleset_generation()?;
        let there = netfilter.table_fingerprint()?;
        let known = self.laid.as_ref().map(|laid| laid.fingerprint);
        let same_rules = self.laid.as_ref().is_some_and(|laid| {
            laid.model.anti_spoofing == model.anti_spoofing
                && laid.model.masquerade == model.masquerade
                && laid.model.tunnel == model.tunnel
        });
        if there.is_none() || there != known || !same_rules {
            self.lay(program, state, netfilter, model, ports)?;
            return Ok(TableChanges {
                laid: true,
                repaired: known.is_some() && same_rules,
                ..TableChanges::default()
            });
        }
        let cluster = self.ensure_cluster(program, netfilter, model)?;
        if cluster && netfilter.ruleset_generation()? != seen.wrapping_add(1) {
            // Somebody wrote as well, and the fingerprint may be of that: the whole table, then.
            self.lay(program, state, netfilter, model, ports)?;
        }
        let elements = ensure_elements(state, netfilter, &model.ports, ports)?;
        Ok(TableChanges {
            cluster,
            elements,
            ..TableChanges::default()
        })
    }

    /// Forgets the table, so that the next `ensure` writes it.
    pub(crate) fn forget(&mut self) {
        self.laid = None;
    }

    fn lay(
        &mut self,
        program: &str,
        state: &StateDir,
        netfilter: &mut Nfnetlink,
        model: &TableModel,
        ports: &mut dyn FnMut() -> Result<Ports, StateError>,
    ) -> Result<(), TableError> {
        self.laid = None;
        let _lock = state.lock_host_ports(LOCK_PATIENCE)?;
        // A pod that came since the model was made has its record; its element would be lost without this look.
        let model = TableModel {
            ports: ports()?,
            ..model.clone()
        };
        let fingerprint = lay_alone(program, netfilter, &render_table(&model))?;
        // The elements are compared with the records each time, not with what was laid.
        self.laid = Some(Laid {
            fingerprint,
            model: TableModel {
                ports: Ports::new(),
                ..model
            },
        });
        Ok(())
    }

    fn ensure_cluster(
        &mut self,
        program: &str,
        netfilter: &mut Nfnetlink,
        model: &TableModel,
    ) -> Result<bool, TableError> {
        let Some(laid) = self.laid.as_mut().filter(|laid| {
            laid.model.cluster != model.cluster || laid.model.tunnel_peers != model.tunnel_peers
        }) else {
            return Ok(false);
        };
        dataplane::nft::run_script(program, &render_cluster_update(model))?;
        laid.model.cluster.clone_from(&model.cluster);
        laid.model.tunnel_peers.clone_from(&model.tunnel_peers);
        laid.fingerprint = netfilter
            .table_fingerprint()?
            .ok_or(TableError::Vanished(NFT_TABLE_IS))?;
        Ok(true)
    }
}

/// Lays the table and takes its fingerprint. What another program writes between the two would be taken for ours, for
/// good; so the table is laid again until nobody did. Where somebody never stops writing, the last one has to do.
fn lay_alone(program: &str, netfilter: &mut Nfnetlink, script: &str) -> Result<u64, TableError> {
    let mut attempts = 0;
    loop {
        let before = netfilter.ruleset_generation()?;
        dataplane::nft::run_script(program, script)?;
        let fingerprint = netfilter.table_fingerprint()?;
        attempts += 1;
        let alone = netfilter.ruleset_generation()? == before.wrapping_add(1);
        if alone || attempts == LAY_ATTEMPTS {
            return fingerprint.ok_or(TableError::Vanished(NFT_TABLE_IS));
        }
        tracing::debug!("another program wrote nftables rules meanwhile; laying the table again");
    }
}
