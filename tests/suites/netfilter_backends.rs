//! Both netfilter back-ends side by side: moving a node from one to another under traffic, what is left of the other, what
//! becomes of foreign rules, and the filters that would drop pods: Docker's and firewalld's.

use anyhow::{Context, Result, ensure};
use slash32_tests::judge::kernel_state;
use slash32_tests::lab::{CLIENT, INTERNET, Lab};
use slash32_tests::machine::{Machine, Running, run_here};
use slash32_tests::netfilter::{Backend, restore};
use slash32_tests::node::Node;
use slash32_tests::pod::Pod;
use slash32_tests::traffic::{Server, Stream, ask_tcp, expect_seen, expect_silence};
use slash32_tests::{suite, wait};
use std::process::ExitCode;
use std::time::Duration;

const NFTABLES: Backend = Backend::Nftables;
const LEGACY: Backend = Backend::Iptables("legacy");
const NFT: Backend = Backend::Iptables("nft");
const ALL: [Backend; 3] = [NFTABLES, LEGACY, NFT];
/// The slow look at what tells nobody of its changes comes every five seconds.
const SLOW: Duration = Duration::from_secs(15);

fn main() -> ExitCode {
    suite::main(&[
        (
            "moving_between_back_ends_under_traffic_loses_nothing_and_leaves_nothing",
            moving_between_back_ends_under_traffic_loses_nothing_and_leaves_nothing,
        ),
        (
            "the_plugin_serves_every_state_in_which_a_killed_agent_leaves_a_move",
            the_plugin_serves_every_state_in_which_a_killed_agent_leaves_a_move,
        ),
        (
            "the_flavour_is_the_one_that_kubelet_or_most_rules_use",
            the_flavour_is_the_one_that_kubelet_or_most_rules_use,
        ),
        (
            "without_the_nft_program_auto_is_iptables",
            without_the_nft_program_auto_is_iptables,
        ),
        (
            "foreign_rules_stay_as_they_are_from_the_first_start_to_uninstall",
            foreign_rules_stay_as_they_are_from_the_first_start_to_uninstall,
        ),
        (
            "pods_pass_where_docker_lets_forward_drop",
            pods_pass_where_docker_lets_forward_drop,
        ),
        (
            "pods_pass_beside_firewalld_and_its_reload",
            pods_pass_beside_firewalld_and_its_reload,
        ),
        (
            "golden_rules_are_taken_by_both_flavours",
            golden_rules_are_taken_by_both_flavours,
        ),
    ])
}

/// One node with a pod behind a host port, and a pod on the second node.
struct Stage {
    lab: Lab,
    agent: Option<Running>,
    _second: Running,
    web: Pod,
    far: Pod,
    _servers: [Server; 2],
}

fn start(node: &Node, backend: &str) -> Result<Running> {
    let agent = node.spawn_agent_with(&["--netfilter", backend])?;
    node.wait_converged()?;
    Ok(agent)
}

impl Stage {
    fn set(name: &str, backend: &str) -> Result<Stage> {
        let lab = Lab::flat(name, 2)?;
        let agent = start(&lab.nodes[0], backend)?;
        let second = start(&lab.nodes[1], "nftables")?;
        let web =
            lab.nodes[0].add_pod_with_ports("web", &[(8080, 80, "tcp"), (8080, 80, "udp")])?;
        let far = lab.nodes[1].add_pod("far")?;
        let servers = [
            Server::start(&web.machine, 80)?,
            Server::start(&lab.internet, 80)?,
        ];
        Ok(Stage {
            lab,
            agent: Some(agent),
            _second: second,
            web,
            far,
            _servers: servers,
        })
    }

    fn node(&self) -> &Node {
        &self.lab.nodes[0]
    }

    fn machine(&self) -> &Machine {
        &self.node().machine
    }

    /// The agent again, with another setting.
    fn restart(&mut self, backend: &str) -> Result<()> {
        if let Some(agent) = self.agent.take() {
            agent.kill()?;
        }
        self.agent = Some(start(self.node(), backend)?);
        Ok(())
    }

