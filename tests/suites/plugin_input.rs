//! Wrong input: each with its code, a message that names key and value, and nothing left (G1-G12, X3-X5).

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use slash32_tests::machine::Outcome;
use slash32_tests::site::{Reply, Site, dual_stack, patched, with_previous};
use slash32_tests::suite;
use std::process::ExitCode;

fn main() -> ExitCode {
    suite::main(&[
        (
            "g1_g3_g5_g7_a_wrong_environment_is_code_4_and_names_the_variable",
            wrong_environment,
        ),
        (
            "g3_all_missing_variables_are_named_at_once",
            all_missing_named,
        ),
        (
            "a11_a_wrong_cni_args_is_told_and_what_kubernetes_sends_is_taken",
            cni_args,
        ),
        ("g6_g8_g11_wrong_stdin_has_its_code", wrong_stdin),
        (
            "g8_x3_x4_x5_wrong_values_are_named_with_their_key",
            wrong_values,
        ),
        (
            "g8_g9_unknown_and_foreign_keys_are_ignored",
            unknown_keys_are_ignored,
        ),
        ("x2_x3_nothing_asked_for_is_nothing_done", nothing_asked_for),
        ("g8_wrong_namespaces_are_code_8", wrong_namespaces),
        (
            "without_cap_net_admin_the_error_says_so_and_nothing_is_left",
            without_capability,
        ),
        ("stdin_that_never_ends_is_refused", endless_stdin),
    ])
}

type Environment<'a> = Vec<(&'a str, &'a str)>;

fn environment<'a>(verb: &'a str, netns: &'a str) -> Environment<'a> {
    vec![
        ("CNI_COMMAND", verb),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", netns),
        ("CNI_IFNAME", "eth0"),
    ]
}

fn call(site: &Site, environment: &Environment<'_>, stdin: &[u8]) -> Result<Reply> {
    Reply::read(site.node.call_plugin("slash32", environment, stdin)?)
}

/// Code, words, and nothing changed.
fn expect_refused(site: &Site, reply: Reply, code: u64, words: &[&str]) -> Result<()> {
    let text = reply.refused(code)?;
    for word in words {
        ensure!(text.contains(word), "{word:?} is not in {text:?}");
    }
    site.expect_clean()
}

