//! `--trace`: one real packet through the kernel's own nftables trace. What is added meanwhile: the table
//! `inet slash32-trace` with one rule that marks this very packet (addresses, protocol, source port) for tracing. A guard
//! removes it, also on an error; signals wait until then. It decides nothing about any packet.

use super::ends::Question;
use crate::look::Look;
use crate::settings::Settings;
use anyhow::{Context, bail};
use dataplane::netns::Netns;
use dataplane::probe::{Probe, probe_paths};
use nix::sys::signal::{SigSet, Signal};
use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const TABLE: &str = "slash32-trace";
/// From the start of the monitor until it listens; there is no sign of that.
const SETTLE: Duration = Duration::from_millis(400);
/// For the packet and its answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Where to find the rule in a port's place: the source port of the probe.
const SOURCE_PORT: u16 = 33_932;
/// Of the monitor's output.
const MOST_OUTPUT: usize = 1 << 20;

/// Lines of the trace, without what is ours for tracing.
pub(super) fn trace(
    settings: &Settings,
    look: &Look,
    question: &Question,
) -> anyhow::Result<Vec<String>> {
    let _blocked = Blocked::new()?;
    let program = &settings.nft_program;
    let _table = TraceTable::lay(program, question)?;
    let mut monitor = Monitor::start(program)?;
    std::thread::sleep(SETTLE);
    send(look, question)?;
    let output = monitor.finish(PATIENCE)?;
    let lines = render(&output);
    if lines.is_empty() {
        bail!(
            "the kernel traced nothing: the packet did not come by (is it refused inside the pod?)"
        );
    }
    Ok(lines)
}

/// Signals that would end us with the table still there.
struct Blocked(SigSet);

impl Blocked {
    fn new() -> anyhow::Result<Blocked> {
        let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
        signals.thread_block()?;
        Ok(Blocked(signals))
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        let _ = self.0.thread_unblock();
    }
}

struct TraceTable<'a>(&'a str);

impl<'a> TraceTable<'a> {
    fn lay(program: &'a str, question: &Question) -> anyhow::Result<TraceTable<'a>> {
        dataplane::nft::run_script(program, &script(question))?;
        Ok(TraceTable(program))
    }
}

impl Drop for TraceTable<'_> {
    fn drop(&mut self) {
        let script = format!("delete table inet {TABLE}\n");
        if let Err(error) = dataplane::nft::run_script(self.0, &script) {
            tracing::error!("{error}; remove it by hand: nft delete table inet {TABLE}");
        }
    }
}

/// Replaces what a killed predecessor left.
fn script(question: &Question) -> String {
    let family = if question.to.is_ipv6() { "ip6" } else { "ip" };
    let (from, to) = (question.from, question.to);
    let ports = match (question.protocol, question.port) {
        (protocol @ ("tcp" | "udp"), Some(port)) => {
            format!("{protocol} sport {SOURCE_PORT} {protocol} dport {port}")
        }
        (protocol, _) => format!("meta l4proto {protocol}"),
    };
    let rule = format!("{family} saddr {from} {family} daddr {to} {ports} meta nftrace set 1");
    let chain = |hook: &str| {
        format!(
            "\tchain {hook} {{\n\t\ttype filter hook {hook} priority -400; policy accept;\n\t\t{rule}\n\t}}\n"
        )
    };
    format!(
        "add table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n{}{}}}\n",
        chain("prerouting"),
        chain("output")
    )
}

struct Monitor(Child);

