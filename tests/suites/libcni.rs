//! libcni itself in front of the plugin: conflists, chains, its cache, its conversions (G4, G9, A8, K1, C1, GC2).
//!
//! libcni-check and cnitool are Go programs that `make` builds; SLASH32_GO_TOOLS names their folder.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use slash32_tests::machine::{Machine, Outcome, PATIENCE, finish};
use slash32_tests::site::{Site, dual_stack, ip_json, patched};
use slash32_tests::{programs, suite, traffic};
use std::process::ExitCode;

const VERSIONS: [&str; 7] = [
    "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0",
];

fn main() -> ExitCode {
    let missing = match programs::go_tools() {
        Some(folder) if folder.join("libcni-check").is_file() => None,
        Some(_) => Some("no libcni-check in SLASH32_GO_TOOLS"),
        None => Some("SLASH32_GO_TOOLS is not set: 'make' builds libcni-check and sets it"),
    };
    suite::main_where(
        missing,
        &[
            ("add_check_status_gc_and_del_pass_through_libcni", all_verbs),
            (
                "a8_a_result_of_each_version_converts_without_loss",
                every_version_converts,
            ),
            (
                "a_chain_with_debians_plugins_is_added_checked_and_deleted",
                chain,
            ),
            (
                "x1_capabilities_reach_the_plugin_through_libcni",
                capabilities,
            ),
            (
                "g16_libcni_reads_our_errors_with_their_code",
                errors_are_read,
            ),
            (
                "gc2_gc_without_a_list_frees_what_libcni_has_cached_and_no_more",
                gc_lists,
            ),
            ("cnitool_adds_checks_and_deletes", cnitool),
        ],
    )
}

/// A conflist on a site, and libcni's call on it.
struct Network {
    site: Site,
    conflist: String,
}

impl Network {
    fn new(version: &str, plugins: &[Value]) -> Result<Network> {
        let site = Site::new()?;
        let list = json!({"cniVersion": version, "name": "slash32", "plugins": plugins});
        let file = site
            .node
            .machine
            .folder("/etc/cni/net.d")
            .join("10-slash32.conflist");
        std::fs::write(file, list.to_string())?;
        Ok(Network {
            site,
            conflist: "/etc/cni/net.d/10-slash32.conflist".into(),
        })
    }

    fn call(
        &self,
        verb: &str,
        id: &str,
        netns: Option<&Machine>,
        flags: &[&str],
    ) -> Result<Outcome> {
        let tools = programs::go_tools().context("SLASH32_GO_TOOLS")?;
        let path = format!(
            "{}:{}",
            programs::binaries()?.display(),
            programs::reference_plugins().display()
        );
        let mut command = self.site.node.machine.command(tools.join("libcni-check"));
        command.args([
            "run",
            "--conf",
            &self.conflist,
            "--bin",
            &path,
            "--cachedir",
            "/var/lib/cni/cache",
        ]);
        command.args(["--containerid", id]);
        if let Some(netns) = netns {
            command.arg("--netns").arg(netns.netns());
        }
        command.args(flags).arg(verb);
        finish(command, b"", PATIENCE)
    }

    fn expect(
        &self,
        verb: &str,
        id: &str,
        netns: Option<&Machine>,
        flags: &[&str],
    ) -> Result<Value> {
        let outcome = self.call(verb, id, netns, flags)?;
        ensure!(outcome.status.success(), "{verb}: {}", outcome.stderr);
        Ok(serde_json::from_str(&outcome.stdout)?)
    }

    fn expect_error(
        &self,
        verb: &str,
        id: &str,
        netns: Option<&Machine>,
        flags: &[&str],
    ) -> Result<Value> {
        let outcome = self.call(verb, id, netns, flags)?;
        ensure!(
            !outcome.status.success(),
            "{verb} succeeded: {}",
            outcome.stdout
        );
        Ok(serde_json::from_str(
            outcome.stderr.lines().last().unwrap_or_default(),
        )?)
    }
}

fn ours() -> Value {
    patched(&dual_stack(), json!({"cniVersion": null, "name": null}))
}

fn first_address(answer: &Value) -> Result<String> {
    let address = answer["result"]["ips"][0]["address"]
        .as_str()
        .with_context(|| answer.to_string())?;
    Ok(address.split('/').next().unwrap_or_default().to_owned())
}

fn all_verbs() -> Result<()> {
    let network = Network::new("1.1.0", &[ours()])?;
    let netns = network.site.netns()?;
    let answer = network.expect("version", "", None, &[])?;
    ensure!(answer["plugins"]["slash32"] == json!(VERSIONS), "{answer}");
    ensure!(network.expect_error("status", "", None, &[])?["code"] == 50);
    ensure!(network.site.run_agent_once()?.status.success());
    // The agent has written its own conflist over ours: a real one.
    network.expect("status", "", None, &[])?;
    let answer = network.expect("add", "c1", Some(&netns), &[])?;
    traffic::ping(&network.site.node.machine, &first_address(&answer)?)?;
    network.expect("check", "c1", Some(&netns), &[])?;
    network.expect("gc", "", None, &["--valid", "c1/eth0"])?;
    network.expect("check", "c1", Some(&netns), &[])?;
    network.site.node.machine.run(&[
        "ip",
        "route",
        "del",
        &format!("{}/32", first_address(&answer)?),
    ])?;
    network.expect_error("check", "c1", Some(&netns), &[])?;
    network.expect("del", "c1", Some(&netns), &[])?;
    network.expect("del", "c1", None, &[])?;
    network.site.expect_clean()
}

