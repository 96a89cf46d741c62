//! DEL on a real kernel: idempotent, without a namespace, never what belongs to another (D1-D9).

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use slash32_tests::site::{Reply, Site, dual_stack, kernel_of, patched, with_previous};
use slash32_tests::{suite, traffic};
use std::process::ExitCode;

fn main() -> ExitCode {
    suite::main(&[
        ("d1_del_succeeds_any_number_of_times", any_number_of_times),
        (
            "d1_del_of_what_was_never_added_succeeds_and_makes_nothing",
            never_added,
        ),
        ("d1_del_needs_no_namespace", needs_no_namespace),
        (
            "d1_del_takes_any_previous_result_or_none",
            takes_any_previous_result,
        ),
        (
            "d1_del_succeeds_when_link_or_record_or_claim_is_gone_already",
            parts_gone_already,
        ),
        (
            "d4_del_of_an_old_sandbox_leaves_the_new_one_of_the_same_pod",
            old_sandbox_leaves_new,
        ),
        (
            "d5_a_late_del_leaves_an_address_that_somebody_else_has_now",
            late_del_leaves_recycled_address,
        ),
        (
            "d9_del_works_with_the_configuration_of_today",
            configuration_of_today,
        ),
        ("d1_a_torn_record_keeps_nothing_behind", torn_record),
        (
            "g18_del_in_the_plugins_own_namespace_touches_no_foreign_link",
            own_namespace,
        ),
        (
            "del_of_one_network_leaves_the_other_network_of_the_same_container",
            other_network_stays,
        ),
        (
            "after_a_reboot_everything_is_gone_and_del_still_succeeds",
            after_a_reboot,
        ),
    ])
}

fn any_number_of_times() -> Result<()> {
    for version in [
        "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0",
    ] {
        let site = Site::new()?;
        let request = patched(&dual_stack(), json!({"cniVersion": version}));
        let netns = site.netns()?;
        site.call("ADD", "c1", &netns, &request)?.success()?;
        for _ in 0..3 {
            site.call("DEL", "c1", &netns, &request)?.silent()?;
            site.expect_clean()?;
        }
        ensure!(!kernel_of(&netns)?.contains("eth0"));
    }
    Ok(())
}

fn never_added() -> Result<()> {
    let site = Site::new()?;
    let before = site.snapshot()?;
    site.call("DEL", "c1", &site.netns()?, &dual_stack())?
        .silent()?;
    site.call_at("DEL", "c2", "", "eth0", &dual_stack())?
        .silent()?;
    ensure!(site.snapshot()? == before);
    site.expect_clean()
}

