//! The agent with a real API server as its source of Nodes: what it makes of Nodes, of refusals and of outages, and what
//! it writes. One server for all tests; each begins with three Nodes, no agent, and nodes without anything of ours.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use slash32_tests::api_server::{self, ApiServer};
use slash32_tests::judge::{holds, lacks, wait_for};
use slash32_tests::lab::{CLIENT, Lab};
use slash32_tests::machine::Running;
use slash32_tests::node::Node;
use slash32_tests::nodes_file::NodeEntry;
use slash32_tests::suite;
use slash32_tests::traffic::{Server, expect_seen};
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Where kubelet puts a pod's service account.
const ACCOUNT: &str = "/run/secrets/kubernetes.io/serviceaccount";
/// For what an event brings about, on a busy machine.
const SOON: Duration = Duration::from_secs(15);
/// For what comes with a retry (30 s at most between two) or a dead connection (30 s of keepalive).
const LATER: Duration = Duration::from_secs(100);
/// The routes of the second and third node, at the first.
const SECOND: [&str; 2] = [
    "10.244.2.0/24 via 192.0.2.2 ",
    "fd00:244:2::/64 via 2001:db8:2::2 ",
];
const THIRD: [&str; 2] = [
    "10.244.3.0/24 via 192.0.2.3 ",
    "fd00:244:3::/64 via 2001:db8:2::3 ",
];
const RBAC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/base/rbac.yaml");

fn main() -> ExitCode {
    suite::main_needing(
        || api_server::tools().map(drop),
        &[
            (
                "routes_follow_the_nodes_of_the_api",
                routes_follow_the_nodes_of_the_api,
            ),
            (
                "nodes_that_cannot_be_used_are_told_and_the_others_go_on",
                nodes_that_cannot_be_used_are_told_and_the_others_go_on,
            ),
            (
                "network_unavailable_is_set_to_false_and_set_again",
                network_unavailable_is_set_to_false_and_set_again,
            ),
            (
                "trouble_of_this_node_is_one_event_with_a_reason",
                trouble_of_this_node_is_one_event_with_a_reason,
            ),
            (
                "nothing_beyond_the_cluster_role_is_asked",
                nothing_beyond_the_cluster_role_is_asked,
            ),
            (
                "without_the_cluster_role_it_is_told_and_recovers",
                without_the_cluster_role_it_is_told_and_recovers,
            ),
            (
                "a_rotated_token_is_read_again_and_a_dead_one_is_told",
                a_rotated_token_is_read_again_and_a_dead_one_is_told,
            ),
            (
                "while_the_api_server_is_gone_everything_stays",
                while_the_api_server_is_gone_everything_stays,
            ),
            (
                "history_that_is_gone_is_read_anew",
                history_that_is_gone_is_read_anew,
            ),
            (
                "an_api_server_set_up_anew_is_followed",
                an_api_server_set_up_anew_is_followed,
            ),
            (
                "a_half_open_connection_is_noticed",
                a_half_open_connection_is_noticed,
            ),
            (
                "a_server_without_streamed_lists_is_read_by_pages",
                a_server_without_streamed_lists_is_read_by_pages,
            ),
            (
                "a_kubeconfig_an_override_and_one_pass_only",
                a_kubeconfig_an_override_and_one_pass_only,
            ),
            (
                "what_cannot_work_is_told_in_words",
                what_cannot_work_is_told_in_words,
            ),
        ],
    )
}

// ===== the world of all tests =====

struct World {
    lab: Lab,
    api: ApiServer,
}

static WORLD: Mutex<Option<World>> = Mutex::new(None);

/// Runs a test in the world as each begins with it.
fn with_world(test: impl FnOnce(&mut World) -> Result<()>) -> Result<()> {
    let mut world = WORLD.lock().unwrap_or_else(PoisonError::into_inner);
    let mut fresh = match world.take() {
        Some(world) => world,
        None => World::start()?,
    };
    fresh.reset()?;
    let result = test(&mut fresh);
    *world = Some(fresh);
    result
}

