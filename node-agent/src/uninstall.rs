//! `slash32-agent uninstall`: removes from this node all that is ours, recognised by the reserved names alone (protocol
//! 32, table inet slash32, chains SLASH32-*, links s32* and b32*, our file and folder), the plugins that the agent
//! installed, and nothing else. Can be repeated; goes on after an error and reports each. While pods are attached it
//! refuses without --force: they would lose their network.
//!
//! Plugins go only when no pod is left whose DEL is still to come: a runtime that finds no plugin cannot end the pod.
//!
//! Sysctls stay: others may need forwarding, and what it was before is not known.

use crate::plugins;
use crate::settings::Settings;
use crate::tunnel::remove_other_tunnels;
use dataplane::hostport::Nfnetlink;
use dataplane::link::LinkInfo;
use dataplane::names::{NFT_TABLE, ROUTE_PROTOCOL, SHAPER_LINK_PREFIX, is_pod_link};
use dataplane::netlink::Netlink;
use dataplane::route::{RouteInfo, RouteOp};
use node_state::StateDir;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

/// The records' folder, as node-state names it.
const ATTACHMENTS: &str = "attachments";

/// What was done, line by line.
#[derive(Debug, Default)]
struct Report {
    removed: Vec<String>,
    errors: Vec<String>,
}

impl Report {
    fn note<E: std::fmt::Display>(&mut self, what: impl Into<String>, result: Result<bool, E>) {
        let what = what.into();
        match result {
            Ok(true) => self.removed.push(what),
            Ok(false) => {}
            Err(error) => self.errors.push(format!("{what}: {error}")),
        }
    }
}

/// The conflist goes first: no new pod may come while the rest is taken away.
pub(crate) fn run(settings: &Settings, force: bool) -> anyhow::Result<ExitCode> {
    crate::preflight::check(settings)?;
    let mut netlink = Netlink::open()?;
    let links: Vec<LinkInfo> = netlink
        .list_links()?
        .into_iter()
        .filter(|link| is_ours(&link.name))
        .collect();
    let pods = links.iter().filter(|link| is_pod_link(&link.name)).count();
    if pods > 0 && !force {
        anyhow::bail!(
            "{pods} pod interface{} still attached on this node: drain it first, or cut them off with --force; nothing was removed",
            if pods == 1 { " is" } else { "s are" }
        );
    }
    let mut report = Report::default();
    remove_conflist(settings, &mut report);
    remove_links(&mut netlink, &links, &mut report);
    remove_routes(&mut netlink, &mut report);
    remove_tunnels(&mut netlink, &mut report);
    remove_rules(settings, &mut report);
    let waiting = pods_to_end(settings, &mut report);
    remove_state(&settings.state_dir, waiting > 0, &mut report);
    remove_plugins(settings, waiting, &mut report);
    tell(&report)
}

/// Pods of this boot that no DEL has ended, by their records; none where the plugins are not ours to remove. Of another
/// boot no pod is left.
fn pods_to_end(settings: &Settings, report: &mut Report) -> usize {
    if settings.cni_bin_dir.is_none() {
        return 0;
    }
    let state = StateDir::new(settings.state_dir.clone());
    match node_state::boot_id().and_then(|boot| Ok((state.list_records()?, boot))) {
        Ok(((records, _), boot)) => records
            .iter()
            .filter(|record| record.boot_id == boot)
            .count(),
        Err(error) => {
            report.errors.push(error.to_string());
            0
        }
    }
}

fn remove_plugins(settings: &Settings, waiting: usize, report: &mut Report) {
    if waiting > 0 {
        return report.errors.push(format!(
            "plugins left in place, and {waiting} record{} in {}: the runtime needs them to end the pods that were attached. \
             Delete these pods and uninstall again (after a reboot none is left)",
            if waiting == 1 { "" } else { "s" },
            settings.state_dir.join(ATTACHMENTS).display()
        ));
    }
    for (path, removed) in plugins::remove_plugins(settings) {
        report.note(format!("plugin {}", path.display()), removed);
    }
}

fn is_ours(name: &str) -> bool {
    is_pod_link(name) || name.starts_with(SHAPER_LINK_PREFIX)
}

fn remove_conflist(settings: &Settings, report: &mut Report) {
    let path = settings.cni_conf_dir.join(&settings.cni_conf_name);
    let temporary = settings
        .cni_conf_dir
        .join(format!(".{}.tmp", settings.cni_conf_name));
    for path in [path, temporary] {
        report.note(
            format!("CNI configuration {}", path.display()),
            existed(std::fs::remove_file(&path)),
        );
    }
}

