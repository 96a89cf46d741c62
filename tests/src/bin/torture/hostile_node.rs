//! What else a node does to itself: links that go down, addresses that change, a full /run, clocks that are wrong, names
//! of ours that somebody else took.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use slash32_tests::judge;
use slash32_tests::lab::Lab;
use slash32_tests::machine::run_here;
use slash32_tests::node::Node;
use slash32_tests::pod::Pod;
use slash32_tests::suite::Test;
use slash32_tests::traffic::{Server, expect_seen, ping};
use slash32_tests::wait;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) const TESTS: &[Test] = &[
    (
        "a_pods_link_that_was_set_down_is_up_again_with_its_routes",
        a_link_set_down,
    ),
    (
        "an_address_of_the_node_that_comes_and_goes_leaves_everything_as_it_was",
        addresses_come_and_go,
    ),
    ("a_full_run_is_told_and_dels_go_on", a_full_run),
    (
        "with_the_clock_a_year_off_pods_are_kept_mended_and_freed",
        wrong_clocks,
    ),
    (
        "names_of_ours_that_somebody_took_are_told_and_left_alone",
        names_taken,
    ),
];

const PATIENCE: Duration = Duration::from_secs(30);
const YEAR_MS: u64 = 365 * 24 * 3600 * 1000;

fn state(node: &Node) -> PathBuf {
    node.machine.folder("/run/slash32")
}

/// The kernel lists a link's routes in the order in which it came up: sorted.
fn kernel_state(node: &Node) -> Result<String> {
    let text = judge::kernel_state(node)?;
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    Ok(lines.join("\n"))
}

/// Until the agent has seen the pod: a route that it never saw may be a plugin's that still works.
fn settle() {
    std::thread::sleep(Duration::from_millis(400));
}

fn a_link_set_down() -> Result<()> {
    let (lab, _agents) = Lab::with_agents("h1", 2)?;
    let node = &lab.nodes[0];
    let mut shaped = node.request()?;
    shaped["runtimeConfig"] =
        serde_json::json!({"bandwidth": {"egressRate": 80_000_000, "egressBurst": 8_000_000}});
    let pods = [Pod::add(node, "a", shaped)?, node.add_pod("b")?];
    let far = lab.nodes[1].add_pod("far")?;
    let _server = Server::start(&far.machine, 80)?;
    settle();
    let before = kernel_state(node)?;
    for round in 0..10 {
        for pod in &pods {
            let link = pod.host_link();
            node.machine.run(&["ip", "link", "set", &link, "down"])?;
            // Only one of them is shaped.
            node.machine
                .try_run(&["ip", "link", "set", &link.replace("s32", "b32"), "down"])?;
        }
        let what = format!("round {round}: both pods' links are up and everything is as before");
        wait::until(&what, PATIENCE, || Ok(kernel_state(node)? == before))
            .with_context(|| kernel_state(node).unwrap_or_default())?;
        for pod in &pods {
            let neighbours = node
                .machine
                .read(&["ip", "neigh", "show", "nud", "permanent"])?;
            ensure!(
                neighbours.contains(&pod.v4()),
                "round {round}: {neighbours}"
            );
            expect_seen(&pod.machine, &far.v4(), 80, &pod.v4())?;
            expect_seen(&pod.machine, &far.v6(), 80, &pod.v6())?;
        }
    }
    // A link by our prefix that no record speaks for is nobody's to set up.
    node.machine.run(&[
        "sh",
        "-ec",
        "ip link add s32000000000000 type veth peer name other; ip link set other up",
    ])?;
    std::thread::sleep(Duration::from_secs(1));
    let link = node
        .machine
        .read(&["ip", "-o", "link", "show", "s32000000000000"])?;
    ensure!(!link.contains(",UP"), "{link}");
    Ok(())
}