impl World {
    fn start() -> Result<World> {
        let lab = Lab::flat("kb", 3)?;
        let api = ApiServer::start(&lab.client, CLIENT[0])?;
        std::fs::create_dir_all(ACCOUNT)?;
        std::fs::copy(api.certificates.path("ca.crt"), format!("{ACCOUNT}/ca.crt"))?;
        std::fs::write(format!("{ACCOUNT}/namespace"), "kube-system")?;
        Ok(World { lab, api })
    }

    fn reset(&mut self) -> Result<()> {
        self.reconnect()?;
        self.api.restart_server(&[])?;
        self.set_up()?;
        for node in &self.lab.nodes {
            let outcome = node.run_agent(&["uninstall", "--force"])?;
            ensure!(outcome.status.success(), "{}", outcome.stderr);
            let _ = std::fs::remove_file(node.machine.folder("/etc/slash32/agent.log"));
        }
        Ok(())
    }

    /// The Nodes of the lab, the ClusterRole, a fresh token.
    fn set_up(&self) -> Result<()> {
        self.api.run_kubectl(&[
            "delete",
            "nodes,events",
            "--all",
            "--namespace=default",
            "--wait=false",
        ])?;
        self.api.run_kubectl(&["apply", "-f", RBAC])?;
        for entry in self.lab.entries() {
            self.create(&entry)?;
        }
        self.write_token()
    }

    /// As kubelet does: whole or not at all.
    fn write_token(&self) -> Result<()> {
        std::fs::write(
            format!("{ACCOUNT}/token.new"),
            self.api.token("slash32-agent")?,
        )?;
        Ok(std::fs::rename(
            format!("{ACCOUNT}/token.new"),
            format!("{ACCOUNT}/token"),
        )?)
    }

    /// From now on nothing passes between the nodes and the API server, in silence.
    fn cut_off(&self) -> Result<()> {
        self.lab.client.nft("table inet cut {\nchain in { type filter hook input priority -300; iifname \"eth0\" tcp dport 6443 drop; }\nchain out { type filter hook output priority -300; oifname \"eth0\" tcp sport 6443 drop; }\n}").map(drop)
    }

    fn reconnect(&self) -> Result<()> {
        self.lab
            .client
            .nft("add table inet cut\ndelete table inet cut")
            .map(drop)
    }

    fn create(&self, entry: &NodeEntry) -> Result<Value> {
        self.api
            .must("POST", "/api/v1/nodes", Some(&node_object(entry)))
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.api
            .must("DELETE", &format!("/api/v1/nodes/{name}"), None)
            .map(drop)
    }

    /// Sets part of a Node's status, as kubelet and clouds do.
    fn patch_status(&self, name: &str, status: Value) -> Result<()> {
        let path = format!("/api/v1/nodes/{name}/status");
        self.api
            .must("PATCH", &path, Some(&json!({"status": status})))
            .map(drop)
    }

    /// As a DaemonSet's pod: by its service account.
    fn start_agent(&self, node: &Node) -> Result<Running> {
        let environment = [
            ("KUBERNETES_SERVICE_HOST", CLIENT[0]),
            ("KUBERNETES_SERVICE_PORT", "6443"),
        ];
        node.spawn_agent_of(&[], &environment)
    }

    /// On all nodes, ready.
    fn start_agents(&self) -> Result<Vec<Running>> {
        let nodes = self.lab.nodes.iter();
        let agents = nodes
            .map(|node| self.start_agent(node))
            .collect::<Result<_>>()?;
        for node in &self.lab.nodes {
            node.wait_ready()?;
            node.wait_converged()?;
        }
        Ok(agents)
    }

    /// NetworkUnavailable of a Node.
    fn condition(&self, name: &str) -> Result<Option<Value>> {
        let node = self
            .api
            .must("GET", &format!("/api/v1/nodes/{name}"), None)?;
        let conditions = node["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        Ok(conditions
            .into_iter()
            .find(|condition| condition["type"] == "NetworkUnavailable"))
    }

    /// Our Events on a Node, as (reason, note).
    fn events(&self, name: &str) -> Result<Vec<(String, String)>> {
        let list = self.api.must(
            "GET",
            "/apis/events.k8s.io/v1/namespaces/default/events",
            None,
        )?;
        let items = list["items"].as_array().context("no items")?;
        let text = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
        Ok(items
            .iter()
            .filter(|event| event["regarding"]["name"] == name)
            .map(|event| (text(event, "reason"), text(event, "note")))
            .collect())
    }
}

