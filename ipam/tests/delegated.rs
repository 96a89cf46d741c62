//! `slash32-ipam` under a main plugin that we did not write: Debian's ptp, in namespaces of the test's own.
//!
//! The test binary starts itself below `unshare -Urnm`. Without user namespaces, or without ptp, the tests are reported
//! as ignored, never as passed.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitCode, Output, Stdio};

const INSIDE: &str = "SLASH32_IPAM_TEST_INSIDE";
const CNI_DIRS: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];

fn main() -> ExitCode {
    if let Ok(folder) = std::env::var(INSIDE) {
        ptp_inside(Path::new(&folder));
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::from_args();
    let namespaces = Command::new("unshare")
        .args(["-Urnm", "ip", "link"])
        .output();
    let possible = ptp_dir().is_some() && namespaces.is_ok_and(|output| output.status.success());
    let tests = vec![
        Trial::test(
            "ptp_attaches_checks_and_detaches_with_our_addresses_i1",
            ptp,
        )
        .with_ignored_flag(!possible),
    ];
    libtest_mimic::run(&arguments, tests).exit_code()
}

fn ptp_dir() -> Option<&'static str> {
    CNI_DIRS
        .into_iter()
        .find(|dir| Path::new(dir).join("ptp").exists())
}

fn ptp() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let mut unshare = Command::new("unshare");
    unshare.args([
        "-Urnm",
        "sh",
        "-c",
        "mount -t tmpfs tmpfs /run && ip link set lo up && exec \"$1\"",
        "sh",
    ]);
    let output = unshare
        .arg(std::env::current_exe()?)
        .env(INSIDE, dir.path())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
    .into())
}

fn ptp_inside(folder: &Path) {
    let conf = |version: &str, more: Value| {
        let mut conf = json!({
            "cniVersion": version, "name": "ptpnet", "type": "ptp",
            "ipam": {"type": "slash32-ipam", "dataDir": folder.join("ipam"),
                "ranges": [[{"subnet": "10.66.0.0/24"}], [{"subnet": "fd66::/64"}]],
                "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}
        });
        conf.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        conf.to_string()
    };
    // ptp reads IPv6 sysctls; forwarding it sets itself.
    for (i, version) in ["0.3.1", "0.4.0", "1.0.0"].into_iter().enumerate() {
        let pod = format!("pod{i}");
        ip(&["netns", "add", &pod]);
        let result = answer(&cni("ADD", &pod, &conf(version, json!({}))));
        let v4 = format!("10.66.0.{}", i + 2);
        assert_eq!(result["ips"][0]["address"], format!("{v4}/24"), "{result}");
        assert_eq!(result["ips"][0]["gateway"], "10.66.0.1", "{result}");
        assert_eq!(
            result["ips"][1]["address"],
            format!("fd66::{}/64", i + 2),
            "{result}"
        );
        assert!(ip(&["-n", &pod, "-4", "addr", "show", "eth0"]).contains(&v4));
        let ping = Command::new("ping").args(["-c1", "-W2", &v4]).output();
        assert!(
            ping.is_err() || ping.unwrap().status.success(),
            "{v4} does not answer"
        );
        if version != "0.3.1" {
            let check = cni("CHECK", &pod, &conf(version, json!({"prevResult": result})));
            assert!(
                check.status.success() && check.stdout.is_empty(),
                "{check:?}"
            );
            let lost = cni(
                "CHECK",
                "nobody",
                &conf(version, json!({"prevResult": result})),
            );
            assert!(!lost.status.success());
        }
    }
    for round in 0..2 {
        for pod in ["pod0", "pod1", "pod2"] {
            let del = cni("DEL", pod, &conf("1.0.0", json!({})));
            assert!(
                del.status.success() && del.stdout.is_empty(),
                "DEL {round} of {pod}: {del:?}"
            );
        }
    }
    assert_eq!(
        std::fs::read_dir(folder.join("ipam/ptpnet/addresses"))
            .unwrap()
            .count(),
        0
    );
}

fn answer(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn cni(command: &str, pod: &str, conf: &str) -> Output {
    let ours = Path::new(env!("CARGO_BIN_EXE_slash32-ipam"))
        .parent()
        .unwrap();
    let path = format!("{}:{}", ours.display(), ptp_dir().unwrap());
    let mut ptp = Command::new(Path::new(ptp_dir().unwrap()).join("ptp"));
    ptp.env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", pod)
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", path);
    ptp.env("CNI_NETNS", format!("/run/netns/{pod}"));
    let mut child = ptp
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(conf.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

fn ip(arguments: &[&str]) -> String {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(output.status.success(), "ip {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}