/// Absent, empty, a path that is gone, and what a reboot leaves: a plain file, a folder, another kind of namespace.
fn needs_no_namespace() -> Result<()> {
    let plain = "/run/stale-netns";
    std::fs::write(plain, "")?;
    for path in [
        "",
        "/run/netns/nobody",
        plain,
        "/run",
        "/proc/self/ns/mnt",
        "relative",
    ] {
        let site = Site::new()?;
        let pod = site.add("c1", &dual_stack())?;
        site.call_at("DEL", "c1", path, "eth0", &dual_stack())?
            .silent()
            .with_context(|| format!("CNI_NETNS={path:?}"))?;
        site.expect_clean()?;
        ensure!(!kernel_of(&pod.machine)?.contains("eth0"), "{path:?}");
    }
    let site = Site::new()?;
    site.add("c1", &dual_stack())?;
    let environment = [
        ("CNI_COMMAND", "DEL"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_IFNAME", "eth0"),
    ];
    let stdin = dual_stack().to_string();
    Reply::read(
        site.node
            .call_plugin("slash32", &environment, stdin.as_bytes())?,
    )?
    .silent()?;
    site.expect_clean()
}

fn takes_any_previous_result() -> Result<()> {
    for previous in [
        json!(null),
        json!({}),
        json!([]),
        json!("text"),
        json!({"cniVersion": "9.9.9"}),
        json!({"cniVersion": "1.1.0", "ips": [{"address": "nonsense", "interface": 17}]}),
        json!({"cniVersion": "1.1.0", "interfaces": 5}),
    ] {
        let site = Site::new()?;
        let pod = site.add("c1", &dual_stack())?;
        let request = with_previous(&dual_stack(), &previous);
        site.call("DEL", "c1", &pod.machine, &request)?
            .silent()
            .with_context(|| previous.to_string())?;
        site.expect_clean()?;
    }
    Ok(())
}

fn parts_gone_already() -> Result<()> {
    for part in ["link", "attachments", "ipam", "all"] {
        let site = Site::new()?;
        let pod = site.add("c1", &dual_stack())?;
        match part {
            "link" => drop(
                site.node
                    .machine
                    .run(&["ip", "link", "del", &pod.host_link()])?,
            ),
            "all" => std::fs::remove_dir_all(site.state().join("attachments"))
                .and_then(|()| std::fs::remove_dir_all(site.state().join("ipam")))?,
            folder => std::fs::remove_dir_all(site.state().join(folder))?,
        }
        site.call("DEL", "c1", &pod.machine, &dual_stack())?
            .silent()
            .with_context(|| format!("without {part}"))?;
        site.expect_clean()?;
    }
    Ok(())
}

/// A StatefulSet's pod keeps its name: the two sandboxes differ by container ID alone.
fn old_sandbox_leaves_new() -> Result<()> {
    let site = Site::new()?;
    let named = |verb, id: &str, netns: &slash32_tests::machine::Machine| -> Result<Reply> {
        let path = netns.netns().to_string_lossy().into_owned();
        let environment = [
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", id),
            ("CNI_NETNS", &path),
            ("CNI_IFNAME", "eth0"),
            (
                "CNI_ARGS",
                "IgnoreUnknown=1;K8S_POD_NAMESPACE=db;K8S_POD_NAME=postgres-0",
            ),
        ];
        let stdin = dual_stack().to_string();
        Reply::read(
            site.node
                .call_plugin("slash32", &environment, stdin.as_bytes())?,
        )
    };
    let (old, new) = (site.netns()?, site.netns()?);
    named("ADD", "old", &old)?.success()?;
    let result = named("ADD", "new", &new)?.success()?;
    named("DEL", "old", &old)?.silent()?;
    let after = site.snapshot()?;
    named("DEL", "old", &new)?.silent()?;
    ensure!(site.snapshot()? == after);
    expect_answer(&site, &result)
}

fn expect_answer(site: &Site, result: &Value) -> Result<()> {
    for ip in result["ips"].as_array().context("ips")? {
        let address = ip["address"].as_str().context("address")?;
        let bare = address.split('/').next().unwrap_or_default();
        traffic::ping(&site.node.machine, bare)?;
    }
    Ok(())
}

/// The old sandbox's state was lost, its address went to another pod, and then its DEL comes, with the old result.
fn late_del_leaves_recycled_address() -> Result<()> {
    let site = Site::new()?;
    let asked = patched(
        &dual_stack(),
        json!({"runtimeConfig": {"ips": ["10.244.1.50", "fd00:244:1::50"]}}),
    );
    let old = site.add("old", &asked)?;
    std::fs::remove_dir_all(site.state().join("attachments"))?;
    std::fs::remove_dir_all(site.state().join("ipam"))?;
    site.node
        .machine
        .run(&["ip", "link", "del", &old.host_link()])?;
    let new = site.add("new", &asked)?;
    ensure!(new.addresses() == old.addresses());
    let before = site.snapshot()?;
    Reply::read(old.call("DEL")?)?.silent()?;
    ensure!(site.snapshot()? == before);
    expect_answer(&site, &new.result)?;
    Reply::read(new.call("CHECK")?)?.silent()
}

fn configuration_of_today() -> Result<()> {
    for change in [
        json!({"mtu": 9000}),
        json!({"cniVersion": "0.4.0"}),
        json!({"ipam": {"ranges": [[{"subnet": "10.99.0.0/24"}]]}}),
        json!({"ipam": {"ranges": null}}),
        json!({"ipam": {"ranges": "nonsense"}}),
        json!({"ipam": null}),
        json!({"ipam": {"type": "host-local", "ranges": [[{"subnet": "10.99.0.0/24"}]]}}),
        json!({"mtu": "nonsense"}),
    ] {
        let site = Site::new()?;
        let pod = site.add("c1", &dual_stack())?;
        let request = patched(&dual_stack(), change.clone());
        site.call("DEL", "c1", &pod.machine, &request)?
            .silent()
            .with_context(|| change.to_string())?;
        site.expect_clean()?;
    }
    Ok(())
}

fn torn_record() -> Result<()> {
    for content in ["", "{", "null", "\u{0}\u{0}"] {
        let site = Site::new()?;
        let pod = site.add("c1", &dual_stack())?;
        for (path, _) in slash32_tests::site::files_below(&site.state().join("attachments"))? {
            std::fs::write(path, content)?;
        }
        Reply::read(pod.call("DEL")?)?
            .silent()
            .with_context(|| format!("{content:?}"))?;
        site.expect_clean()?;
    }
    Ok(())
}

fn own_namespace() -> Result<()> {
    let site = Site::new()?;
    let node = &site.node.machine;
    node.run(&[
        "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "other",
    ])?;
    let before = site.snapshot()?;
    let path = node.netns().to_string_lossy().into_owned();
    // Nothing to do and nothing done: success or code 8, but eth0 of the host stays.
    let reply = site.call_at("DEL", "c1", &path, "eth0", &dual_stack())?;
    ensure!(
        reply.document.is_null() || reply.document["code"] == 8,
        "{}",
        reply.document
    );
    ensure!(site.snapshot()? == before);
    Ok(())
}

fn other_network_stays() -> Result<()> {
    let site = Site::new()?;
    let second = patched(
        &dual_stack(),
        json!({"name": "second", "ipam": {"ranges": [[{"subnet": "10.99.0.0/24"}]]}}),
    );
    let pod = site.add("c1", &dual_stack())?;
    let path = pod.machine.netns().to_string_lossy().into_owned();
    let result = site
        .call_at("ADD", "c1", &path, "net1", &second)?
        .success()?;
    site.call_at("DEL", "c1", &path, "eth0", &second)?
        .silent()?;
    site.call_at("DEL", "c1", &path, "net1", &dual_stack())?
        .silent()?;
    expect_answer(&site, &result)?;
    expect_answer(&site, &pod.result)
}

/// /run is a tmpfs and namespaces are gone; the runtime's own cache on disk still holds the result.
fn after_a_reboot() -> Result<()> {
    let site = Site::new()?;
    let pod = site.add("c1", &dual_stack())?;
    let request = with_previous(&dual_stack(), &pod.result);
    site.node
        .machine
        .run(&["ip", "link", "del", &pod.host_link()])?;
    pod.machine.remove()?;
    for folder in ["attachments", "ipam"] {
        std::fs::remove_dir_all(site.state().join(folder))?;
    }
    let before = site.snapshot()?;
    site.call_at("DEL", "c1", "", "eth0", &request)?.silent()?;
    ensure!(site.snapshot()? == before);
    site.expect_clean()
}
