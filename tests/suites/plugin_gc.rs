//! GC, STATUS, VERSION and the bare call, on a real kernel (GC1-GC6, S1-S4, V1-V3, G2).

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use slash32_tests::pod::Pod;
use slash32_tests::site::{Reply, Site, dual_stack, only, patched};
use slash32_tests::suite;
use std::process::ExitCode;
use std::time::Instant;

const VALID: &str = "cni.dev/valid-attachments";

fn main() -> ExitCode {
    suite::main(&[
        (
            "gc3_exactly_what_is_not_listed_is_freed",
            frees_what_is_not_listed,
        ),
        (
            "gc2_null_and_an_empty_list_free_everything",
            null_frees_everything,
        ),
        (
            "gc2_without_a_list_nothing_is_touched",
            without_list_nothing,
        ),
        (
            "gc1_the_older_key_serves_where_the_newer_is_absent",
            older_key,
        ),
        (
            "gc2_a_malformed_list_is_code_7_and_touches_nothing",
            malformed_list,
        ),
        ("gc3_other_networks_stay", other_networks_stay),
        (
            "gc3_listed_attachments_stay_without_namespace_link_or_record",
            listed_stay,
        ),
        ("gc3_claims_without_record_are_freed", orphan_claims),
        ("gc5_gc_and_status_are_younger_than_1_1_0", younger_verbs),
        (
            "s1_status_is_50_before_the_agents_first_pass_and_silent_after",
            status_follows_agent,
        ),
        (
            "s2_status_is_50_where_nothing_can_be_written",
            status_unwritable,
        ),
        ("s2_status_does_not_tell_of_a_full_pool", status_full_pool),
        (
            "i14_status_is_50_without_ranges_and_add_is_11",
            status_without_ranges,
        ),
        ("s3_s4_status_is_fast_and_changes_nothing", status_is_fast),
        (
            "v1_version_echoes_the_version_and_takes_any_stdin",
            version_takes_any_stdin,
        ),
        (
            "v3_version_works_for_nobody_without_any_privilege",
            version_as_nobody,
        ),
        (
            "g2_without_cni_command_the_plugin_tells_about_itself_on_stderr",
            about,
        ),
    ])
}

fn gc(site: &Site, list: &Value) -> Result<Reply> {
    let mut request = dual_stack();
    request[VALID] = list.clone();
    site.call_network("GC", &request)
}

fn listed(ids: &[&str]) -> Value {
    ids.iter()
        .map(|id| json!({"containerID": id, "ifname": "eth0"}))
        .collect()
}

/// GC leaves alone what is as young as itself (GC6).
fn settle() {
    std::thread::sleep(std::time::Duration::from_millis(5));
}

fn expect_gone(site: &Site, pod: &Pod) -> Result<()> {
    let snapshot = site.snapshot()?;
    for trace in [pod.host_link(), pod.v4(), pod.v6()] {
        ensure!(
            !snapshot.contains(&trace),
            "{trace} of {} is left:\n{snapshot}",
            pod.name
        );
    }
    Ok(())
}

fn frees_what_is_not_listed() -> Result<()> {
    let site = Site::new()?;
    let pods: Vec<Pod> = (0..6)
        .map(|n| site.add(&format!("c{n}"), &dual_stack()))
        .collect::<Result<_>>()?;
    settle();
    gc(&site, &listed(&["c1", "c4", "never-seen"]))?.silent()?;
    for pod in &pods {
        if ["c1", "c4"].contains(&pod.name.as_str()) {
            Reply::read(pod.call("CHECK")?)?.silent()?;
        } else {
            expect_gone(&site, pod)?;
        }
    }
    // The interface is part of the key.
    gc(
        &site,
        &json!([{"containerID": "c1", "ifname": "eth1"}, {"containerID": "c4", "ifname": "eth0"}]),
    )?
    .silent()?;
    expect_gone(&site, &pods[1])?;
    Reply::read(pods[4].call("CHECK")?)?.silent()?;
    Reply::read(pods[0].call("DEL")?)?.silent()
}

fn null_frees_everything() -> Result<()> {
    for list in [json!(null), json!([])] {
        let site = Site::new()?;
        site.add("c1", &dual_stack())?;
        site.add("c2", &dual_stack())?;
        settle();
        gc(&site, &list)?.silent()?;
        site.expect_clean()?;
        gc(&site, &list)?.silent()?;
    }
    Ok(())
}

fn without_list_nothing() -> Result<()> {
    let site = Site::new()?;
    site.add("c1", &dual_stack())?;
    settle();
    let before = site.snapshot()?;
    let reply = site.call_network("GC", &dual_stack())?;
    ensure!(!reply.outcome.stderr.is_empty(), "no word on stderr");
    reply.silent()?;
    ensure!(site.snapshot()? == before);
    Ok(())
}

