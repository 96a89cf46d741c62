//! Who reaches whom in a cluster, and as whom: real agents, real ADDs, real traffic. What servers saw is the proof.

use anyhow::{Context, Result, ensure};
use slash32_tests::lab::{CLIENT, INTERNET, Lab};
use slash32_tests::nodes_file::NodeEntry;
use slash32_tests::pod::Pod;
use slash32_tests::traffic::{Server, expect_seen, expect_silence, ping};
use slash32_tests::{suite, traffic, wait};
use std::net::{SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::time::Duration;

const PORT: u16 = 80;

fn main() -> ExitCode {
    suite::main(&[
        (
            "pods_reach_each_other_on_one_node_and_across_nodes_with_their_own_address",
            pods_reach_each_other_on_one_node_and_across_nodes_with_their_own_address,
        ),
        (
            "pods_and_nodes_reach_each_other_with_their_own_address",
            pods_and_nodes_reach_each_other_with_their_own_address,
        ),
        (
            "the_world_sees_the_node_and_never_the_pod",
            the_world_sees_the_node_and_never_the_pod,
        ),
        (
            "excluded_destinations_see_the_pod",
            excluded_destinations_see_the_pod,
        ),
        (
            "without_masquerade_everybody_sees_the_pod",
            without_masquerade_everybody_sees_the_pod,
        ),
        (
            "pods_with_equal_ports_talk_to_one_destination_at_once",
            pods_with_equal_ports_talk_to_one_destination_at_once,
        ),
        ("an_ipv4_only_cluster_works", an_ipv4_only_cluster_works),
        ("an_ipv6_only_cluster_works", an_ipv6_only_cluster_works),
        (
            "pods_have_the_mtu_of_the_nodes_link",
            pods_have_the_mtu_of_the_nodes_link,
        ),
        (
            "an_address_that_no_pod_holds_is_refused_at_once_and_never_leaves_the_node",
            an_address_that_no_pod_holds_is_refused_at_once_and_never_leaves_the_node,
        ),
    ])
}

/// A server in each pod.
fn serve(pods: &[Pod]) -> Result<Vec<Server>> {
    pods.iter()
        .map(|pod| Server::start(&pod.machine, PORT))
        .collect()
}

fn add_pods(lab: &Lab, per_node: usize) -> Result<Vec<Pod>> {
    let names = |node: usize| (0..per_node).map(move |n| format!("p{node}{n}"));
    lab.nodes
        .iter()
        .flat_map(|node| names(node.number).map(move |name| node.add_pod(&name)))
        .collect()
}

fn expect_full_mesh(pods: &[Pod]) -> Result<()> {
    for from in pods {
        for to in pods {
            ensure!(!to.addresses().is_empty());
            for (own, address) in from.addresses().iter().zip(to.addresses()) {
                expect_seen(&from.machine, &address, PORT, own)?;
            }
        }
    }
    Ok(())
}

fn pods_reach_each_other_on_one_node_and_across_nodes_with_their_own_address() -> Result<()> {
    let lab = Lab::flat("c1", 3)?;
    let _agents = lab.start_agents()?;
    let pods = add_pods(&lab, 2)?;
    ensure!(pods.iter().all(|pod| pod.addresses().len() == 2));
    let _servers = serve(&pods)?;
    expect_full_mesh(&pods)?;
    ping(&pods[0].machine, &pods[5].v4())?;
    ping(&pods[0].machine, &pods[5].v6())?;
    for pod in pods {
        pod.del()?;
    }
    lab.nodes.iter().try_for_each(|node| node.expect_clean())
}

fn pods_and_nodes_reach_each_other_with_their_own_address() -> Result<()> {
    let lab = Lab::flat("c2", 2)?;
    let _agents = lab.start_agents()?;
    let pod = lab.nodes[0].add_pod("a")?;
    let _in_pod = Server::start(&pod.machine, PORT)?;
    for node in &lab.nodes {
        let _on_node = Server::start(&node.machine, 10250)?;
        for ((own, of_pod), family) in node
            .addresses()
            .iter()
            .zip(pod.addresses())
            .zip(["v4", "v6"])
        {
            expect_seen(&pod.machine, own, 10250, &of_pod)
                .with_context(|| format!("pod to {}, {family}", node.name))?;
            expect_seen(&node.machine, &of_pod, PORT, own)
                .with_context(|| format!("{} to pod, {family}", node.name))?;
        }
    }
    Ok(())
}

fn the_world_sees_the_node_and_never_the_pod() -> Result<()> {
    let lab = Lab::flat("c3", 2)?;
    let _agents = lab.start_agents()?;
    let pods = add_pods(&lab, 1)?;
    let _internet = Server::start(&lab.internet, PORT)?;
    let _client = Server::start(&lab.client, PORT)?;
    for (node, pod) in lab.nodes.iter().zip(&pods) {
        for world in [INTERNET, CLIENT] {
            for (address, seen) in world.iter().zip(node.addresses()) {
                expect_seen(&pod.machine, address, PORT, &seen)?;
            }
        }
    }
    ping(&pods[0].machine, INTERNET[0])?;
    ping(&pods[0].machine, INTERNET[1])?;
    Ok(())
}

/// The client learns the ways back that an exclusion needs.
fn route_pods_from_the_client(lab: &Lab) -> Result<()> {
    for node in &lab.nodes {
        for (cidr, address) in node.pod_cidrs().iter().zip(node.addresses()) {
            lab.client
                .run(&["ip", "route", "add", cidr, "via", &address])?;
        }
    }
    Ok(())
}

fn excluded_destinations_see_the_pod() -> Result<()> {
    let lab = Lab::flat("c4", 1)?;
    let _agents =
        lab.start_agents_with(&["--masquerade-exclude", "192.0.2.192/26,2001:db8:2::200"])?;
    route_pods_from_the_client(&lab)?;
    let pod = lab.nodes[0].add_pod("a")?;
    let _client = Server::start(&lab.client, PORT)?;
    let _internet = Server::start(&lab.internet, PORT)?;
    expect_seen(&pod.machine, CLIENT[0], PORT, &pod.v4())?;
    expect_seen(&pod.machine, CLIENT[1], PORT, &pod.v6())?;
    // And only those.
    expect_seen(&pod.machine, INTERNET[0], PORT, "192.0.2.1")?;
    expect_seen(&pod.machine, INTERNET[1], PORT, "2001:db8:2::1")
}

fn without_masquerade_everybody_sees_the_pod() -> Result<()> {
    let lab = Lab::flat("c5", 1)?;
    let _agents = lab.start_agents_with(&["--masquerade-enabled", "false"])?;
    route_pods_from_the_client(&lab)?;
    let pod = lab.nodes[0].add_pod("a")?;
    let _client = Server::start(&lab.client, PORT)?;
    let _internet = Server::start(&lab.internet, PORT)?;
    expect_seen(&pod.machine, CLIENT[0], PORT, &pod.v4())?;
    expect_seen(&pod.machine, CLIENT[1], PORT, &pod.v6())?;
    // Nobody knows a way back to the pod from there.
    expect_silence(&pod.machine, INTERNET[0], PORT)
}

/// Two pods send from the same twenty ports to one destination: forty flows that only the node's choice of
/// ports keeps apart.
fn pods_with_equal_ports_talk_to_one_destination_at_once() -> Result<()> {
    let lab = Lab::flat("c6", 1)?;
    let _agents = lab.start_agents()?;
    let pods = [lab.nodes[0].add_pod("a")?, lab.nodes[0].add_pod("b")?];
    let _internet = Server::start(&lab.internet, PORT)?;
    let destination: SocketAddr = format!("{}:{PORT}", INTERNET[0]).parse()?;
    let mut sockets = Vec::new();
    for pod in &pods {
        for port in 20_000..20_020 {
            let socket = pod
                .machine
                .inside(move || UdpSocket::bind(("0.0.0.0", port)))??;
            socket.connect(destination)?;
            socket.set_read_timeout(Some(Duration::from_secs(2)))?;
            sockets.push(socket);
        }
    }
    for (number, socket) in sockets.iter().enumerate() {
        socket.send(&number.to_be_bytes())?;
    }
    for (number, socket) in sockets.iter().enumerate() {
        let mut buffer = [0; 64];
        let size = socket
            .recv(&mut buffer)
            .with_context(|| format!("no answer to flow {number}"))?;
        ensure!(
            size > 8 && buffer[..8] == number.to_be_bytes(),
            "flow {number} got another's answer"
        );
    }
    let machine = pods[0].machine.clone();
    let askers: Vec<_> = (0..20)
        .map(|_| {
            let machine = machine.clone();
            std::thread::spawn(move || traffic::ask_tcp(&machine, INTERNET[0], PORT))
        })
        .collect();
    for asker in askers {
        let seen = asker
            .join()
            .map_err(|_| anyhow::anyhow!("an asking thread panicked"))??;
        ensure!(seen == "192.0.2.1", "the server saw {seen}");
    }
    Ok(())
}

/// The same cluster with one family only, in Nodes as on pods.
fn expect_single_stack(name: &str, v6: bool) -> Result<()> {
    let lab = Lab::flat(name, 2)?;
    let of_family = |text: &String| text.contains(':') == v6;
    let entries: Vec<NodeEntry> = lab
        .entries()
        .into_iter()
        .map(|mut entry| {
            entry.pod_cidrs.retain(of_family);
            entry.addresses.retain(of_family);
            entry
        })
        .collect();
    lab.write_nodes(&entries)?;
    let _agents = lab.start_agents()?;
    let pods = add_pods(&lab, 2)?;
    for pod in &pods {
        let addresses = pod.addresses();
        ensure!(
            addresses.len() == 1 && of_family(&addresses[0]),
            "{addresses:?}"
        );
    }
    let _servers = serve(&pods)?;
    expect_full_mesh(&pods)?;
    let _internet = Server::start(&lab.internet, PORT)?;
    let family = usize::from(v6);
    let node = &lab.nodes[1];
    expect_seen(
        &pods[2].machine,
        INTERNET[family],
        PORT,
        &node.addresses()[family],
    )?;
    let (status, text) = node.ask_agent("/readyz")?;
    ensure!(status == 200 && !text.contains("problem"), "{text}");
    for pod in pods {
        pod.del()?;
    }
    node.expect_clean()
}

fn an_ipv4_only_cluster_works() -> Result<()> {
    expect_single_stack("c7", false)
}

fn an_ipv6_only_cluster_works() -> Result<()> {
    expect_single_stack("c8", true)
}

fn pods_have_the_mtu_of_the_nodes_link() -> Result<()> {
    let lab = Lab::flat("c9", 2)?;
    let set_mtu = |mtu: &str| {
        lab.nodes[0]
            .machine
            .run(&["ip", "link", "set", "eth0", "mtu", mtu])
    };
    set_mtu("1440")?;
    let _agents = lab.start_agents()?;
    let pods = add_pods(&lab, 1)?;
    let mtu_of = |machine: &slash32_tests::machine::Machine, link: &str| {
        machine.read(&["cat", &format!("/sys/class/net/{link}/mtu")])
    };
    ensure!(mtu_of(&pods[0].machine, "eth0")? == "1440");
    ensure!(mtu_of(&lab.nodes[0].machine, &pods[0].host_link())? == "1440");
    ensure!(mtu_of(&pods[1].machine, "eth0")? == "1500");
    // 28 bytes of headers: what fits goes through whole, one more does not leave the pod.
    let whole = |size: &str| {
        pods[0].machine.try_run(&[
            "ping",
            "-n",
            "-c1",
            "-W1",
            "-Mdo",
            "-s",
            size,
            &pods[1].v4(),
        ])
    };
    ensure!(whole("1412")?.status.success());
    ensure!(!whole("1413")?.status.success());
    set_mtu("1400")?;
    wait::until(
        "the conflist follows the link's MTU",
        Duration::from_secs(5),
        || Ok(lab.nodes[0].request()?["mtu"] == 1400),
    )?;
    let later = lab.nodes[0].add_pod("later")?;
    ensure!(mtu_of(&later.machine, "eth0")? == "1400");
    Ok(())
}

/// Without a route for the rest of its own podCIDR a node would send such packets to its gateway, which sends
/// them back, until their TTL is used up.
fn an_address_that_no_pod_holds_is_refused_at_once_and_never_leaves_the_node() -> Result<()> {
    let lab = Lab::flat("c10", 2)?;
    let _agents = lab.start_agents()?;
    let pods = add_pods(&lab, 1)?;
    lab.router.nft(
        "table inet watch { chain pre { type filter hook prerouting priority raw;\n\
         ip daddr 10.244.0.0/16 counter drop\n\
         ip6 daddr fd00:244::/32 counter drop\n}\n}",
    )?;
    let askers = [
        &lab.nodes[0].machine,
        &lab.nodes[1].machine,
        &pods[0].machine,
        &pods[1].machine,
    ];
    for from in askers {
        for nobody in ["10.244.1.250", "fd00:244:1::dead"] {
            // ping tells what the network answered; TCP would keep a mere hint to itself, and try again.
            let outcome = from.try_run(&["ping", "-n", "-c1", "-W1", nobody])?;
            let told = format!("{}{}", outcome.stdout, outcome.stderr).to_lowercase();
            ensure!(
                !outcome.status.success()
                    && (told.contains("unreachable") || told.contains("no route")),
                "{} is told nothing of {nobody}: {told}",
                from.name
            );
        }
    }
    let watched = lab
        .router
        .read(&["nft", "list", "table", "inet", "watch"])?;
    ensure!(
        watched.matches("counter packets 0 ").count() == 2,
        "packets to nobody left the node:\n{watched}"
    );
    Ok(())
}