fn remove_links(netlink: &mut Netlink, links: &[LinkInfo], report: &mut Report) {
    for link in links {
        report.note(
            format!("link {}", link.name),
            netlink.remove_link(&link.name),
        );
    }
}

fn remove_routes(netlink: &mut Netlink, report: &mut Report) {
    let routes = match netlink.list_own_routes() {
        Ok(routes) => routes,
        Err(error) => return report.errors.push(error.to_string()),
    };
    // Once more than necessary costs nothing; a key may hold two.
    let routes: Vec<RouteInfo> = routes
        .into_iter()
        .filter(|route| route.protocol == ROUTE_PROTOCOL)
        .collect();
    let mut start = 0;
    while start < routes.len() {
        // At most one step per key in a call.
        let run = routes[start..]
            .iter()
            .zip(&routes[start + 1..])
            .take_while(|(a, b)| a.spec.key != b.spec.key)
            .count()
            + 1;
        let ops: Vec<RouteOp> = routes[start..start + run]
            .iter()
            .map(|route| RouteOp::Remove(route.spec.clone()))
            .collect();
        for (route, result) in routes[start..].iter().zip(netlink.apply_routes(&ops)) {
            report.note(format!("route {}", route.spec), result.map(|()| true));
        }
        start += run;
    }
}

fn remove_tunnels(netlink: &mut Netlink, report: &mut Report) {
    match remove_other_tunnels(netlink, None) {
        Ok(removed) => report.removed.extend(removed),
        Err(error) => report.errors.push(error.to_string()),
    }
}

/// By whichever back-end, chosen or not: another agent may have used another.
fn remove_rules(settings: &Settings, report: &mut Report) {
    let mut nfnetlink = match Nfnetlink::open() {
        Ok(nfnetlink) => nfnetlink,
        Err(error) => return report.errors.push(error.to_string()),
    };
    report.note(
        format!("nftables table inet {NFT_TABLE}"),
        nfnetlink.remove_table(),
    );
    for (what, result) in crate::netfilter::remove_all(settings, &mut nfnetlink) {
        report.note(what, result);
    }
}

/// Only a folder that looks like ours: a mistyped stateDir must not cost somebody's data.
fn remove_state(root: &Path, keep_records: bool, report: &mut Report) {
    let what = format!("state folder {}", root.display());
    let entries = match std::fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => return report.errors.push(format!("{what}: {error}")),
        Ok(entries) => entries,
    };
    let names: Vec<String> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let foreign: Vec<&str> = names
        .iter()
        .map(String::as_str)
        .filter(|name| !is_state_name(name))
        .collect();
    if !foreign.is_empty() {
        return report.errors.push(format!(
            "{what}: left alone, it holds what is not ours: {}",
            foreign.join(", ")
        ));
    }
    if keep_records {
        for name in names.iter().filter(|name| *name != ATTACHMENTS) {
            let path = root.join(name);
            let removed = existed(remove_whole(&path));
            report.note(format!("state {}", path.display()), removed);
        }
        return;
    }
    let removed = match std::fs::remove_dir_all(root) {
        // A mount point, as in a container: it stays, empty.
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(!names.is_empty()),
        other => existed(other),
    };
    report.note(what, removed);
}

/// The names of node-state and ipam, and those under which they write before they rename.
fn is_state_name(name: &str) -> bool {
    let name = name
        .strip_prefix('.')
        .and_then(|name| name.strip_suffix(".new"))
        .unwrap_or(name);
    [
        ATTACHMENTS,
        "ipam",
        "ready",
        "hostports.lock",
        "netfilter",
        "operations.jsonl",
        "probe",
    ]
    .contains(&name)
}

/// A file or a folder; a symbolic link is never followed.
fn remove_whole(path: &Path) -> io::Result<()> {
    if path.symlink_metadata()?.is_dir() {
        std::fs::remove_dir_all(path)
    } else {
        std::fs::remove_file(path)
    }
}

fn existed(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn tell(report: &Report) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    for line in &report.removed {
        writeln!(out, "removed {line}")?;
    }
    if report.removed.is_empty() && report.errors.is_empty() {
        writeln!(out, "nothing of Slash32 is on this node")?;
    }
    for line in &report.errors {
        writeln!(io::stderr(), "slash32-agent: {line}")?;
    }
    Ok(if report.errors.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
