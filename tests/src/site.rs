//! A node without an agent, for suites that put one plugin to the test, and replies that are held to the
//! protocol as they come in.
//!
//! Every reply of every suite goes through [`Reply::read`]: one JSON document or nothing on stdout, and an
//! error document exactly where the exit code says failure (G13, G14, G15).

use crate::machine::{Machine, Outcome, run_here};
use crate::node::Node;
use crate::pod::Pod;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

static NEXT: AtomicUsize = AtomicUsize::new(1);

/// One node, alone: 192.0.2.1 and 2001:db8:2::1 on lo, no agent, no table. Its namespaces go when it is
/// dropped.
#[derive(Debug)]
pub struct Site {
    /// The node.
    pub node: Node,
    name: String,
}

impl Site {
    /// What Debian's host-local holds for the network: a file for each address, named by it.
    pub fn host_local_reservations(&self) -> Result<Vec<String>> {
        let folder = self
            .node
            .machine
            .folder("/var/lib/cni")
            .join("networks/slash32");
        let names = files_below(&folder)?
            .into_iter()
            .filter_map(|(path, _)| Some(path.rsplit('/').next()?.to_owned()));
        Ok(names
            .filter(|name| name != "lock" && !name.starts_with("last_reserved"))
            .collect())
    }

    /// A fresh one; names are unique in the program.
    pub fn new() -> Result<Site> {
        let name = format!("site{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let node = Node::new(&name, 1)?;
        for address in ["192.0.2.1/32", "2001:db8:2::1/128"] {
            node.machine
                .run(&["ip", "address", "add", address, "dev", "lo"])?;
        }
        // Loose, as distributions have it: strict filtering is a matter of whole clusters.
        node.machine
            .run(&["sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0"])?;
        Ok(Site { node, name })
    }

    /// A pod's namespace, empty.
    pub fn netns(&self) -> Result<Machine> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Machine::new(&format!("{}-pod{number}", self.name))
    }

    /// Namespace and ADD of eth0.
    pub fn add(&self, id: &str, request: &Value) -> Result<Pod> {
        Pod::add(&self.node, id, request.clone())
    }

    /// slash32 with a verb, eth0.
    pub fn call(&self, verb: &str, id: &str, netns: &Machine, request: &Value) -> Result<Reply> {
        self.call_at(verb, id, &netns.netns().to_string_lossy(), "eth0", request)
    }

    /// The same with any text as namespace and interface.
    pub fn call_at(
        &self,
        verb: &str,
        id: &str,
        netns: &str,
        ifname: &str,
        request: &Value,
    ) -> Result<Reply> {
        Reply::read(self.node.call(verb, id, netns, ifname, request)?)
    }

    /// GC and STATUS: libcni exports every variable, empty where it does not apply (G4).
    pub fn call_network(&self, verb: &str, request: &Value) -> Result<Reply> {
        self.call_at(verb, "", "", "", request)
    }

    /// One pass of the real agent, which lays our rules and the stamp.
    pub fn run_agent_once(&self) -> Result<Outcome> {
        crate::nodes_file::write(&self.node.nodes_file(), &[self.node.entry()])?;
        let mut command = self.node.agent_command()?;
        command.args([
            "run",
            "--once",
            "--node-name",
            &self.node.name,
            "--nodes-file",
            "/etc/slash32/nodes.yaml",
            // There is no card to derive it from: the node's addresses are on lo.
            "--mtu",
            "1380",
        ]);
        command.args(crate::node::netfilter_arguments(&[]));
        crate::machine::finish(command, b"", crate::machine::PATIENCE)
    }

    /// The state folder, seen from outside.
    pub fn state(&self) -> std::path::PathBuf {
        self.node.machine.folder("/run/slash32")
    }

    /// Kernel, records and claims of the node as text, to be compared before and after. The operation log,
    /// which tells of refused calls too, and the allocator's memory are left out.
    pub fn snapshot(&self) -> Result<String> {
        let mut text = kernel_of(&self.node.machine)?;
        for (path, content) in files_below(&self.state())? {
            if !is_furniture(&path) {
                text.push_str(&format!("{path}: {content}\n"));
            }
        }
        Ok(text)
    }

