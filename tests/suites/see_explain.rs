//! `slash32-agent explain` on real nodes: what it says is held against what a real packet does.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use slash32_tests::lab::{CLIENT, INTERNET, Lab};
use slash32_tests::machine::Outcome;
use slash32_tests::node::Node;
use slash32_tests::suite;
use slash32_tests::traffic::{Server, expect_seen, expect_silence};
use std::process::ExitCode;

/// kube-proxy's tables, as its nftables mode writes them: one Service with two endpoints, one without any.
const KUBE_PROXY: &str = include_str!("see_explain/kube-proxy.nft");

fn main() -> ExitCode {
    suite::main(&[
        (
            "a_pod_reaches_its_neighbour_and_a_peer",
            a_pod_reaches_its_neighbour_and_a_peer,
        ),
        (
            "a_pod_is_masqueraded_towards_the_internet",
            a_pod_is_masqueraded_towards_the_internet,
        ),
        ("a_host_port_leads_to_its_pod", a_host_port_leads_to_its_pod),
        (
            "a_service_of_kube_proxy_is_followed_by_name",
            a_service_of_kube_proxy_is_followed_by_name,
        ),
        (
            "a_packet_that_does_not_arrive_ends_where_it_ends",
            a_packet_that_does_not_arrive_ends_where_it_ends,
        ),
        (
            "a_real_packets_trace_confirms_it_and_nothing_stays",
            a_real_packets_trace_confirms_it_and_nothing_stays,
        ),
        ("pictures_are_drawn", pictures_are_drawn),
    ])
}

fn run(node: &Node, from: &str, to: &str, more: &[&str]) -> Result<Outcome> {
    let arguments = [
        "explain",
        "--from",
        from,
        "--to",
        to,
        "--node-name",
        &node.name,
    ];
    let nodes = ["--nodes-file", "/etc/slash32/nodes.yaml"];
    node.run_agent(&[&arguments[..], &nodes, more].concat())
}

fn explain(node: &Node, from: &str, to: &str, more: &[&str]) -> Result<Value> {
    let outcome = run(node, from, to, &[&["-o", "json"], more].concat())?;
    let value: Value = serde_json::from_str(&outcome.stdout)
        .with_context(|| format!("{}{}", outcome.stdout, outcome.stderr))?;
    let ended = value["outcome"]["outcome"] == "ends";
    ensure!(
        outcome.status.success() != ended,
        "{}: {value}",
        outcome.status
    );
    ensure!(value["unsure"] == serde_json::json!([]), "{value}");
    Ok(value)
}

/// That some step says all of these.
fn says(journey: &Value, part: &str, words: &[&str]) -> Result<()> {
    let steps = journey[part].as_array().context("no steps")?;
    let fits = steps.iter().any(|step| {
        let text = step.to_string();
        words.iter().all(|word| text.contains(word))
    });
    ensure!(fits, "no step of {part} says {words:?}: {journey:#}");
    Ok(())
}

fn a_pod_reaches_its_neighbour_and_a_peer() -> Result<()> {
    let (lab, _agents) = Lab::with_agents("e1", 2)?;
    let node = &lab.nodes[0];
    let (a, b, c) = (
        node.add_pod("a")?,
        node.add_pod("b")?,
        lab.nodes[1].add_pod("c")?,
    );
    let _servers = [
        Server::start(&b.machine, 80)?,
        Server::start(&c.machine, 80)?,
    ];
    for (from, to) in [(a.v4(), b.v4()), (a.v6(), b.v6())] {
        expect_seen(&a.machine, &to, 80, &from)?;
        let target = std::net::SocketAddr::new(to.parse()?, 80).to_string();
        let told = explain(node, &from, &target, &[])?;
        ensure!(told["outcome"]["outcome"] == "arrives", "{told}");
        ensure!(
            told["outcome"]["at"]
                .as_str()
                .unwrap_or_default()
                .contains("lab/b"),
            "{told}"
        );
        ensure!(told["mtu"] == 1500, "{told}");
        says(&told, "forth", &["link", &a.host_link()])?;
        says(&told, "forth", &["link", &b.host_link()])?;
        says(&told, "back", &[&a.host_link()])?;
    }
    let told = explain(node, "lab/a", &format!("{}:80", c.v4()), &[])?;
    ensure!(told["outcome"]["outcome"] == "goesOn", "{told}");
    says(
        &told,
        "forth",
        &["route", "via 192.0.2.2 by eth0", "10.244.2.0/24", "ours"],
    )?;
    says(&told, "forth", &["direct", "node2"])?;
    says(&told, "forth", &["source stays", &a.v4()])?;
    says(&told, "back", &["route", &a.host_link()])?;
    expect_seen(&a.machine, &c.v4(), 80, &a.v4())
}