fn older_key() -> Result<()> {
    let site = Site::new()?;
    let pods = [
        site.add("c1", &dual_stack())?,
        site.add("c2", &dual_stack())?,
    ];
    settle();
    let mut request = dual_stack();
    request["cni.dev/attachments"] = listed(&["c1"]);
    site.call_network("GC", &request)?.silent()?;
    Reply::read(pods[0].call("CHECK")?)?.silent()?;
    expect_gone(&site, &pods[1])?;
    // Where both are there the newer one counts.
    request[VALID] = listed(&["c1"]);
    request["cni.dev/attachments"] = json!([]);
    site.call_network("GC", &request)?.silent()?;
    Reply::read(pods[0].call("CHECK")?)?.silent()
}

fn malformed_list() -> Result<()> {
    let site = Site::new()?;
    site.add("c1", &dual_stack())?;
    settle();
    let before = site.snapshot()?;
    for list in [
        json!("c1"),
        json!({}),
        json!(5),
        json!(["c1"]),
        json!([{"containerID": 5, "ifname": "eth0"}]),
        json!([{"ifname": "eth0"}]),
        json!([{"containerID": "c1"}]),
        json!([null]),
    ] {
        let text = gc(&site, &list)?
            .refused(7)
            .with_context(|| list.to_string())?;
        ensure!(text.contains(VALID), "{list}: {text}");
        ensure!(site.snapshot()? == before, "{list}");
    }
    Ok(())
}

fn other_networks_stay() -> Result<()> {
    let site = Site::new()?;
    let second = patched(
        &dual_stack(),
        json!({"name": "second", "ipam": {"ranges": [[{"subnet": "10.99.0.0/24"}]]}}),
    );
    let (ours, others) = (site.add("c1", &dual_stack())?, site.add("c2", &second)?);
    settle();
    gc(&site, &json!([]))?.silent()?;
    expect_gone(&site, &ours)?;
    Reply::read(others.call("CHECK")?)?.silent()
}

fn listed_stay() -> Result<()> {
    let site = Site::new()?;
    let pods = [
        site.add("c1", &dual_stack())?,
        site.add("c2", &dual_stack())?,
        site.add("c3", &dual_stack())?,
    ];
    pods[0].machine.clone().remove()?;
    for (path, content) in slash32_tests::site::files_below(&site.state().join("attachments"))? {
        if content.contains("\"c2\"") {
            std::fs::remove_file(path)?;
        }
    }
    settle();
    gc(&site, &listed(&["c1", "c2"]))?.silent()?;
    expect_gone(&site, &pods[2])?;
    let snapshot = site.snapshot()?;
    for kept in [pods[0].v4(), pods[1].v4(), pods[1].host_link()] {
        ensure!(snapshot.contains(&kept), "{kept} is gone");
    }
    Ok(())
}

/// What an ADD leaves that was killed between claim and record.
fn orphan_claims() -> Result<()> {
    let site = Site::new()?;
    let pod = site.add("c1", &dual_stack())?;
    site.node
        .machine
        .run(&["ip", "link", "del", &pod.host_link()])?;
    std::fs::remove_dir_all(site.state().join("attachments"))?;
    settle();
    gc(&site, &json!([]))?.silent()?;
    site.expect_clean()
}

fn younger_verbs() -> Result<()> {
    let site = Site::new()?;
    for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"] {
        let mut request = patched(&dual_stack(), json!({"cniVersion": version}));
        request[VALID] = json!([]);
        for verb in ["GC", "STATUS"] {
            site.call_network(verb, &request)?
                .refused(1)
                .context(version)?;
        }
    }
    Ok(())
}

fn status_follows_agent() -> Result<()> {
    let site = Site::new()?;
    let text = site.call_network("STATUS", &dual_stack())?.refused(50)?;
    ensure!(text.contains("slash32-agent"), "{text}");
    // S4: ADD and DEL do not wait for it.
    site.add("c1", &dual_stack())?.del()?;
    let pass = site.run_agent_once()?;
    ensure!(pass.status.success(), "{}{}", pass.stdout, pass.stderr);
    site.call_network("STATUS", &dual_stack())?.silent()?;
    // A stamp of an earlier boot says nothing.
    let stamp = site.state().join("ready");
    let text = std::fs::read_to_string(&stamp)?;
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    ensure!(text.contains(boot.trim()), "{text}");
    std::fs::write(
        &stamp,
        text.replace(boot.trim(), "00000000-0000-0000-0000-000000000000"),
    )?;
    site.call_network("STATUS", &dual_stack())?
        .refused(50)
        .map(drop)
}

