//! Fault sweep: `run --once` under strace, which makes the k-th call of a kind fail, for every k. Each run must converge
//! or end with a clear error, without a panic; the clean run after it must converge to the same.

use crate::Case;
use crate::node::{Node, finish, sh};

pub(crate) fn cases() -> Vec<Case> {
    let case = |name, body| Case {
        name,
        needs: &["ip", "nft", "strace"],
        body,
    };
    vec![
        case(
            "netlink_that_fails_once_at_any_position_is_survived",
            netlink_that_fails_once,
        ),
        case(
            "files_that_fail_once_at_any_position_are_survived",
            files_that_fail_once,
        ),
    ]
}

fn netlink_that_fails_once() {
    sweep(&[
        ("sendto", "ENOBUFS"),
        ("recvfrom", "ENOMEM"),
        ("recvfrom", "EINTR"),
        ("socket", "EMFILE"),
        ("bind", "EADDRINUSE"),
    ]);
}

fn files_that_fail_once() {
    sweep(&[
        ("write", "ENOSPC"),
        ("rename", "EIO"),
        ("renameat", "ENOSPC"),
        ("fsync", "EIO"),
        ("mkdir", "ENOSPC"),
        ("flock", "EINTR"),
        ("memfd_create", "EMFILE"),
    ]);
}

fn sweep(kinds: &[(&str, &str)]) {
    let mut node = Node::new();
    node.add_pod("x", "10.244.0.5");
    node.converge();
    let (routes, table) = (node.own_routes(), sh("nft list table inet slash32"));
    for (call, errno) in kinds {
        for position in 1..=200 {
            unmake(&node);
            let injected = run_with_fault(&node, call, errno, position);
            node.converge();
            assert_eq!(node.own_routes(), routes, "after {call} {position} {errno}");
            assert_eq!(
                sh("nft list table inet slash32"),
                table,
                "after {call} {position} {errno}"
            );
            if !injected {
                assert!(
                    position > 1 || ["renameat", "rename", "mkdir", "bind"].contains(call),
                    "{call} is never called"
                );
                break;
            }
        }
    }
}

/// To an untouched node, but for the pod.
fn unmake(node: &Node) {
    sh("ip route flush proto 32 root 10.244.0.0/16 2>/dev/null || true
        for family in -4 -6; do ip $family route show proto 32 | grep -v s32 | while read -r route; do
          ip $family route delete ${route%% pref*} || true
        done; done
        nft delete table inet slash32");
    let _ = std::fs::remove_file(node.conflist());
    let link = sh("ip -o link show | sed -n 's/.*: \\(s32[^@]*\\)@.*/\\1/p'");
    sh(&format!(
        "ip route replace 10.244.0.5 dev {} proto 32",
        link.trim()
    ));
}

/// True when the fault was injected.
fn run_with_fault(node: &Node, call: &str, errno: &str, position: usize) -> bool {
    let agent = node.agent("run");
    let trace = node.path("trace");
    let mut command = std::process::Command::new("strace");
    command.args([
        "-qq",
        "-e",
        &format!("trace={call}"),
        "-e",
        &format!("inject={call}:error={errno}:when={position}"),
    ]);
    command
        .arg("-o")
        .arg(&trace)
        .arg(agent.get_program())
        .args(["run", "--once"]);
    agent.get_envs().for_each(|(key, value)| {
        command.env(key, value.unwrap_or_default());
    });
    let (code, said) = finish(&mut command);
    let what = format!("{call} {position} {errno}");
    assert!(code == 0 || code == 1, "{what}: exit {code}\n{said}");
    assert!(!said.contains("panicked"), "{what}: {said}");
    let injected = std::fs::read_to_string(&trace).is_ok_and(|text| text.contains("(INJECTED)"));
    assert!(
        code == 0 || injected,
        "{what}: failed without a fault\n{said}"
    );
    assert!(
        code == 0 || said.contains("ERROR") || said.contains("slash32-agent: "),
        "{what}: no word about it\n{said}"
    );
    injected
}