impl Monitor {
    fn start(program: &str) -> anyhow::Result<Monitor> {
        let child = Command::new(program)
            .args(["monitor", "trace"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("run {program} monitor trace"))?;
        Ok(Monitor(child))
    }

    fn finish(&mut self, patience: Duration) -> anyhow::Result<String> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.0.kill()?;
        let mut text = Vec::new();
        if let Some(stdout) = self.0.stdout.take() {
            stdout.take(MOST_OUTPUT as u64).read_to_end(&mut text)?;
        }
        self.0.wait()?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// From inside the pod, or from this node itself.
fn send(look: &Look, question: &Question) -> anyhow::Result<()> {
    let question = question.clone();
    let Some(record) = look.find_record(question.from) else {
        if look.facts.find_holder(question.from).is_none() {
            bail!(
                "{} is neither a pod of this node nor this node: a real packet cannot be sent from it here",
                question.from
            );
        }
        return send_here(&question);
    };
    let netns = Netns::open(&record.netns.path).context("enter the pod's network namespace (this needs CAP_SYS_ADMIN and the host's /run/netns: run on the node itself)")?;
    if netns.identity() != (record.netns.dev, record.netns.ino) {
        bail!(
            "{} is another namespace by now",
            record.netns.path.display()
        );
    }
    let _ = netns.as_fd();
    netns.run(|| send_here(&question))?
}

fn send_here(question: &Question) -> anyhow::Result<()> {
    let local = SocketAddr::new(question.from, SOURCE_PORT);
    match (question.protocol, question.port) {
        ("udp", Some(port)) => {
            let socket = UdpSocket::bind(local).context("send a datagram")?;
            socket.send_to(&[], SocketAddr::new(question.to, port))?;
        }
        ("tcp", Some(port)) => connect(local, SocketAddr::new(question.to, port))?,
        ("icmp" | "ipv6-icmp", _) => {
            let probe = Probe {
                to: question.to,
                bytes: 84,
            };
            // Whether it is answered is not the question.
            let _ = probe_paths(&[probe], Duration::from_millis(300))?;
        }
        (protocol, _) => bail!("a real packet of {protocol} needs a port, and tcp or udp"),
    }
    Ok(())
}

/// A handshake from a given source port; what comes of it is not the question.
fn connect(local: SocketAddr, to: SocketAddr) -> anyhow::Result<()> {
    use nix::sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket,
        sockopt,
    };
    let family = match local.ip() {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(family, SockType::Stream, flags, None).context("open a TCP socket")?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    let (local, to) = (SockaddrStorage::from(local), SockaddrStorage::from(to));
    let raw = std::os::fd::AsRawFd::as_raw_fd(&fd);
    bind(raw, &local).context("bind the probe's source port")?;
    let _ = connect(raw, &to);
    std::thread::sleep(Duration::from_millis(300));
    drop(TcpStream::from(fd));
    Ok(())
}

/// `trace id 1a2b inet slash32 raw-prerouting rule ...`: without the id, without our own table and the packet's dump.
fn render(output: &str) -> Vec<String> {
    let mut first = None;
    let mut lines = Vec::new();
    for line in output.lines() {
        let Some((id, rest)) = line
            .strip_prefix("trace id ")
            .and_then(|rest| rest.split_once(' '))
        else {
            continue;
        };
        // The answer and repetitions have traces of their own.
        if *first.get_or_insert_with(|| id.to_owned()) != id {
            continue;
        }
        if rest.starts_with(&format!("inet {TABLE} ")) {
            continue;
        }
        lines.push(rest.to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_very_packet_is_traced() {
        let question = Question {
            from: "10.244.1.1".parse().unwrap(),
            to: "10.96.0.10".parse().unwrap(),
            port: Some(53),
            protocol: "udp",
        };
        let script = script(&question);
        assert!(script.contains("ip saddr 10.244.1.1 ip daddr 10.96.0.10 udp sport 33932 udp dport 53 meta nftrace set 1"), "{script}");
        assert!(script.contains("policy accept"), "{script}");
    }

    #[test]
    fn the_first_packets_trace_is_told_without_our_table() {
        let output = "trace id aa inet slash32-trace prerouting packet: iif x\n\
                      trace id aa inet slash32 raw-prerouting rule jump from-pod (verdict jump from-pod)\n\
                      trace id bb inet slash32 raw-prerouting verdict continue\n";
        assert_eq!(
            render(output),
            ["inet slash32 raw-prerouting rule jump from-pod (verdict jump from-pod)"]
        );
    }
}
