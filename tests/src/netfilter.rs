//! The packet filter of a node in either back-end's words, so that one suite serves both. Which one a run is about says
//! SLASH32_TEST_NETFILTER: `nftables` (where it is not set), `iptables-legacy` or `iptables-nft`.

use crate::machine::{Machine, Outcome, PATIENCE, finish};
use anyhow::{Result, bail, ensure};
use std::time::Duration;

/// The agent's setting `netfilter`, as far as a run can be about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// Table inet slash32.
    Nftables,
    /// Chains SLASH32-* of `iptables-legacy` or `iptables-nft`.
    Iptables(&'static str),
}

const FAMILIES: [&str; 2] = ["iptables", "ip6tables"];

/// What this run is about.
pub fn backend() -> Backend {
    match std::env::var("SLASH32_TEST_NETFILTER").as_deref() {
        Err(_) | Ok("" | "nftables") => Backend::Nftables,
        Ok("iptables" | "iptables-nft") => Backend::Iptables("nft"),
        Ok("iptables-legacy") => Backend::Iptables("legacy"),
        Ok(other) => {
            panic!("SLASH32_TEST_NETFILTER={other}: nftables, iptables-legacy or iptables-nft")
        }
    }
}

/// How long a change by somebody else's hand may stand. Measured: milliseconds where the kernel tells of it; the legacy
/// kernel does not, and is looked at every five seconds.
pub fn repair_patience() -> Duration {
    match backend() {
        Backend::Nftables => Duration::from_secs(1),
        Backend::Iptables("legacy") => Duration::from_secs(10),
        Backend::Iptables(_) => Duration::from_secs(5),
    }
}

/// A host port of any address: (protocol, host port, pod, container port).
pub type Port<'a> = (&'a str, u16, &'a str, u16);