fn addresses_come_and_go() -> Result<()> {
    let (lab, _agents) = Lab::with_agents("h2", 3)?;
    let node = &lab.nodes[0];
    let (pod, far) = (node.add_pod("a")?, lab.nodes[1].add_pod("far")?);
    settle();
    let before = kernel_state(node)?;
    let flap = "for i in 1 2 3 4 5; do
        ip address del 192.0.2.1/24 dev eth0; ip address add 192.0.2.55/24 dev eth0
        ip address del 192.0.2.55/24 dev eth0; ip address add 192.0.2.1/24 dev eth0
        ip link set eth0 down; ip link set eth0 up
        done
        ip address replace 2001:db8:2::1/64 dev eth0 nodad
        ip route replace default via 192.0.2.254; ip -6 route replace default via 2001:db8:2::254";
    for round in 0..5 {
        node.machine.run(&["sh", "-ec", flap])?;
        let what = format!("round {round}: everything is as before");
        let mut now = String::new();
        wait::until(&what, PATIENCE, || {
            now = kernel_state(node)?;
            Ok(now == before)
        })
        .with_context(|| format!("before:\n{before}\nnow:\n{now}"))?;
        ping(&pod.machine, &far.v4())?;
        ping(&pod.machine, &far.v6())?;
    }
    Ok(())
}

/// A tmpfs of 64 KiB in place of the state folder, and every byte of it taken.
fn a_full_run() -> Result<()> {
    let lab = Lab::flat("h3", 1)?;
    let node = &lab.nodes[0];
    let folder = state(node).display().to_string();
    run_here(&[
        "mount",
        "-t",
        "tmpfs",
        "-o",
        "size=64k,mode=700",
        "tmpfs",
        &folder,
    ])?;
    let checked = with_a_full_run(&lab, node, Path::new(&folder));
    run_here(&["umount", "-l", &folder])?;
    checked
}

fn with_a_full_run(lab: &Lab, node: &Node, folder: &Path) -> Result<()> {
    let _agents = lab.start_agents()?;
    let pods: Vec<Pod> = (0..3)
        .map(|n| node.add_pod_with_ports(&format!("p{n}"), &[(8080 + n, 80, "tcp")]))
        .collect::<Result<_>>()?;
    let filler = folder.join("filler");
    // Ends with ENOSPC.
    node.machine
        .try_run(&["sh", "-c", "cat /dev/zero > /run/slash32/filler"])?;
    let refused = node.add_pod_with_ports("late", &[(9090, 80, "tcp")]);
    let text = format!("{:#}", refused.err().context("an ADD on a full /run")?);
    ensure!(text.contains("space") && text.contains("slash32"), "{text}");
    // What the agent lays it lays, disk or no disk.
    node.machine
        .nft("add table inet slash32; delete table inet slash32")?;
    node.machine
        .try_run(&["ip", "route", "flush", "proto", "32"])?;
    wait::until("the table is back with all ports", PATIENCE, || {
        let table = node
            .machine
            .try_run(&["nft", "list", "table", "inet", "slash32"])?;
        Ok((0..3).all(|n| table.stdout.contains(&format!("{}", 8080 + n))))
    })?;
    for pod in pods {
        pod.del().context("DEL on a full /run")?;
    }
    node.expect_clean()?;
    std::fs::remove_file(filler)?;
    let pod = node.add_pod_with_ports("after", &[(8080, 80, "tcp")])?;
    pod.del()?;
    node.expect_clean()
}

/// Moves every moment that records and claims hold, and the times of all files.
fn shift_clock(node: &Node, back: bool) -> Result<usize> {
    let mut count = 0;
    for (path, text) in slash32_tests::site::files_below(&state(node))? {
        let path = Path::new(&path);
        let when = if back { "next year" } else { "last year" };
        run_here(&["touch", "-d", when, &path.display().to_string()])?;
        let Ok(mut document) = serde_json::from_str::<Value>(&text) else {
            continue;
        };
        let Some(moment) = document["createdMs"].as_u64() else {
            continue;
        };
        let moved = if back {
            moment + YEAR_MS
        } else {
            moment - YEAR_MS
        };
        document["createdMs"] = moved.into();
        std::fs::write(path, document.to_string())?;
        count += 1;
    }
    Ok(count)
}

