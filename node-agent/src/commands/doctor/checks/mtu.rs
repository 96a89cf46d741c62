//! Sizes: of pods' links against the links that carry their packets, and of real packets on the way.

use super::Verdict;
use crate::commands::doctor::finding::Finding;
use crate::commands::doctor::sight::Sight;
use dataplane::probe::ProbeResult;

pub(super) fn check_mtu(sight: &Sight) -> Verdict {
    let look = &sight.look;
    let Some(way) = look.facts.ways_mtu() else {
        return Ok(Vec::new());
    };
    let mut findings = Vec::new();
    if let Some(mtu) = look
        .conflist
        .as_ref()
        .and_then(|conflist| conflist.mtu)
        .filter(|mtu| *mtu > way)
    {
        findings.push(Finding::warning(
            format!("new pods get an MTU of {mtu}, and a link to other nodes takes {way}: large packets depend on ICMP errors that firewalls like to drop"),
            format!("set mtu to auto or to {way}; pods that run keep theirs until they are made anew"),
        ));
    }
    for record in &look.records {
        let link = look.find_link(&record.host_link);
        if let Some(link) = link.filter(|link| link.mtu > way) {
            findings.push(Finding::warning(
                format!("pod {} has an MTU of {}, and a link to other nodes takes {way}", crate::commands::words::pod_name(record), link.mtu),
                format!("make the pod anew; until then: ip link set {} mtu {way}, and the same inside the pod", link.name),
            ));
        }
    }
    Ok(findings)
}

pub(super) fn check_paths(sight: &Sight) -> Verdict {
    let probes = sight.probes.as_ref().map_err(Clone::clone)?;
    let mut findings = Vec::new();
    for probe in probes {
        let (to, bytes) = (probe.to, probe.bytes);
        match (&probe.small, &probe.full) {
            (ProbeResult::Answered, ProbeResult::Lost) => findings.push(Finding::error(
                format!("packets of {bytes} bytes to {to} are lost in silence, small ones arrive: connections hang as soon as they carry data (a black hole)"),
                "find the hop whose MTU is smaller (ip link on both nodes, the switches, the cloud's network), make it larger, or set mtu to what passes: ping -M do -s SIZE finds it",
            )),
            (ProbeResult::Answered, ProbeResult::TooBig) => findings.push(Finding::warning(
                format!("packets of {bytes} bytes to {to} are too big for the way, which says so: every large connection starts with a detour"),
                "set mtu to what the way takes (tracepath finds it), or make the hop's MTU larger",
            )),
            (ProbeResult::Failed(reason), _) => findings.push(Finding::error(
                format!("no packet can be sent to the node {to}: {reason}"),
                "look at the link and the routes to it: ip route get, ip neigh",
            )),
            (ProbeResult::Lost | ProbeResult::TooBig, _) => findings.push(Finding::warning(
                format!("the node {to} answers no echo: it is down, or a firewall drops ICMP, and with it the errors that path MTU discovery needs"),
                "if the node is up, let ICMP through between nodes",
            )),
            (ProbeResult::Answered, _) => {}
        }
    }
    Ok(findings)
}