/// What kubelet registers, and what the controller manager adds.
fn node_object(entry: &NodeEntry) -> Value {
    let addresses: Vec<Value> = entry
        .addresses
        .iter()
        .map(|address| json!({"type": "InternalIP", "address": address}))
        .chain([json!({"type": "Hostname", "address": entry.name})])
        .collect();
    let mut spec =
        json!({"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]});
    if let Some(first) = entry.pod_cidrs.first() {
        spec["podCIDR"] = json!(first);
        spec["podCIDRs"] = json!(entry.pod_cidrs);
    }
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": entry.name, "labels": {"kubernetes.io/os": "linux", "kubernetes.io/hostname": entry.name}},
        "spec": spec,
        "status": {
            "addresses": addresses,
            "conditions": [{"type": "Ready", "status": "False", "reason": "KubeletNotReady", "message": "cni plugin not initialized"}],
            "capacity": {"cpu": "2", "memory": "24Gi", "pods": "110"},
            "nodeInfo": {"architecture": "amd64", "bootID": "", "containerRuntimeVersion": "containerd://1.6.20", "kernelVersion": "6.18", "kubeProxyVersion": "", "kubeletVersion": "v1.36.3", "machineID": "", "operatingSystem": "linux", "osImage": "Debian", "systemUUID": ""},
        },
    })
}

fn metric(node: &Node, name: &str) -> Result<f64> {
    let text = node.ask_agent("/metrics")?.1;
    let line = text
        .lines()
        .find(|line| line.starts_with(&format!("{name} ")));
    Ok(line
        .and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .unwrap_or(0.0))
}

/// Until /readyz holds all of these.
fn wait_told(node: &Node, patience: Duration, parts: &[&str]) -> Result<()> {
    let told = || {
        Ok(node
            .ask_agent("/readyz")
            .is_ok_and(|(_, told)| parts.iter().all(|part| told.contains(part))))
    };
    wait_for(&format!("{} tells {parts:?}", node.name), patience, told).with_context(|| {
        format!(
            "it tells {:?}; log:\n{}",
            node.ask_agent("/readyz"),
            node.agent_log()
        )
    })
}

/// Until nothing is wrong any more.
fn wait_well(node: &Node, patience: Duration) -> Result<()> {
    wait_for(&format!("{} has no problem", node.name), patience, || {
        Ok(node
            .ask_agent("/readyz")
            .is_ok_and(|(status, told)| status == 200 && told == "ready\n"))
    })
    .with_context(|| {
        format!(
            "it tells {:?}; log:\n{}",
            node.ask_agent("/readyz"),
            node.agent_log()
        )
    })
}

// ===== Nodes =====

fn routes_follow_the_nodes_of_the_api() -> Result<()> {
    with_world(|world| {
        let _agents = world.start_agents()?;
        let [first, .., third] = &world.lab.nodes[..] else {
            unreachable!()
        };
        ensure!(
            holds(first, &SECOND)? && holds(first, &THIRD)?,
            "{}",
            first.routes()?
        );
        let [a, c] = [first.add_pod("a")?, third.add_pod("c")?];
        let _server = Server::start(&c.machine, 80)?;
        expect_seen(&a.machine, &c.v4(), 80, &a.v4())?;
        expect_seen(&a.machine, &c.v6(), 80, &a.v6())?;
        let entry = third.entry();
        world.delete("node3")?;
        wait_for("a deleted Node's routes are gone", SOON, || {
            lacks(first, &THIRD)
        })?;
        ensure!(holds(first, &SECOND)?);
        // A podCIDR never changes in place: the Node comes again with another.
        let other = NodeEntry::new("node3", &["10.244.33.0/24"], &["192.0.2.3"]);
        world.create(&other)?;
        wait_for("its new podCIDR is routed", SOON, || {
            holds(first, &["10.244.33.0/24 via 192.0.2.3 "])
        })?;
        world.delete("node3")?;
        world.create(&entry)?;
        wait_for("the old one is back", SOON, || {
            Ok(holds(first, &THIRD)? && lacks(first, &["10.244.33."])?)
        })?;
        expect_seen(&a.machine, &c.v4(), 80, &a.v4())?;
        // An address that changes in place.
        // (A strategic merge would merge addresses by their type: kubelet replaces them too.)
        let mut moved = world.api.must("GET", "/api/v1/nodes/node2", None)?;
        moved["status"]["addresses"][0]["address"] = json!("192.0.2.52");
        world
            .api
            .must("PUT", "/api/v1/nodes/node2/status", Some(&moved))?;
        wait_for("routes follow the address", SOON, || {
            holds(first, &["10.244.2.0/24 via 192.0.2.52 "])
        })?;
        ensure!(metric(first, "slash32_api_up")? == 1.0);
        ensure!(metric(first, "slash32_nodes")? == 3.0);
        Ok(())
    })
}

