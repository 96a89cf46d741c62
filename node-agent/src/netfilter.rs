//! One node, one way to write its packet filter: nftables, or the iptables programs of one flavour. This is the only door
//! through which the rest of the agent reaches either. What the other ones hold of ours (after a change of the setting, or
//! an older agent) is removed as soon as the chosen one stands; until then both forward the same ports to the same pods.

use crate::desired::ports::Ports;
use crate::iptables::rules::{Place, Rules, remove_rules};
use crate::nft::render::TableModel;
use crate::nft::table::{LOCK_PATIENCE, Table, TableChanges, TableError};
use crate::settings::Settings;
use choose::{Backend, choose_backend};
use dataplane::error::Result;
use dataplane::hostport::{HostPortError, Nfnetlink, PortEntry};
use dataplane::iptables::ports::{list_ports, replace_ports};
use dataplane::iptables::{Flavour, has_legacy_tables, is_installed};
use node_state::{StateDir, StateError};
use std::net::IpAddr;
use std::path::Path;

pub(crate) mod choose;
pub(crate) mod firewalld;
pub(crate) mod forward;

/// What a look or a change needs.
#[derive(Debug)]
pub(crate) struct Hands<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) state: &'a StateDir,
    pub(crate) nfnetlink: &'a mut Nfnetlink,
}

/// The chosen back-end, and what is remembered of it.
#[derive(Debug, Default)]
pub(crate) struct Netfilter {
    backend: Option<Backend>,
    table: Table,
    rules: Rules,
    /// No other back-end holds anything of ours.
    alone: bool,
    /// Somebody uses legacy tables: nothing tells of their changes.
    legacy: bool,
}

impl Netfilter {
    /// Brings the kernel to `model`; `ports` reads the records again, for use under the host-port lock.
    pub(crate) fn ensure(
        &mut self,
        hands: &mut Hands<'_>,
        model: &TableModel,
        ports: &mut dyn FnMut() -> std::result::Result<Ports, StateError>,
    ) -> std::result::Result<TableChanges, TableError> {
        let backend = self.backend(hands)?;
        let changes = match backend {
            Backend::Nftables => self.table.ensure(
                &hands.settings.nft_program,
                hands.state,
                hands.nfnetlink,
                model,
                ports,
            )?,
            Backend::Iptables(flavour) => {
                if !self.alone {
                    announce(hands.state, flavour)?;
                }
                let place = Place {
                    flavour,
                    ipv6: has_ipv6(&hands.settings.proc_sys),
                };
                self.rules.ensure(place, hands.state, model, ports)?
            }
        };
        if !self.alone {
            leave_others(hands, backend)?;
            self.alone = true;
        }
        Ok(changes)
    }

    /// Opens FORWARD for pods where somebody else's filter is in the way. True where something was changed.
    pub(crate) fn ensure_forward(
        &mut self,
        hands: &mut Hands<'_>,
    ) -> std::result::Result<bool, TableError> {
        let ipv6 = has_ipv6(&hands.settings.proc_sys);
        let firewalld = firewalld::ensure(hands.nfnetlink, &hands.settings.nft_program)?;
        let opened = forward::ensure(ipv6)?;
        self.legacy = opened.legacy;
        Ok(opened.changed || firewalld)
    }

    /// Forgets what is there, so that the next `ensure` writes it.
    pub(crate) fn forget(&mut self) {
        self.table.forget();
        self.rules.forget();
        self.alone = false;
    }

    /// True where a look costs processes, and events of our own table do not tell when one is due.
    pub(crate) fn looks_are_dear(&self) -> bool {
        matches!(self.backend, Some(Backend::Iptables(_)))
    }

    /// True where the kernel tells of no change: only looking now and then finds one.
    pub(crate) fn must_poll(&self) -> bool {
        self.legacy || self.backend == Some(Backend::Iptables(Flavour::Legacy))
    }