impl Backend {
    /// The agent's setting.
    pub fn setting(self) -> &'static str {
        match self {
            Backend::Nftables => "nftables",
            Backend::Iptables("legacy") => "iptables-legacy",
            Backend::Iptables(_) => "iptables-nft",
        }
    }

    /// What stands in a dump of the kernel exactly where this back-end's rules do.
    pub fn mark(self) -> &'static str {
        match self {
            Backend::Nftables => "table inet slash32",
            Backend::Iptables(_) => "SLASH32-HOSTPORTS",
        }
    }

    /// All rules of ours as text, without what counts; empty where there are none.
    pub fn rules(self, machine: &Machine) -> Result<String> {
        let Backend::Iptables(flavour) = self else {
            return Ok(machine
                .try_run(&["nft", "-s", "list", "table", "inet", "slash32"])?
                .stdout);
        };
        let mut all = String::new();
        for family in FAMILIES {
            let program = format!("{family}-{flavour}-save");
            for line in machine.run(&[&program])?.stdout.lines() {
                if line.starts_with('*') || line.contains("SLASH32-") {
                    // Chains carry counters.
                    let counted = line.starts_with(':').then(|| line.split_once(" ["));
                    all.push_str(counted.flatten().map_or(line, |(chain, _)| chain));
                    all.push('\n');
                }
            }
        }
        Ok(if all.contains("SLASH32-") {
            all
        } else {
            String::new()
        })
    }

    /// The host ports in the kernel, one a line: `[host address ]protocol port pod port`.
    pub fn ports(self, machine: &Machine) -> Result<Vec<String>> {
        let mut ports = Vec::new();
        match self {
            Backend::Nftables => {
                for map in [
                    "hostports4",
                    "hostports4-any",
                    "hostports6",
                    "hostports6-any",
                ] {
                    let text = machine
                        .try_run(&["nft", "list", "map", "inet", "slash32", map])?
                        .stdout;
                    let elements = text
                        .split_once("elements = {")
                        .and_then(|(_, rest)| rest.split_once('}'))
                        .map_or("", |(elements, _)| elements);
                    let each = elements.split(',').map(str::trim);
                    ports.extend(
                        each.filter(|one| !one.is_empty())
                            .map(|one| one.replace(" . ", " ").replace(" : ", " ")),
                    );
                }
            }
            Backend::Iptables(_) => {
                for line in self.rules(machine)?.lines() {
                    ports.extend(port_of(line));
                }
            }
        }
        ports.sort();
        Ok(ports)
    }

    /// Pods that may reach themselves, one a line.
    pub fn hairpins(self, machine: &Machine) -> Result<String> {
        let mut found = String::new();
        match self {
            Backend::Nftables => {
                for set in ["hairpin4", "hairpin6"] {
                    let list = ["nft", "list", "set", "inet", "slash32", set];
                    found += &machine.try_run(&list)?.stdout;
                }
            }
            Backend::Iptables(_) => {
                let rules = self.rules(machine)?;
                let lines = rules
                    .lines()
                    .filter(|line| line.starts_with("-A SLASH32-HAIRPIN"));
                lines.for_each(|line| found += &format!("{line}\n"));
            }
        }
        Ok(found)
    }

    /// Adds a port by hand.
    pub fn add_port(self, machine: &Machine, port: Port<'_>) -> Result<()> {
        let (protocol, host_port, pod, container_port) = port;
        match self {
            Backend::Nftables => machine
                .nft(&format!("add element inet slash32 hostports4-any {{ {protocol} . {host_port} : {pod} . {container_port} }}"))
                .map(drop),
            Backend::Iptables(_) => self.nat(machine, "-A", port),
        }
    }

    /// Deletes one.
    pub fn delete_port(self, machine: &Machine, port: Port<'_>) -> Result<()> {
        let (protocol, host_port, ..) = port;
        match self {
            Backend::Nftables => machine
                .nft(&format!(
                    "delete element inet slash32 hostports4-any {{ {protocol} . {host_port} }}"
                ))
                .map(drop),
            Backend::Iptables(_) => self.nat(machine, "-D", port),
        }
    }

    /// Makes one lead to another pod, in one transaction.
    pub fn redirect_port(self, machine: &Machine, port: Port<'_>, pod: &str) -> Result<()> {
        let (protocol, host_port, from, container_port) = port;
        match self {
            Backend::Nftables => machine
                .nft(&format!("delete element inet slash32 hostports4-any {{ {protocol} . {host_port} }}\nadd element inet slash32 hostports4-any {{ {protocol} . {host_port} : {pod} . {container_port} }}"))
                .map(drop),
            Backend::Iptables(_) => {
                let rule = format!("SLASH32-HOSTPORTS -p {protocol} -m {protocol} --dport {host_port} -j DNAT --to-destination");
                self.restore(machine, "iptables", &format!("*nat\n-D {rule} {from}:{container_port}\n-A {rule} {pod}:{container_port}\nCOMMIT\n"))
            }
        }
    }

    /// Deletes what lets a pod reach itself.
    pub fn delete_hairpin(self, machine: &Machine, pod: &str) -> Result<()> {
        match self {
            Backend::Nftables => machine
                .nft(&format!(
                    "delete element inet slash32 hairpin4 {{ {pod} . {pod} }}"
                ))
                .map(drop),
            Backend::Iptables(flavour) => machine
                .run(&[
                    &format!("iptables-{flavour}"),
                    "-w",
                    "5",
                    "-t",
                    "nat",
                    "-F",
                    "SLASH32-HAIRPIN",
                ])
                .map(drop),
        }
    }

    /// Deletes all that is ours, as an administrator would.
    pub fn delete_all(self, machine: &Machine) -> Result<()> {
        match self {
            Backend::Nftables => machine.nft("delete table inet slash32").map(drop),
            Backend::Iptables(flavour) => {
                for family in FAMILIES {
                    let saved = machine.run(&[&format!("{family}-{flavour}-save")])?.stdout;
                    self.restore(machine, family, &removal(&saved))?;
                }
                Ok(())
            }
        }
    }

    /// Ways in which others change our rules: what they do, as a command for `sh`.
    pub fn vandalism(self) -> Vec<String> {
        let Backend::Iptables(flavour) = self else {
            return [
                "flush table inet slash32",
                "flush chain inet slash32 hostports",
                "insert rule inet slash32 nat-prerouting drop",
                "add chain inet slash32 stranger",
                "flush set inet slash32 cluster4",
                "delete element inet slash32 cluster6 { fd00:244:2::/64 }",
                "add element inet slash32 cluster4 { 198.51.100.0/24 }",
            ]
            .map(|command| format!("nft '{command}'"))
            .to_vec();
        };
        let [v4, v6] = FAMILIES.map(|family| format!("{family}-{flavour} -w 5 -t"));
        vec![
            format!("{v4} nat -F SLASH32-HOSTPORTS"),
            format!("{v6} nat -F PREROUTING"),
            format!("{v4} raw -F"),
            format!("{v4} nat -I SLASH32-HOSTPORTS -j ACCEPT"),
            format!("{v4} nat -N SLASH32-STRANGER"),
            format!("{v4} nat -F SLASH32-MASQUERADE"),
            format!("{v4} nat -I SLASH32-MASQUERADE -d 198.51.100.0/24 -j RETURN"),
            format!(
                "{v4} nat -D OUTPUT -m addrtype --dst-type LOCAL -m comment --comment 'Slash32: host ports of pods' -j SLASH32-HOSTPORTS"
            ),
        ]
    }

    /// Ways in which others delete all of it.
    pub fn floods(self) -> Vec<String> {
        match self {
            Backend::Nftables => ["delete table inet slash32", "flush ruleset"]
                .map(|command| format!("nft '{command}'"))
                .to_vec(),
            Backend::Iptables(flavour) => vec![
                // As firewalld's reload does it.
                FAMILIES
                    .map(|family| ["raw", "nat"].map(|table| format!("{family}-{flavour} -w 5 -t {table} -F; {family}-{flavour} -w 5 -t {table} -X")).join("; "))
                    .join("; "),
            ],
        }
    }

    /// A Service on every address of the node, IPv4 alone, as kube-proxy of the same kind makes it.
    pub fn claim_by_service(self, machine: &Machine, port: u16, backend: &str) -> Result<()> {
        match self {
            Backend::Nftables => machine.nft(&format!(
                "table ip services {{\n\
                 chain pre {{ type nat hook prerouting priority dstnat;\n\
                 fib daddr type local meta l4proto {{ tcp, udp }} th dport {port} dnat to {backend}\n}}\n\
                 chain out {{ type nat hook output priority -100;\n\
                 fib daddr type local meta l4proto {{ tcp, udp }} th dport {port} dnat to {backend}\n}}\n}}"
            )).map(drop),
            Backend::Iptables(_) => {
                let rules: String = ["tcp", "udp"]
                    .map(|protocol| format!("-A KUBE-SERVICES -p {protocol} -m addrtype --dst-type LOCAL -m {protocol} --dport {port} -j DNAT --to-destination {backend}\n"))
                    .concat();
                self.restore(machine, "iptables", &format!("*nat\n:KUBE-SERVICES - [0:0]\n-I PREROUTING -j KUBE-SERVICES\n-I OUTPUT -j KUBE-SERVICES\n{rules}COMMIT\n"))
            }
        }
    }

    /// The end of that Service.
    pub fn release_service(self, machine: &Machine) -> Result<()> {
        match self {
            Backend::Nftables => machine.nft("delete table ip services").map(drop),
            Backend::Iptables(_) => self.restore(machine, "iptables", "*nat\n-D PREROUTING -j KUBE-SERVICES\n-D OUTPUT -j KUBE-SERVICES\n-F KUBE-SERVICES\n-X KUBE-SERVICES\nCOMMIT\n"),
        }
    }

    fn nat(self, machine: &Machine, verb: &str, port: Port<'_>) -> Result<()> {
        let (protocol, host_port, pod, container_port) = port;
        self.restore(
            machine,
            "iptables",
            &format!("*nat\n{verb} SLASH32-HOSTPORTS -p {protocol} -m {protocol} --dport {host_port} -j DNAT --to-destination {pod}:{container_port}\nCOMMIT\n"),
        )
    }

    fn restore(self, machine: &Machine, family: &str, script: &str) -> Result<()> {
        let Backend::Iptables(flavour) = self else {
            bail!("nftables has no {family}-restore");
        };
        let outcome = restore(machine, &format!("{family}-{flavour}-restore"), script)?;
        ensure!(outcome.status.success(), "{script}\n{}", outcome.stderr);
        Ok(())
    }
}

