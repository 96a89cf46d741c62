//! Host ports as iptables rules: one for each port in chain SLASH32-HOSTPORTS, one for each pod with ports in
//! SLASH32-HAIRPIN. iptables has no maps, so both chains are always written whole, from the records, in one transaction.
//!
//! The agent lays the chains and what leads to them; the plugin only refills them. That is why they are emptied by `-F`,
//! which fails where there is no such chain, and not declared, which would make one that nothing leads to.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use super::{Flavour, list_chain, restore};
use crate::error::Result;
use crate::hostport::{HostPortError, PortEntry, PortKey};
use crate::names::{CHAIN_HAIRPIN, CHAIN_HOSTPORTS};

const TABLE: &str = "nat";

/// Puts these entries, and no others, into the chains of one family.
pub fn replace_ports(
    flavour: Flavour,
    v6: bool,
    entries: &[PortEntry],
) -> std::result::Result<(), HostPortError> {
    let Err(error) = restore(flavour, v6, &render_replacement(v6, entries)) else {
        return Ok(());
    };
    match list_chain(flavour, v6, TABLE, CHAIN_HOSTPORTS) {
        Ok(None) => Err(HostPortError::NoTable),
        _ => Err(error.into()),
    }
}

/// The entries that are in the kernel; `None`: there is no such chain.
pub fn list_ports(flavour: Flavour, v6: bool) -> Result<Option<Vec<PortEntry>>> {
    let text = list_chain(flavour, v6, TABLE, CHAIN_HOSTPORTS)?;
    Ok(text.map(|text| {
        text.lines()
            .filter_map(|line| parse_port_rule(line, v6))
            .collect()
    }))
}

/// The script of [`replace_ports`]. Pure.
fn render_replacement(v6: bool, entries: &[PortEntry]) -> String {
    let mut text = format!("*{TABLE}\n-F {CHAIN_HOSTPORTS}\n-F {CHAIN_HAIRPIN}\n");
    for rule in port_rules(v6, entries) {
        let _ = writeln!(text, "{rule}");
    }
    text + "COMMIT\n"
}

/// The rules of both chains, as `iptables-save` prints them: ports of a given address first, since the first rule wins.
pub fn port_rules<'a>(v6: bool, entries: impl IntoIterator<Item = &'a PortEntry>) -> Vec<String> {
    let mut entries: Vec<&PortEntry> = entries
        .into_iter()
        .filter(|entry| entry.key.v6 == v6)
        .collect();
    entries.sort_by_key(|entry| (entry.key.host_ip.is_none(), &entry.key));
    let pods: BTreeSet<IpAddr> = entries.iter().map(|entry| entry.pod_ip).collect();
    let ports = entries.iter().map(|entry| port_rule(entry));
    ports.chain(pods.into_iter().map(hairpin_rule)).collect()
}

fn port_rule(entry: &PortEntry) -> String {
    let host = entry
        .key
        .host_ip
        .map(|ip| format!(" -d {}", with_length(ip)))
        .unwrap_or_default();
    let protocol = protocol_name(entry.key.protocol);
    format!(
        "-A {CHAIN_HOSTPORTS}{host} -p {protocol} -m {protocol} --dport {} -j DNAT --to-destination {}",
        entry.key.host_port,
        SocketAddr::new(entry.pod_ip, entry.container_port)
    )
}

/// A pod that reaches itself through its own host port.
fn hairpin_rule(pod: IpAddr) -> String {
    let pod = with_length(pod);
    format!("-A {CHAIN_HAIRPIN} -s {pod} -d {pod} -j MASQUERADE")
}

/// The reverse of a rule of [`port_rules`], however the program orders its words; `None`: no rule of ours.
pub fn parse_port_rule(line: &str, v6: bool) -> Option<PortEntry> {
    let mut words = line.split_whitespace();
    let (mut host_ip, mut protocol, mut host_port, mut target) = (None, None, None, None);
    while let Some(word) = words.next() {
        match word {
            "-A" if words.next()? == CHAIN_HOSTPORTS => {}
            "-d" => host_ip = Some(words.next()?.split('/').next()?.parse::<IpAddr>().ok()?),
            "-p" => protocol = Some(protocol_number(words.next()?)?),
            "-m" => drop(words.next()?),
            "--dport" => host_port = Some(words.next()?.parse::<u16>().ok()?),
            "-j" if words.next()? == "DNAT" => {}
            "--to-destination" => target = Some(words.next()?.parse::<SocketAddr>().ok()?),
            _ => return None,
        }
    }
    let target = target?;
    let of_family = target.is_ipv6() == v6 && host_ip.is_none_or(|ip| ip.is_ipv6() == v6);
    of_family.then_some(PortEntry {
        key: PortKey {
            host_ip,
            protocol: protocol?,
            host_port: host_port?,
            v6,
        },
        pod_ip: target.ip(),
        container_port: target.port(),
    })
}