fn nodes_that_cannot_be_used_are_told_and_the_others_go_on() -> Result<()> {
    with_world(|world| {
        let _agents = world.start_agents()?;
        for entry in [
            NodeEntry::new("no-cidr", &[], &["192.0.2.11"]),
            NodeEntry::new("no-address", &["10.244.12.0/24"], &[]),
            NodeEntry::new("twin", &["10.244.2.0/24"], &["192.0.2.13"]),
            NodeEntry::new("collides", &["192.0.2.0/25"], &["192.0.2.14"]),
            NodeEntry::new("far", &["10.244.15.0/24"], &["198.51.100.15"]),
        ] {
            world.create(&entry)?;
        }
        let first = &world.lab.nodes[0];
        let wanted = [
            "invalid_node: node no-cidr",
            "invalid_node: node no-address",
            "cidr_conflict: node twin",
            "cidr_conflict: node collides",
            "off_link: node far",
        ];
        wait_told(first, SOON, &wanted)?;
        ensure!(holds(first, &SECOND)? && holds(first, &THIRD)?);
        ensure!(
            lacks(first, &["10.244.12.", "192.0.2.0/25", "10.244.15."])?,
            "{}",
            first.routes()?
        );
        ensure!(metric(first, "slash32_problems{kind=\"cidr_conflict\"}")? == 2.0);
        // Once usable, used: the controller manager assigns a podCIDR after the Node came.
        let cidr = json!({"spec": {"podCIDR": "10.244.11.0/24", "podCIDRs": ["10.244.11.0/24"]}});
        world
            .api
            .must("PATCH", "/api/v1/nodes/no-cidr", Some(&cidr))?;
        wait_for("a podCIDR that comes later is routed", SOON, || {
            holds(first, &["10.244.11.0/24 via 192.0.2.11 "])
        })?;
        world.delete("node2")?;
        wait_for("the podCIDR goes to the next that claims it", SOON, || {
            holds(first, &["10.244.2.0/24 via 192.0.2.13 "])
        })
    })
}

// ===== what the agent writes =====

fn network_unavailable_is_set_to_false_and_set_again() -> Result<()> {
    with_world(|world| {
        world.patch_status("node1", json!({"conditions": [{"type": "NetworkUnavailable", "status": "True", "reason": "NoRouteCreated"}]}))?;
        let node = &world.lab.nodes[0];
        let _agent = world.start_agent(node)?;
        node.wait_converged()?;
        let stands = || {
            Ok(world.condition("node1")?.is_some_and(|found| {
                found["status"] == "False" && found["reason"] == "Slash32Ready"
            }))
        };
        wait_for("NetworkUnavailable is False", SOON, stands)?;
        let before = world.condition("node1")?.context("no condition")?;
        ensure!(
            before["message"].is_string() && before["lastTransitionTime"].is_string(),
            "{before}"
        );
        let ready =
            world.api.must("GET", "/api/v1/nodes/node1", None)?["status"]["conditions"].to_string();
        ensure!(
            ready.contains("KubeletNotReady"),
            "another condition was lost: {ready}"
        );
        // Somebody undoes it, once and again: it comes back, and not in a fight.
        for _ in 0..2 {
            world.patch_status("node1", json!({"conditions": [{"type": "NetworkUnavailable", "status": "True", "reason": "NoRouteCreated"}]}))?;
            wait_for("it is set again", Duration::from_secs(60), stands)?;
        }
        let written = metric(node, "slash32_api_writes_total{kind=\"condition\"}")?;
        ensure!(written == 3.0, "{written} writings");
        let before = world.condition("node1")?;
        std::thread::sleep(Duration::from_secs(3));
        ensure!(
            world.condition("node1")? == before,
            "the condition is written without need"
        );
        Ok(())
    })
}