fn a_pod_is_masqueraded_towards_the_internet() -> Result<()> {
    let (lab, _agents) = Lab::with_agents("e2", 1)?;
    let node = &lab.nodes[0];
    let pod = node.add_pod("a")?;
    let _server = Server::start(&lab.internet, 80)?;
    for (to, own) in INTERNET.iter().zip(node.addresses()) {
        expect_seen(&pod.machine, to, 80, &own)?;
        let target = std::net::SocketAddr::new(to.parse()?, 80).to_string();
        let told = explain(node, "lab/a", &target, &[])?;
        says(&told, "forth", &["becomes", &own, "inet slash32"])?;
        says(&told, "back", &["conntrack", "undoes"])?;
    }
    Ok(())
}

fn a_host_port_leads_to_its_pod() -> Result<()> {
    let (lab, _agents) = Lab::with_agents("e3", 1)?;
    let node = &lab.nodes[0];
    let pod = node.add_pod_with_ports("web", &[(8080, 80, "tcp")])?;
    let told = explain(node, CLIENT[0], "192.0.2.1:8080", &[])?;
    ensure!(
        told["outcome"]["at"]
            .as_str()
            .unwrap_or_default()
            .contains("lab/web"),
        "{told}"
    );
    says(
        &told,
        "forth",
        &["destination becomes", &format!("{}:80", pod.v4())],
    )?;
    // Another port is nobody's: it stays on the node.
    let told = explain(node, CLIENT[0], "192.0.2.1:8081", &[])?;
    ensure!(
        told["outcome"]["at"]
            .as_str()
            .unwrap_or_default()
            .contains("this node itself"),
        "{told}"
    );
    Ok(())
}

fn a_service_of_kube_proxy_is_followed_by_name() -> Result<()> {
    let (lab, _agents) = Lab::with_agents("e4", 2)?;
    let node = &lab.nodes[0];
    let (client, dns) = (node.add_pod("client")?, node.add_pod("dns")?);
    ensure!(dns.v4() == "10.244.1.2", "{}", dns.v4());
    node.machine.nft(KUBE_PROXY)?;
    let told = explain(
        node,
        "lab/client",
        "kube-system/kube-dns",
        &["--protocol", "udp"],
    )?;
    says(
        &told,
        "forth",
        &["by lot, one of 2", "10.244.1.2:53", "10.244.2.2:53"],
    )?;
    ensure!(told["to"] == "10.96.0.10 port 53", "{told}");
    ensure!(
        told["outcome"]["at"]
            .as_str()
            .unwrap_or_default()
            .contains("lab/dns"),
        "{told}"
    );
    let told = explain(node, "lab/client", "10.96.0.20:80", &[])?;
    ensure!(told["outcome"]["outcome"] == "ends", "{told}");
    ensure!(
        told["outcome"]["reason"]
            .as_str()
            .unwrap_or_default()
            .contains("kube-proxy"),
        "{told}"
    );
    let outcome = run(node, "lab/client", "default/nothing", &[])?;
    ensure!(
        !outcome.status.success() && outcome.stderr.contains("lab/dns"),
        "{}",
        outcome.stderr
    );
    drop(client);
    Ok(())
}

