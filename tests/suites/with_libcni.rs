//! libcni and cnitool in front of slash32, as containerd, cri-o and people have them: software that we did not
//! write reads our results, our errors and the agent's conflist.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use slash32_tests::libcni::{Network, plugin_path, reference_plugin, tool};
use slash32_tests::machine::{Machine, Outcome, PATIENCE, finish};
use slash32_tests::site::{Site, dual_stack, only, patched};
use slash32_tests::suite;
use slash32_tests::traffic::{Server, ask_tcp, ping};
use std::process::ExitCode;

const VERSIONS: [&str; 7] = [
    "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0",
];

/// What Debian's plugins and ours have in common, and CHECK.
const CHAINED: [&str; 2] = ["1.0.0", "0.4.0"];

fn main() -> ExitCode {
    let need = || {
        ["libcni-check", "cnitool"]
            .iter()
            .try_for_each(|name| tool(name).map(drop))?;
        ["portmap", "bandwidth", "tuning"]
            .iter()
            .try_for_each(|name| reference_plugin(name).map(drop))
    };
    suite::main_needing(
        need,
        &[
            (
                "a8_libcni_reads_the_result_of_each_version_without_loss",
                results_of_each_version,
            ),
            (
                "a8_libcni_attaches_checks_and_detaches_in_each_version",
                each_version_through_libcni,
            ),
            (
                "k1_libcni_loads_the_agents_conflist_and_every_verb_works_on_it",
                agents_conflist,
            ),
            (
                "gc2_null_frees_everything_and_an_absent_list_nothing",
                gc_lists,
            ),
            (
                "g16_codes_and_messages_reach_the_runtime",
                errors_reach_the_runtime,
            ),
            (
                "x3_port_mappings_of_the_runtime_reach_the_pod",
                capability_arguments,
            ),
            (
                "a_chain_with_portmap_bandwidth_and_tuning_works_and_leaves_nothing",
                chain_with_reference_plugins,
            ),
            ("cnitool_adds_checks_and_deletes", cnitool),
        ],
    )
}

/// A site with the agent's table, stamp and conflist. The conflist's MTU is that of the link with the
/// node's address, so there must be one besides lo.
fn site_with_agent() -> Result<Site> {
    let site = Site::new()?;
    let node = &site.node.machine;
    node.run(&[
        "ip", "link", "add", "eth0", "mtu", "1400", "type", "veth", "peer", "name", "cable",
    ])?;
    for link in ["eth0", "cable"] {
        node.run(&["ip", "link", "set", link, "up"])?;
    }
    for address in ["192.0.2.1/32", "2001:db8:2::1/128"] {
        node.run(&["ip", "address", "del", address, "dev", "lo"])?;
        node.run(&["ip", "address", "add", address, "dev", "eth0"])?;
    }
    let pass = site.run_agent_once()?;
    ensure!(pass.status.success(), "{}{}", pass.stdout, pass.stderr);
    Ok(site)
}

fn addresses(result: &Value) -> Vec<String> {
    let ips = result["ips"].as_array().cloned().unwrap_or_default();
    let bare = |ip: &Value| ip["address"].as_str()?.split('/').next().map(str::to_owned);
    ips.iter().filter_map(bare).collect()
}

fn results_of_each_version() -> Result<()> {
    for version in VERSIONS {
        let (site, request) = (
            Site::new()?,
            patched(&dual_stack(), json!({"cniVersion": version})),
        );
        let netns = site.netns()?;
        let reply = site.call("ADD", "c1", &netns, &request)?;
        let mut convert = site.node.machine.command(tool("libcni-check")?);
        convert.args(["convert", version]);
        let outcome = finish(convert, reply.outcome.stdout.as_bytes(), PATIENCE)?;
        ensure!(outcome.status.success(), "{version}: {}", outcome.stderr);
        let told: Value = serde_json::from_str(&outcome.stdout)?;
        ensure!(
            told["version"] == version && told["lossless"] == true,
            "{version}: {told}"
        );
        ensure!(told["impossible"] == json!({}), "{version}: {told}");
        ensure!(
            told["converted"]
                .as_object()
                .is_some_and(|all| all.len() == VERSIONS.len()),
            "{told}"
        );
        site.call("DEL", "c1", &netns, &request)?.silent()?;
    }
    Ok(())
}

