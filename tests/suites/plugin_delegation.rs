//! Other people's plugins without libcni between: their IPAM under ours, ours under theirs, chains by hand (A2, A4, D8, GC5, S2).
//! What libcni makes of them is in with_libcni and with_reference_plugins.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use slash32_tests::machine::Machine;
use slash32_tests::site::{Reply, Site, dual_stack, files_below, only, patched, with_previous};
use slash32_tests::{suite, traffic};
use std::process::ExitCode;

fn main() -> ExitCode {
    suite::main(&[
        (
            "a4_a_failure_after_delegated_ipam_gives_the_address_back",
            failure_after_ipam,
        ),
        (
            "d8_a_missing_ipam_program_is_named_and_the_rest_is_cleaned",
            missing_program,
        ),
        (
            "gc5_s2_gc_and_status_are_handed_on",
            gc_and_status_are_handed_on,
        ),
        ("a2_portmap_bandwidth_and_tuning_follow_in_a_chain", chain),
        ("slash32_ipam_serves_debians_ptp", under_ptp),
    ])
}

fn host_local_request() -> Value {
    patched(
        &dual_stack(),
        json!({"ipam": {"type": "host-local", "dataDir": "/var/lib/cni/networks", "ranges": [[{"subnet": "10.50.0.0/29"}], [{"subnet": "fd00:50::/64"}]]}}),
    )
}

fn failure_after_ipam() -> Result<()> {
    let site = Site::new()?;
    let request = patched(&host_local_request(), json!({"cniVersion": "1.0.0"}));
    let netns = site.netns()?;
    netns.run(&[
        "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "other",
    ])?;
    site.call("ADD", "c1", &netns, &request)?.failed()?;
    ensure!(
        site.host_local_reservations()?.is_empty(),
        "{:?}",
        site.host_local_reservations()?
    );
    // A live attachment's address is not what a second ADD gives back.
    let pod = site.add("c2", &request)?;
    Reply::read(pod.call("ADD")?)?.failed()?;
    site.call("ADD", "c2", &pod.machine, &request)?.failed()?;
    ensure!(site.host_local_reservations()?.len() == 2);
    pod.del()?;
    site.expect_clean()
}

fn missing_program() -> Result<()> {
    let site = Site::new()?;
    let request = patched(&dual_stack(), json!({"ipam": {"type": "nobody-has-this"}}));
    let text = site.call("ADD", "c1", &site.netns()?, &request)?.failed()?;
    ensure!(
        text.contains("nobody-has-this") && text.contains("CNI_PATH"),
        "{text}"
    );
    site.expect_clean()?;
    // Uninstalled between ADD and DEL: link and host ports go, the error stays until the program is back.
    let request = patched(&host_local_request(), json!({"cniVersion": "1.0.0"}));
    let pod = site.add("c2", &request)?;
    let netns = pod.machine.netns().to_string_lossy().into_owned();
    let environment = [
        ("CNI_COMMAND", "DEL"),
        ("CNI_CONTAINERID", "c2"),
        ("CNI_NETNS", &netns),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/nowhere"),
    ];
    let mut command = site
        .node
        .machine
        .command(slash32_tests::programs::binaries()?.join("slash32"));
    command.envs(environment);
    let outcome = slash32_tests::machine::finish(
        command,
        request.to_string().as_bytes(),
        slash32_tests::machine::PATIENCE,
    )?;
    let text = Reply::read(outcome)?.failed()?;
    ensure!(
        text.contains("host-local") && !text.contains("not found"),
        "{text}"
    );
    ensure!(
        !site
            .node
            .machine
            .read(&["ip", "-o", "link"])?
            .contains(": s32")
    );
    Reply::read(pod.call("DEL")?)?.silent()?;
    ensure!(site.host_local_reservations()?.is_empty());
    site.expect_clean()
}

