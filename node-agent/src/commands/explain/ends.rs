//! Who is meant by `--from` and `--to`: an address, a pod of this node, a Service that kube-proxy knows here.

use crate::cli::ExplainArgs;
use crate::commands::words;
use crate::look::Look;
use crate::ruleset::{Packet, Ruleset};
use node_state::record::AttachmentRecord;
use std::net::{IpAddr, SocketAddr};

/// One packet, as it is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) from: IpAddr,
    pub(super) to: IpAddr,
    pub(super) port: Option<u16>,
    pub(super) protocol: &'static str,
}

/// Candidates of one end: addresses, with a port and protocol where a Service names them.
type Candidate = (IpAddr, Option<u16>, Option<&'static str>);

/// Both ends, of one family. The error says what is known here.
pub(super) fn find(look: &Look, ruleset: &Ruleset, args: &ExplainArgs) -> Result<Question, String> {
    let from = candidates(look, ruleset, &args.from)?;
    let to = candidates(look, ruleset, &args.to)?;
    let pairs = from
        .iter()
        .flat_map(|from| to.iter().map(move |to| (from, to)));
    let mut same = pairs.filter(|(from, to)| from.0.is_ipv4() == to.0.is_ipv4());
    let ((from, ..), (to, port, protocol)) = same.next().ok_or_else(|| {
        format!(
            "{} and {} have no address of one family",
            args.from, args.to
        )
    })?;
    let given = args.protocol.map(|protocol| protocol.word());
    let protocol = given.or(*protocol).unwrap_or(match port {
        Some(_) => "tcp",
        None => Packet::echo_protocol(to.is_ipv6()),
    });
    Ok(Question {
        from: *from,
        to: *to,
        port: *port,
        protocol,
    })
}

fn candidates(look: &Look, ruleset: &Ruleset, text: &str) -> Result<Vec<Candidate>, String> {
    if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(vec![(address, None, None)]);
    }
    if let Ok(socket) = text.parse::<SocketAddr>() {
        return Ok(vec![(socket.ip(), Some(socket.port()), None)]);
    }
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) => {
            let number = port.parse::<u16>();
            (
                name,
                Some(number.map_err(|_| format!("{text}: {port} is no port"))?),
            )
        }
        None => (text, None),
    };
    let pods: Vec<Candidate> = look
        .records
        .iter()
        .filter(|record| is_called(record, name))
        .flat_map(|record| &record.addresses)
        .map(|address| (address.ip(), port, None))
        .collect();
    if !pods.is_empty() {
        return Ok(pods);
    }
    let services = ruleset.find_services(name);
    let wanted = services
        .into_iter()
        .filter(|service| port.is_none_or(|port| port == service.port))
        .map(|service| (service.address, Some(service.port), Some(service.protocol)))
        .collect::<Vec<Candidate>>();
    if !wanted.is_empty() {
        return Ok(wanted);
    }
    let known: Vec<String> = look.records.iter().map(words::pod_name).collect();
    Err(format!(
        "{name} is no address, no pod of this node ({}) and no Service that kube-proxy knows here; for a pod of another node write its address",
        if known.is_empty() {
            "there is none".to_owned()
        } else {
            known.join(", ")
        }
    ))
}

/// By namespace/name, by name alone, by the beginning of the container's id.
fn is_called(record: &AttachmentRecord, name: &str) -> bool {
    let by_name = record.pod.as_ref().is_some_and(|pod| {
        pod.name == name || name.split_once('/') == Some((&*pod.namespace, &*pod.name))
    });
    by_name || (name.len() >= 6 && record.key.container_id.starts_with(name))
}
