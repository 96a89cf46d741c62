//! The agent from its first start to its removal: settings, readiness, the conflist, what it tells, `run --once`, and
//! `uninstall`.

use anyhow::{Context, Result, ensure};
use slash32_tests::judge::{expect_complaint, holds, kernel_state, lacks};
use slash32_tests::lab::Lab;
use slash32_tests::netfilter::{Backend, backend};
use slash32_tests::nodes_file::{self, NodeEntry};
use slash32_tests::{suite, wait};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::ExitCode;
use std::time::Duration;

/// A change of the file of Nodes is read when the file has been still for a moment.
const REREAD: Duration = Duration::from_secs(5);
/// The second node's podCIDRs.
const SECOND: [&str; 2] = ["10.244.2.0/24", "fd00:244:2::/64"];

fn main() -> ExitCode {
    suite::main(&[
        (
            "the_conflist_comes_last_and_is_never_rewritten_in_vain",
            the_conflist_comes_last_and_is_never_rewritten_in_vain,
        ),
        (
            "while_a_pass_fails_the_node_is_not_ready",
            while_a_pass_fails_the_node_is_not_ready,
        ),
        (
            "health_readiness_and_metrics_are_told",
            health_readiness_and_metrics_are_told,
        ),
        (
            "wrong_settings_and_surroundings_are_named",
            wrong_settings_and_surroundings_are_named,
        ),
        (
            "run_once_tells_by_its_exit_code",
            run_once_tells_by_its_exit_code,
        ),
        (
            "uninstall_removes_all_that_is_ours_and_only_that",
            uninstall_removes_all_that_is_ours_and_only_that,
        ),
    ])
}

fn the_conflist_comes_last_and_is_never_rewritten_in_vain() -> Result<()> {
    let lab = Lab::flat("a11", 2)?;
    let node = &lab.nodes[0];
    // As long as its own Node is missing, nothing can be decided.
    lab.write_nodes(&lab.entries()[1..])?;
    let agent = node.spawn_agent_with(&["--resync-interval", "1s"])?;
    node.wait_told("problem: own_node")?;
    ensure!(node.ask_agent("/readyz")?.0 == 503);
    ensure!(!node.conflist_path().exists() && node.routes()?.is_empty());
    let ready_stamp = node.machine.folder("/run/slash32").join("ready");
    ensure!(!ready_stamp.exists());
    lab.write_nodes(&lab.entries())?;
    node.wait_ready()?;
    // At the moment at which runtimes may see it, all else is there.
    let state = kernel_state(node)?;
    for part in [
        SECOND[0],
        SECOND[1],
        "unreachable 10.244.1.0/24",
        backend().mark(),
        "net.ipv4.ip_forward = 1",
        "net.ipv6.conf.all.forwarding = 1",
    ] {
        ensure!(state.contains(part), "{part} was not there yet:\n{state}");
    }
    ensure!(ready_stamp.is_file());
    let conflist = node.conflist()?;
    ensure!(conflist["plugins"][0]["type"] == "slash32", "{conflist}");
    let identity = || -> Result<_> {
        let metadata = std::fs::metadata(node.conflist_path())?;
        Ok((metadata.ino(), metadata.mtime(), metadata.mtime_nsec()))
    };
    let before = identity()?;
    ensure!(
        std::fs::metadata(node.conflist_path())?
            .permissions()
            .mode()
            & 0o777
            == 0o644
    );
    // Nodes come and go, the agent is restarted: the same text stays the same file.
    lab.write_nodes(&lab.entries()[..1])?;
    wait::until("a change of Nodes is taken", REREAD, || {
        lacks(node, &SECOND)
    })?;
    agent.kill()?;
    let _agent = node.spawn_agent()?;
    node.wait_converged()?;
    ensure!(identity()? == before, "the conflist was rewritten");
    let others = std::fs::read_dir(node.machine.folder("/etc/cni/net.d"))?.count();
    ensure!(others == 1, "{others} files beside the conflist");
    Ok(())
}

