//! `slash32-ipam` as a runtime or a main plugin runs it: one process per verb, environment and stdin in, one JSON
//! document or nothing out.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use serde_json::{Value, json};
use std::collections::HashSet;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

struct Answer {
    success: bool,
    stdout: String,
    stderr: String,
}

impl Answer {
    fn json(&self) -> Value {
        assert!(self.success, "{} {}", self.stdout, self.stderr);
        serde_json::from_str(&self.stdout).unwrap()
    }

    fn nothing(&self) {
        assert!(
            self.success && self.stdout.is_empty(),
            "{} {}",
            self.stdout,
            self.stderr
        );
    }

    /// The error's code; checks that it is one document with the version in use (G13, G15).
    fn code(&self) -> u64 {
        assert!(!self.success, "{}", self.stdout);
        let error: Value = serde_json::from_str(&self.stdout).unwrap();
        assert!(
            error["cniVersion"].is_string() && !error["msg"].as_str().unwrap().is_empty(),
            "{error}"
        );
        error["code"].as_u64().unwrap()
    }
}

fn start(command: &str, container: &str, more: &[(&str, &str)], stdin: &str) -> Child {
    let mut plugin = Command::new(env!("CARGO_BIN_EXE_slash32-ipam"));
    plugin
        .env_clear()
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", container)
        .env("CNI_IFNAME", "eth0");
    plugin
        .env("CNI_NETNS", "/nowhere")
        .env("CNI_PATH", "/nowhere")
        .envs(more.iter().copied());
    let mut child = plugin
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A plugin that refuses early may not read all of it.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child
}