    /// Everything that a packet filter does for a pod.
    fn expect_served(&self) -> Result<()> {
        for (family, address) in self.node().addresses().iter().enumerate() {
            expect_seen(&self.lab.client, address, 8080, CLIENT[family])?;
            expect_seen(self.machine(), address, 8080, address)?;
            expect_seen(&self.web.machine, address, 8080, address)?;
            expect_seen(&self.web.machine, INTERNET[family], 80, address)?;
            let pod = &self.web.addresses()[family];
            expect_seen(&self.far.machine, pod, 80, &self.far.addresses()[family])?;
        }
        expect_seen(self.machine(), "127.0.0.1", 8080, "192.0.2.1")
    }
}

fn expect_only(machine: &Machine, wanted: Backend) -> Result<()> {
    for backend in ALL {
        let rules = backend.rules(machine)?;
        ensure!(
            rules.is_empty() != (backend == wanted),
            "on the way to {wanted:?}, of {backend:?}:\n{rules}"
        );
    }
    Ok(())
}

fn moving_between_back_ends_under_traffic_loses_nothing_and_leaves_nothing() -> Result<()> {
    let mut stage = Stage::set("n1", "nftables")?;
    expect_only(stage.machine(), NFTABLES)?;
    stage.expect_served()?;
    for backend in [LEGACY, NFT, NFTABLES, NFT, LEGACY, NFTABLES] {
        let interval = Duration::from_millis(5);
        let streams = [
            Stream::start(&stage.lab.client, "192.0.2.1", 8080, interval)?,
            Stream::start(&stage.far.machine, &stage.web.v6(), 80, interval)?,
            Stream::start(&stage.web.machine, INTERNET[0], 80, interval)?,
        ];
        stage.restart(backend.setting())?;
        for (stream, what) in streams
            .into_iter()
            .zip(["host port", "pod to pod", "masquerade"])
        {
            let tally = stream.finish()?;
            ensure!(tally.sent > 10, "{what}: {tally:?}");
            ensure!(tally.lost == 0, "{what}, to {backend:?}: {tally:?}");
        }
        expect_only(stage.machine(), backend)?;
        stage.expect_served()?;
        ensure!(backend.ports(stage.machine())?.len() == 4);
    }
    let Stage { web, lab, .. } = stage;
    web.del()?;
    lab.nodes[0].expect_clean()
}

/// Rows of docs/decisions/0006: the file, and what is in the kernel.
fn the_plugin_serves_every_state_in_which_a_killed_agent_leaves_a_move() -> Result<()> {
    let lab = Lab::flat("n2", 1)?;
    let node = &lab.nodes[0];
    let machine = &node.machine;
    let ports = [(8080, 80, "tcp")];
    drop(start(node, "iptables-legacy")?);
    let chains = machine.read(&[
        "sh",
        "-c",
        "iptables-legacy-save; echo ==; ip6tables-legacy-save",
    ])?;
    drop(start(node, "nftables")?);
    let file = machine.folder("/run/slash32").join("netfilter");
    ensure!(!file.exists(), "the file outlives the chains");
    // Written, nothing laid yet.
    std::fs::write(&file, "iptables-legacy\n")?;
    let pod = node.add_pod_with_ports("a", &ports)?;
    ensure!(NFTABLES.ports(machine)?.len() == 2 && LEGACY.ports(machine)?.is_empty());
    ensure!(pod.call("CHECK")?.status.success());
    pod.del()?;
    node.expect_clean()?;
    // Laid, the table is still there: both are kept alike.
    for (program, script) in ["iptables-legacy-restore", "ip6tables-legacy-restore"]
        .into_iter()
        .zip(chains.split("=="))
    {
        let outcome = restore(machine, program, script)?;
        ensure!(outcome.status.success(), "{}", outcome.stderr);
    }
    let pod = node.add_pod_with_ports("b", &ports)?;
    ensure!(NFTABLES.ports(machine)? == LEGACY.ports(machine)?);
    ensure!(LEGACY.ports(machine)?.len() == 2);
    pod.del()?;
    node.expect_clean()?;
    // The table is gone.
    machine.nft("delete table inet slash32")?;
    let pod = node.add_pod_with_ports("c", &ports)?;
    ensure!(LEGACY.ports(machine)?.len() == 2);
    let taken = node.add_pod_with_ports("d", &ports);
    let refusal = format!("{:#}", taken.err().context("a port was given twice")?);
    ensure!(
        refusal.contains("\"code\":101") && refusal.contains("lab/c"),
        "{refusal}"
    );
    pod.del()?;
    node.expect_clean()?;
    // Nothing of either: the agent has not run.
    LEGACY.delete_all(machine)?;
    let early = node.add_pod_with_ports("e", &ports);
    let refusal = format!(
        "{:#}",
        early.err().context("a host port without any rules")?
    );
    ensure!(refusal.contains("\"code\":11"), "{refusal}");
    node.expect_clean()
}