/// Debian's host-local knows neither verb: its refusal is told, not hidden; our own links are freed all the same.
fn gc_and_status_are_handed_on() -> Result<()> {
    let site = Site::new()?;
    ensure!(site.run_agent_once()?.status.success());
    site.add(
        "c1",
        &patched(&host_local_request(), json!({"cniVersion": "1.0.0"})),
    )?;
    std::thread::sleep(std::time::Duration::from_millis(5));
    let mut request = host_local_request();
    request["cni.dev/valid-attachments"] = json!([]);
    for verb in ["GC", "STATUS"] {
        let text = site.call_network(verb, &request)?.failed().context(verb)?;
        ensure!(text.contains("host-local"), "{verb}: {text}");
    }
    ensure!(
        !site
            .node
            .machine
            .read(&["ip", "-o", "link"])?
            .contains(": s32")
    );
    Ok(())
}

/// What libcni does with a list: each plugin gets the result of the one before; DEL runs backwards.
fn chain() -> Result<()> {
    let site = Site::new()?;
    let netns = site.netns()?;
    let common = json!({"cniVersion": "1.0.0", "name": "slash32"});
    let followers = [
        patched(
            &common,
            json!({"type": "portmap", "snat": true, "runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}}),
        ),
        patched(
            &common,
            json!({"type": "bandwidth", "runtimeConfig": {"bandwidth": {"ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 8_000_000, "egressBurst": 800_000}}}),
        ),
        patched(
            &common,
            json!({"type": "tuning", "sysctl": {"net.ipv4.conf.eth0.arp_filter": "1"}}),
        ),
    ];
    let first = patched(&only("10.244.1.0/24"), json!({"cniVersion": "1.0.0"}));
    let mut result = site.call("ADD", "c1", &netns, &first)?.success()?;
    for request in &followers {
        result = run(&site, "ADD", &netns, &with_previous(request, &result))?
            .success()
            .context(request["type"].clone())?;
    }
    let address = result["ips"][0]["address"]
        .as_str()
        .context("address")?
        .trim_end_matches("/32")
        .to_owned();
    traffic::ping(&site.node.machine, &address)?;
    site.call("CHECK", "c1", &netns, &with_previous(&first, &result))?
        .silent()?;
    for request in followers.iter().rev() {
        run(&site, "DEL", &netns, &with_previous(request, &result))?.silent()?;
    }
    site.call("DEL", "c1", &netns, &with_previous(&first, &result))?
        .silent()?;
    site.expect_clean()
}

fn run(site: &Site, verb: &str, netns: &Machine, request: &Value) -> Result<Reply> {
    let path = netns.netns().to_string_lossy().into_owned();
    let environment = [
        ("CNI_COMMAND", verb),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", &path),
        ("CNI_IFNAME", "eth0"),
    ];
    let plugin = request["type"].as_str().context("type")?;
    Reply::read(
        site.node
            .call_plugin(plugin, &environment, request.to_string().as_bytes())?,
    )
}

fn under_ptp() -> Result<()> {
    for version in ["0.3.1", "0.4.0", "1.0.0"] {
        let site = Site::new()?;
        let netns = site.netns()?;
        let request = json!({"cniVersion": version, "name": "ptp-net", "type": "ptp", "ipam": {"type": "slash32-ipam", "dataDir": "/var/lib/cni/ours", "ranges": [[{"subnet": "10.70.0.0/24"}]]}});
        let result = run(&site, "ADD", &netns, &request)?.success()?;
        let address = result["ips"][0]["address"].as_str().context("address")?;
        ensure!(address.starts_with("10.70.0."), "{result}");
        let claims = || {
            files_below(
                &site
                    .node
                    .machine
                    .folder("/var/lib/cni")
                    .join("ours/ptp-net/addresses"),
            )
        };
        ensure!(claims()?.len() == 1);
        if version != "0.3.1" {
            run(&site, "CHECK", &netns, &with_previous(&request, &result))?.silent()?;
        }
        run(&site, "DEL", &netns, &with_previous(&request, &result))?.silent()?;
        ensure!(claims()?.is_empty());
    }
    Ok(())
}