fn finish(child: Child) -> Answer {
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Answer {
        success: output.status.success(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

fn run(command: &str, container: &str, conf: &Value) -> Answer {
    finish(start(command, container, &[], &conf.to_string()))
}

fn conf(dir: &Path, version: &str, subnet: &str) -> Value {
    json!({"cniVersion": version, "name": "net", "type": "bridge",
        "ipam": {"type": "slash32-ipam", "dataDir": dir.join("data"), "ranges": [[{"subnet": subnet}]],
            "routes": [{"dst": "0.0.0.0/0"}]}})
}

fn with(mut conf: Value, key: &str, value: Value) -> Value {
    conf[key] = value;
    conf
}

#[test]
fn result_is_abbreviated_in_every_version_i2() {
    let dir = tempfile::tempdir().unwrap();
    for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let result = run("ADD", "a", &conf(dir.path(), version, "10.1.0.0/24")).json();
        assert_eq!(result["cniVersion"], version);
        assert_eq!(result["ips"][0]["address"], "10.1.0.2/24", "{result}");
        assert_eq!(result["ips"][0]["gateway"], "10.1.0.1");
        assert_eq!(result["routes"][0]["dst"], "0.0.0.0/0");
        assert!(result.get("interfaces").is_none() && result["ips"][0].get("interface").is_none());
        assert_eq!(result["ips"][0].get("version").is_some(), version < "1.0.0");
    }
    for version in ["0.1.0", "0.2.0"] {
        let result = run("ADD", "a", &conf(dir.path(), version, "10.1.0.0/24")).json();
        assert_eq!(result["ip4"]["ip"], "10.1.0.2/24", "{result}");
    }
}

#[test]
fn verbs_follow_an_attachment_from_add_to_gc() {
    let dir = tempfile::tempdir().unwrap();
    let conf = conf(dir.path(), "1.1.0", "10.1.0.0/29");
    run("STATUS", "", &conf).nothing();
    let result = run("ADD", "a", &conf).json();
    let check = with(conf.clone(), "prevResult", result.clone());
    run("CHECK", "a", &check).nothing();
    assert_eq!(run("CHECK", "b", &check).code(), 101);
    let other = with(
        conf.clone(),
        "prevResult",
        json!({"cniVersion": "1.1.0", "ips": [{"address": "10.1.0.6/29"}]}),
    );
    assert_eq!(run("CHECK", "a", &other).code(), 101);

    run("ADD", "b", &conf).json();
    let gc = finish(start("GC", "", &[], &conf.to_string()));
    assert!(
        gc.success && gc.stderr.contains("nothing is removed"),
        "{}",
        gc.stderr
    );
    run("CHECK", "a", &check).nothing();
    let valid = json!([{"containerID": "b", "ifname": "eth0"}]);
    run(
        "GC",
        "",
        &with(conf.clone(), "cni.dev/valid-attachments", valid),
    )
    .nothing();
    assert_eq!(run("CHECK", "a", &check).code(), 101);
    run("DEL", "a", &conf).nothing();
    run("DEL", "b", &conf).nothing();
    run("DEL", "b", &conf).nothing();
    assert_eq!(
        std::fs::read_dir(dir.path().join("data/net/addresses"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn errors_have_their_codes_g16() {
    let dir = tempfile::tempdir().unwrap();
    let tiny = conf(dir.path(), "1.1.0", "10.1.0.0/30");
    run("ADD", "a", &tiny).json();
    let full = run("ADD", "b", &tiny);
    assert_eq!(full.code(), 11);
    assert!(
        full.stdout
            .contains("no IP addresses available in range set: 10.1.0.1-10.1.0.2"),
        "{}",
        full.stdout
    );
    run("STATUS", "", &tiny).nothing();

    let ipam = |ipam: Value| with(tiny.clone(), "ipam", ipam);
    let folder = dir.path().join("data");
    assert_eq!(run("ADD", "b", &ipam(json!({"dataDir": folder}))).code(), 7);
    assert_eq!(
        run("STATUS", "", &ipam(json!({"dataDir": folder}))).code(),
        50
    );
    assert_eq!(
        run(
            "ADD",
            "b",
            &ipam(json!({"subnet": "10.0.0.1/24", "dataDir": folder}))
        )
        .code(),
        7
    );
    run(
        "DEL",
        "a",
        &ipam(json!({"subnet": "10.0.0.1/24", "dataDir": folder})),
    )
    .nothing();
    run("ADD", "b", &tiny).json();

    let requested = finish(start(
        "ADD",
        "c",
        &[("CNI_ARGS", "IP=10.1.0.1")],
        &tiny.to_string(),
    ));
    assert_eq!(requested.code(), 100);
    assert!(requested.stdout.contains("gateway"), "{}", requested.stdout);
    assert_eq!(run("add", "c", &tiny).code(), 4);
    assert_eq!(run("ADD", "../c", &tiny).code(), 4);
    assert_eq!(finish(start("ADD", "c", &[], "not json")).code(), 6);
    let own = finish(start(
        "ADD",
        "c",
        &[("CNI_NETNS", "/proc/self/ns/net")],
        &tiny.to_string(),
    ));
    assert_eq!(own.code(), 8);

    std::os::unix::fs::symlink(&folder, dir.path().join("link")).unwrap();
    let link = json!({"subnet": "10.0.0.0/24", "dataDir": dir.path().join("link")});
    assert_eq!(run("ADD", "c", &ipam(link.clone())).code(), 5);
    assert_eq!(run("STATUS", "", &ipam(link)).code(), 50);
}

#[test]
fn version_and_run_by_hand_need_nothing_v3() {
    let version = finish(start("VERSION", "", &[], "{\"cniVersion\":\"0.4.0\"}")).json();
    assert_eq!(version["cniVersion"], "0.4.0");
    assert_eq!(version["supportedVersions"].as_array().unwrap().len(), 7);
    finish(start("VERSION", "", &[], "")).json();
    let about = finish(start("", "", &[], ""));
    assert!(
        about.success && about.stdout.is_empty() && about.stderr.contains("slash32-ipam"),
        "{}",
        about.stderr
    );
}

#[test]
fn two_hundred_adds_at_once_get_two_hundred_addresses_i12() {
    let dir = tempfile::tempdir().unwrap();
    let conf = conf(dir.path(), "1.0.0", "10.1.0.0/24").to_string();
    let children: Vec<Child> = (0..200)
        .map(|i| start("ADD", &format!("c{i}"), &[], &conf))
        .collect();
    let address = |child| {
        finish(child).json()["ips"][0]["address"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let addresses: HashSet<String> = children.into_iter().map(address).collect();
    assert_eq!(addresses.len(), 200);
    assert!(!addresses.contains("10.1.0.1/24"), "the gateway");
}