fn each_version_through_libcni() -> Result<()> {
    let site = site_with_agent()?;
    let network = Network::of_agent(&site);
    for version in VERSIONS {
        let (netns, as_version) = (site.netns()?, ["--cni-version", version]);
        let added = network
            .call_for("add", version, &netns, &as_version)?
            .success()?;
        ensure!(
            added["version"] == version && added["answered"]["cniVersion"] == version,
            "{added}"
        );
        let addresses = addresses(&added["result"]);
        ensure!(addresses.len() == 2, "{version}: {added}");
        for address in &addresses {
            ping(&site.node.machine, address)?;
        }
        if version >= "0.4.0" {
            network
                .call_for("check", version, &netns, &as_version)?
                .success()?;
        }
        network
            .call_for("del", version, &netns, &as_version)?
            .success()?;
        // From libcni's cache there is no prevResult any more.
        network
            .call_for("del", version, &netns, &as_version)?
            .success()?;
    }
    site.expect_clean()
}

fn agents_conflist() -> Result<()> {
    let site = site_with_agent()?;
    let network = Network::of_agent(&site);
    let told = network.call("version", &[])?.success()?;
    // What cri-o asks on loading (V2): each version that the list may be called in.
    ensure!(told["plugins"]["slash32"] == json!(VERSIONS), "{told}");
    ensure!(
        told["capabilities"]
            .as_array()
            .is_some_and(|all| all.contains(&json!("portMappings"))),
        "{told}"
    );
    network.call("status", &[])?.success()?;
    let netns = site.netns()?;
    network.call_for("add", "c1", &netns, &[])?.success()?;
    network.call_for("check", "c1", &netns, &[])?.success()?;
    // A runtime that restarts: the namespace is gone, its path is not sent any more (D1).
    netns.remove()?;
    network.call("del", &["--containerid", "c1"])?.success()?;
    site.expect_clean()
}

/// GC1, GC2, GC3. libcni itself sends a DEL for each attachment in its cache that is not listed, so what GC
/// does is seen on one that was made without libcni.
fn gc_lists() -> Result<()> {
    let site = site_with_agent()?;
    let network = Network::of_agent(&site);
    let (kept, stale) = (site.netns()?, site.netns()?);
    site.call("ADD", "stale", &stale, &site.node.request()?)?
        .success()?;
    let alone = site.snapshot()?;
    network.call("gc", &["--gc-list", "absent"])?.success()?;
    ensure!(site.snapshot()? == alone, "an absent list freed something");
    network.call_for("add", "kept", &kept, &[])?.success()?;
    let both = site.snapshot()?;
    let listed = ["--valid", "kept/eth0", "--valid", "stale/eth0"];
    network.call("gc", &listed)?.success()?;
    ensure!(site.snapshot()? == both, "GC touched what is listed");
    network.call("gc", &["--valid", "kept/eth0"])?.success()?;
    ensure!(!site.snapshot()?.contains("stale"), "{}", site.snapshot()?);
    network.call_for("check", "kept", &kept, &[])?.success()?;
    network.call("gc", &["--gc-list", "null"])?.success()?;
    site.expect_clean()
}

fn errors_reach_the_runtime() -> Result<()> {
    let site = site_with_agent()?;
    let full = only("10.250.0.0/31");
    let plugins = json!([{"type": "slash32", "ipam": full["ipam"]}]);
    let network = Network::new(&site, "full", &["1.1.0"], &plugins)?;
    let mut told = String::new();
    for n in 0..4 {
        let (id, netns) = (format!("c{n}"), site.netns()?);
        let answer = network.call_for("add", &id, &netns, &[])?;
        if let Ok(text) = answer.refused(11) {
            told = text;
            break;
        }
    }
    ensure!(
        told.contains("no IP addresses available in range set"),
        "{told:?}"
    );
    let wrong = json!([{"type": "slash32", "ipam": {"type": "slash32-ipam", "ranges": [[{"subnet": "10.250.0.0/40"}]]}}]);
    let network = Network::new(&site, "wrong", &["1.1.0"], &wrong)?;
    let text = network
        .call_for("add", "c9", &site.netns()?, &[])?
        .refused(7)?;
    ensure!(
        text.contains("subnet") && text.contains("10.250.0.0/40"),
        "{text}"
    );
    Ok(())
}

