//! CHECK on a real kernel: silent at once after ADD, and each damage found by itself (C1-C7).

use anyhow::{Context, Result, ensure};
use serde_json::json;
use slash32_tests::pod::Pod;
use slash32_tests::site::{
    Reply, Site, dual_stack, files_below, kernel_of, patched, with_previous,
};
use slash32_tests::suite;
use std::process::ExitCode;

fn main() -> ExitCode {
    suite::main(&[
        (
            "c5_check_is_silent_at_once_after_add_in_every_version_that_has_it",
            silent_after_add,
        ),
        ("c4_check_finds_each_damage_by_itself", finds_each_damage),
        (
            "c4_check_finds_a_lost_record_and_a_lost_claim",
            finds_lost_state,
        ),
        (
            "c1_check_without_a_previous_result_is_code_7",
            without_previous_result,
        ),
        (
            "c2_check_holds_the_kernel_to_the_previous_result",
            holds_kernel_to_result,
        ),
        (
            "c3_what_later_plugins_added_is_no_damage",
            additions_are_no_damage,
        ),
        ("c7_check_changes_nothing", changes_nothing),
    ])
}

fn silent_after_add() -> Result<()> {
    let site = Site::new()?;
    for version in ["0.4.0", "1.0.0", "1.1.0"] {
        let request = patched(&dual_stack(), json!({"cniVersion": version}));
        let pod = site.add(&format!("c-{version}"), &request)?;
        Reply::read(pod.call("CHECK")?)?.silent().context(version)?;
    }
    // G12: the verb is younger than these.
    for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1"] {
        let request = patched(&dual_stack(), json!({"cniVersion": version}));
        let pod = site.add(&format!("c-{version}"), &request)?;
        Reply::read(pod.call("CHECK")?)?.refused(1)?;
    }
    Ok(())
}

/// (what is done, on the node or in the pod, with LINK, V4 and V6 put in; a word that the error must hold)
const DAMAGES: [(&str, bool, &str, &str); 19] = [
    ("pod link down", false, "ip link set eth0 down", "eth0"),
    (
        "pod link renamed",
        false,
        "ip link set eth0 down && ip link set eth0 name eth9 && ip link set eth9 up",
        "eth0",
    ),
    ("host link gone", true, "ip link del LINK", "eth0"),
    ("host link down", true, "ip link set LINK down", "LINK"),
    (
        "pod address gone",
        false,
        "ip address del V4/32 dev eth0",
        "V4",
    ),
    (
        "pod IPv6 address gone",
        false,
        "ip address del V6/128 dev eth0",
        "V6",
    ),
    (
        "pod default route gone",
        false,
        "ip route del default",
        "0.0.0.0/0",
    ),
    (
        "pod IPv6 default route gone",
        false,
        "ip -6 route del default",
        "::/0",
    ),
    (
        "pod default route elsewhere",
        false,
        "ip link add x0 type veth peer name x1 && ip addr add 172.16.0.1/24 dev x0 && ip link set x0 up && ip link set x1 up && ip route replace default via 172.16.0.2 dev x0",
        "0.0.0.0/0",
    ),
    ("host route gone", true, "ip route del V4/32", "V4"),
    ("host IPv6 route gone", true, "ip -6 route del V6/128", "V6"),
    (
        "host route elsewhere",
        true,
        "ip route replace V4/32 dev lo proto 32",
        "V4",
    ),
    (
        "host route of a foreign protocol",
        true,
        "ip route replace V4/32 dev LINK proto static",
        "V4",
    ),
    (
        "host neighbour gone",
        true,
        "ip neigh del V4 dev LINK",
        "V4",
    ),
    (
        "host neighbour with another MAC",
        true,
        "ip neigh replace V6 lladdr 02:00:00:00:00:99 nud permanent dev LINK",
        "V6",
    ),
    (
        "pod neighbour gone",
        false,
        "ip neigh del 169.254.1.1 dev eth0",
        "169.254.1.1",
    ),
    (
        "pod MAC changed",
        false,
        "ip link set eth0 address 02:00:00:00:00:99",
        "02:00:00:00:00:99",
    ),
    (
        "pod MTU changed",
        false,
        "ip link set eth0 mtu 1400",
        "1400",
    ),
    (
        "host MAC changed",
        true,
        "ip link set LINK address 02:00:00:00:00:99",
        "LINK",
    ),
];

fn finds_each_damage() -> Result<()> {
    let mut overlooked = Vec::new();
    for (what, on_node, script, word) in DAMAGES {
        let site = Site::new()?;
        let pod = site.add("c1", &dual_stack())?;
        let put_in = |text: &str| {
            text.replace("LINK", &pod.host_link())
                .replace("V4", &pod.v4())
                .replace("V6", &pod.v6())
        };
        let machine = if on_node {
            &site.node.machine
        } else {
            &pod.machine
        };
        machine.run(&["sh", "-c", &put_in(script)])?;
        let reply = Reply::read(pod.call("CHECK")?)?;
        if reply.document.is_null() {
            overlooked.push(what);
            continue;
        }
        let text = reply.failed()?;
        ensure!(text.contains(&put_in(word)), "{what}: {text}");
        Reply::read(pod.call("DEL")?)?.silent().context(what)?;
        site.expect_clean().context(what)?;
    }
    ensure!(
        overlooked.is_empty(),
        "CHECK was silent about: {overlooked:?}"
    );
    Ok(())
}