/// The clock of a machine cannot be set for a namespace: what was written is moved instead, which is the same to whoever
/// compares it with now.
fn wrong_clocks() -> Result<()> {
    for back in [true, false] {
        let name = if back { "h4" } else { "h5" };
        let lab = Lab::flat(name, 2)?;
        let node = &lab.nodes[0];
        let eager = ["--resync-interval", "1s", "--leak-grace-period", "2s"];
        let agents = lab.start_agents_with(&eager)?;
        let kept = node.add_pod_with_ports("kept", &[(8080, 80, "tcp")])?;
        let vanished = node.add_pod("vanished")?;
        drop(agents);
        let shifted = shift_clock(node, back)?;
        ensure!(shifted >= 2, "{shifted} files with a moment in them");
        // A fresh agent has seen no route of a pod yet: it has the records' word only.
        node.machine.run(&["ip", "route", "del", &kept.v4()])?;
        node.machine
            .run(&["ip", "link", "del", &vanished.host_link()])?;
        let _agents = lab.start_agents_with(&eager)?;
        wait::until("the kept pod's route is back", PATIENCE, || {
            let routes = node.machine.read(&["ip", "route", "show", &kept.v4()])?;
            Ok(routes.contains(&kept.host_link()))
        })?;
        wait::until("the vanished pod is freed", PATIENCE, || {
            let left = node.leftovers()?.join(" ");
            Ok(!left.contains(&vanished.v4()) && !left.contains(&vanished.host_link()))
        })?;
        let _server = Server::start(&kept.machine, 80)?;
        expect_seen(&lab.nodes[1].machine, &kept.v4(), 80, "192.0.2.2")?;
        gc_frees(node, back)?;
        kept.del()?;
        node.expect_clean()?;
    }
    Ok(())
}

/// GC leaves alone what is younger than itself; the moment is no reason to keep what is of another year.
fn gc_frees(node: &Node, back: bool) -> Result<()> {
    let stale = node.add_pod("stale")?;
    shift_clock(node, back)?;
    let mut request = node.request()?;
    let valid = serde_json::json!([{"containerID": "kept", "ifname": "eth0"}]);
    request["cni.dev/valid-attachments"] = valid;
    let outcome = node.call("GC", "", "", "", &request)?;
    ensure!(
        outcome.status.success(),
        "{}{}",
        outcome.stdout,
        outcome.stderr
    );
    let left = node.leftovers()?.join("\n");
    ensure!(
        !left.contains(&stale.host_link()) && !left.contains(&stale.v4()),
        "{left}"
    );
    Ok(())
}

fn names_taken() -> Result<()> {
    let lab = Lab::flat("h6", 1)?;
    let node = &lab.nodes[0];
    let precious = node.machine.folder("/etc/slash32").join("precious");
    std::fs::create_dir_all(&precious)?;
    let once = || {
        node.run_agent(&[
            "run",
            "--once",
            "--node-name",
            "node1",
            "--nodes-file",
            "/etc/slash32/nodes.yaml",
        ])
    };
    // A folder where the conflist goes.
    std::fs::create_dir_all(node.conflist_path().join("full"))?;
    let outcome = once()?;
    ensure!(
        !outcome.status.success() && outcome.stderr.contains("10-slash32.conflist"),
        "{}",
        outcome.stderr
    );
    ensure!(node.conflist_path().join("full").is_dir());
    std::fs::remove_dir_all(node.conflist_path())?;
    // A link where the state goes: nothing may be written through it.
    let attachments = state(node).join("attachments");
    let _ = std::fs::remove_dir_all(&attachments);
    symlink(&precious, &attachments)?;
    let outcome = once()?;
    ensure!(
        !outcome.status.success() && outcome.stderr.contains("attachments"),
        "{}{}",
        outcome.status,
        outcome.stderr
    );
    ensure!(std::fs::read_dir(&precious)?.count() == 0);
    std::fs::remove_file(attachments)?;
    // A table of our name with another's rules is replaced, since the name is ours; a table of any other name stays.
    node.machine.nft("table inet slash32 {\nchain theirs {\ntype filter hook forward priority 0; drop\n}\n}\ntable ip slash32 {\nchain theirs {\n}\n}")?;
    let outcome = once()?;
    ensure!(outcome.status.success(), "{}", outcome.stderr);
    let ruleset = node.machine.read(&["nft", "list", "ruleset"])?;
    ensure!(
        ruleset.contains("table ip slash32") && ruleset.matches("theirs").count() == 1,
        "{ruleset}"
    );
    Ok(())
}
