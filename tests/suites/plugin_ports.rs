//! Host ports of the plugin, with the agent's table under them (X3, D5, C4).

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use slash32_tests::netfilter::backend;
use slash32_tests::pod::Pod;
use slash32_tests::site::{Reply, Site, dual_stack, patched, with_previous};
use slash32_tests::suite;
use slash32_tests::traffic::{Server, ask_tcp, ask_udp};
use std::net::UdpSocket;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    suite::main(&[
        (
            "a_taken_port_names_its_owner_and_leaves_nothing",
            taken_port_names_owner,
        ),
        (
            "one_port_serves_a_specific_address_any_address_and_both_protocols",
            one_port_many_keys,
        ),
        (
            "one_add_with_a_free_and_a_taken_port_takes_neither",
            all_ports_or_none,
        ),
        (
            "a_dead_owners_element_is_taken_over_and_its_late_del_removes_nothing",
            dead_owner,
        ),
        (
            "without_the_agents_table_add_is_11_and_leaves_nothing",
            no_table,
        ),
        (
            "d5_a_late_del_leaves_the_port_of_a_pod_with_the_recycled_address",
            recycled_address,
        ),
        (
            "c4_check_finds_a_lost_a_changed_and_an_unrecorded_port",
            check_finds_lost_ports,
        ),
        (
            "x3_a_udp_flow_to_a_former_owner_reaches_the_new_pod_at_once",
            udp_flow_moves,
        ),
        (
            "x3_connections_of_others_with_the_same_port_number_survive_add_and_del",
            unrelated_connections_survive,
        ),
        ("gc_frees_ports", gc_frees_ports),
        ("del_with_the_table_gone_succeeds", table_gone),
    ])
}

fn site_with_table() -> Result<Site> {
    let site = Site::new()?;
    let laid = site.run_agent_once()?;
    ensure!(laid.status.success(), "{}{}", laid.stdout, laid.stderr);
    Ok(site)
}

fn request(mappings: Value) -> Value {
    patched(
        &dual_stack(),
        json!({"runtimeConfig": {"portMappings": mappings}}),
    )
}

/// As containerd spells it (X2).
fn port(host: u16, container: u16, protocol: &str) -> Value {
    json!([{"HostPort": host, "ContainerPort": container, "Protocol": protocol, "HostIP": ""}])
}

fn taken_port_names_owner() -> Result<()> {
    let site = site_with_table()?;
    let owner = site.add("owner", &request(port(8080, 80, "tcp")))?;
    let before = site.snapshot()?;
    let text = site
        .call("ADD", "c2", &site.netns()?, &request(port(8080, 81, "tcp")))?
        .refused(101)?;
    for word in ["8080", "lab/owner", &owner.v4()] {
        ensure!(text.contains(word), "{word} is not in {text}");
    }
    ensure!(site.snapshot()? == before);
    owner.del()?;
    site.add("c2", &request(port(8080, 81, "tcp")))?.del()?;
    site.expect_clean()
}

fn one_port_many_keys() -> Result<()> {
    let site = site_with_table()?;
    let any = site.add("any", &request(port(8080, 81, "tcp")))?;
    let specific = site.add("specific", &request(json!([{"hostPort": 8080, "containerPort": 82, "protocol": "TCP", "hostIP": "192.0.2.1"}])))?;
    let udp = site.add("udp", &request(port(8080, 83, "UDP")))?;
    let node = &site.node.machine;
    let serve = |pod: &Pod, port| Server::start(&pod.machine, port);
    {
        let _server = serve(&specific, 82)?;
        ask_tcp(node, "192.0.2.1", 8080).context("specific")?;
        ensure!(
            ask_tcp(node, "127.0.0.1", 8080).is_err(),
            "127.0.0.1 leads to the specific pod"
        );
        ensure!(ask_udp(node, "192.0.2.1", 8080).is_err());
    }
    {
        let _server = serve(&any, 81)?;
        ask_tcp(node, "127.0.0.1", 8080).context("any")?;
        ask_tcp(node, "2001:db8:2::1", 8080).context("any, IPv6")?;
    }
    let _server = serve(&udp, 83)?;
    ask_udp(node, "192.0.2.1", 8080).context("udp")?;
    for pod in [any, specific, udp] {
        Reply::read(pod.call("CHECK")?)?.silent()?;
        pod.del()?;
    }
    site.expect_clean()
}