fn trouble_of_this_node_is_one_event_with_a_reason() -> Result<()> {
    with_world(|world| {
        // This node's own podCIDR covers its own network; another Node is bad for all.
        world.delete("node2")?;
        world.create(&NodeEntry::new("node2", &["192.0.2.0/25"], &["192.0.2.2"]))?;
        for extra in 0..12 {
            world.create(&NodeEntry::new(
                &format!("good{extra}"),
                &[&format!("10.245.{extra}.0/24")],
                &[&format!("192.0.2.{}", 30 + extra)],
            ))?;
        }
        world.create(&NodeEntry::new(
            "bad",
            &["10.244.99.0/24"],
            &["198.51.100.15"],
        ))?;
        let [first, second, _] = &world.lab.nodes[..] else {
            unreachable!()
        };
        let _agents = [world.start_agent(first)?, world.start_agent(second)?];
        wait_told(first, SOON, &["node bad"])?;
        let told = || Ok(!world.events("node2")?.is_empty());
        wait_for("an Event about node2", Duration::from_secs(40), told)
            .with_context(|| second.agent_log())?;
        // Passes go on; nothing is told twice, and nobody else tells of them.
        std::thread::sleep(Duration::from_secs(12));
        let events = world.events("node2")?;
        ensure!(!events.is_empty() && events.len() <= 3, "{events:?}");
        let reasons: BTreeSet<&String> = events.iter().map(|(reason, _)| reason).collect();
        ensure!(reasons.len() == events.len(), "a reason twice: {events:?}");
        ensure!(
            events
                .iter()
                .any(|(reason, note)| reason == "PodCIDRConflict" && note.contains("192.0.2.0/25")),
            "{events:?}"
        );
        ensure!(
            world.events("node1")?.is_empty(),
            "{:?}",
            world.events("node1")?
        );
        ensure!(world.events("bad")?.is_empty());
        // As a user sees it.
        let described = world.api.run_kubectl(&["describe", "node", "node2"])?;
        ensure!(described.contains("PodCIDRConflict"), "{described}");
        Ok(())
    })
}

fn nothing_beyond_the_cluster_role_is_asked() -> Result<()> {
    with_world(|world| {
        let lines =
            || std::fs::read_to_string(world.api.audit_log()).map(|text| text.lines().count());
        let before = lines()?;
        world.delete("node2")?;
        world.create(&NodeEntry::new("node2", &[], &["192.0.2.2"]))?;
        let _agents = [
            world.start_agent(&world.lab.nodes[0])?,
            world.start_agent(&world.lab.nodes[1])?,
        ];
        let both = || Ok(world.condition("node1")?.is_some() && !world.events("node2")?.is_empty());
        wait_for("a condition and an Event", Duration::from_secs(40), both)?;
        let text = std::fs::read_to_string(world.api.audit_log())?;
        let mut asked = BTreeSet::new();
        for line in text.lines().skip(before) {
            let entry: Value = serde_json::from_str(line)?;
            if entry["user"]["username"] == "system:serviceaccount:kube-system:slash32-agent" {
                let object = &entry["objectRef"];
                let part = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                asked.insert((
                    part(&entry["verb"]),
                    part(&object["resource"]),
                    part(&object["subresource"]),
                ));
                ensure!(
                    entry["responseStatus"]["code"]
                        .as_u64()
                        .is_some_and(|code| code < 400),
                    "{line}"
                );
            }
        }
        let asked: Vec<String> = asked
            .into_iter()
            .map(|(verb, resource, sub)| format!("{verb} {resource} {sub}").trim().to_owned())
            .collect();
        // The watches still stand, and are in the log when they end.
        let allowed = [
            "create events",
            "list nodes",
            "get nodes",
            "watch nodes",
            "patch nodes status",
        ];
        ensure!(
            asked.iter().all(|ask| allowed.contains(&ask.as_str())),
            "{asked:?}"
        );
        ensure!(
            asked.iter().any(|ask| ask == "create events")
                && asked.iter().any(|ask| ask == "patch nodes status"),
            "{asked:?}"
        );
        Ok(())
    })
}

