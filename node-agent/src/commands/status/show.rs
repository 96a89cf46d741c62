//! `status` as tables. Pure.

use super::peers::{Peer, PeerWay, RouteState};
use super::report::{Agent, LinkState, Operation, Pod, Status};
use crate::commands::format::Tell;
use crate::commands::paint::Paint;
use crate::commands::table::{Cell, Table, Tone};
use crate::commands::words;
use crate::look::NodesSource;
use std::fmt::Write;

impl Tell for Status {
    fn render_table(&self, paint: Paint) -> String {
        let mut text = head(self, paint);
        for part in [peers(self), addresses(self), pods(self), operations(self)] {
            let (table, instead) = part;
            text.push('\n');
            text.push_str(&table.render(paint, instead));
        }
        list(&mut text, paint, "PROBLEMS", &self.problems);
        list(&mut text, paint, "NOT READ", &self.unread);
        text
    }
}

fn head(status: &Status, paint: Paint) -> String {
    let mut text = format!("{} {}\n", paint.bold("node"), status.node);
    let _ = writeln!(
        text,
        "{} {}",
        paint.bold("agent"),
        agent(&status.agent, paint)
    );
    if let Some(repairs) = status.agent.repairs {
        let _ = writeln!(
            text,
            "{} put right since the agent started: {}, {}, {}; {}",
            paint.bold("drift"),
            words::count(repairs.routes, "route"),
            words::count(repairs.table, "table"),
            words::count(repairs.host_ports, "host port"),
            words::count(repairs.overruns, "event overrun"),
        );
    }
    let in_place = match status.backend.in_place {
        Some(true) => paint.good("in place"),
        Some(false) => paint.bad("MISSING"),
        None => paint.warn("not readable"),
    };
    let _ = writeln!(
        text,
        "{} {}: {} {in_place}",
        paint.bold("back-end"),
        status.backend.name,
        if status.backend.name == "nftables" {
            "table inet slash32 is"
        } else {
            "chains SLASH32-* are"
        }
    );
    text
}

fn agent(agent: &Agent, paint: Paint) -> String {
    let (Some(version), Some(uptime)) = (&agent.version, agent.uptime_seconds) else {
        let why = agent.silent.as_deref().unwrap_or_default();
        return format!("{} ({why})", paint.warn("not running"));
    };
    let state = match (agent.ready, &agent.waiting_for) {
        (Some(true), _) => paint.good("ready"),
        (_, Some(reason)) => paint.bad(&format!("not ready: waiting for {reason}")),
        _ => paint.bad("not ready"),
    };
    format!("{version}, running for {}, {state}", words::span(uptime))
}

fn peers(status: &Status) -> (Table, &'static str) {
    let from = match status.nodes_from {
        NodesSource::File => "Nodes from the file of Nodes",
        NodesSource::Agent => "Nodes from the running agent",
        NodesSource::Kernel => "no Nodes known: routes of protocol 32",
    };
    let mut table = Table::new(
        format!("PEERS ({from})"),
        &["NODE", "ADDRESS", "POD CIDR", "WAY", "LINK", "MTU", "ROUTE"],
    );
    for peer in &status.peers {
        table.row(peer_row(peer));
    }
    (table, "none")
}

fn peer_row(peer: &Peer) -> Vec<Cell> {
    let dash = || "-".to_owned();
    let way = match peer.way {
        PeerWay::Direct => Cell::from("direct"),
        PeerWay::Ipip => Cell::from("ipip"),
        PeerWay::Vxlan => Cell::from("vxlan"),
        PeerWay::None => Cell::toned("none", Tone::Bad),
    };
    let route = match peer.route {
        RouteState::Present => Cell::toned("present", Tone::Good),
        RouteState::Different => Cell::toned("different", Tone::Bad),
        RouteState::Missing => Cell::toned("MISSING", Tone::Bad),
        RouteState::Unwanted => Cell::toned("none possible", Tone::Bad),
        RouteState::Unchecked => Cell::from("present, not checked"),
    };
    vec![
        peer.node.clone().unwrap_or_else(dash).into(),
        peer.address
            .map_or_else(dash, |address| address.to_string())
            .into(),
        peer.pod_cidr.to_string().into(),
        way,
        peer.link.clone().unwrap_or_else(dash).into(),
        peer.mtu.map_or_else(dash, |mtu| mtu.to_string()).into(),
        route,
    ]
}

fn addresses(status: &Status) -> (Table, &'static str) {
    let mut table = Table::new("ADDRESSES", &["RANGE", "USED", "FREE", "OF THESE COOLING"]);
    for usage in &status.addresses {
        let free = if usage.free == 0 {
            Cell::toned("0", Tone::Bad)
        } else if usage.free > 1_000_000_000 {
            "plenty".into()
        } else {
            usage.free.to_string().into()
        };
        table.row(vec![
            usage.range.clone().into(),
            usage.used.to_string().into(),
            free,
            usage.cooling.to_string().into(),
        ]);
    }
    (table, "no range is known yet: no conflist, no Nodes")
}

fn pods(status: &Status) -> (Table, &'static str) {
    let mut table = Table::new(
        format!("PODS ({})", status.pods.len()),
        &[
            "POD",
            "ADDRESSES",
            "LINK",
            "STATE",
            "MTU",
            "HOST PORTS",
            "AGE",
        ],
    );
    for pod in &status.pods {
        table.row(pod_row(pod, status.at_ms));
    }
    (table, "none on this node")
}

fn pod_row(pod: &Pod, now_ms: u64) -> Vec<Cell> {
    let state = match pod.link_state {
        LinkState::Up => Cell::toned("up", Tone::Good),
        LinkState::Down => Cell::toned("DOWN", Tone::Bad),
        LinkState::Missing => Cell::toned("NO LINK", Tone::Bad),
    };
    let name = if pod.interface == "eth0" {
        pod.name.clone()
    } else {
        format!("{} {}", pod.name, pod.interface)
    };
    let ports = match pod.host_ports.as_slice() {
        [] => "-".to_owned(),
        ports => ports.join(", "),
    };
    vec![
        name.into(),
        pod.addresses.join(" ").into(),
        pod.link.clone().into(),
        state,
        pod.mtu
            .map_or_else(|| "-".to_owned(), |mtu| mtu.to_string())
            .into(),
        ports.into(),
        words::age(now_ms, pod.created_ms).into(),
    ]
}

fn operations(status: &Status) -> (Table, &'static str) {
    let mut table = Table::new(
        "LAST OPERATIONS OF THE PLUGIN",
        &["AGO", "COMMAND", "POD", "TOOK", "RESULT"],
    );
    for operation in &status.operations {
        table.row(operation_row(operation, status.at_ms));
    }
    (table, "none since boot")
}

fn operation_row(operation: &Operation, now_ms: u64) -> Vec<Cell> {
    let result = match operation.code {
        0 => Cell::toned("ok", Tone::Good),
        code => Cell::toned(format!("error {code}: {}", operation.error), Tone::Bad),
    };
    let (whole, tenth) = (
        operation.duration_us / 1000,
        operation.duration_us / 100 % 10,
    );
    vec![
        words::age(now_ms, operation.at_ms).into(),
        operation.command.clone().into(),
        operation.of.clone().into(),
        format!("{whole}.{tenth} ms").into(),
        result,
    ]
}

fn list(text: &mut String, paint: Paint, title: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{}", paint.bold(title));
    for line in lines {
        let _ = writeln!(text, "  {}", paint.warn(line));
    }
}

#[cfg(test)]
mod tests;