fn finds_lost_state() -> Result<()> {
    for folder in ["attachments", "ipam/slash32/addresses", "ipam"] {
        let site = Site::new()?;
        let pod = site.add("c1", &dual_stack())?;
        std::fs::remove_dir_all(site.state().join(folder))?;
        let text = Reply::read(pod.call("CHECK")?)?.failed().context(folder)?;
        ensure!(
            text.contains("record") || text.contains(&pod.v4()),
            "{folder}: {text}"
        );
    }
    let site = Site::new()?;
    let pod = site.add("c1", &dual_stack())?;
    for (path, _) in files_below(&site.state().join("ipam/slash32/addresses"))? {
        if path.ends_with(&pod.v6()) {
            std::fs::remove_file(path)?;
        }
    }
    let text = Reply::read(pod.call("CHECK")?)?.failed()?;
    ensure!(text.contains(&pod.v6()), "{text}");
    Ok(())
}

fn without_previous_result() -> Result<()> {
    let site = Site::new()?;
    let pod = site.add("c1", &dual_stack())?;
    for previous in [json!(null), json!("absent")] {
        let request = match previous.as_str() {
            Some(_) => dual_stack(),
            None => with_previous(&dual_stack(), &previous),
        };
        let text = site
            .call("CHECK", "c1", &pod.machine, &request)?
            .refused(7)?;
        ensure!(text.contains("prevResult"), "{text}");
    }
    for (previous, code) in [
        (json!([]), 6),
        (json!({"cniVersion": "1.1.0", "ips": [{"address": "x"}]}), 6),
    ] {
        let request = with_previous(&dual_stack(), &previous);
        let reply = site.call("CHECK", "c1", &pod.machine, &request)?;
        ensure!(
            reply.document["code"] == code || reply.document["code"] == 7,
            "{}",
            reply.document
        );
    }
    Ok(())
}

fn holds_kernel_to_result() -> Result<()> {
    let site = Site::new()?;
    let pod = site.add("c1", &dual_stack())?;
    let changed = |pointer: &str, value: serde_json::Value| -> Result<serde_json::Value> {
        let mut result = pod.result.clone();
        *result.pointer_mut(pointer).context("pointer")? = value;
        Ok(with_previous(&dual_stack(), &result))
    };
    for (pointer, value, word) in [
        ("/ips/0/address", json!("10.244.1.200/32"), "10.244.1.200"),
        ("/ips/0/interface", json!(7), "7"),
        (
            "/interfaces/1/mac",
            json!("02:00:00:00:00:99"),
            "02:00:00:00:00:99",
        ),
        ("/interfaces/1/mtu", json!(1400), "1400"),
        ("/interfaces/1/name", json!("eth7"), "eth0"),
        ("/routes/0/dst", json!("10.0.0.0/8"), "10.0.0.0/8"),
        (
            "/interfaces/1/sandbox",
            json!("/run/netns/another"),
            "another",
        ),
    ] {
        let text = site
            .call("CHECK", "c1", &pod.machine, &changed(pointer, value)?)?
            .failed()
            .context(pointer)?;
        ensure!(text.contains(word), "{pointer}: {text}");
    }
    Ok(())
}

fn additions_are_no_damage() -> Result<()> {
    let site = Site::new()?;
    let pod = site.add("c1", &dual_stack())?;
    pod.machine
        .run(&["ip", "address", "add", "172.16.0.1/24", "dev", "eth0"])?;
    pod.machine.run(&[
        "ip",
        "route",
        "add",
        "172.20.0.0/16",
        "via",
        "169.254.1.1",
        "dev",
        "eth0",
    ])?;
    // A later plugin (tuning) changed the MAC address and says so in its result.
    let request = patched(
        &with_previous(&dual_stack(), &pod.result),
        json!({"prevResult": {"dns": {"nameservers": ["10.96.0.10"]}}}),
    );
    site.call("CHECK", "c1", &pod.machine, &request)?.silent()
}

fn changes_nothing() -> Result<()> {
    let site = Site::new()?;
    let pod = site.add("c1", &dual_stack())?;
    site.node
        .machine
        .run(&["ip", "route", "del", &format!("{}/32", pod.v4())])?;
    let before = (site.snapshot()?, kernel_of(&pod.machine)?);
    Reply::read(pod.call("CHECK")?)?.failed()?;
    ensure!((site.snapshot()?, kernel_of(&pod.machine)?) == before);
    let missing: &Pod = &pod;
    site.call(
        "CHECK",
        "never",
        &missing.machine,
        &with_previous(&dual_stack(), &missing.result),
    )?
    .failed()?;
    ensure!((site.snapshot()?, kernel_of(&pod.machine)?) == before);
    Ok(())
}