fn hint(machine: &Machine, flavour: &str, script: &str) -> Result<()> {
    let outcome = restore(machine, &format!("iptables-{flavour}-restore"), script)?;
    ensure!(outcome.status.success(), "{}", outcome.stderr);
    Ok(())
}

fn the_flavour_is_the_one_that_kubelet_or_most_rules_use() -> Result<()> {
    const RULE: &str = "*filter\n-A INPUT -i nowhere -j ACCEPT\nCOMMIT\n";
    const CANARY: &str = "*mangle\n:KUBE-KUBELET-CANARY - [0:0]\nCOMMIT\n";
    let lab = Lab::flat("n3", 1)?;
    let node = &lab.nodes[0];
    let chosen = |wanted: Backend| -> Result<()> {
        drop(start(node, "iptables")?);
        expect_only(&node.machine, wanted)
    };
    // Nobody uses either.
    chosen(NFT)?;
    hint(&node.machine, "legacy", RULE)?;
    chosen(LEGACY)?;
    // kubelet's chain outweighs rules.
    hint(&node.machine, "nft", CANARY)?;
    chosen(NFT)?;
    node.machine.nft("flush ruleset")?;
    hint(&node.machine, "legacy", CANARY)?;
    hint(&node.machine, "nft", RULE)?;
    hint(&node.machine, "nft", RULE)?;
    chosen(LEGACY)
}

fn without_the_nft_program_auto_is_iptables() -> Result<()> {
    let lab = Lab::flat("n4", 1)?;
    let node = &lab.nodes[0];
    let agent = node.spawn_agent_with(&["--netfilter", "auto"])?;
    node.wait_converged()?;
    expect_only(&node.machine, NFTABLES)?;
    agent.kill()?;
    let _agent =
        node.spawn_agent_with(&["--netfilter", "auto", "--nft-program", "/nowhere/nft"])?;
    node.wait_converged()?;
    // The table goes without the program, too.
    expect_only(&node.machine, NFT)?;
    // A setting that cannot be had is an error, not another back-end.
    let refused = node.run_agent(&[
        "run",
        "--once",
        "--nodes-file",
        "/etc/slash32/nodes.yaml",
        "--netfilter",
        "nftables",
        "--nft-program",
        "/nowhere/nft",
    ])?;
    ensure!(
        !refused.status.success() && refused.stderr.contains("/nowhere/nft"),
        "{}",
        refused.stderr
    );
    Ok(())
}

/// Of every kind: in our tables, in chains of the kernel that ours stand in, with names that resemble ours.
const FOREIGN: &str = "\
*raw
-A PREROUTING -i eth9 -j NOTRACK
COMMIT
*nat
:SLASH3-NEIGHBOUR - [0:0]
:KUBE-POSTROUTING - [0:0]
-A PREROUTING -i eth9 -j SLASH3-NEIGHBOUR
-A POSTROUTING -m comment --comment \"not SLASH32-POSTROUTING\" -j KUBE-POSTROUTING
-A SLASH3-NEIGHBOUR -p tcp -m tcp --dport 8080 -j RETURN
COMMIT
*filter
-A FORWARD -i eth9 -j DROP
COMMIT
";

