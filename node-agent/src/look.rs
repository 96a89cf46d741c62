//! One look at this node, for the commands that show and judge it (status, doctor, explain, bundle): kernel, state folder,
//! CNI configuration, and what a running agent tells. Reads only. What cannot be read is told in `blind` and hides nothing
//! else, so that the commands are of use on a broken node. The value that comes of it is all that the pure parts get.

use crate::cidr;
use crate::desired::{Desired, compute_desired, peer_addresses};
use crate::facts::Facts;
use crate::netfilter::choose::{Backend, choose_backend};
use crate::observe::{now_ms, observe_ways};
use crate::problem::Problem;
use crate::settings::Settings;
use crate::view::ClusterView;
use anyhow::Context;
use dataplane::hostport::Nfnetlink;
use dataplane::iptables::ports::list_ports;
use dataplane::link::LinkInfo;
use dataplane::names::{ROUTE_PROTOCOL, TABLE_MAIN};
use dataplane::netlink::Netlink;
use dataplane::route::RouteInfo;
use node_state::StateDir;
use node_state::oplog::Operation;
use node_state::record::AttachmentRecord;

pub(crate) mod addresses;
pub(crate) mod agent;
pub(crate) mod conflist;
mod nodes;
mod operations;
#[cfg(test)]
pub(crate) mod sample;

use addresses::RangeUsage;
use agent::AgentLook;
use conflist::ConflistLook;
pub(crate) use nodes::NodesSource;

/// This node at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    /// Milliseconds since the epoch.
    pub(crate) at_ms: u64,
    pub(crate) node_name: String,
    pub(crate) links: Vec<LinkInfo>,
    pub(crate) facts: Facts,
    /// Table main, both families, whoever made them.
    pub(crate) routes: Vec<RouteInfo>,
    /// Of this boot.
    pub(crate) records: Vec<AttachmentRecord>,
    /// Of other boots: nothing of them is in the kernel any more.
    pub(crate) old_records: Vec<AttachmentRecord>,
    pub(crate) agent: AgentLook,
    pub(crate) nodes_source: NodesSource,
    pub(crate) view: Option<ClusterView>,
    /// What the agent would want, computed from the same Nodes; `None` without any.
    pub(crate) wish: Option<Result<Desired, Problem>>,
    /// What writes the packet filter on this node.
    pub(crate) backend: Backend,
    /// Whether our table (chains) is in the kernel; `None`: could not be asked.
    pub(crate) table: Option<bool>,
    pub(crate) conflist: Option<ConflistLook>,
    pub(crate) usage: Vec<RangeUsage>,
    /// The newest last.
    pub(crate) operations: Vec<Operation>,
    /// What could not be read, and why.
    pub(crate) blind: Vec<String>,
}

/// How many of the last operations are kept.
pub(crate) const OPERATIONS: usize = 1000;

impl Look {
    /// Everything, once. Only a kernel that shows no links at all is an error.
    pub(crate) fn take(settings: &Settings) -> anyhow::Result<Look> {
        let mut blind = Vec::new();
        let mut netlink = Netlink::open()?;
        let links = netlink.list_links()?;
        let addresses = netlink.list_addresses()?;
        let addresses = addresses.into_iter().map(|info| (info.index, info.address));
        let mut facts = Facts::new(links.clone(), addresses);
        let state = StateDir::new(settings.state_dir.clone());
        let boot_id = node_state::boot_id().context("read this boot's id")?;
        let agent = agent::ask(settings.listen);
        let (view, nodes_source) = nodes::find_view(settings, &agent, &mut blind);
        let wish = view
            .as_ref()
            .map(|view| wish(settings, view, &mut netlink, &mut facts, &mut blind));
        let (records, old_records) = read_records(&state, &boot_id, &mut blind);
        let conflist = conflist::read(settings, &mut blind);
        let usage = addresses::read_usage(settings, &state, conflist.as_ref(), wish.as_ref());
        let (backend, table) = find_table(settings, &mut blind);
        Ok(Look {
            at_ms: now_ms(),
            node_name: settings.node_name.clone(),
            routes: or_blind(netlink.list_routes(TABLE_MAIN), &mut blind),
            backend,
            table,
            operations: or_blind(operations::read_last(&state, OPERATIONS), &mut blind),
            usage: or_blind(usage, &mut blind),
            links,
            facts,
            records,
            old_records,
            agent,
            nodes_source,
            view,
            wish,
            conflist,
            blind,
        })
    }