fn all_ports_or_none() -> Result<()> {
    let site = site_with_table()?;
    let owner = site.add("owner", &request(port(8081, 80, "tcp")))?;
    let before = site.snapshot()?;
    let both = request(json!([
        {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
        {"hostPort": 8081, "containerPort": 80, "protocol": "tcp"},
    ]));
    site.call("ADD", "c2", &site.netns()?, &both)?
        .refused(101)?;
    ensure!(site.snapshot()? == before);
    owner.del()?;
    site.expect_clean()
}

fn dead_owner() -> Result<()> {
    let site = site_with_table()?;
    let dead = site.add("dead", &request(port(8080, 80, "tcp")))?;
    site.node
        .machine
        .run(&["ip", "link", "del", &dead.host_link()])?;
    let heir = site.add("heir", &request(port(8080, 80, "tcp")))?;
    Reply::read(heir.call("CHECK")?)?.silent()?;
    Reply::read(dead.call("DEL")?)?.silent()?;
    Reply::read(heir.call("CHECK")?)?.silent()?;
    let _server = Server::start(&heir.machine, 80)?;
    ask_tcp(&site.node.machine, "192.0.2.1", 8080)?;
    heir.del()?;
    site.expect_clean()
}

fn no_table() -> Result<()> {
    let site = Site::new()?;
    let netns = site.netns()?;
    let text = site
        .call("ADD", "c1", &netns, &request(port(8080, 80, "tcp")))?
        .refused(11)?;
    ensure!(text.contains("slash32-agent"), "{text}");
    site.expect_clean()?;
    site.call("DEL", "c1", &netns, &request(port(8080, 80, "tcp")))?
        .silent()?;
    // A pod without host ports needs no agent.
    site.add("c1", &dual_stack())?.del()?;
    site.expect_clean()
}

fn recycled_address() -> Result<()> {
    let site = site_with_table()?;
    let asked = patched(
        &request(port(8080, 80, "tcp")),
        json!({"runtimeConfig": {"ips": ["10.244.1.50", "fd00:244:1::50"]}}),
    );
    let old = site.add("old", &asked)?;
    for folder in ["attachments", "ipam"] {
        std::fs::remove_dir_all(site.state().join(folder))?;
    }
    site.node
        .machine
        .run(&["ip", "link", "del", &old.host_link()])?;
    let new = site.add("new", &asked)?;
    ensure!(new.addresses() == old.addresses());
    let before = site.snapshot()?;
    Reply::read(old.call("DEL")?)?.silent()?;
    ensure!(site.snapshot()? == before);
    Reply::read(new.call("CHECK")?)?.silent()
}

fn check_finds_lost_ports() -> Result<()> {
    let site = site_with_table()?;
    let pod = site.add("c1", &request(port(8080, 80, "tcp")))?;
    Reply::read(pod.call("CHECK")?)?.silent()?;
    let more = with_previous(
        &request(json!([
            {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
            {"hostPort": 9090, "containerPort": 90, "protocol": "tcp"},
        ])),
        &pod.result,
    );
    let text = site.call("CHECK", "c1", &pod.machine, &more)?.failed()?;
    ensure!(text.contains("9090"), "{text}");
    let machine = &site.node.machine;
    let expect_told = |word: &str| -> Result<()> {
        let text = Reply::read(pod.call("CHECK")?)?.failed()?;
        ensure!(text.contains(word), "{word}: {text}");
        Ok(())
    };
    backend().delete_port(machine, ("tcp", 8080, &pod.v4(), 80))?;
    expect_told("8080")?;
    backend().add_port(machine, ("tcp", 8080, "10.9.9.9", 80))?;
    expect_told("10.9.9.9")?;
    backend().delete_all(machine)?;
    expect_told("8080")
}

fn udp_flow_moves() -> Result<()> {
    let site = site_with_table()?;
    let socket = site.node.machine.inside(|| -> Result<UdpSocket> {
        let socket = UdpSocket::bind("192.0.2.1:0")?;
        socket.connect("192.0.2.1:5353")?;
        socket.set_read_timeout(Some(Duration::from_millis(900)))?;
        Ok(socket)
    })??;
    let ask = |what: &str| -> Result<()> {
        socket.send(&[]).with_context(|| what.to_owned())?;
        socket
            .recv(&mut [0; 64])
            .map(drop)
            .with_context(|| what.to_owned())
    };
    for owner in ["first", "second", "third"] {
        let pod = site.add(owner, &request(port(5353, 53, "udp")))?;
        let _server = Server::start(&pod.machine, 53)?;
        ask(owner)?;
        ask(owner)?;
        Reply::read(pod.call("DEL")?)?.silent()?;
    }
    site.expect_clean()
}

/// Out of a pod to some host's port 8080, and one whose masqueraded source port happens to be 8080.
const UNRELATED: [&str; 2] = [
    "-p udp -s 10.244.1.99 -d 198.51.100.10 --sport 40000 --dport 8080 -r 198.51.100.10 -q 192.0.2.1 --reply-port-src 8080 --reply-port-dst 40000 -t 600",
    "-p udp -s 10.244.1.99 -d 198.51.100.11 --sport 40001 --dport 53 -r 198.51.100.11 -q 192.0.2.1 --reply-port-src 53 --reply-port-dst 8080 -t 600",
];
/// A client that sent to the port before any pod had it.
const STALE: &str = "-p udp -s 192.0.2.200 -d 192.0.2.1 --sport 40002 --dport 8080 -r 192.0.2.1 -q 192.0.2.200 --reply-port-src 8080 --reply-port-dst 40002 -t 600";

fn unrelated_connections_survive() -> Result<()> {
    let site = site_with_table()?;
    let node = &site.node.machine;
    for entry in UNRELATED.into_iter().chain([STALE]) {
        node.run(&["sh", "-c", &format!("conntrack -I {entry}")])?;
    }
    let tracked = || node.read(&["sh", "-c", "conntrack -L 2>/dev/null"]);
    ensure!(tracked()?.contains("sport=40002"));
    let survive = |when: &str| -> Result<()> {
        let entries = tracked()?;
        for port in ["sport=40000", "sport=40001"] {
            ensure!(
                entries.contains(port),
                "{port} is gone after {when}:\n{entries}"
            );
        }
        Ok(())
    };
    let pod = site.add("c1", &request(port(8080, 80, "udp")))?;
    survive("ADD")?;
    ensure!(
        !tracked()?.contains("sport=40002"),
        "the stale flow is still there"
    );
    pod.del()?;
    survive("DEL")?;
    site.expect_clean()
}

fn gc_frees_ports() -> Result<()> {
    let site = site_with_table()?;
    let kept = site.add("kept", &request(port(8080, 80, "tcp")))?;
    site.add("stale", &request(port(8081, 80, "tcp")))?;
    std::thread::sleep(Duration::from_millis(5));
    let mut list = dual_stack();
    list["cni.dev/valid-attachments"] = json!([{"containerID": "kept", "ifname": "eth0"}]);
    site.call_network("GC", &list)?.silent()?;
    let left = backend().ports(&site.node.machine)?.join("\n");
    ensure!(left.contains("8080") && !left.contains("8081"), "{left}");
    Reply::read(kept.call("CHECK")?)?.silent()?;
    kept.del()?;
    site.expect_clean()
}

fn table_gone() -> Result<()> {
    let site = site_with_table()?;
    let pod = site.add("c1", &request(port(8080, 80, "tcp")))?;
    backend().delete_all(&site.node.machine)?;
    Reply::read(pod.call("DEL")?)?.silent()?;
    site.expect_clean()
}