fn while_a_pass_fails_the_node_is_not_ready() -> Result<()> {
    let lab = Lab::flat("a12", 1)?;
    let node = &lab.nodes[0];
    let program = node.machine.folder("/etc/slash32").join("nft");
    let script = |last: &str| -> Result<()> {
        let new = program.with_extension("new");
        std::fs::write(
            &new,
            format!("#!/bin/sh\n[ \"$1\" = --version ] && exec nft --version\n{last}\n"),
        )?;
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755))?;
        Ok(std::fs::rename(&new, &program)?)
    };
    script("echo 'Error: no such luck' >&2; exit 1")?;
    let _agent = node.spawn_agent_with(&[
        "--netfilter",
        "nftables",
        "--nft-program",
        "/etc/slash32/nft",
    ])?;
    node.wait_told("problem: nftables")?;
    let (status, told) = node.ask_agent("/readyz")?;
    ensure!(status == 503 && told.contains("no such luck"), "{told}");
    ensure!(node.ask_agent("/healthz")?.0 == 200);
    ensure!(!node.conflist_path().exists());
    // One trouble does not keep the rest from being done.
    ensure!(holds(node, &["unreachable 10.244.1.0/24"])?);
    script("exec nft \"$@\"")?;
    node.wait_converged()?;
    ensure!(node.conflist_path().is_file());
    Ok(())
}

fn health_readiness_and_metrics_are_told() -> Result<()> {
    let (lab, _agents) = Lab::with_agents("a13", 2)?;
    let node = &lab.nodes[0];
    node.wait_converged()?;
    ensure!(node.ask_agent("/healthz")? == (200, "ok\n".into()));
    ensure!(node.ask_agent("/readyz")? == (200, "ready\n".into()));
    ensure!(node.ask_agent("/else")?.0 == 404);
    let _pod = node.add_pod_with_ports("a", &[(8080, 80, "tcp")])?;
    node.machine.run(&["ip", "route", "del", "10.244.2.0/24"])?;
    let expected = [
        "slash32_ready 1",
        "slash32_nodes 2",
        "slash32_host_ports 2",
        "slash32_route_repairs_total 1",
        "slash32_problems{kind=\"kernel\"} 0",
        "slash32_nodes_file_last_error 0",
        "slash32_build_info{version=",
        "slash32_reconcile_duration_seconds_count ",
        "# EOF",
    ];
    let missing = || -> Result<Vec<&str>> {
        let metrics = node.ask_agent("/metrics")?.1;
        let all = expected.iter().copied();
        Ok(all
            .filter(|line| !metrics.lines().any(|told| told.starts_with(line)))
            .collect())
    };
    wait::until("metrics tell it all", REREAD, || Ok(missing()?.is_empty())).with_context(
        || {
            format!(
                "missing: {:?} in {:?}",
                missing(),
                node.ask_agent("/metrics")
            )
        },
    )?;
    // Nothing of it is open to the world.
    ensure!(slash32_tests::http::get(&lab.client, "192.0.2.1:9532", "/metrics").is_err());
    Ok(())
}

fn wrong_settings_and_surroundings_are_named() -> Result<()> {
    let lab = Lab::flat("a14", 1)?;
    let node = &lab.nodes[0];
    let file = node.machine.folder("/etc/slash32").join("bad.yaml");
    let config = ["--config", "/etc/slash32/bad.yaml"];
    let source = ["--nodes-file", "/etc/slash32/nodes.yaml"];
    // (settings file, arguments, exit code, what must be named)
    let cases: [(&str, &[&str], i32, &[&str]); 9] = [
        (
            "nodeNam: a\n",
            &config,
            2,
            &["nodeNam", "nodeName", "bad.yaml"],
        ),
        ("mtu: 12\n", &config, 2, &["mtu", "12", "576"]),
        ("mtu: 1400\nmtu: 1500\n", &config, 2, &["mtu", "bad.yaml"]),
        (
            "",
            &["--config", "/nonexistent.yaml"],
            2,
            &["/nonexistent.yaml"],
        ),
        (
            "",
            &["--cluster-cidrs", "10.0.0.1/8"],
            2,
            &["clusterCIDRs", "10.0.0.1/8"],
        ),
        (
            "",
            &["--leak-grace-period", "soon"],
            2,
            &["leakGracePeriod", "soon"],
        ),
        ("", &["--no-such-flag"], 2, &["--no-such-flag"]),
        ("", &[], 1, &["nodesFile", "--nodes-file"]),
        (
            "",
            &[
                "--nodes-file",
                "/etc/slash32/nodes.yaml",
                "--netfilter",
                "nftables",
                "--nft-program",
                "/nonexistent/nft",
            ],
            1,
            &["/nonexistent/nft"],
        ),
    ];
    for (settings, arguments, code, names) in cases {
        std::fs::write(&file, settings)?;
        let outcome = node.run_agent(&[&["run", "--node-name", "node1"], arguments].concat())?;
        expect_complaint(&outcome, code, names)
            .with_context(|| format!("{arguments:?} {settings:?}"))?;
    }
    let mut powerless = node.machine.command("setpriv");
    powerless
        .args(["--bounding-set=-net_admin", "--inh-caps=-net_admin"])
        .arg(lab.binaries()?.join("slash32-agent"))
        .args(["run", "--node-name", "node1"])
        .args(source);
    let outcome = slash32_tests::machine::finish(powerless, b"", Duration::from_secs(10))?;
    expect_complaint(&outcome, 1, &["CAP_NET_ADMIN", "root"])?;
    ensure!(!node.conflist_path().exists() && node.routes()?.is_empty());
    Ok(())
}