    /// Takes host ports away, by value; under the host-port lock. For records that are freed.
    pub(crate) fn remove_ports(
        &self,
        nfnetlink: &mut Nfnetlink,
        entries: &[PortEntry],
        pods: &[IpAddr],
    ) -> Result<()> {
        let Some(Backend::Iptables(flavour)) = self.backend else {
            return nfnetlink.remove_host_ports(entries, pods);
        };
        for v6 in [false, true] {
            if entries.iter().all(|entry| entry.key.v6 != v6) {
                continue;
            }
            let there = list_ports(flavour, v6)?.unwrap_or_default();
            let kept: Vec<PortEntry> = there
                .into_iter()
                .filter(|entry| !entries.contains(entry))
                .collect();
            match replace_ports(flavour, v6, &kept) {
                Ok(()) | Err(HostPortError::NoTable | HostPortError::Taken { .. }) => {}
                Err(HostPortError::Kernel(error)) => return Err(error),
            }
        }
        Ok(())
    }

    fn backend(&mut self, hands: &mut Hands<'_>) -> Result<Backend> {
        if let Some(backend) = self.backend {
            return Ok(backend);
        }
        let backend = choose_backend(hands.settings, hands.nfnetlink)?;
        tracing::info!(%backend, setting = %hands.settings.netfilter, "writing the packet filter by");
        Ok(*self.backend.insert(backend))
    }
}

/// Tells the plugin of a flavour before its first rule is laid. Those that are still to be left stay named.
fn announce(state: &StateDir, flavour: Flavour) -> std::result::Result<(), TableError> {
    let _lock = state.lock_host_ports(LOCK_PATIENCE)?;
    let mut words = state.read_netfilter()?;
    if !words.iter().any(|word| word == flavour.as_str()) {
        words.push(flavour.as_str().to_owned());
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    Ok(state.write_netfilter(&words)?)
}

/// Under the lock: no plugin is half-way in what is removed. The plugin is told last.
fn leave_others(hands: &mut Hands<'_>, chosen: Backend) -> std::result::Result<(), TableError> {
    let _lock = hands.state.lock_host_ports(LOCK_PATIENCE)?;
    let told = hands.state.read_netfilter()?;
    if chosen != Backend::Nftables && hands.nfnetlink.remove_table()? {
        tracing::info!("removed the nftables table: this node uses {chosen} now");
    }
    let mut words = Vec::new();
    for flavour in Flavour::ALL {
        if chosen == Backend::Iptables(flavour) {
            words.push(flavour.as_str());
        } else if told.iter().any(|word| word == flavour.as_str()) || may_hold_rules(flavour) {
            let ipv6 = has_ipv6(&hands.settings.proc_sys);
            if remove_rules(flavour, ipv6)? {
                tracing::info!("removed the rules of {flavour}: this node uses {chosen} now");
            }
        }
    }
    Ok(hands.state.write_netfilter(&words)?)
}

/// Without the programs nothing can be there but what the state folder tells of.
fn may_hold_rules(flavour: Flavour) -> bool {
    is_installed(flavour)
        && (flavour == Flavour::Nft || has_legacy_tables(false) || has_legacy_tables(true))
}

/// Removes what is ours by iptables, FORWARD and firewalld included; for `uninstall`. What was removed, in words.
pub(crate) fn remove_all(
    settings: &Settings,
    nfnetlink: &mut Nfnetlink,
) -> Vec<(String, Result<bool>)> {
    let ipv6 = has_ipv6(&settings.proc_sys);
    let mut results = vec![(
        "rules in firewalld's table".to_owned(),
        firewalld::remove(nfnetlink, &settings.nft_program),
    )];
    for flavour in Flavour::ALL.into_iter().filter(|one| may_hold_rules(*one)) {
        let what = format!("chains SLASH32-* of {flavour}");
        results.push((what, remove_rules(flavour, ipv6)));
    }
    results
}

/// False on a kernel that was started with ipv6.disable=1, where ip6tables fails.
pub(crate) fn has_ipv6(proc_sys: &Path) -> bool {
    proc_sys.join("net/ipv6").exists()
}