fn every_version_converts() -> Result<()> {
    for version in VERSIONS {
        let site = Site::new()?;
        let request = patched(&dual_stack(), json!({"cniVersion": version}));
        let result = site
            .call("ADD", "c1", &site.netns()?, &request)?
            .success()?;
        let tool = programs::go_tools()
            .context("SLASH32_GO_TOOLS")?
            .join("libcni-check");
        let mut command = std::process::Command::new(tool);
        command.args(["convert", version]);
        let outcome = finish(command, result.to_string().as_bytes(), PATIENCE)?;
        ensure!(outcome.status.success(), "{version}: {}", outcome.stderr);
        let answer: Value = serde_json::from_str(&outcome.stdout)?;
        ensure!(answer["lossless"] == true, "{version}: {answer}");
        ensure!(
            answer["converted"]["1.1.0"].is_object(),
            "{version}: {answer}"
        );
    }
    Ok(())
}

fn chain() -> Result<()> {
    let plugins = [
        ours(),
        json!({"type": "bandwidth", "ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 8_000_000, "egressBurst": 800_000}),
        json!({"type": "tuning", "sysctl": {"net.ipv4.conf.eth0.arp_filter": "1"}}),
    ];
    for version in ["0.4.0", "1.0.0"] {
        let network = Network::new(version, &plugins)?;
        let netns = network.site.netns()?;
        let answer = network.expect("add", "c1", Some(&netns), &[])?;
        traffic::ping(&network.site.node.machine, &first_address(&answer)?)?;
        ensure!(netns.read(&["sysctl", "-n", "net.ipv4.conf.eth0.arp_filter"])? == "1");
        network.expect("check", "c1", Some(&netns), &[])?;
        network.expect("del", "c1", Some(&netns), &[])?;
        network.site.expect_clean()?;
        ensure!(ip_json(&network.site.node.machine, &["link", "show", "type", "ifb"])?.is_empty());
    }
    Ok(())
}

fn capabilities() -> Result<()> {
    let network = Network::new("1.0.0", &[ours()])?;
    let netns = network.site.netns()?;
    let asked =
        json!({"ips": ["10.244.1.66"], "mac": "02:00:00:00:00:66", "notDeclared": 5}).to_string();
    let answer = network.expect("add", "c1", Some(&netns), &["--capability-args", &asked])?;
    ensure!(first_address(&answer)? == "10.244.1.66", "{answer}");
    let link = ip_json(&netns, &["link", "show", "eth0"])?.remove(0);
    ensure!(link["address"] == "02:00:00:00:00:66", "{link}");
    network.expect("del", "c1", Some(&netns), &["--capability-args", &asked])?;
    network.site.expect_clean()
}

fn errors_are_read() -> Result<()> {
    let full = patched(
        &ours(),
        json!({"ipam": {"ranges": [[{"subnet": "10.244.1.0/30", "rangeStart": "10.244.1.1", "rangeEnd": "10.244.1.1"}]]}}),
    );
    let network = Network::new("1.0.0", &[full])?;
    network.expect("add", "c1", Some(&network.site.netns()?), &[])?;
    let error = network.expect_error("add", "c2", Some(&network.site.netns()?), &[])?;
    ensure!(error["code"] == 11, "{error}");
    ensure!(
        error["msg"]
            .as_str()
            .is_some_and(|msg| msg.contains("no IP addresses available")),
        "{error}"
    );
    Ok(())
}

fn gc_lists() -> Result<()> {
    let network = Network::new("1.1.0", &[ours()])?;
    let pods = [network.site.netns()?, network.site.netns()?];
    for (netns, id) in pods.iter().zip(["c1", "c2"]) {
        network.expect("add", id, Some(netns), &[])?;
    }
    std::thread::sleep(std::time::Duration::from_millis(5));
    network.expect("gc", "", None, &["--valid", "c2/eth0"])?;
    ensure!(!pods[0].read(&["ip", "-o", "link"])?.contains("eth0"));
    network.expect("check", "c2", Some(&pods[1]), &[])?;
    network.expect("gc", "", None, &["--gc-list", "null"])?;
    network.site.expect_clean()
}

fn cnitool() -> Result<()> {
    let network = Network::new("1.0.0", &[ours()])?;
    let netns = network.site.netns()?;
    let path = format!(
        "{}:{}",
        programs::binaries()?.display(),
        programs::reference_plugins().display()
    );
    for verb in ["add", "check", "del"] {
        let tool = programs::go_tools()
            .context("SLASH32_GO_TOOLS")?
            .join("cnitool");
        let mut command = network.site.node.machine.command(tool);
        command
            .args([verb, "slash32"])
            .arg(netns.netns())
            .env("CNI_PATH", &path)
            .env("NETCONFPATH", "/etc/cni/net.d");
        let outcome = finish(command, b"", PATIENCE)?;
        ensure!(
            outcome.status.success(),
            "{verb}: {}{}",
            outcome.stdout,
            outcome.stderr
        );
    }
    network.site.expect_clean()
}