fn with_length(ip: IpAddr) -> String {
    format!("{ip}/{}", if ip.is_ipv6() { 128 } else { 32 })
}

const PROTOCOLS: [(u8, &str); 3] = [(6, "tcp"), (17, "udp"), (132, "sctp")];

/// Names by which iptables knows both the protocol and the match of its ports.
fn protocol_name(number: u8) -> &'static str {
    PROTOCOLS
        .iter()
        .find(|(known, _)| *known == number)
        .map_or("tcp", |(_, name)| name)
}

/// Numbers too: newer programs print them for what /etc/protocols does not name.
fn protocol_number(name: &str) -> Option<u8> {
    let known = PROTOCOLS
        .iter()
        .find(|(number, known)| *known == name || number.to_string() == name);
    known.map(|(number, _)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(host_ip: Option<&str>, protocol: u8, port: u16, pod: &str, to: u16) -> PortEntry {
        let pod_ip: IpAddr = pod.parse().unwrap();
        PortEntry {
            key: PortKey {
                host_ip: host_ip.map(|ip| ip.parse().unwrap()),
                protocol,
                host_port: port,
                v6: pod_ip.is_ipv6(),
            },
            pod_ip,
            container_port: to,
        }
    }

    #[test]
    fn ports_of_a_given_address_stand_before_those_of_any() {
        let entries = [
            entry(None, 6, 8080, "10.244.0.5", 80),
            entry(Some("192.0.2.1"), 17, 9090, "10.244.0.6", 90),
            entry(None, 6, 8080, "fd00::5", 80),
        ];
        assert_eq!(
            render_replacement(false, &entries),
            "*nat\n\
             -F SLASH32-HOSTPORTS\n\
             -F SLASH32-HAIRPIN\n\
             -A SLASH32-HOSTPORTS -d 192.0.2.1/32 -p udp -m udp --dport 9090 -j DNAT --to-destination 10.244.0.6:90\n\
             -A SLASH32-HOSTPORTS -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.244.0.5:80\n\
             -A SLASH32-HAIRPIN -s 10.244.0.5/32 -d 10.244.0.5/32 -j MASQUERADE\n\
             -A SLASH32-HAIRPIN -s 10.244.0.6/32 -d 10.244.0.6/32 -j MASQUERADE\n\
             COMMIT\n"
        );
        assert_eq!(
            port_rules(true, &entries)[0],
            "-A SLASH32-HOSTPORTS -p tcp -m tcp --dport 8080 -j DNAT --to-destination [fd00::5]:80"
        );
    }

    #[test]
    fn a_rule_is_read_back_and_a_foreign_one_is_not() {
        for entry in [
            entry(None, 6, 1, "10.244.0.5", 65_535),
            entry(Some("127.0.0.1"), 132, 9000, "10.244.0.5", 9000),
            entry(Some("2001:db8::1"), 17, 53, "fd00::5", 5353),
        ] {
            let v6 = entry.key.v6;
            let rule = port_rules(v6, [&entry]).remove(0);
            assert_eq!(parse_port_rule(&rule, v6), Some(entry), "{rule}");
            assert_eq!(parse_port_rule(&rule, !v6), None, "{rule}");
        }
        for foreign in [
            "-N SLASH32-HOSTPORTS",
            "-A SLASH32-HAIRPIN -s 10.0.0.1/32 -d 10.0.0.1/32 -j MASQUERADE",
            "-A SLASH32-HOSTPORTS -j ACCEPT",
            "-A SLASH32-HOSTPORTS ! -i eth0 -p tcp -m tcp --dport 1 -j DNAT --to-destination 10.0.0.1:1",
            "-A DOCKER -p tcp -m tcp --dport 1 -j DNAT --to-destination 10.0.0.1:1",
        ] {
            assert_eq!(parse_port_rule(foreign, false), None, "{foreign}");
        }
    }
}