fn wrong_environment() -> Result<()> {
    let site = Site::new()?;
    let netns = site.netns()?.netns().to_string_lossy().into_owned();
    let previous =
        json!({"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "sandbox": netns}]});
    let long = "x".repeat(16);
    for (key, value) in [
        ("CNI_COMMAND", "add"),
        ("CNI_COMMAND", "ADD "),
        ("CNI_COMMAND", "UPDATE"),
        ("CNI_CONTAINERID", "-starts-with-a-dash"),
        ("CNI_CONTAINERID", "a/b"),
        ("CNI_CONTAINERID", "../../etc"),
        ("CNI_CONTAINERID", "a\n"),
        ("CNI_CONTAINERID", "a b"),
        ("CNI_CONTAINERID", "ä"),
        ("CNI_IFNAME", "."),
        ("CNI_IFNAME", ".."),
        ("CNI_IFNAME", "a/b"),
        ("CNI_IFNAME", "a:b"),
        ("CNI_IFNAME", "a b"),
        ("CNI_IFNAME", "a\u{2003}b"),
        ("CNI_IFNAME", &long),
    ] {
        for verb in ["ADD", "DEL", "CHECK"] {
            let mut variables = environment(verb, &netns);
            variables.retain(|(name, _)| *name != key);
            variables.push((key, value));
            let stdin = with_previous(&dual_stack(), &previous).to_string();
            let reply = call(&site, &variables, stdin.as_bytes())?;
            expect_refused(&site, reply, 4, &[key])
                .with_context(|| format!("{verb} with {key}={value:?}"))?;
        }
    }
    Ok(())
}

fn all_missing_named() -> Result<()> {
    let site = Site::new()?;
    for (verb, missing) in [
        ("ADD", &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"][..]),
        ("CHECK", &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"]),
        ("DEL", &["CNI_CONTAINERID", "CNI_IFNAME"]),
    ] {
        for empty in [false, true] {
            let mut variables = vec![("CNI_COMMAND", verb)];
            if empty {
                variables.extend(missing.iter().map(|name| (*name, "")));
            }
            let stdin = dual_stack().to_string();
            let reply = call(&site, &variables, stdin.as_bytes())?;
            expect_refused(&site, reply, 4, missing).context(verb)?;
        }
    }
    Ok(())
}

fn cni_args() -> Result<()> {
    let site = Site::new()?;
    for (args, word) in [
        ("K8S_POD_NAME", "K8S_POD_NAME"),
        ("A=B=C", "A=B=C"),
        ("UNKNOWN=1", "UNKNOWN"),
        ("IgnoreUnknown=0;UNKNOWN=1", "UNKNOWN"),
        ("IgnoreUnknown=1;IP=nonsense", "nonsense"),
        ("IgnoreUnknown=1;MAC=01:00:00:00:00:01", "01:00:00:00:00:01"),
    ] {
        let netns = site.netns()?.netns().to_string_lossy().into_owned();
        let mut variables = environment("ADD", &netns);
        variables.push(("CNI_ARGS", args));
        let text = call(&site, &variables, dual_stack().to_string().as_bytes())?
            .failed()
            .with_context(|| args.to_owned())?;
        ensure!(text.contains(word), "{args}: {text}");
        site.expect_clean()?;
        // D1: DEL has nothing to ask of them.
        variables[0] = ("CNI_COMMAND", "DEL");
        call(&site, &variables, dual_stack().to_string().as_bytes())?
            .silent()
            .with_context(|| format!("DEL with {args}"))?;
    }
    for args in [
        "",
        "IgnoreUnknown=1",
        "K8S_POD_UID=4a0b;K8S_POD_NAME=web;IgnoreUnknown=true;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_NAMESPACE=default",
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=../../etc/passwd;ANYTHING=ä\u{7}",
    ] {
        let pod = site.netns()?;
        let netns = pod.netns().to_string_lossy().into_owned();
        let mut variables = environment("ADD", &netns);
        variables.push(("CNI_ARGS", args));
        call(&site, &variables, dual_stack().to_string().as_bytes())?
            .success()
            .with_context(|| args.to_owned())?;
        site.call("DEL", "c1", &pod, &dual_stack())?.silent()?;
        site.expect_clean()?;
    }
    // The longest name that Kubernetes allows, in the longest namespace: the link's alias has room for 254 bytes.
    let args = format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={}",
        "n".repeat(63),
        "p".repeat(253)
    );
    let pod = site.netns()?;
    let netns = pod.netns().to_string_lossy().into_owned();
    let mut variables = environment("ADD", &netns);
    variables.push(("CNI_ARGS", &args));
    call(&site, &variables, dual_stack().to_string().as_bytes())?
        .success()
        .map(drop)
}

fn wrong_stdin() -> Result<()> {
    let site = Site::new()?;
    let netns = site.netns()?.netns().to_string_lossy().into_owned();
    let whole = dual_stack().to_string();
    let deep = "[".repeat(100_000);
    for (stdin, code, word) in [
        ("", 6, ""),
        ("not json", 6, ""),
        ("[]", 6, ""),
        ("5", 6, ""),
        ("\"text\"", 6, ""),
        (&whole[..whole.len() - 1], 6, ""),
        (&format!("{whole}x"), 6, ""),
        (&format!("{whole}{whole}"), 6, ""),
        (deep.as_str(), 6, ""),
        ("\u{feff}{}", 6, ""),
        ("null", 7, "name"),
        ("{}", 7, "name"),
        ("{\"cniVersion\":5}", 6, "cniVersion"),
        ("{\"cniVersion\":\"9.9.9\",\"name\":\"n\"}", 1, "9.9.9"),
        ("{\"cniVersion\":\"1.0\",\"name\":\"n\"}", 1, "1.0"),
        ("{\"cniVersion\":\">=1.0.0\",\"name\":\"n\"}", 1, ">=1.0.0"),
    ] {
        for verb in ["ADD", "DEL"] {
            let reply = call(&site, &environment(verb, &netns), stdin.as_bytes())?;
            let told = || format!("{verb} with {:?}", &stdin[..stdin.len().min(60)]);
            expect_refused(&site, reply, code, &[word]).with_context(told)?;
        }
    }
    let reply = call(&site, &environment("ADD", &netns), b"\xff\xfe{}")?;
    expect_refused(&site, reply, 6, &[])
}

/// (merge patch on the configuration, code, words of the error)
fn wrong_value_table() -> Vec<(Value, u64, Vec<&'static str>)> {
    let ports = |mapping: Value| json!({"runtimeConfig": {"portMappings": [mapping]}});
    let runtime = |key: &str, value: Value| json!({"runtimeConfig": {key: value}});
    vec![
        (json!({"name": null}), 7, vec!["name"]),
        (json!({"name": ""}), 7, vec!["name"]),
        (json!({"name": 5}), 6, vec!["name"]),
        (json!({"name": "../../etc"}), 7, vec!["name", "../../etc"]),
        (json!({"name": "-x"}), 7, vec!["name", "-x"]),
        (json!({"mtu": "1400"}), 7, vec!["mtu", "1400"]),
        (json!({"mtu": 67}), 7, vec!["mtu", "67"]),
        (json!({"mtu": 65536}), 7, vec!["mtu", "65536"]),
        (json!({"mtu": -1}), 7, vec!["mtu", "-1"]),
        (json!({"mtu": 1279}), 7, vec!["mtu", "1279", "1280"]),
        (
            json!({"stateDir": "relative"}),
            7,
            vec!["stateDir", "relative"],
        ),
        (json!({"stateDir": 5}), 7, vec!["stateDir", "5"]),
        (json!({"ipam": {"type": null}}), 7, vec!["ipam"]),
        (
            json!({"ipam": {"type": "../../bin/sh"}}),
            7,
            vec!["ipam", "../../bin/sh"],
        ),
        (json!({"ipam": {"type": "a/b"}}), 7, vec!["ipam", "a/b"]),
        (json!({"ipam": {"ranges": "x"}}), 7, vec!["ranges", "x"]),
        (
            json!({"ipam": {"ranges": [[{"subnet": "10.0.0.1"}]]}}),
            7,
            vec!["subnet", "10.0.0.1"],
        ),
        (
            json!({"ipam": {"ranges": [[{"subnet": "10.0.0.0/33"}]]}}),
            7,
            vec!["subnet", "10.0.0.0/33"],
        ),
        (
            json!({"ipam": {"ranges": [[{"subnet": "10.0.0.0/24", "rangeStart": "10.1.0.1"}]]}}),
            7,
            vec!["rangeStart", "10.1.0.1"],
        ),
        (
            json!({"ipam": {"ranges": [[{"subnet": "10.0.0.0/24"}, {"subnet": "fd00::/64"}]]}}),
            7,
            vec!["ranges"],
        ),
        (
            json!({"ipam": {"ranges": [[{"subnet": "10.0.0.0/24"}], [{"subnet": "10.0.0.0/25"}]]}}),
            7,
            vec!["overlaps"],
        ),
        (
            json!({"ipam": {"routes": [{"dst": "x"}]}}),
            7,
            vec!["routes", "x"],
        ),
        (
            json!({"ipam": {"dataDir": "relative"}}),
            7,
            vec!["dataDir", "relative"],
        ),
        (json!({"runtimeConfig": 5}), 7, vec!["runtimeConfig"]),
        (
            runtime("mac", json!("nonsense")),
            7,
            vec!["mac", "nonsense"],
        ),
        (
            runtime("mac", json!("01:00:00:00:00:01")),
            7,
            vec!["mac", "01:00:00:00:00:01"],
        ),
        (runtime("mac", json!(5)), 7, vec!["mac", "5"]),
        (
            runtime("ips", json!(["nonsense"])),
            7,
            vec!["ips", "nonsense"],
        ),
        (runtime("ips", json!("10.0.0.1")), 7, vec!["ips"]),
        (
            runtime("ipRanges", json!([[{"subnet": "x"}]])),
            7,
            vec!["subnet", "x"],
        ),
        (
            ports(json!({"hostPort": 0, "containerPort": 80, "protocol": "tcp"})),
            7,
            vec!["hostPort", "0"],
        ),
        (
            ports(json!({"hostPort": 65536, "containerPort": 80, "protocol": "tcp"})),
            7,
            vec!["hostPort", "65536"],
        ),
        (
            ports(json!({"hostPort": 80, "containerPort": 0, "protocol": "tcp"})),
            7,
            vec!["containerPort", "0"],
        ),
        (
            ports(json!({"hostPort": 80, "containerPort": 80, "protocol": "icmp"})),
            7,
            vec!["protocol", "icmp"],
        ),
        (
            ports(json!({"hostPort": 80, "containerPort": 80, "protocol": "tcp", "hostIP": "x"})),
            7,
            vec!["hostIP", "x"],
        ),
        (ports(json!("80:80")), 7, vec!["portMappings"]),
        (
            runtime("portMappings", json!("80")),
            7,
            vec!["portMappings"],
        ),
        (
            runtime("bandwidth", json!({"ingressRate": 1000})),
            7,
            vec!["ingressBurst"],
        ),
        (
            runtime("bandwidth", json!({"egressBurst": 1000})),
            7,
            vec!["egressRate"],
        ),
        (
            runtime("bandwidth", json!({"ingressRate": -1, "ingressBurst": 1})),
            7,
            vec!["ingressRate", "-1"],
        ),
        (
            runtime(
                "bandwidth",
                json!({"ingressRate": 1000, "ingressBurst": 1u64 << 36}),
            ),
            7,
            vec!["ingressBurst"],
        ),
        (
            runtime("bandwidth", json!({"ingressRate": "1M", "ingressBurst": 1})),
            7,
            vec!["ingressRate", "1M"],
        ),
    ]
}

fn wrong_values() -> Result<()> {
    let site = Site::new()?;
    let netns = site.netns()?;
    let mut faults = Vec::new();
    for (patch, code, words) in wrong_value_table() {
        let request = patched(&dual_stack(), patch.clone());
        let reply = site.call("ADD", "c1", &netns, &request)?;
        let outcome = expect_refused(&site, reply.clone(), code, &words);
        if let Err(error) = outcome {
            faults.push(format!("{patch}: {error:#}"));
        }
        if reply.outcome.status.success() {
            site.call("DEL", "c1", &netns, &dual_stack())?.silent()?;
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    let only_v4 = patched(
        &slash32_tests::site::only("10.244.1.0/24"),
        json!({"runtimeConfig": {"portMappings": [{"hostPort": 80, "containerPort": 80, "protocol": "tcp", "hostIP": "2001:db8::1"}]}}),
    );
    let reply = site.call("ADD", "c1", &netns, &only_v4)?;
    expect_refused(&site, reply, 7, &["hostIP", "2001:db8::1"])
}

fn unknown_keys_are_ignored() -> Result<()> {
    let site = Site::new()?;
    let request = patched(
        &dual_stack(),
        json!({
            "cni.dev/valid-attachments": [], "anything": {"deep": [1, 2]}, "ipMasq": true, "Capabilities": {"x": true},
            "args": {"cni": {"labels": [{"key": "a", "value": "b"}]}, "other": 5},
            "runtimeConfig": {"io.kubernetes.cri.pod-annotations": {"a": "b"}, "cgroupPath": "/x", "aliases": {"n": ["a"]}},
            "ipam": {"anything": 5},
        }),
    );
    site.add("c1", &request)?.del()?;
    site.expect_clean()
}

fn nothing_asked_for() -> Result<()> {
    let site = Site::new()?;
    for runtime in [
        json!({"portMappings": []}),
        json!({"portMappings": Value::Null}),
        json!({"PortMappings": [], "Bandwidth": {"IngressRate": 0, "IngressBurst": 0, "EgressRate": 0, "EgressBurst": 0}}),
        json!({"bandwidth": Value::Null, "ips": [], "mac": "", "ipRanges": []}),
    ] {
        let mut request = dual_stack();
        request["runtimeConfig"] = runtime.clone();
        site.add("c1", &request)
            .with_context(|| runtime.to_string())?
            .del()?;
        site.expect_clean()?;
    }
    Ok(())
}

fn wrong_namespaces() -> Result<()> {
    let site = Site::new()?;
    std::fs::write("/run/plain-file", "")?;
    for path in [
        "/run/netns/nobody",
        "/run/plain-file",
        "/run",
        "/dev/null",
        "/proc/self/ns/mnt",
        "relative/path",
    ] {
        for verb in ["ADD", "CHECK"] {
            let request = match verb {
                "ADD" => dual_stack(),
                _ => with_previous(
                    &dual_stack(),
                    &json!({"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "sandbox": path}], "ips": [{"address": "10.244.1.1/32", "interface": 0}]}),
                ),
            };
            let reply = site.call_at(verb, "c1", path, "eth0", &request)?;
            expect_refused(&site, reply, 8, &[path])
                .with_context(|| format!("{verb} with {path}"))?;
        }
    }
    Ok(())
}

fn without_capability() -> Result<()> {
    let site = Site::new()?;
    let netns = site.netns()?.netns().to_string_lossy().into_owned();
    let program = slash32_tests::programs::binaries()?.join("slash32");
    let run = |verb: &str| -> Result<Outcome> {
        let mut command = site.node.machine.command("setpriv");
        command
            .args([
                "--bounding-set=-net_admin,-sys_admin",
                "--inh-caps=-net_admin,-sys_admin",
                "--no-new-privs",
            ])
            .arg(&program);
        command.envs(environment(verb, &netns));
        slash32_tests::machine::finish(
            command,
            dual_stack().to_string().as_bytes(),
            slash32_tests::machine::PATIENCE,
        )
    };
    let text = Reply::read(run("ADD")?)?.failed()?;
    ensure!(text.contains("EPERM") && text.contains("CAP_"), "{text}");
    site.expect_clean()?;
    Reply::read(run("DEL")?)?;
    site.expect_clean()
}

/// 16 MiB is a thousand times what any runtime sends.
fn endless_stdin() -> Result<()> {
    let site = Site::new()?;
    let netns = site.netns()?.netns().to_string_lossy().into_owned();
    let reply = call(&site, &environment("ADD", &netns), &vec![b' '; 17 << 20])?;
    expect_refused(&site, reply, 5, &["stdin"])
}