    /// Fails where anything is left of any attachment: links, routes, elements, records, claims, half-written
    /// files. One process, since sweeps ask this hundreds of times.
    pub fn expect_clean(&self) -> Result<()> {
        const LOOK: &str = "ip -o link; ip route show proto 32; ip -6 route show proto 32; nft list table inet slash32 2>/dev/null; for p in iptables ip6tables; do $p-legacy-save; $p-nft-save; done 2>/dev/null || true";
        let shown = self.node.machine.read(&["sh", "-c", LOOK])?;
        let mut left: Vec<String> = shown
            .lines()
            .filter(|line| {
                [
                    ": s32",
                    ": b32",
                    "dev s32",
                    "-A SLASH32-HOSTPORTS",
                    "-A SLASH32-HAIRPIN",
                ]
                .iter()
                .any(|mark| line.contains(mark))
            })
            .map(str::to_owned)
            .collect();
        left.extend(filled_maps(&shown));
        let files = files_below(&self.state())?
            .into_iter()
            .map(|(path, _)| path);
        left.extend(files.filter(|path| !is_furniture(path)));
        ensure!(
            left.is_empty(),
            "left on {}:\n{}",
            self.node.name,
            left.join("\n")
        );
        Ok(())
    }
}

/// Maps of host ports, and the hairpin sets, that are not empty.
fn filled_maps(table: &str) -> Vec<String> {
    let mut filled = Vec::new();
    let mut name = "";
    for line in table.lines().map(str::trim) {
        if let Some(rest) = line
            .strip_prefix("map ")
            .or_else(|| line.strip_prefix("set "))
        {
            name = rest;
        }
        let of_pods = name.starts_with("hostports") || name.starts_with("hairpin");
        if of_pods && line.starts_with("elements") {
            filled.push(format!("{name} {line}"));
        }
    }
    filled
}

impl Drop for Site {
    fn drop(&mut self) {
        let names = run_here(&["ip", "netns", "list"]).map(|outcome| outcome.stdout);
        let prefix = format!("{}-", self.name);
        for line in names.unwrap_or_default().lines() {
            let name = line.split(' ').next().unwrap_or_default();
            if name.starts_with(&prefix) {
                let _ = run_here(&["ip", "netns", "del", name]);
            }
        }
    }
}

/// Files that stay when the last pod is gone: locks, the log, the allocator's memory of what was freed last, and the
/// one name (`.new`) under which the next file is written whole, where a writer was killed.
fn is_furniture(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.ends_with("lock")
        || name.starts_with("operations.jsonl")
        || name == "ready"
        || name == "netfilter"
        || name == ".new"
        || name == "boot"
        || name.starts_with("released.")
        || name.starts_with("mark.")
}

/// Links, addresses, routes and permanent neighbours. What the kernel adds by itself and in its own time
/// (link-local addresses, multicast routes, learnt neighbours) is left out.
pub fn kernel_of(machine: &Machine) -> Result<String> {
    let mut text = String::new();
    for arguments in [
        &["ip", "-o", "-d", "link"][..],
        &["ip", "-o", "address"],
        &["ip", "route", "show", "table", "all"],
        &["ip", "-6", "route", "show", "table", "all"],
        &["ip", "neigh", "show", "nud", "permanent"],
        &["ip", "-6", "neigh", "show", "nud", "permanent"],
        &["nft", "-s", "list", "ruleset"],
        &["sh", "-c", crate::netfilter::SAVE_ALL],
    ] {
        for line in machine.read(arguments)?.lines() {
            if !line.contains("fe80::") && !line.contains("ff00::/8") {
                text.push_str(&without_operstate(line));
                text.push('\n');
            }
        }
    }
    Ok(text)
}

/// The kernel tells of a carrier in its own time, some milliseconds after the link is up.
fn without_operstate(line: &str) -> String {
    ["UP", "UNKNOWN", "DOWN"]
        .iter()
        .fold(line.to_owned(), |text, state| {
            text.replace(&format!("state {state} "), "")
        })
}

/// Every file below a folder, with its content, sorted.
pub fn files_below(folder: &Path) -> Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let content = std::fs::read(&path).unwrap_or_default();
                files.push((
                    path.display().to_string(),
                    String::from_utf8_lossy(&content).into_owned(),
                ));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// A plugin's answer that keeps to the protocol.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Null where stdout was empty.
    pub document: Value,
    /// As it ended.
    pub outcome: Outcome,
}