    /// The link of this name.
    pub(crate) fn find_link(&self, name: &str) -> Option<&LinkInfo> {
        self.links.iter().find(|link| link.name == name)
    }

    /// The name of a link, or its number where it is gone.
    pub(crate) fn link_name(&self, index: u32) -> String {
        let link = self.links.iter().find(|link| link.index == index);
        link.map_or_else(|| format!("#{index}"), |link| link.name.clone())
    }

    /// Routes of our protocol.
    pub(crate) fn own_routes(&self) -> impl Iterator<Item = &RouteInfo> {
        self.routes
            .iter()
            .filter(|route| route.protocol == ROUTE_PROTOCOL)
    }

    /// The record that holds this address now.
    pub(crate) fn find_record(&self, address: std::net::IpAddr) -> Option<&AttachmentRecord> {
        let host = cidr::host(address);
        let holds = |record: &&AttachmentRecord| record.addresses.contains(&host);
        self.records.iter().find(holds)
    }

    /// The wish, where there is one.
    pub(crate) fn desired(&self) -> Option<&Desired> {
        self.wish.as_ref()?.as_ref().ok()
    }
}

fn wish(
    settings: &Settings,
    view: &ClusterView,
    netlink: &mut Netlink,
    facts: &mut Facts,
    blind: &mut Vec<String>,
) -> Result<Desired, Problem> {
    let peers = peer_addresses(settings, view);
    if let Err(error) = observe_ways(netlink, facts, &peers) {
        blind.push(error.to_string());
    }
    compute_desired(settings, view, facts)
}

fn read_records(
    state: &StateDir,
    boot_id: &str,
    blind: &mut Vec<String>,
) -> (Vec<AttachmentRecord>, Vec<AttachmentRecord>) {
    let (mut records, errors) = or_blind(state.list_records(), blind);
    blind.extend(errors.iter().map(ToString::to_string));
    records.sort_by(|a, b| (a.created_ms, &a.key).cmp(&(b.created_ms, &b.key)));
    records
        .into_iter()
        .partition(|record| record.boot_id == boot_id)
}

/// The back-end, as the agent would choose it, and whether what it lays is there.
fn find_table(settings: &Settings, blind: &mut Vec<String>) -> (Backend, Option<bool>) {
    let found = || -> Result<(Backend, bool), String> {
        let mut nfnetlink = Nfnetlink::open().map_err(|error| error.to_string())?;
        let backend =
            choose_backend(settings, &mut nfnetlink).map_err(|error| error.to_string())?;
        let there = match backend {
            Backend::Nftables => nfnetlink
                .table_fingerprint()
                .map_err(|error| error.to_string())?
                .is_some(),
            Backend::Iptables(flavour) => list_ports(flavour, false)
                .map_err(|error| error.to_string())?
                .is_some(),
        };
        Ok((backend, there))
    };
    match found() {
        Ok((backend, there)) => (backend, Some(there)),
        Err(reason) => {
            blind.push(reason);
            (Backend::Nftables, None)
        }
    }
}

/// The value, or an empty one and a word about it.
fn or_blind<T: Default, E: std::fmt::Display>(result: Result<T, E>, blind: &mut Vec<String>) -> T {
    result.unwrap_or_else(|error| {
        blind.push(error.to_string());
        T::default()
    })
}