fn foreign_rules_stay_as_they_are_from_the_first_start_to_uninstall() -> Result<()> {
    let lab = Lab::flat("n5", 1)?;
    let node = &lab.nodes[0];
    for flavour in ["legacy", "nft"] {
        for family in ["iptables", "ip6tables"] {
            let outcome = restore(
                &node.machine,
                &format!("{family}-{flavour}-restore"),
                FOREIGN,
            )?;
            ensure!(outcome.status.success(), "{}", outcome.stderr);
        }
    }
    let foreign = || -> Result<String> {
        let state = kernel_state(node)?;
        let rules = state
            .lines()
            .filter(|line| line.starts_with("-A ") || line.starts_with(":"));
        Ok(rules
            .filter(|line| {
                !(line.contains(":SLASH32-")
                    || line.contains("A SLASH32-")
                    || line.contains("-j SLASH32-"))
            })
            .map(|line| format!("{line}\n"))
            .collect())
    };
    let before = foreign()?;
    ensure!(before.matches("eth9").count() >= 3 * 4, "{before}");
    for backend in ALL {
        let agent = start(node, backend.setting())?;
        let pod = node.add_pod_with_ports("a", &[(8080, 80, "tcp")])?;
        // Laid anew, as after somebody's hand.
        backend.delete_all(&node.machine)?;
        wait::until("the rules are back", SLOW, || {
            Ok(backend.ports(&node.machine)?.len() == 2)
        })?;
        ensure!(foreign()? == before, "{backend:?}: {}", foreign()?);
        pod.del()?;
        agent.kill()?;
        let done = node.run_agent(&["uninstall"])?;
        ensure!(done.status.success(), "{}{}", done.stdout, done.stderr);
        ensure!(foreign()? == before);
        for other in ALL {
            ensure!(
                other
                    .rules(&node.machine)?
                    .replace("not SLASH32-", "")
                    .lines()
                    .all(|line| !line.contains("SLASH32-")),
                "{other:?}"
            );
        }
    }
    Ok(())
}

/// What dockerd 20.10 of Debian 12 leaves (iptables-save, with no container running).
const DOCKER: &str = "\
*filter
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -i docker0 -o docker0 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -j RETURN
-A DOCKER-USER -j RETURN
COMMIT
*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
COMMIT
";