// ===== refusals =====

fn without_the_cluster_role_it_is_told_and_recovers() -> Result<()> {
    with_world(|world| {
        world
            .api
            .run_kubectl(&["delete", "clusterrolebinding", "slash32-agent"])?;
        let node = &world.lab.nodes[0];
        let _agent = world.start_agent(node)?;
        wait_told(
            node,
            SOON,
            &[
                "not ready",
                "api: ",
                "403",
                "watch nodes",
                "slash32-agent",
                "ClusterRole",
                "rbac.yaml",
            ],
        )?;
        ensure!(
            node.routes()?.is_empty() && !node.conflist_path().exists(),
            "something was done without a view"
        );
        ensure!(metric(node, "slash32_api_up")? == 0.0);
        ensure!(metric(node, "slash32_api_errors_total{kind=\"forbidden\"}")? >= 1.0);
        world.api.run_kubectl(&["apply", "-f", RBAC])?;
        wait_well(node, LATER)?;
        ensure!(holds(node, &SECOND)?);
        // Taken away while it watches: the watch stands until it ends; what is written is refused, and told once.
        world
            .api
            .run_kubectl(&["delete", "clusterrolebinding", "slash32-agent"])?;
        wait_for("the API server has noticed", SOON, || {
            let answer = world.api.kubectl(&[
                "auth",
                "can-i",
                "watch",
                "nodes",
                "--as=system:serviceaccount:kube-system:slash32-agent",
            ])?;
            Ok(answer.stdout.starts_with("no"))
        })?;
        world.api.restart_server(&[])?;
        wait_told(node, LATER, &["ready", "403"])?;
        ensure!(holds(node, &SECOND)?, "routes went with the permission");
        world.api.run_kubectl(&["apply", "-f", RBAC])?;
        wait_well(node, LATER)
    })
}

fn a_rotated_token_is_read_again_and_a_dead_one_is_told() -> Result<()> {
    with_world(|world| {
        let node = &world.lab.nodes[0];
        let _agent = world.start_agent(node)?;
        node.wait_converged()?;
        // Another account of the same name: no token from before is valid.
        world.api.run_kubectl(&[
            "delete",
            "serviceaccount",
            "-n",
            "kube-system",
            "slash32-agent",
        ])?;
        world.api.run_kubectl(&["apply", "-f", RBAC])?;
        // A restarted server has no answers in memory, and ends the watch.
        world.api.restart_server(&[])?;
        wait_told(
            node,
            LATER,
            &["api: ", "401", "credentials", "service account"],
        )?;
        ensure!(holds(node, &SECOND)?, "routes went with the token");
        world.write_token()?;
        wait_well(node, LATER)?;
        world.delete("node3")?;
        wait_for("events come again", SOON, || lacks(node, &THIRD))?;
        ensure!(metric(node, "slash32_api_errors_total{kind=\"unauthorized\"}")? >= 1.0);
        Ok(())
    })
}

// ===== outages =====

fn while_the_api_server_is_gone_everything_stays() -> Result<()> {
    with_world(|world| {
        let mut agents = world.start_agents()?;
        let first = &world.lab.nodes[0];
        let before = first.routes()?;
        world.api.kill_server()?;
        wait_told(
            first,
            LATER,
            &[
                "ready",
                "api: ",
                "https://192.0.2.200:6443",
                "refused",
                "watch nodes",
                "apiServer",
            ],
        )?;
        // Pods come and go all the same.
        let [a, b] = [first.add_pod("e")?, world.lab.nodes[1].add_pod("f")?];
        let _server = Server::start(&b.machine, 80)?;
        expect_seen(&a.machine, &b.v4(), 80, &a.v4())?;
        // An agent that is restarted meanwhile has no view and takes nothing away.
        agents.remove(0).kill()?;
        let _agent = world.start_agent(first)?;
        wait_told(first, LATER, &["not ready", "refused"])?;
        ensure!(first.routes()? == before, "{}", first.routes()?);
        expect_seen(&a.machine, &b.v4(), 80, &a.v4())?;
        world.api.start_server(&[])?;
        for node in &world.lab.nodes {
            wait_well(node, LATER)?;
        }
        ensure!(first.routes()? == before, "{}", first.routes()?);
        world.create(&NodeEntry::new("node4", &["10.244.4.0/24"], &["192.0.2.4"]))?;
        for node in &world.lab.nodes {
            wait_for("a new Node is routed", SOON, || {
                holds(node, &["10.244.4.0/24 via 192.0.2.4 "])
            })?;
        }
        Ok(())
    })
}