fn a_packet_that_does_not_arrive_ends_where_it_ends() -> Result<()> {
    let (lab, mut agents) = Lab::with_agents("e5", 2)?;
    let node = &lab.nodes[0];
    let (a, b) = (node.add_pod("a")?, node.add_pod("b")?);
    agents.remove(0).kill()?;
    let _server = Server::start(&b.machine, 80)?;
    let ends = |words: &[&str]| -> Result<()> {
        expect_silence(&a.machine, &b.v4(), 80)?;
        let told = explain(node, "lab/a", "lab/b:80", &[])?;
        let reason = told["outcome"]["reason"].as_str().unwrap_or_default();
        ensure!(told["outcome"]["outcome"] == "ends", "{told}");
        ensure!(
            words.iter().all(|word| reason.contains(word)),
            "{words:?}: {told}"
        );
        Ok(())
    };
    node.machine
        .run(&["iptables-nft", "-P", "FORWARD", "DROP"])?;
    ends(&["forward", "FORWARD (policy drop)"])?;
    node.machine
        .run(&["iptables-nft", "-P", "FORWARD", "ACCEPT"])?;
    node.machine
        .run(&["sysctl", "-qw", "net.ipv4.ip_forward=0"])?;
    ends(&["forward"])?;
    node.machine
        .run(&["sysctl", "-qw", "net.ipv4.ip_forward=1"])?;
    node.machine
        .run(&["ip", "link", "set", &b.host_link(), "down"])?;
    ends(&[&b.v4()])?;
    let told = explain(node, "lab/a", "10.244.1.99", &[])?;
    let reason = told["outcome"]["reason"].as_str().unwrap_or_default();
    ensure!(
        reason.contains("no pod of this node has 10.244.1.99"),
        "{told}"
    );
    Ok(())
}

fn a_real_packets_trace_confirms_it_and_nothing_stays() -> Result<()> {
    let (lab, _agents) = Lab::with_agents("e6", 1)?;
    let node = &lab.nodes[0];
    let pod = node.add_pod("a")?;
    let web = node.add_pod_with_ports("web", &[(8080, 80, "udp")])?;
    let before = node.machine.read(&["nft", "list", "ruleset"])?;
    let told = explain(
        node,
        "lab/a",
        "192.0.2.1:8080",
        &["--trace", "--protocol", "udp"],
    )?;
    let trace = told["trace"].to_string();
    for words in ["raw-prerouting", "jump from-pod", "hostports4-any"] {
        ensure!(trace.contains(words), "{words}: {told:#}");
    }
    says(&told, "forth", &["destination becomes", &web.v4()])?;
    let told = explain(node, "lab/a", INTERNET[0], &["--trace"])?;
    ensure!(told["trace"].to_string().contains("masquerade"), "{told:#}");
    ensure!(
        node.machine.read(&["nft", "list", "ruleset"])? == before,
        "something stayed"
    );
    drop(pod);
    Ok(())
}

fn pictures_are_drawn() -> Result<()> {
    let (lab, _agents) = Lab::with_agents("e7", 2)?;
    let node = &lab.nodes[0];
    let _pod = node.add_pod("a")?;
    let svg = run(node, "lab/a", "10.244.2.1:80", &["-o", "svg"])?.stdout;
    ensure!(
        svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"),
        "{svg}"
    );
    ensure!(
        svg.contains("goes on to a pod of node2") || svg.contains("goes on to node node2"),
        "{svg}"
    );
    let mermaid = run(node, "lab/a", "10.244.2.1:80", &["-o", "mermaid"])?.stdout;
    ensure!(
        mermaid.starts_with("flowchart TD\n") && mermaid.contains("h0 --> h1"),
        "{mermaid}"
    );
    let text = run(node, "lab/a", "10.244.2.1:80", &[])?.stdout;
    ensure!(
        text.contains("GOES ON") && text.contains("the answer"),
        "{text}"
    );
    Ok(())
}