/// A full tmpfs and a read-only one in the place of the state folder.
fn status_unwritable() -> Result<()> {
    let site = Site::new()?;
    site.run_agent_once()?;
    let stamp = std::fs::read(site.state().join("ready"))?;
    for options in ["size=64k,mode=700", "size=64k,mode=700,ro"] {
        let folder = "/run/full";
        std::fs::create_dir_all(folder)?;
        slash32_tests::machine::run_here(&[
            "mount",
            "-t",
            "tmpfs",
            "-o",
            options.trim_end_matches(",ro"),
            "tmpfs",
            folder,
        ])?;
        std::fs::write(format!("{folder}/ready"), &stamp)?;
        if options.ends_with(",ro") {
            slash32_tests::machine::run_here(&["mount", "-o", "remount,ro", folder])?;
        } else {
            // Until the last page is gone.
            let _ = std::fs::write(format!("{folder}/filler"), vec![0; 1 << 20]);
        }
        let request = patched(&dual_stack(), json!({"stateDir": folder}));
        let text = site
            .call_network("STATUS", &request)?
            .refused(50)
            .context(options)?;
        ensure!(text.contains(folder), "{text}");
        slash32_tests::machine::run_here(&["umount", folder])?;
    }
    Ok(())
}

fn status_full_pool() -> Result<()> {
    let site = Site::new()?;
    site.run_agent_once()?;
    let request = only("10.244.1.0/30");
    site.add("c1", &request)?;
    site.add("c2", &request)?;
    site.call("ADD", "c3", &site.netns()?, &request)?
        .refused(11)?;
    site.call_network("STATUS", &request)?.silent()
}

fn status_without_ranges() -> Result<()> {
    let site = Site::new()?;
    site.run_agent_once()?;
    for change in [
        json!({"ipam": {"ranges": null}}),
        json!({"ipam": {"ranges": []}}),
    ] {
        let request = patched(&dual_stack(), change);
        site.call_network("STATUS", &request)?.refused(50)?;
        site.call("ADD", "c1", &site.netns()?, &request)?
            .refused(11)?;
        site.expect_clean()?;
    }
    Ok(())
}

fn status_is_fast() -> Result<()> {
    let site = Site::new()?;
    site.run_agent_once()?;
    site.add("c1", &dual_stack())?;
    let before = site.snapshot()?;
    for _ in 0..5 {
        let started = Instant::now();
        site.call_network("STATUS", &dual_stack())?.silent()?;
        ensure!(
            started.elapsed().as_millis() < 1000,
            "{:?}",
            started.elapsed()
        );
    }
    ensure!(site.snapshot()? == before);
    Ok(())
}

fn version_takes_any_stdin() -> Result<()> {
    let site = Site::new()?;
    for (stdin, echoed) in [
        ("", "1.1.0"),
        ("garbage", "1.1.0"),
        ("[]", "1.1.0"),
        ("{}", "1.1.0"),
        ("{\"cniVersion\":5}", "1.1.0"),
        ("{\"cniVersion\":\"0.4.0\"}", "0.4.0"),
        ("{\"cniVersion\":\"0.2.0\"}", "0.2.0"),
    ] {
        let environment = [
            ("CNI_COMMAND", "VERSION"),
            ("CNI_NETNS", "dummy"),
            ("CNI_IFNAME", "dummy"),
            ("CNI_PATH", "dummy"),
        ];
        let document = Reply::read(site.node.call_plugin(
            "slash32",
            &environment,
            stdin.as_bytes(),
        )?)?
        .success()?;
        ensure!(document["cniVersion"] == echoed, "{stdin:?}: {document}");
        let versions = json!([
            "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"
        ]);
        ensure!(document["supportedVersions"] == versions, "{document}");
    }
    Ok(())
}

/// No capability, no user, and a working directory that is gone.
fn version_as_nobody() -> Result<()> {
    let site = Site::new()?;
    let program = slash32_tests::programs::binaries()?.join("slash32");
    std::fs::copy(&program, "/run/slash32-for-nobody")?;
    // The switch to nobody needs root of the machine; an ordinary user's namespace has one user only.
    let is_mapped = std::fs::read_to_string("/proc/self/uid_map")?
        .split_whitespace()
        .nth(2)
        != Some("1");
    let identity: &[&str] = if is_mapped {
        &["--reuid=65534", "--regid=65534", "--clear-groups"]
    } else {
        &[]
    };
    let arguments = [
        &["env", "CNI_COMMAND=VERSION", "setpriv"],
        identity,
        &[
            "--bounding-set=-all",
            "--inh-caps=-all",
            "--no-new-privs",
            "/run/slash32-for-nobody",
        ],
    ]
    .concat();
    let document = Reply::read(site.node.machine.try_run(&arguments)?)?.success()?;
    ensure!(document["supportedVersions"].is_array(), "{document}");
    Ok(())
}

fn about() -> Result<()> {
    let site = Site::new()?;
    for environment in [&[][..], &[("CNI_COMMAND", "")]] {
        let outcome = site.node.call_plugin("slash32", environment, b"")?;
        ensure!(
            outcome.status.success() && outcome.stdout.is_empty(),
            "{outcome:?}"
        );
        ensure!(
            outcome.stderr.contains("slash32") && outcome.stderr.contains("1.1.0"),
            "{}",
            outcome.stderr
        );
    }
    Ok(())
}