fn history_that_is_gone_is_read_anew() -> Result<()> {
    with_world(|world| {
        let node = &world.lab.nodes[0];
        let _agent = world.start_agent(node)?;
        node.wait_converged()?;
        // The cluster goes on out of the agent's sight, and its history is compacted.
        world.api.kill_server()?;
        world.cut_off()?;
        world.api.start_server(&[])?;
        world.delete("node3")?;
        world.create(&NodeEntry::new("node4", &["10.244.4.0/24"], &["192.0.2.4"]))?;
        world.api.compact()?;
        world.api.restart_server(&[])?;
        ensure!(
            holds(node, &SECOND)? && holds(node, &THIRD)?,
            "{}",
            node.routes()?
        );
        world.reconnect()?;
        wait_for("what happened meanwhile is known", LATER, || {
            Ok(lacks(node, &THIRD)? && holds(node, &["10.244.4.0/24 via 192.0.2.4 "])?)
        })
        .with_context(|| node.agent_log())?;
        wait_well(node, SOON)?;
        let gone = metric(node, "slash32_api_errors_total{kind=\"gone\"}")?;
        let lists = metric(node, "slash32_api_watches_total{kind=\"listed\"}")?;
        ensure!(gone >= 1.0 && lists >= 2.0, "{gone} gone, {lists} lists");
        Ok(())
    })
}

fn an_api_server_set_up_anew_is_followed() -> Result<()> {
    with_world(|world| {
        let node = &world.lab.nodes[0];
        let _agent = world.start_agent(node)?;
        node.wait_converged()?;
        // Versions that the new server needs a while to reach.
        for _ in 0..30 {
            world.patch_status("node2", json!({"phase": "Running"}))?;
            world.patch_status("node2", json!({"phase": "Pending"}))?;
        }
        world.api.replace()?;
        world.api.run_kubectl(&["apply", "-f", RBAC])?;
        // The agent's own Node is not there yet: nothing may change.
        wait_told(node, LATER, &["401"])?;
        world.write_token()?;
        wait_told(node, LATER, &["own_node"])?;
        ensure!(
            holds(node, &SECOND)? && holds(node, &THIRD)?,
            "{}",
            node.routes()?
        );
        for entry in &world.lab.entries()[..2] {
            world.create(entry)?;
        }
        wait_for("the new server's Nodes count", SOON, || {
            Ok(holds(node, &SECOND)? && lacks(node, &THIRD)?)
        })?;
        wait_well(node, SOON)
    })
}

fn a_half_open_connection_is_noticed() -> Result<()> {
    with_world(|world| {
        let node = &world.lab.nodes[0];
        let _agent = world.start_agent(node)?;
        node.wait_converged()?;
        world.cut_off()?;
        world.delete("node3")?;
        let noticed = wait_told(node, LATER, &["api: ", "cannot be reached"]);
        ensure!(
            holds(node, &SECOND)? && holds(node, &THIRD)?,
            "{}",
            node.routes()?
        );
        world.reconnect()?;
        noticed?;
        wait_well(node, LATER)?;
        wait_for("what happened meanwhile is known", SOON, || {
            lacks(node, &THIRD)
        })
    })
}

fn a_server_without_streamed_lists_is_read_by_pages() -> Result<()> {
    with_world(|world| {
        world
            .api
            .restart_server(&["--feature-gates=WatchList=false"])?;
        let node = &world.lab.nodes[0];
        let _agent = world.start_agent(node)?;
        node.wait_converged()?;
        wait_well(node, SOON)?;
        ensure!(
            node.agent_log().contains("streams no lists"),
            "{}",
            node.agent_log()
        );
        world.delete("node3")?;
        wait_for("events come", SOON, || lacks(node, &THIRD))?;
        ensure!(holds(node, &SECOND)?);
        Ok(())
    })
}