/// A script to one of the iptables-restore programs.
pub fn restore(machine: &Machine, program: &str, script: &str) -> Result<Outcome> {
    let mut command = machine.command(program);
    command.args(["--noflush", "--wait", "5"]);
    finish(command, script.as_bytes(), PATIENCE)
}

fn port_of(line: &str) -> Option<String> {
    let rest = line.strip_prefix("-A SLASH32-HOSTPORTS ")?;
    let words: Vec<&str> = rest.split(' ').collect();
    let after = |key: &str| {
        let at = words.iter().position(|word| *word == key)?;
        words.get(at + 1).copied()
    };
    let host = after("-d").and_then(|cidr| cidr.split('/').next());
    let (pod, port) = after("--to-destination")?.rsplit_once(':')?;
    let pod = pod.trim_matches(['[', ']']);
    let told = [host, after("-p"), after("--dport"), Some(pod), Some(port)];
    Some(told.into_iter().flatten().collect::<Vec<_>>().join(" "))
}

/// A script that deletes what of ours `iptables-save` shows.
fn removal(saved: &str) -> String {
    let mut script = String::new();
    let mut table: Vec<&str> = Vec::new();
    for line in saved.lines() {
        if line.starts_with('*') {
            table = vec![line];
        } else if line == "COMMIT" {
            push_removal(&mut script, &table);
        } else {
            table.push(line);
        }
    }
    script
}

fn push_removal(script: &mut String, table: &[&str]) {
    let jumps = table.iter().filter_map(|line| {
        let rule = line.strip_prefix("-A ")?;
        (!rule.starts_with("SLASH32-") && rule.contains("-j SLASH32-"))
            .then(|| format!("-D {rule}\n"))
    });
    let chains: Vec<&str> = table
        .iter()
        .filter_map(|line| line.strip_prefix(":SLASH32-")?.split(' ').next())
        .collect();
    let body: String = jumps
        .chain(chains.iter().map(|chain| format!("-F SLASH32-{chain}\n")))
        .chain(chains.iter().map(|chain| format!("-X SLASH32-{chain}\n")))
        .collect();
    if !body.is_empty() {
        *script += &format!("{}\n{body}COMMIT\n", table[0]);
    }
}

/// All rules of both flavours of iptables, everybody's, without what counts; for dumps of the kernel. Empty lines and dates
/// are left out.
pub const SAVE_ALL: &str = "for f in legacy nft; do for p in iptables ip6tables; do $p-$f-save 2>/dev/null | grep -v '^#' | sed 's/ \\[.*\\]$//'; done; done";
