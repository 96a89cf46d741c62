//! One node of the cluster: a machine with an agent, and pods that real CNI calls attach.

use crate::machine::{Machine, Outcome, Running, finish};
use crate::netfilter::{self, Backend};
use crate::nodes_file::NodeEntry;
use crate::pod::Pod;
use crate::{http, programs, wait};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// What stands before the host number in addresses on a lab's first and second link.
pub(crate) const LINKS: [[&str; 2]; 2] = [
    ["192.0.2.", "2001:db8:2::"],
    ["203.0.113.", "2001:db8:113::"],
];

/// A node: number n has the addresses 192.0.2.n and 2001:db8:2::n (on a lab's second link 203.0.113.n and
/// 2001:db8:113::n) and the pod CIDRs 10.244.n.0/24 and fd00:244:n::/64.
#[derive(Debug, Clone)]
pub struct Node {
    /// As in the file of Nodes.
    pub name: String,
    /// 1 for the first.
    pub number: usize,
    /// The link that its eth0 is on: 1, or 2 in a split lab.
    pub link: usize,
    /// Its network and folders.
    pub machine: Machine,
}

impl Node {
    /// The machine, without interfaces yet; its addresses are those of the first link.
    pub fn new(lab: &str, number: usize) -> Result<Node> {
        Node::on_link(lab, number, 1)
    }

    /// The same for link 1 or 2.
    pub fn on_link(lab: &str, number: usize, link: usize) -> Result<Node> {
        Node::named(lab, &format!("node{number}"), number, link)
    }

    /// The same with a name of its own.
    pub fn named(lab: &str, name: &str, number: usize, link: usize) -> Result<Node> {
        Ok(Node {
            machine: Machine::new(&format!("{lab}-{name}"))?,
            name: name.into(),
            number,
            link,
        })
    }

    /// IPv4 and IPv6 address.
    pub fn addresses(&self) -> [String; 2] {
        LINKS[self.link - 1].map(|net| format!("{net}{}", self.number))
    }

    /// IPv4 and IPv6 pod CIDR.
    pub fn pod_cidrs(&self) -> [String; 2] {
        [
            format!("10.244.{}.0/24", self.number),
            format!("fd00:244:{}::/64", self.number),
        ]
    }

    /// As the file of Nodes names it.
    pub fn entry(&self) -> NodeEntry {
        NodeEntry {
            name: self.name.clone(),
            pod_cidrs: self.pod_cidrs().into(),
            addresses: self.addresses().into(),
        }
    }

    /// The node's own copy of the file of Nodes.
    pub fn nodes_file(&self) -> PathBuf {
        self.machine.folder("/etc/slash32").join("nodes.yaml")
    }