fn capability_arguments() -> Result<()> {
    let site = site_with_agent()?;
    let (network, netns) = (Network::of_agent(&site), site.netns()?);
    // As containerd's Go structs print themselves (X2).
    let asked = r#"{"portMappings": [{"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""}], "bandwidth": {"IngressRate": 80000000, "IngressBurst": 8000000, "EgressRate": 80000000, "EgressBurst": 8000000}}"#;
    let more = ["--capability-args", asked];
    network.call_for("add", "c1", &netns, &more)?.success()?;
    let _server = Server::start(&netns, 80)?;
    ask_tcp(&site.node.machine, "127.0.0.1", 8080)?;
    let shaped = site.node.machine.read(&["tc", "qdisc", "show"])?;
    ensure!(shaped.contains("80Mbit"), "{shaped}");
    network.call_for("check", "c1", &netns, &more)?.success()?;
    network.call_for("del", "c1", &netns, &more)?.success()?;
    ensure!(ask_tcp(&site.node.machine, "127.0.0.1", 8080).is_err());
    site.expect_clean()
}

/// The reference plugins after ours: each amends our result, and DEL goes through all of them. CHECK goes
/// through all but portmap, whose own CHECK (1.1) looks for its IPv4 rules among those of IPv6.
fn chain_with_reference_plugins() -> Result<()> {
    let site = site_with_agent()?;
    let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}, "snat": true});
    let mut plugins = vec![
        json!({"type": "slash32", "ipam": dual_stack()["ipam"]}),
        json!({"type": "bandwidth", "capabilities": {"bandwidth": true}}),
        json!({"type": "tuning", "sysctl": {"net.ipv4.tcp_keepalive_time": "600"}}),
    ];
    let checked = Network::new(&site, "checked", &CHAINED, &json!(plugins))?;
    plugins.insert(1, portmap);
    let chain = Network::new(&site, "chain", &CHAINED, &json!(plugins))?;
    let asked = r#"{"portMappings": [{"hostPort": 8081, "containerPort": 80, "protocol": "tcp"}], "bandwidth": {"ingressRate": 80000000, "ingressBurst": 8000000, "egressRate": 80000000, "egressBurst": 8000000}}"#;
    for version in CHAINED {
        let netns = site.netns()?;
        let more = ["--cni-version", version, "--capability-args", asked];
        let added = chain.call_for("add", "c1", &netns, &more)?.success()?;
        expect_chained(&site, &netns, &added["result"])
            .with_context(|| format!("{version}: {added}"))?;
        chain.call_for("del", "c1", &netns, &more)?.success()?;
        let rules = site.node.machine.read(&["iptables-save", "-t", "nat"])?;
        ensure!(!rules.contains("8081"), "{rules}");
        for verb in ["add", "check", "del"] {
            checked
                .call_for(verb, "c2", &netns, &more)?
                .success()
                .with_context(|| format!("{verb} in {version}"))?;
        }
    }
    site.expect_clean()
}

fn expect_chained(site: &Site, netns: &Machine, result: &Value) -> Result<()> {
    let _server = Server::start(netns, 80)?;
    for address in addresses(result) {
        ping(&site.node.machine, &address)?;
    }
    ask_tcp(&site.node.machine, "192.0.2.1", 8081).context("portmap's host port")?;
    let tuned = netns.read(&["sysctl", "-n", "net.ipv4.tcp_keepalive_time"])?;
    ensure!(tuned == "600", "{tuned}");
    let shaped = site.node.machine.read(&["tc", "qdisc", "show"])?;
    ensure!(shaped.contains("tbf"), "{shaped}");
    Ok(())
}

fn cnitool() -> Result<()> {
    let site = site_with_agent()?;
    let netns = site.netns()?;
    let path = netns.netns().to_string_lossy().into_owned();
    let run = |verb: &str| -> Result<Outcome> {
        let mut command = site.node.machine.command(tool("cnitool")?);
        command
            .args([verb, "slash32", &path])
            .env("NETCONFPATH", "/etc/cni/net.d")
            .env("CNI_PATH", plugin_path()?);
        finish(command, b"", PATIENCE)
    };
    let added = run("add")?;
    ensure!(added.status.success(), "{}{}", added.stdout, added.stderr);
    let result: Value = serde_json::from_str(&added.stdout)?;
    for address in addresses(&result) {
        ping(&site.node.machine, &address)?;
    }
    for verb in ["check", "del", "del"] {
        let outcome = run(verb)?;
        ensure!(
            outcome.status.success(),
            "{verb}: {}{}",
            outcome.stdout,
            outcome.stderr
        );
    }
    site.expect_clean()
}
