//! Services, as kube-proxy makes them of pods that have routed addresses: each with both of its back-ends.

use crate::stage::{Test, test, usual};
use anyhow::{Context, Result, ensure};
use slash32_tests::cluster::host::Host;
use slash32_tests::cluster::space::{HTTP, Space, await_seen_from_outside, seen_from_outside, url};
use slash32_tests::cluster::{Cluster, KubeProxyMode, Options};
use slash32_tests::lab::CLIENT;
use std::collections::BTreeSet;
use std::time::Duration;

pub(crate) const TESTS: &[Test] = &[
    test("cluster_ip_with_nftables", cluster_ip),
    test("cluster_ip_with_iptables", cluster_ip).on(iptables),
    test("node_port_with_nftables", node_port),
    test("node_port_with_iptables", node_port).on(iptables),
    test(
        "load_balancer_with_local_policy_with_nftables",
        load_balancer_local,
    ),
    test(
        "load_balancer_with_local_policy_with_iptables",
        load_balancer_local,
    )
    .on(iptables),
    test("session_affinity_with_nftables", session_affinity),
    test("session_affinity_with_iptables", session_affinity).on(iptables),
    test(
        "readiness_takes_an_endpoint_out",
        readiness_takes_an_endpoint_out,
    ),
    test("dns_by_coredns_headless_and_external_name", dns),
];

fn iptables() -> Options {
    Options {
        kube_proxy: KubeProxyMode::Iptables,
        ..usual()
    }
}

/// A Service of the pods with label `app: web`.
fn render_service(kind: &str, more: &str) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{type: {kind}, selector: {{app: web}}, ports: [{{name: http, port: 80, targetPort: {HTTP}}}]{more}}}
"
    )
}

fn cluster_ip(cluster: &Cluster) -> Result<()> {
    let space = Space::new(cluster, "cluster-ip")?;
    space.apply(&render_service("ClusterIP", ""))?;
    let pods = space.pods(&[("web", "worker1"), ("near", "worker1"), ("far", "worker2")])?;
    let address = space.cluster_ip("web")?;
    for client in &pods[1..] {
        let seen = space.await_seen_from(&client.name, &address, 80)?;
        ensure!(
            seen == client.ip,
            "through {address} {} was seen as {seen}",
            client.name
        );
    }
    // Hairpin: kube-proxy hides the pod from itself behind its node.
    space.await_seen_from("web", &address, 80)?;
    for host in &cluster.hosts {
        await_seen_from_outside(&host.node.machine, &address, 80)
            .with_context(|| format!("from node {}", host.name))?;
    }
    Ok(())
}

fn node_port(cluster: &Cluster) -> Result<()> {
    let space = Space::new(cluster, "node-port")?;
    space.apply(&render_service("NodePort", ""))?;
    space.pods(&[("web", "worker1"), ("near", "worker1"), ("far", "worker2")])?;
    let port = space.node_port("web", 0)?;
    for host in &cluster.hosts {
        let [address, _] = host.node.addresses();
        await_seen_from_outside(&cluster.lab.client, &address, port)
            .with_context(|| format!("from the client at {}", host.name))?;
        for pod in ["web", "near", "far"] {
            space
                .await_seen_from(pod, &address, port)
                .with_context(|| format!("from pod {pod} at {}", host.name))?;
        }
    }
    Ok(())
}

/// What a load balancer outside does, done by hand: an address in the Service's status, routed to one node.
fn load_balancer_local(cluster: &Cluster) -> Result<()> {
    const ADDRESS: &str = "198.18.0.80";
    let space = Space::new(cluster, "balanced")?;
    space.apply(&render_service(
        "LoadBalancer",
        ", externalTrafficPolicy: Local",
    ))?;
    space.pods(&[("web", "worker1")])?;
    let patch =
        format!("{{\"status\":{{\"loadBalancer\":{{\"ingress\":[{{\"ip\":\"{ADDRESS}\"}}]}}}}}}");
    space.kubectl(&[
        "patch",
        "service",
        "web",
        "--subresource=status",
        "--type=merge",
        "-p",
        &patch,
    ])?;
    let (with, without) = (cluster.host("worker1")?, cluster.host("worker2")?);
    let client = &cluster.lab.client;
    // Until kube-proxy knows the address the node sends it on and tells the client so; a balancer's router does not listen.
    for scope in ["all", "eth0"] {
        client.run(&[
            "sysctl",
            "-qw",
            &format!("net.ipv4.conf.{scope}.accept_redirects=0"),
        ])?;
    }
    let route = |host: &Host| {
        client.run(&[
            "ip",
            "route",
            "replace",
            ADDRESS,
            "via",
            &host.node.addresses()[0],
        ])
    };
    route(with)?;
    let seen = await_seen_from_outside(client, ADDRESS, 80);
    let health = health_port(&space)?;
    let told = [
        health_of(cluster, with, health)?,
        health_of(cluster, without, health)?,
    ];
    route(without)?;
    let elsewhere = seen_from_outside(client, ADDRESS, 80);
    client.run(&["ip", "route", "del", ADDRESS])?;
    let seen = seen?;
    ensure!(
        seen == CLIENT[0],
        "the pod saw the client as {seen}, not {}",
        CLIENT[0]
    );
    ensure!(told == ["200", "503"], "health checks told {told:?}");
    ensure!(
        elsewhere.is_err(),
        "a node without the pod answered: {elsewhere:?}"
    );
    Ok(())
}

fn health_port(space: &Space) -> Result<u16> {
    let object = space.get("services/web")?;
    let port = object["spec"]["healthCheckNodePort"].as_u64();
    Ok(u16::try_from(port.context("no healthCheckNodePort")?)?)
}