    /// What the agent printed since it was last started.
    pub fn agent_log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.machine.folder("/etc/slash32").join("agent.log")
    }

    /// The agent's command, without a subcommand.
    pub fn agent_command(&self) -> Result<std::process::Command> {
        Ok(self
            .machine
            .command(programs::binaries()?.join("slash32-agent")))
    }

    /// Starts the real agent in the background.
    pub fn spawn_agent(&self) -> Result<Running> {
        self.spawn_agent_with(&[])
    }

    /// The same with further arguments.
    pub fn spawn_agent_with(&self, arguments: &[&str]) -> Result<Running> {
        let file = ["--nodes-file", "/etc/slash32/nodes.yaml"];
        self.spawn_agent_of(&[&file, arguments].concat(), &[])
    }

    /// With whatever source of Nodes the arguments and variables name.
    pub fn spawn_agent_of(
        &self,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Running> {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.log_path())?;
        let mut command = self.agent_command()?;
        command
            .args(["run", "--node-name", &self.name])
            .args(netfilter_arguments(arguments))
            .args(arguments)
            .envs(environment.iter().copied())
            .stderr(log.try_clone()?)
            .stdout(log);
        self.machine.start(&mut command)
    }

    /// Until the agent has written the conflist, which it does last of all.
    pub fn wait_ready(&self) -> Result<Duration> {
        wait::until(
            &format!("the agent of {} is ready", self.name),
            Duration::from_secs(20),
            || Ok(self.conflist_path().is_file()),
        )
        .with_context(|| format!("log of the agent:\n{}", self.agent_log()))
    }

    /// Runs the agent with these arguments to its end: `uninstall`, `run --once`, a wrong setting.
    pub fn run_agent(&self, arguments: &[&str]) -> Result<Outcome> {
        let mut command = self.agent_command()?;
        command.args(arguments);
        finish(command, b"", crate::machine::PATIENCE)
    }

    /// Status and text of one of the agent's HTTP paths.
    pub fn ask_agent(&self, path: &str) -> Result<(u16, String)> {
        http::get(&self.machine, "127.0.0.1:9532", path)
    }

    /// Until an agent that was just started tells that its first pass is done. Unlike [`Node::wait_ready`] it
    /// is not satisfied by what an agent before it left.
    pub fn wait_converged(&self) -> Result<Duration> {
        wait::until(
            &format!("/readyz of {} says ready", self.name),
            Duration::from_secs(20),
            || {
                Ok(self
                    .ask_agent("/readyz")
                    .is_ok_and(|(status, _)| status == 200))
            },
        )
        .with_context(|| format!("log of the agent:\n{}", self.agent_log()))
    }

    /// Until /readyz holds `text`.
    pub fn wait_told(&self, text: &str) -> Result<Duration> {
        wait::until(
            &format!("/readyz of {} tells {text:?}", self.name),
            Duration::from_secs(10),
            || {
                Ok(self
                    .ask_agent("/readyz")
                    .is_ok_and(|(_, told)| told.contains(text)))
            },
        )
        .with_context(|| format!("it tells: {:?}", self.ask_agent("/readyz")))
    }

    /// Our routes to podCIDRs, both families, as `ip route` prints them; routes to pods are left out.
    pub fn routes(&self) -> Result<String> {
        let mut routes = String::new();
        for family in ["-4", "-6"] {
            let text = self
                .machine
                .read(&["ip", family, "route", "show", "proto", "32"])?;
            for line in text.lines().filter(|line| !is_to_pod(line)) {
                routes.push_str(line.trim());
                routes.push('\n');
            }
        }
        Ok(routes)
    }

    /// Where the conflist is that the agent writes.
    pub fn conflist_path(&self) -> PathBuf {
        self.machine
            .folder("/etc/cni/net.d")
            .join("10-slash32.conflist")
    }

    /// The conflist that the agent wrote.
    pub fn conflist(&self) -> Result<Value> {
        let text = std::fs::read_to_string(self.conflist_path())
            .context("read the conflist that the agent writes")?;
        Ok(serde_json::from_str(&text)?)
    }

    /// The request of the first plugin of the agent's conflist, as libcni makes it.
    pub fn request(&self) -> Result<Value> {
        let list = self.conflist()?;
        let mut request = list["plugins"][0].clone();
        request["cniVersion"] = json!("1.1.0");
        request["name"] = list["name"].clone();
        Ok(request)
    }

    /// A pod with the addresses that the node's IPAM chooses.
    pub fn add_pod(&self, name: &str) -> Result<Pod> {
        Pod::add(self, name, self.request()?)
    }

    /// A pod with host ports: (host port, container port, "tcp" or "udp").
    pub fn add_pod_with_ports(&self, name: &str, ports: &[(u16, u16, &str)]) -> Result<Pod> {
        let mut request = self.request()?;
        // As containerd spells it (X2): capitals, and an empty HostIP.
        request["runtimeConfig"] = json!({"portMappings": ports.iter().map(|(host, container, protocol)| json!({"HostPort": host, "ContainerPort": container, "Protocol": protocol, "HostIP": ""})).collect::<Vec<_>>()});
        Pod::add(self, name, request)
    }

    /// A pod with one host port of both protocols at one address of the node ("" for any).
    pub fn add_pod_with_host_ip(
        &self,
        name: &str,
        host_ip: &str,
        host_port: u16,
        container_port: u16,
    ) -> Result<Pod> {
        let mut request = self.request()?;
        let mappings = ["tcp", "udp"].map(|protocol| json!({"HostPort": host_port, "ContainerPort": container_port, "Protocol": protocol, "HostIP": host_ip}));
        request["runtimeConfig"] = json!({ "portMappings": mappings });
        Pod::add(self, name, request)
    }

    /// Executes a plugin on this node: environment and stdin as given, CNI_PATH with ours first.
    pub fn call_plugin(
        &self,
        plugin: &str,
        environment: &[(&str, &str)],
        stdin: &[u8],
    ) -> Result<Outcome> {
        let (ours, reference) = (programs::binaries()?, programs::reference_plugins());
        let program = [&ours, &reference]
            .into_iter()
            .map(|folder| folder.join(plugin))
            .find(|path| path.is_file())
            .with_context(|| format!("no plugin {plugin}"))?;
        let mut command = self.machine.command(program);
        command
            .env(
                "CNI_PATH",
                format!("{}:{}", ours.display(), reference.display()),
            )
            .envs(environment.iter().copied());
        finish(command, stdin, crate::machine::PATIENCE)
    }

    /// slash32 with a verb for a container of this node.
    pub fn call(
        &self,
        verb: &str,
        container_id: &str,
        netns: &str,
        ifname: &str,
        request: &Value,
    ) -> Result<Outcome> {
        let arguments =
            format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=lab;K8S_POD_NAME={container_id}");
        let environment = [
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", container_id),
            ("CNI_NETNS", netns),
            ("CNI_IFNAME", ifname),
            ("CNI_ARGS", &arguments),
        ];
        self.call_plugin("slash32", &environment, request.to_string().as_bytes())
    }

    /// How long the last operation of the plugin took, by its own line in the operation log: from the program's first
    /// line to its answer.
    pub fn last_operation_ms(&self) -> Result<f64> {
        let text =
            std::fs::read_to_string(self.machine.folder("/run/slash32").join("operations.jsonl"))?;
        let last: Value = serde_json::from_str(text.lines().last().context("no operation yet")?)?;
        Ok(last["durationUs"].as_f64().context("no durationUs")? / 1e3)
    }

    /// What of ours is on this node: links, routes of protocol 32 to pods, claims, records, elements.
    /// Empty is clean.
    pub fn leftovers(&self) -> Result<Vec<String>> {
        let mut found: Vec<String> = self
            .machine
            .read(&["ip", "-o", "link"])?
            .lines()
            .filter(|line| line.contains(": s32") || line.contains(": b32"))
            .filter(|line| !line.contains(": s32vxlan:"))
            .map(|line| format!("link {line}"))
            .collect();
        for family in ["-4", "-6"] {
            let routes = self
                .machine
                .read(&["ip", family, "route", "show", "proto", "32"])?;
            found.extend(
                routes
                    .lines()
                    .filter(|line| is_to_pod(line))
                    .map(|line| format!("route {line}")),
            );
        }
        let state = self.machine.folder("/run/slash32");
        for folder in [
            "attachments",
            "ipam/slash32/addresses",
            "ipam/slash32/owners",
        ] {
            let entries = std::fs::read_dir(state.join(folder)).into_iter().flatten();
            found.extend(
                entries
                    .flatten()
                    .map(|entry| entry.path().display().to_string())
                    .filter(|path| !path.ends_with(".lock")),
            );
        }
        for backend in [
            Backend::Nftables,
            Backend::Iptables("legacy"),
            Backend::Iptables("nft"),
        ] {
            found.extend(backend.ports(&self.machine)?);
            let hairpins = backend.hairpins(&self.machine)?;
            if hairpins.contains("elements") || hairpins.contains("-A ") {
                found.push(hairpins);
            }
        }
        Ok(found)
    }

    /// An error that names what is left.
    pub fn expect_clean(&self) -> Result<()> {
        match self.leftovers()?.as_slice() {
            [] => Ok(()),
            left => bail!("left on {}:\n{}", self.name, left.join("\n")),
        }
    }
}

/// The back-end that the run is about, unless a test names one itself.
pub(crate) fn netfilter_arguments(given: &[&str]) -> Vec<&'static str> {
    if given.contains(&"--netfilter") {
        return Vec::new();
    }
    vec!["--netfilter", netfilter::backend().setting()]
}

/// A line of `ip route` that leads to a pod's link, and not into the tunnel.
fn is_to_pod(line: &str) -> bool {
    line.contains("dev s32") && !line.contains("dev s32vxlan")
}