fn pods_pass_where_docker_lets_forward_drop() -> Result<()> {
    for (number, (backend, docker)) in [
        (NFTABLES, "nft"),
        (NFTABLES, "legacy"),
        (LEGACY, "legacy"),
        (LEGACY, "nft"),
        (NFT, "nft"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut stage = Stage::set(&format!("n6{number}"), backend.setting())?;
        let program = format!("iptables-{docker}-restore");
        // The control: without the agent pods are cut off.
        drop(stage.agent.take());
        let outcome = restore(stage.machine(), &program, DOCKER)?;
        ensure!(outcome.status.success(), "{}", outcome.stderr);
        ensure!(
            ask_tcp(&stage.web.machine, INTERNET[0], 80).is_err(),
            "Docker's rules drop nothing"
        );
        expect_silence(&stage.lab.client, "192.0.2.1", 8080)?;
        stage.restart(backend.setting())?;
        stage.expect_served()?;
        // Docker starts again: its rules come back, ours are wiped away with the chain.
        stage
            .machine()
            .run(&[&format!("iptables-{docker}"), "-w", "5", "-F", "FORWARD"])?;
        restore(stage.machine(), &program, DOCKER)?;
        let patience = if docker == "legacy" {
            SLOW
        } else {
            Duration::from_secs(5)
        };
        wait::until("pods pass again", patience, || {
            Ok(ask_tcp(&stage.web.machine, INTERNET[0], 80).is_ok())
        })
        .with_context(|| format!("{backend:?}, Docker by {docker}"))?;
        stage.expect_served()?;
        // Only pods: the rest is Docker's business.
        let rules = stage
            .machine()
            .read(&[&format!("iptables-{docker}-save"), "-t", "filter"])?;
        ensure!(rules.contains(":FORWARD DROP"), "{rules}");
        // Once nothing drops any more, nothing of ours has a place there.
        stage.machine().run(&[
            &format!("iptables-{docker}"),
            "-w",
            "5",
            "-P",
            "FORWARD",
            "ACCEPT",
        ])?;
        wait::until("the accept is taken back", SLOW, || {
            let rules =
                stage
                    .machine()
                    .read(&[&format!("iptables-{docker}-save"), "-t", "filter"])?;
            Ok(!rules.contains("SLASH32-"))
        })?;
    }
    Ok(())
}

/// The real firewalld, with a message bus of the lab's own. Its configuration is the lab's overlay.
fn start_firewalld(machine: &Machine, backend: &str) -> Result<[Running; 2]> {
    let shell = |line: &str| run_here(&["sh", "-ec", line]).map(drop);
    shell(
        "mountpoint -q /var/log || mount -t tmpfs tmpfs /var/log; mkdir -p /run/dbus; rm -f /run/dbus/system_bus_socket",
    )?;
    shell(&format!(
        "sed -i 's/^FirewallBackend=.*/FirewallBackend={backend}/' /etc/firewalld/firewalld.conf"
    ))?;
    let mut bus = machine.command("dbus-daemon");
    bus.args(["--system", "--nofork", "--nopidfile"]);
    let bus = machine.start(&mut bus)?;
    wait::until("the message bus listens", Duration::from_secs(10), || {
        Ok(std::path::Path::new("/run/dbus/system_bus_socket").exists())
    })?;
    let mut firewalld = machine.command("firewalld");
    firewalld
        .args(["--nofork", "--nopid"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    let firewalld = machine.start(&mut firewalld)?;
    wait::until("firewalld runs", Duration::from_secs(30), || {
        Ok(machine
            .try_run(&["firewall-cmd", "--state"])?
            .status
            .success())
    })?;
    Ok([firewalld, bus])
}

fn pods_pass_beside_firewalld_and_its_reload() -> Result<()> {
    if !run_here(&["sh", "-c", "command -v firewalld && command -v dbus-daemon"])
        .is_ok_and(|found| found.status.success())
    {
        anyhow::bail!("firewalld or dbus-daemon is missing: apt-get install firewalld dbus");
    }
    for (number, (backend, firewalld)) in [
        (NFTABLES, "nftables"),
        (NFTABLES, "iptables"),
        (NFT, "iptables"),
        (LEGACY, "nftables"),
    ]
    .into_iter()
    .enumerate()
    {
        let told = || format!("{backend:?}, firewalld by {firewalld}");
        let mut stage = Stage::set(&format!("n8{number}"), backend.setting())?;
        drop(stage.agent.take());
        let _daemons = start_firewalld(stage.machine(), firewalld).with_context(told)?;
        // The control.
        ensure!(
            ask_tcp(&stage.web.machine, INTERNET[0], 80).is_err(),
            "firewalld stops nothing"
        );
        stage.restart(backend.setting())?;
        stage.expect_served().with_context(told)?;
        stage.machine().run(&["firewall-cmd", "--reload"])?;
        wait::until("pods pass again after the reload", SLOW, || {
            Ok(stage.expect_served().is_ok())
        })
        .with_context(told)?;
        // Without pods nothing of ours stays in what is firewalld's.
        drop(stage.agent.take());
        let Stage { lab, web, .. } = stage;
        web.del()?;
        let node = &lab.nodes[0];
        let done = node.run_agent(&["uninstall"])?;
        ensure!(done.status.success(), "{}{}", done.stdout, done.stderr);
        let state = kernel_state(node)?;
        ensure!(state.contains("FWD_public"), "firewalld is gone: {state}");
        ensure!(
            !state.to_lowercase().contains("slash32"),
            "{}: {state}",
            told()
        );
    }
    Ok(())
}

/// The scripts under node-agent/tests/golden, as administrators can read them, are what the programs take.
fn golden_rules_are_taken_by_both_flavours() -> Result<()> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../node-agent/tests/golden");
    let lab = Lab::flat("n7", 1)?;
    for flavour in ["legacy", "nft"] {
        for (name, family) in [
            ("dual-stack.iptables", "iptables"),
            ("dual-stack.ip6tables", "ip6tables"),
            ("bare.iptables", "iptables"),
            ("vxlan.iptables", "iptables"),
            ("vxlan.ip6tables", "ip6tables"),
            ("ipip.iptables", "iptables"),
        ] {
            let script = std::fs::read_to_string(format!("{folder}/{name}"))?;
            let node = &lab.nodes[0].machine;
            let outcome = restore(node, &format!("{family}-{flavour}-restore"), &script)?;
            ensure!(
                outcome.status.success(),
                "{name}, {flavour}: {}",
                outcome.stderr
            );
        }
    }
    Ok(())
}