impl Reply {
    /// Holds an outcome to G13 to G15.
    pub fn read(outcome: Outcome) -> Result<Reply> {
        let told = || {
            format!(
                "{}, stdout {:?}, stderr {:?}",
                outcome.status, outcome.stdout, outcome.stderr
            )
        };
        let code = outcome
            .status
            .code()
            .with_context(|| format!("ended by a signal: {}", told()))?;
        let document = if outcome.stdout.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&outcome.stdout)
                .with_context(|| format!("not one JSON document on stdout: {}", told()))?
        };
        let is_error = document.get("code").is_some() || document.get("msg").is_some();
        ensure!(
            is_error == (code != 0),
            "error document and exit code differ: {}",
            told()
        );
        if is_error {
            let sound = document["code"].as_u64().is_some_and(|number| number > 0)
                && document["msg"].as_str().is_some_and(|msg| !msg.is_empty())
                && document["cniVersion"].is_string();
            ensure!(
                sound,
                "an error document lacks code, msg or cniVersion: {}",
                told()
            );
        }
        Ok(Reply { document, outcome })
    }

    /// The document of a call that must succeed.
    pub fn success(self) -> Result<Value> {
        if !self.outcome.status.success() {
            bail!("{}{}", self.outcome.stdout, self.outcome.stderr);
        }
        Ok(self.document)
    }

    /// Success and nothing on stdout: DEL, CHECK, GC, STATUS.
    pub fn silent(self) -> Result<()> {
        let document = self.success()?;
        ensure!(document.is_null(), "something on stdout: {document}");
        Ok(())
    }

    /// msg and details of a call that must fail with this code.
    pub fn refused(self, code: u64) -> Result<String> {
        ensure!(
            !self.outcome.status.success(),
            "succeeded instead of failing with {code}: {}",
            self.document
        );
        ensure!(
            self.document["code"] == code,
            "instead of code {code}: {}",
            self.document
        );
        Ok(self.text())
    }

    /// msg and details of a call that must fail, whatever the code.
    pub fn failed(self) -> Result<String> {
        ensure!(
            !self.outcome.status.success(),
            "succeeded: {}",
            self.document
        );
        Ok(self.text())
    }

    fn text(&self) -> String {
        let part = |key: &str| self.document[key].as_str().unwrap_or_default().to_owned();
        format!("{} {}", part("msg"), part("details"))
    }
}

/// What a runtime hands the plugin: IPv4 and IPv6, an MTU that is nobody's default.
pub fn dual_stack() -> Value {
    json!({
        "cniVersion": "1.1.0", "name": "slash32", "type": "slash32", "mtu": 1380,
        "capabilities": {"portMappings": true, "bandwidth": true, "ips": true, "mac": true, "ipRanges": true},
        "ipam": {"type": "slash32-ipam", "ranges": [[{"subnet": "10.244.1.0/24"}], [{"subnet": "fd00:244:1::/64"}]]},
    })
}

/// The same with one family.
pub fn only(subnet: &str) -> Value {
    patched(
        &dual_stack(),
        json!({"ipam": {"ranges": [[{"subnet": subnet}]]}}),
    )
}

/// A JSON merge patch (RFC 7396): null removes, objects merge, everything else replaces.
pub fn patched(base: &Value, patch: Value) -> Value {
    let Value::Object(changes) = patch else {
        return patch;
    };
    let mut merged = base.as_object().cloned().unwrap_or_default();
    for (key, change) in changes {
        if change.is_null() {
            merged.remove(&key);
        } else {
            let before = merged.remove(&key).unwrap_or(Value::Null);
            merged.insert(key, patched(&before, change));
        }
    }
    Value::Object(merged)
}

/// A request with the result of ADD, as runtimes give it to CHECK and DEL.
pub fn with_previous(request: &Value, result: &Value) -> Value {
    let mut request = request.clone();
    request["prevResult"] = result.clone();
    request
}

/// `ip -j` on a machine.
pub fn ip_json(machine: &Machine, arguments: &[&str]) -> Result<Vec<Value>> {
    let text = machine.read(&[&["ip", "-j"], arguments].concat())?;
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let all: Vec<Value> = serde_json::from_str(&text)?;
    // iproute2 prints {} for each entry that it filters out.
    Ok(all
        .into_iter()
        .filter(|entry| entry.as_object().is_some_and(|map| !map.is_empty()))
        .collect())
}