fn run_once_tells_by_its_exit_code() -> Result<()> {
    let lab = Lab::flat("a15", 2)?;
    let node = &lab.nodes[0];
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
    let first = once()?;
    ensure!(first.status.success(), "{}", first.stderr);
    ensure!(holds(node, &SECOND)? && node.conflist_path().is_file());
    let before = kernel_state(node)?;
    ensure!(once()?.status.success());
    // The table is laid anew by each process; what it says is the same.
    ensure!(kernel_state(node)? == before);
    let mut entries = lab.entries();
    entries.push(NodeEntry::new(
        "far",
        &["10.244.15.0/24"],
        &["198.51.100.15"],
    ));
    lab.write_nodes(&entries)?;
    expect_complaint(&once()?, 1, &["far", "198.51.100.15"])?;
    ensure!(holds(node, &SECOND)?);
    nodes_file::write_text(&node.nodes_file(), "")?;
    expect_complaint(&once()?, 1, &["nodes.yaml", "empty"])?;
    ensure!(holds(node, &SECOND)?);
    Ok(())
}

fn uninstall_removes_all_that_is_ours_and_only_that() -> Result<()> {
    let (lab, agents) = Lab::with_agents("a16", 2)?;
    let node = &lab.nodes[0];
    let pod = node.add_pod_with_ports("a", &[(8080, 80, "tcp")])?;
    let neighbours = [
        "ip route add 10.98.0.0/24 via 192.0.2.2 proto static",
        "nft add table inet neighbour",
        "ip link add s3 type dummy 2>/dev/null || ip link add s3 type veth peer name s4",
        "touch /etc/cni/net.d/99-neighbour.conflist",
    ];
    for command in neighbours {
        node.machine.run(&["sh", "-c", command])?;
    }
    drop(agents);
    let before = kernel_state(node)?;
    let refused = node.run_agent(&["uninstall"])?;
    expect_complaint(&refused, 1, &["1 pod interface", "--force"])?;
    ensure!(kernel_state(node)? == before && node.conflist_path().is_file());
    let done = node.run_agent(&["uninstall", "--force"])?;
    ensure!(done.status.success(), "{}{}", done.stdout, done.stderr);
    for what in [
        "conflist",
        "link s32",
        "10.244.2.0/24",
        match backend() {
            Backend::Nftables => "table inet slash32",
            Backend::Iptables(_) => "chains SLASH32-*",
        },
    ] {
        ensure!(done.stdout.contains(what), "{what}: {}", done.stdout);
    }
    node.expect_clean()?;
    let after = kernel_state(node)?;
    ensure!(
        node.routes()?.is_empty() && !after.to_lowercase().contains("slash32"),
        "{after}"
    );
    ensure!(!after.contains(&pod.host_link()));
    for kept in ["10.98.0.0/24", "table inet neighbour", ": s3@"] {
        ensure!(
            after.contains(kept) || (kept == ": s3@" && after.contains(": s3:")),
            "{kept} is gone:\n{after}"
        );
    }
    let left = std::fs::read_dir(node.machine.folder("/etc/cni/net.d"))?.count();
    ensure!(left == 1, "{left} files in the CNI folder");
    ensure!(std::fs::read_dir(node.machine.folder("/run/slash32"))?.count() == 0);
    let again = node.run_agent(&["uninstall"])?;
    ensure!(
        again.status.success() && again.stdout.contains("nothing of Slash32"),
        "{}{}",
        again.stdout,
        again.stderr
    );
    Ok(())
}
