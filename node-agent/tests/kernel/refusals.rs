//! What the agent refuses, and in which words.

use crate::Case;
use crate::node::{Node, finish};

pub(crate) fn cases() -> Vec<Case> {
    let case = |name, body| Case {
        name,
        needs: &["ip", "nft"],
        body,
    };
    vec![
        Case {
            name: "without_net_admin_it_says_so",
            needs: &["ip", "setpriv"],
            body: without_net_admin_it_says_so,
        },
        case(
            "without_nft_it_says_what_to_install",
            without_nft_it_says_what_to_install,
        ),
        case(
            "wrong_usage_is_exit_code_2_and_names_key_and_value",
            wrong_usage_is_exit_code_2,
        ),
        case(
            "flags_win_over_the_environment_over_the_file",
            flags_win_over_the_environment_over_the_file,
        ),
        case(
            "a_taken_port_for_http_is_named",
            a_taken_port_for_http_is_named,
        ),
        case(
            "a_state_folder_that_cannot_be_made_is_named",
            a_state_folder_that_cannot_be_made_is_named,
        ),
    ]
}

fn without_net_admin_it_says_so() {
    let node = Node::new();
    let agent = node.agent("run");
    let mut command = std::process::Command::new("setpriv");
    command
        .args(["--inh-caps=-net_admin", "--bounding-set=-net_admin"])
        .arg(agent.get_program())
        .args(["run", "--once"]);
    agent.get_envs().for_each(|(key, value)| {
        command.env(key, value.unwrap_or_default());
    });
    let (code, said) = finish(&mut command);
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("run as root, or grant CAP_NET_ADMIN"),
        "{said}"
    );
}

fn without_nft_it_says_what_to_install() {
    let node = Node::new();
    let (code, said) = finish(node.agent("run").args([
        "--once",
        "--netfilter",
        "nftables",
        "--nft-program",
        "/nonexistent/nft",
    ]));
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("/nonexistent/nft") && said.contains("install nftables"),
        "{said}"
    );
}

fn wrong_usage_is_exit_code_2() {
    let node = Node::new();
    let config = node.path("agent.yaml");
    let cases = [
        ("mtu: tiny\n", vec!["mtu", "\"tiny\"", "576"]),
        ("mtuu: 1500\n", vec!["mtuu", "agent.yaml"]),
        ("masquerade: true\n", vec!["agent.yaml", "line 1"]),
        ("mtu: [\n", vec!["agent.yaml"]),
    ];
    for (text, words) in cases {
        std::fs::write(&config, text).expect("write");
        let (code, said) = finish(node.agent("run").arg("--once").arg("--config").arg(&config));
        assert_eq!(code, 2, "{text}: {said}");
        for word in words {
            assert!(said.contains(word), "{text}: {said}\nlacks {word}");
        }
    }
    let (code, said) = finish(node.agent("run").args(["--config", "/nonexistent.yaml"]));
    assert!(code == 2 && said.contains("/nonexistent.yaml"), "{said}");
    assert_eq!(finish(node.agent("run").arg("--unknown")).0, 2);
    let (code, said) = finish(
        node.agent("run")
            .arg("--once")
            .env_remove("SLASH32_NODES_FILE"),
    );
    assert!(code == 1 && said.contains("--nodes-file"), "{said}");
}

fn flags_win_over_the_environment_over_the_file() {
    let node = Node::new();
    let config = node.path("agent.yaml");
    std::fs::write(&config, "mtu: 1401\nlogLevel: debug\nresyncInterval: 7s\n").expect("write");
    let mut agent = node.agent("run");
    agent
        .args(["--once", "--mtu", "1403", "--config"])
        .arg(&config);
    agent
        .env("SLASH32_MTU", "1402")
        .env("SLASH32_RESYNC_INTERVAL", "8s");
    let (code, said) = finish(&mut agent);
    assert_eq!(code, 0, "{said}");
    for setting in ["mtu=1403", "resyncInterval=8s", "logLevel=debug"] {
        assert!(said.contains(setting), "{said}\nlacks {setting}");
    }
    assert!(
        std::fs::read_to_string(node.conflist())
            .expect("conflist")
            .contains("1403")
    );
}

fn a_taken_port_for_http_is_named() {
    let node = Node::new();
    let _taken = std::net::TcpListener::bind("127.0.0.1:9532").expect("bind");
    let (code, said) = finish(&mut node.agent("run"));
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("127.0.0.1:9532") && said.contains("setting listen"),
        "{said}"
    );
}

fn a_state_folder_that_cannot_be_made_is_named() {
    let node = Node::new();
    std::fs::write(node.path("file"), "").expect("write");
    let (code, said) = finish(
        node.agent("run")
            .arg("--once")
            .env("SLASH32_STATE_DIR", node.path("file/run")),
    );
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("file/run") || said.contains("/file"),
        "{said}"
    );
    assert!(
        !node.conflist().exists(),
        "no pod may come to a node that cannot keep records"
    );
}
