//! `slash32-agent capture`: what passes a pod's link, written as a pcap from the host. No tool is needed in the pod, and the
//! pod is not entered.

use super::words;
use crate::cli::CaptureArgs;
use crate::look::Look;
use crate::settings::Settings;
use anyhow::{Context, bail};
use dataplane::packet::PacketSocket;
use node_state::record::AttachmentRecord;
use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::ExitCode;
use std::time::{Duration, Instant};

mod pcap;

/// How often the bounds are looked at while nothing passes, and what was written is handed on.
const TICK: Duration = Duration::from_millis(200);

/// Until a bound is reached, or the reader goes away.
pub(crate) fn run(settings: &Settings, args: &CaptureArgs) -> anyhow::Result<ExitCode> {
    let look = Look::take(settings)?;
    let record = find(&look, &args.pod)?;
    let pod = words::pod_name(record);
    let link = look
        .find_link(&record.host_link)
        .with_context(|| format!("the link {} of pod {pod} is gone", record.host_link))?;
    let mut socket = PacketSocket::open(link.index, TICK)?;
    let mut out = open(&args.write)?;
    tell(&format!(
        "capturing {} of pod {pod}, seen from the host: at most {} packets, {} s",
        link.name, args.count, args.duration
    ));
    let result = copy(&mut socket, &mut out, args);
    let packets = match result {
        Ok(packets) => packets,
        Err(Stop::ReaderGone) => return Ok(ExitCode::SUCCESS),
        Err(Stop::Failed(error)) => return Err(error),
    };
    let dropped = match socket.dropped() {
        0 => String::new(),
        lost => format!("; {lost} were lost, since they came faster than they were written"),
    };
    tell(&format!("{}{dropped}", words::count(packets, "packet")));
    Ok(ExitCode::SUCCESS)
}

enum Stop {
    ReaderGone,
    Failed(anyhow::Error),
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Stop {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Stop::ReaderGone,
            _ => Stop::Failed(anyhow::Error::new(error).context("write the capture")),
        }
    }
}

fn copy(socket: &mut PacketSocket, out: &mut dyn Write, args: &CaptureArgs) -> Result<u64, Stop> {
    out.write_all(&pcap::header(args.snaplen))?;
    out.flush()?;
    let deadline = Instant::now() + Duration::from_secs(args.duration.into());
    let mut packets = 0;
    while packets < args.count && Instant::now() < deadline {
        match socket
            .receive()
            .map_err(|error| Stop::Failed(error.into()))?
        {
            Some((frame, time)) => {
                out.write_all(&pcap::record(frame, time, args.snaplen))?;
                packets += 1;
            }
            None => out.flush()?,
        }
    }
    out.flush()?;
    Ok(packets)
}

/// By namespace/name, name, address, or the beginning of the container's id.
fn find<'a>(look: &'a Look, pod: &str) -> anyhow::Result<&'a AttachmentRecord> {
    let address: Option<std::net::IpAddr> = pod.parse().ok();
    let called = |record: &&AttachmentRecord| {
        let full = words::pod_name(record);
        let bare = full.split_once('/').map(|(_, name)| name);
        let by_id = pod.len() >= 6 && record.key.container_id.starts_with(pod);
        full == pod
            || bare == Some(pod)
            || by_id
            || address.is_some_and(|address| record.addresses.iter().any(|own| own.ip() == address))
    };
    let mut found = look.records.iter().filter(called);
    let Some(record) = found.next() else {
        let all: Vec<String> = look.records.iter().map(words::pod_name).collect();
        bail!("no pod {pod} on this node; there are: {}", all.join(", "));
    };
    if let Some(other) = found.next() {
        bail!(
            "{pod} is {} on {} and {} on {}: name the container's id",
            words::pod_name(record),
            record.key.ifname,
            words::pod_name(other),
            other.key.ifname
        );
    }
    Ok(record)
}

/// The packets of others are nobody else's business: 0600.
fn open(path: &str) -> anyhow::Result<Box<dyn Write>> {
    if path == "-" {
        if std::io::stdout().is_terminal() {
            bail!(
                "a capture is no text: write it to a file (--write FILE) or a pipe (| tcpdump -r - -n)"
            );
        }
        return Ok(Box::new(BufWriter::new(std::io::stdout())));
    }
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("create {path}"))?;
    Ok(Box::new(BufWriter::new(file)))
}

/// stdout may be the capture.
fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
