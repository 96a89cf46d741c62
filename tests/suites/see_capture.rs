//! `slash32-agent capture` and `bundle` on a real node: the pcap is read by tcpdump, the archive by tar.

use anyhow::{Context, Result, ensure};
use slash32_tests::lab::Lab;
use slash32_tests::suite;
use slash32_tests::traffic::{Server, ask_udp};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

fn main() -> ExitCode {
    suite::main(&[
        (
            "a_capture_holds_what_the_pod_sent_and_got",
            a_capture_holds_what_the_pod_sent_and_got,
        ),
        ("a_capture_ends_at_its_bounds", a_capture_ends_at_its_bounds),
        (
            "a_bundle_tells_all_and_no_secret",
            a_bundle_tells_all_and_no_secret,
        ),
    ])
}

fn a_capture_holds_what_the_pod_sent_and_got() -> Result<()> {
    let (lab, _agents) = Lab::with_agents("c1", 1)?;
    let node = &lab.nodes[0];
    let (a, b) = (node.add_pod("a")?, node.add_pod("b")?);
    let _server = Server::start(&b.machine, 80)?;
    let file = node.machine.folder("/etc/slash32").join("a.pcap");
    let mut command = node.agent_command()?;
    command
        .args([
            "capture",
            "lab/a",
            "--node-name",
            "node1",
            "--count",
            "2",
            "--duration",
            "30",
        ])
        .args(["-w", "/etc/slash32/a.pcap"])
        .stderr(Stdio::null());
    let mut capture = node.machine.start(&mut command)?;
    slash32_tests::wait::until("the capture began", Duration::from_secs(20), || {
        Ok(std::fs::metadata(&file).is_ok_and(|data| data.len() >= 24))
    })?;
    ask_udp(&a.machine, &b.v4(), 80)?;
    let status = capture.wait(Duration::from_secs(20))?;
    ensure!(status.success(), "{status}");
    let told = node
        .machine
        .read(&["tcpdump", "-n", "-r", "/etc/slash32/a.pcap"])?;
    let lines: Vec<&str> = told.lines().filter(|line| line.contains("IP ")).collect();
    ensure!(lines.len() == 2, "{told}");
    ensure!(
        lines[0].contains(&format!("> {}.80: UDP", b.v4())),
        "{told}"
    );
    ensure!(
        lines[1].contains(&format!("IP {}.80 > {}", b.v4(), a.v4())),
        "{told}"
    );
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file)?.permissions());
    ensure!(mode & 0o777 == 0o600, "{mode:o}");
    Ok(())
}

fn a_capture_ends_at_its_bounds() -> Result<()> {
    let (lab, _agents) = Lab::with_agents("c2", 1)?;
    let node = &lab.nodes[0];
    let _pod = node.add_pod("a")?;
    // Nothing passes: the clock ends it, with a whole file.
    let arguments = [
        "capture",
        "lab/a",
        "--node-name",
        "node1",
        "-d",
        "1",
        "-w",
        "/etc/slash32/a.pcap",
    ];
    let outcome = node.run_agent(&arguments)?;
    ensure!(outcome.status.success(), "{}", outcome.stderr);
    ensure!(outcome.stderr.contains("packets"), "{}", outcome.stderr);
    node.machine
        .read(&["tcpdump", "-n", "-r", "/etc/slash32/a.pcap"])?;
    let outcome = node.run_agent(&["capture", "lab/none", "--node-name", "node1"])?;
    ensure!(
        !outcome.status.success() && outcome.stderr.contains("lab/a"),
        "{}",
        outcome.stderr
    );
    Ok(())
}

fn a_bundle_tells_all_and_no_secret() -> Result<()> {
    const SECRET: &str = "hunter2-planted";
    let (lab, _agents) = Lab::with_agents("c3", 2)?;
    let node = &lab.nodes[0];
    let _pod = node.add_pod("web")?;
    let folder = node.machine.folder("/etc/slash32");
    let jwt = format!("eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.{SECRET}.c2lnbmF0dXJl");
    // Wherever a secret may lie: another plugin's configuration, the log, an operation's error.
    std::fs::write(
        node.machine
            .folder("/etc/cni/net.d")
            .join("20-other.conflist"),
        format!("{{\"plugins\": [{{\"type\": \"other\", \"token\": \"{SECRET}\"}}]}}"),
    )?;
    std::fs::write(
        folder.join("agent.log"),
        format!(
            "a line\nAuthorization: Bearer {jwt}\npassword={SECRET}\n-----BEGIN EC PRIVATE KEY-----\n{SECRET}\n-----END EC PRIVATE KEY-----\nlast line\n"
        ),
    )?;
    let line = format!(
        "{{\"atMs\":1,\"command\":\"ADD\",\"network\":\"slash32\",\"containerId\":\"x\",\"ifname\":\"eth0\",\"durationUs\":1,\"code\":103,\"error\":\"the plugin said: token {SECRET}\"}}\n"
    );
    let log = node.machine.folder("/run/slash32").join("operations.jsonl");
    let old = std::fs::read_to_string(&log)?;
    std::fs::write(&log, old + &line)?;
    let outcome = node.run_agent(&[
        "bundle",
        "--node-name",
        "node1",
        "--nodes-file",
        "/etc/slash32/nodes.yaml",
        "--log",
        "/etc/slash32/agent.log",
        "-w",
        "/etc/slash32/b.tar.gz",
    ])?;
    ensure!(outcome.status.success(), "{}", outcome.stderr);
    let list = node
        .machine
        .read(&["tar", "-tzf", "/etc/slash32/b.tar.gz"])?;
    for name in [
        "version.txt",
        "settings.txt",
        "status.json",
        "doctor.json",
        "records.json",
        "operations.json",
        "links.txt",
        "routes.txt",
        "rules.txt",
        "nftables-slash32.txt",
        "conflist.json",
        "cni-folder.txt",
        "agent-readyz.txt",
        "agent-metrics.txt",
        "log.txt",
    ] {
        ensure!(list.contains(name), "{name} is not in it: {list}");
    }
    let all = node
        .machine
        .read(&["tar", "-xzOf", "/etc/slash32/b.tar.gz"])?;
    ensure!(
        !all.contains(SECRET),
        "the secret is in it: {:?}",
        all.lines().find(|line| line.contains(SECRET))
    );
    for words in [
        "lab/web",
        "slash32_build_info",
        "\"nodesFrom\": \"file\"",
        "20-other.conflist: other",
        "last line",
        "hostports4",
    ] {
        ensure!(all.contains(words), "{words} is not in it");
    }
    let status = node.machine.read(&[
        "tar",
        "-xzOf",
        "/etc/slash32/b.tar.gz",
        "slash32-bundle/status.json",
    ])?;
    let status: serde_json::Value = serde_json::from_str(&status).context("status.json")?;
    ensure!(status["node"] == "node1");
    Ok(())
}