// ===== other ways in =====

fn a_kubeconfig_an_override_and_one_pass_only() -> Result<()> {
    with_world(|world| {
        let node = &world.lab.nodes[0];
        let (certificate, key) = (
            world.api.certificates.base64("admin.crt")?,
            world.api.certificates.base64("admin.key")?,
        );
        let user = format!("{{client-certificate-data: {certificate}, client-key-data: {key}}}");
        // The URL in it leads nowhere: --api-server says where.
        let text = world
            .api
            .render_kubeconfig("https://192.0.2.99:6443", &user)?;
        std::fs::write(node.machine.folder("/etc/slash32/kubeconfig"), text)?;
        let (url, name) = (world.api.url(), node.name.clone());
        let source = [
            "--kubeconfig",
            "/etc/slash32/kubeconfig",
            "--api-server",
            &url,
            "--node-name",
            &name,
        ];
        let outcome = node.run_agent(&[&["run", "--once"], &source[..]].concat())?;
        ensure!(outcome.status.success(), "{}", outcome.stderr);
        ensure!(holds(node, &SECOND)? && node.conflist_path().is_file());
        ensure!(
            world.condition("node1")?.is_none(),
            "--once wrote a condition"
        );
        let _agent = node.spawn_agent_of(&source[..4], &[])?;
        wait_well(node, SOON)?;
        world.delete("node3")?;
        wait_for("events come", SOON, || lacks(node, &THIRD))
    })
}

fn what_cannot_work_is_told_in_words() -> Result<()> {
    with_world(|world| {
        let node = &world.lab.nodes[0];
        let once = |arguments: &[&str]| {
            node.run_agent(&[&["run", "--once", "--node-name", "node1"], arguments].concat())
        };
        let complain = |arguments: &[&str], parts: &[&str]| -> Result<()> {
            let outcome = once(arguments)?;
            ensure!(
                outcome.status.code() == Some(1),
                "{}: {}",
                outcome.status,
                outcome.stderr
            );
            for part in parts {
                ensure!(
                    outcome.stderr.contains(part),
                    "{part} is not in {}",
                    outcome.stderr
                );
            }
            ensure!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
            Ok(())
        };
        complain(&[], &["no source of Nodes", "--kubeconfig", "--nodes-file"])?;
        complain(
            &["--kubeconfig", "/etc/slash32/none"],
            &["/etc/slash32/none", "No such file"],
        )?;
        let folder = node.machine.folder("/etc/slash32");
        let write = |text: &str| std::fs::write(folder.join("kubeconfig"), text);
        write("clusters: [")?;
        complain(
            &["--kubeconfig", "/etc/slash32/kubeconfig"],
            &["/etc/slash32/kubeconfig"],
        )?;
        // A server that is there, and a CA that is not its own.
        let other = slash32_tests::certificates::Certificates::new(&folder.join("pki"), "another")?;
        let good = world
            .api
            .render_kubeconfig(&world.api.url(), "{token: none}")?;
        let swapped = good.replace(
            &world.api.certificates.base64("ca.crt")?,
            &other.base64("ca.crt")?,
        );
        write(&swapped)?;
        complain(
            &["--kubeconfig", "/etc/slash32/kubeconfig"],
            &["no TLS connection", "UnknownIssuer", "192.0.2.200:6443"],
        )?;
        write(&good)?;
        complain(
            &["--kubeconfig", "/etc/slash32/kubeconfig"],
            &["401", "list nodes", "192.0.2.200:6443"],
        )?;
        // Nobody listens there.
        complain(
            &[
                "--kubeconfig",
                "/etc/slash32/kubeconfig",
                "--api-server",
                "https://192.0.2.2:6443",
            ],
            &["https://192.0.2.2:6443", "refused", "apiServer"],
        )?;
        let outcome = once(&["--api-server", "192.0.2.1"])?;
        ensure!(
            outcome.status.code() == Some(2) && outcome.stderr.contains("https://192.0.2.1:6443"),
            "{}",
            outcome.stderr
        );
        ensure!(node.routes()?.is_empty() && !node.conflist_path().exists());
        Ok(())
    })
}
