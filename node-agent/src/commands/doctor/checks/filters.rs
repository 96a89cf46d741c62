//! Packet filters: our table, and what everybody else's rules do with pods' packets.

use super::Verdict;
use crate::commands::doctor::finding::Finding;
use crate::commands::doctor::sight::Sight;
use crate::netfilter::choose::Backend;
use crate::ruleset::read::Rules;
use crate::ruleset::{End, Packet, Walk};
use std::collections::BTreeSet;
use std::net::IpAddr;

pub(super) fn check_table(sight: &Sight) -> Verdict {
    match sight.look.table {
        Some(true) => Ok(Vec::new()),
        Some(false) => Ok(vec![Finding::error(
            format!(
                "our rules ({}: table inet slash32, or chains SLASH32-*) are not in the kernel: no masquerading, no host ports, no protection from borrowed addresses",
                sight.look.backend
            ),
            "start the agent, which lays it (slash32-agent run --once lays it once)",
        )]),
        None => Err("netfilter cannot be read".into()),
    }
}

pub(super) fn check_modules(sight: &Sight) -> Verdict {
    if sight.look.backend != Backend::Nftables {
        return Ok(Vec::new());
    }
    match &sight.table_fits {
        Ok(()) => Ok(Vec::new()),
        Err(reason) => Ok(vec![Finding::error(
            format!("nft or the kernel refuses our table: {reason}"),
            "install nftables 1.0.6 or newer, and load what the kernel lacks: modprobe -a nf_tables nft_fib_inet nft_nat nft_masq nft_ct (packages linux-modules-extra or kernel-modules-extra)",
        )]),
    }
}

/// The first packet of a connection of a pod, as each forward hook sees it: out to the world, and in from a peer.
pub(super) fn check_forward(sight: &Sight) -> Verdict {
    let rules = sight.rules.as_ref().map_err(Clone::clone)?;
    let mut told = BTreeSet::new();
    let mut findings = Vec::new();
    for (what, packet) in packets(sight) {
        let mut walk = Walk::new(&rules.ruleset, packet);
        if let End::Dropped(by) = walk.hook("forward")
            && told.insert(by.clone())
        {
            let unsure = match walk.unsure.as_slice() {
                [] => String::new(),
                places => format!("; rules of {} could not be judged", places.join(", ")),
            };
            findings.push(Finding::error(
                format!("{what} are dropped by {by}{unsure}"),
                forward_cure(rules, &by),
            ));
        }
    }
    Ok(findings)
}

fn packets(sight: &Sight) -> Vec<(String, Packet)> {
    let pod_link = format!("{}000000000000", dataplane::names::HOST_LINK_PREFIX);
    let desired = sight.look.desired();
    let pods = desired
        .map(|desired| desired.pod_cidrs.clone())
        .unwrap_or_default();
    let uplink = sight
        .look
        .facts
        .ways
        .values()
        .flatten()
        .map(|way| sight.look.link_name(way.dev))
        .next()
        .unwrap_or_else(|| "eth0".into());
    let mut packets = Vec::new();
    for cidr in pods {
        let world: IpAddr = if cidr.is_ipv6() {
            IpAddr::from([0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1])
        } else {
            IpAddr::from([203, 0, 113, 254])
        };
        let pod = cidr.iter().nth(1).unwrap_or(cidr.network());
        let packet = |from: IpAddr, to: IpAddr, iif: &str, oif: &str| Packet {
            iif: Some(iif.to_owned()),
            oif: Some(oif.to_owned()),
            from,
            to,
            protocol: "tcp",
            port: Some(443),
            mark: 0,
            to_local: false,
            way_back: true,
            dnat: false,
        };
        packets.push((
            format!("packets from pods of {cidr} to the world"),
            packet(pod, world, &pod_link, &uplink),
        ));
        packets.push((
            format!("packets from elsewhere to pods of {cidr}"),
            packet(world, pod, &uplink, &pod_link),
        ));
    }
    packets
}

/// By whom the dropping chain is.
fn forward_cure(rules: &Rules, by: &str) -> String {
    let legacy = if by.contains("(legacy)") {
        "iptables-legacy"
    } else {
        "iptables"
    };
    let six = if by.starts_with("table ip6") {
        legacy.replace("iptables", "ip6tables")
    } else {
        legacy.to_owned()
    };
    let accept = |chain: &str| {
        format!("{six} -I {chain} -i s32+ -j ACCEPT; {six} -I {chain} -o s32+ -j ACCEPT")
    };
    if by.contains("firewalld") {
        return "firewall-cmd --permanent --zone=trusted --add-source=POD-CIDR (the cluster's), then firewall-cmd --reload; or stop firewalld".into();
    }
    if rules.ruleset.chains_like("DOCKER-USER").next().is_some() {
        return format!(
            "Docker sets this policy: {}; or \"iptables\": false for a Docker that runs no containers here",
            accept("DOCKER-USER")
        );
    }
    if rules.ruleset.chains_like("ufw-").next().is_some() {
        return "ufw default allow routed, or ufw route allow in/out for the pods' networks".into();
    }
    if by.contains("FORWARD") {
        return accept("FORWARD");
    }
    format!(
        "accept there what comes in or goes out by links s32* ({by}); an accept in another table cannot overrule a drop"
    )
}

pub(super) fn check_mixed(sight: &Sight) -> Verdict {
    let rules = sight.rules.as_ref().map_err(Clone::clone)?;
    if !(rules.legacy && rules.compat) {
        return Ok(Vec::new());
    }
    Ok(vec![Finding::warning(
        "rules of iptables-legacy and of iptables-nft are in the kernel at once: both are applied, and each tool shows only its own",
        "make all programs use one (update-alternatives --set iptables ...), then flush the other's tables: iptables-legacy -F; iptables-legacy -t nat -F, after looking at iptables-legacy-save; or reboot",
    )])
}

pub(super) fn check_firewalld(sight: &Sight) -> Verdict {
    let rules = sight.rules.as_ref().map_err(Clone::clone)?;
    if !rules.ruleset.has_table("firewalld") {
        return Ok(Vec::new());
    }
    Ok(vec![Finding::warning(
        "firewalld is active: what it rejects, no rule of ours can accept again, and each reload of it writes all its rules anew",
        "give it the pods' networks: firewall-cmd --permanent --zone=trusted --add-source=POD-CIDR; firewall-cmd --reload; or systemctl disable --now firewalld",
    )])
}