/// The status that a load balancer is told.
fn health_of(cluster: &Cluster, host: &Host, port: u16) -> Result<String> {
    let address = url(&host.node.addresses()[0], port, "/healthz");
    cluster.lab.client.read(&[
        "curl",
        "-s",
        "-o",
        "/dev/null",
        "--max-time",
        "5",
        "-w",
        "%{http_code}",
        &address,
    ])
}

/// Two pods behind the service; each has the label `app: web`.
fn two_behind(space: &Space) -> Result<()> {
    space.pods(&[("web", "worker1"), ("other", "worker2"), ("ask", "worker2")])?;
    space.kubectl(&["label", "pod", "other", "app=web", "--overwrite"])?;
    space
        .cluster
        .wait_for("two endpoints", Duration::from_secs(60), |_| {
            Ok(ready_endpoints(space)?.len() == 2)
        })
}

fn ready_endpoints(space: &Space) -> Result<BTreeSet<String>> {
    let path = format!(
        "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dweb",
        space.name
    );
    let list = space.cluster.get(&path)?;
    let slices = list["items"].as_array().cloned().unwrap_or_default();
    let endpoints = slices
        .iter()
        .flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default());
    Ok(endpoints
        .filter(|endpoint| endpoint["conditions"]["ready"] == true)
        .filter_map(|endpoint| endpoint["addresses"][0].as_str().map(str::to_owned))
        .collect())
}

/// Who answered twenty new connections from pod `ask`.
fn who_answers(space: &Space, address: &str) -> Result<BTreeSet<String>> {
    let line = format!(
        "for i in $(seq 20); do curl -sS --fail --max-time 5 {}; echo; done",
        url(address, 80, "/hostname")
    );
    let names = space.exec("ask", &["sh", "-c", &line])?;
    Ok(names.split_whitespace().map(str::to_owned).collect())
}

/// Until these and no others answer: kube-proxy hears of a change some moments later.
fn await_who_answers(space: &Space, address: &str, wanted: usize) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let what = format!("{wanted} of the pods answer at {address}");
    let waited = space.cluster.wait_for(&what, Duration::from_secs(60), |_| {
        names = who_answers(space, address).unwrap_or_default();
        Ok(names.len() == wanted)
    });
    waited.with_context(|| format!("last answered {names:?}"))?;
    Ok(names)
}

fn session_affinity(cluster: &Cluster) -> Result<()> {
    let space = Space::new(cluster, "affinity")?;
    space.apply(&render_service("ClusterIP", ""))?;
    two_behind(&space)?;
    let address = space.cluster_ip("web")?;
    // As long as nothing ties the client to one.
    await_who_answers(&space, &address, 2)?;
    space.kubectl(&[
        "patch",
        "service",
        "web",
        "-p",
        "{\"spec\":{\"sessionAffinity\":\"ClientIP\"}}",
    ])?;
    let first = await_who_answers(&space, &address, 1)?;
    let again = who_answers(&space, &address)?;
    ensure!(first == again, "{first:?} answered, then {again:?}");
    Ok(())
}

fn readiness_takes_an_endpoint_out(cluster: &Cluster) -> Result<()> {
    let space = Space::new(cluster, "readiness")?;
    space.apply(&render_service("ClusterIP", ""))?;
    two_behind(&space)?;
    let address = space.cluster_ip("web")?;
    await_who_answers(&space, &address, 2)?;
    // kubelet's probe asks for /hostname on 8080 over the pod's own link.
    let other = space.pod("other")?;
    let network = space.network_of(&other)?;
    network.nft("table inet probe { chain in { type filter hook input priority 0; ct state new tcp dport 8080 drop; }; }")?;
    cluster.wait_for(
        "the unready pod is no endpoint",
        Duration::from_secs(60),
        |_| Ok(!ready_endpoints(&space)?.contains(&other.ip)),
    )?;
    let names = await_who_answers(&space, &address, 1)?;
    ensure!(names.contains("web"), "{names:?} answers");
    network.nft("delete table inet probe")?;
    await_who_answers(&space, &address, 2).map(drop)
}

fn dns(cluster: &Cluster) -> Result<()> {
    let space = Space::new(cluster, "names")?;
    space.apply(&render_service("ClusterIP", ""))?;
    space.apply("apiVersion: v1\nkind: Service\nmetadata: {name: all}\nspec: {clusterIP: None, selector: {app: web}, ports: [{port: 8080}]}\n")?;
    space.apply("apiVersion: v1\nkind: Service\nmetadata: {name: outside}\nspec: {type: ExternalName, externalName: internet.example}\n")?;
    two_behind(&space)?;
    let address = space.cluster_ip("web")?;
    let look = |name: &str, arguments: &[&str]| -> Result<BTreeSet<String>> {
        let all = [&["dig", "+short", "+time=3"], arguments, &[name]].concat();
        let text = space.exec("ask", &all)?;
        Ok(text.split_whitespace().map(str::to_owned).collect())
    };
    for transport in ["+notcp", "+tcp"] {
        let found = look("web.names.svc.cluster.local", &[transport])?;
        ensure!(
            found == BTreeSet::from([address.clone()]),
            "{transport}: {found:?}"
        );
    }
    let both: BTreeSet<String> = [space.pod("web")?.ip, space.pod("other")?.ip].into();
    cluster.wait_for(
        "the headless name has both pods",
        Duration::from_secs(60),
        |_| Ok(look("all.names.svc.cluster.local", &[])? == both),
    )?;
    let external = look("outside.names.svc.cluster.local", &["CNAME"])?;
    ensure!(
        external == BTreeSet::from(["internet.example.".to_owned()]),
        "{external:?}"
    );
    // The C library's way: the pod's own resolv.conf, search list and all.
    space.await_seen_from("ask", "web", 80).map(drop)
}
