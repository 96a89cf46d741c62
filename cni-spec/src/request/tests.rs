use super::*;
use crate::{error::ErrorCode, runtime_config::Protocol};
use serde_json::{Value, json};

/// An environment in which nothing is missing, with `changes` made to it.
fn environment(command: &str, changes: &[(&str, &str)]) -> Environment {
    Environment::from_lookup(|name| {
        if let Some((_, value)) = changes.iter().find(|(changed, _)| *changed == name) {
            return Some((*value).to_owned());
        }
        let value = match name {
            "CNI_COMMAND" => command,
            "CNI_CONTAINERID" => "c1",
            "CNI_NETNS" => "/var/run/netns/p",
            "CNI_IFNAME" => "eth0",
            "CNI_PATH" => "/opt/cni/bin",
            _ => return None,
        };
        Some(value.to_owned())
    })
}

/// A good 1.1.0 configuration with `changes` laid over it.
fn conf(changes: Value) -> Vec<u8> {
    let mut conf =
        json!({ "cniVersion": "1.1.0", "name": "net", "type": "slash32", "prevResult": {} });
    for (key, value) in changes.as_object().expect("an object") {
        conf[key.as_str()] = value.clone();
    }
    conf.to_string().into_bytes()
}

fn request(command: &str, stdin: &[u8]) -> Result<Request, Refusal> {
    parse_request(&environment(command, &[]), stdin)
}

fn refusal(command: &str, changes: &[(&str, &str)], stdin: &[u8]) -> CniError {
    match parse_request(&environment(command, changes), stdin) {
        Err(refusal) => refusal.error,
        Ok(request) => panic!("accepted: {request:?}"),
    }
}

fn attachment(request: Result<Request, Refusal>) -> Attachment {
    match request.expect("a valid request") {
        Request::Add(attachment) | Request::Check(attachment) | Request::Del(attachment) => {
            attachment
        }
        other => panic!("not of an attachment: {other:?}"),
    }
}

#[test]
fn g1_commands_are_exact_and_named_when_refused() {
    for command in ["add", "Add", "ADD ", "UPDATE", "\u{7}"] {
        let error = refusal(command, &[], &conf(json!({})));
        assert_eq!(error.code, ErrorCode::InvalidEnvironment);
        assert!(error.msg.starts_with("unknown CNI_COMMAND: "), "{error}");
        assert!(error.msg.contains(&format!("{command:?}")), "{error}");
    }
}

#[test]
fn g2_no_command_is_about_whatever_stdin_holds() {
    for stdin in [&b""[..], b"garbage", b"{}"] {
        assert!(matches!(
            parse_request(&Environment::default(), stdin),
            Ok(Request::About)
        ));
        assert!(matches!(request("", stdin), Ok(Request::About)));
    }
}

#[test]
fn g3_all_missing_variables_stand_in_one_message() {
    let none = [
        ("CNI_CONTAINERID", ""),
        ("CNI_NETNS", ""),
        ("CNI_IFNAME", ""),
    ];
    for (command, expected) in [
        (
            "ADD",
            "required env variables [CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME] missing",
        ),
        (
            "CHECK",
            "required env variables [CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME] missing",
        ),
        (
            "DEL",
            "required env variables [CNI_CONTAINERID,CNI_IFNAME] missing",
        ),
    ] {
        // Also where stdin is no better: it is not looked at before (as in libcni's skel).
        for stdin in [&b""[..], &conf(json!({}))] {
            let error = refusal(command, &none, stdin);
            assert_eq!(
                (error.code, error.msg.as_str()),
                (ErrorCode::InvalidEnvironment, expected)
            );
        }
    }
}

#[test]
fn g4_gc_status_and_version_take_empty_variables() {
    let none = [
        ("CNI_CONTAINERID", ""),
        ("CNI_NETNS", ""),
        ("CNI_IFNAME", ""),
        ("CNI_PATH", ""),
        ("CNI_ARGS", ""),
    ];
    for command in ["GC", "STATUS", "VERSION"] {
        assert!(
            parse_request(&environment(command, &none), &conf(json!({}))).is_ok(),
            "{command}"
        );
    }
}

#[test]
fn g3_add_needs_no_search_path() {
    let env = environment("ADD", &[("CNI_PATH", "")]);
    assert!(parse_request(&env, &conf(json!({}))).is_ok());
    assert_eq!(search_path(&env), Vec::<PathBuf>::new());
    let env = environment("ADD", &[("CNI_PATH", ":/opt/cni/bin::/usr/lib/cni:")]);
    assert_eq!(
        search_path(&env),
        ["/opt/cni/bin", "/usr/lib/cni"].map(PathBuf::from)
    );
}

#[test]
fn g5_container_ids_have_safe_characters_and_any_length() {
    for good in ["a", "0", "A_b.c-d", &"x".repeat(4096)] {
        let env = environment("ADD", &[("CNI_CONTAINERID", good)]);
        assert_eq!(
            attachment(parse_request(&env, &conf(json!({}))))
                .id
                .container_id,
            good
        );
    }
    for bad in [
        "-a",
        ".",
        "..",
        "_a",
        "a/b",
        "../../etc",
        "a\n",
        "a b",
        "é",
        "a\0",
    ] {
        for command in ["ADD", "CHECK", "DEL"] {
            let error = refusal(command, &[("CNI_CONTAINERID", bad)], &conf(json!({})));
            assert_eq!(error.code, ErrorCode::InvalidEnvironment, "{bad:?}");
            assert!(error.msg.contains("CNI_CONTAINERID"), "{error}");
        }
    }
}

#[test]
fn g6_network_names_have_the_same_characters_and_must_be_there() {
    for bad in [
        json!(""),
        json!(null),
        json!("-a"),
        json!("a/b"),
        json!("a\n"),
    ] {
        assert_eq!(
            refusal("ADD", &[], &conf(json!({ "name": bad }))).code,
            ErrorCode::InvalidConfig,
            "{bad}"
        );
    }
    let error = refusal("DEL", &[], &conf(json!({ "name": "a/b" })));
    assert_eq!(error.msg, "bad value of name: \"a/b\"");
    assert_eq!(
        refusal("ADD", &[], &conf(json!({ "name": 7 }))).code,
        ErrorCode::Decode
    );
}

#[test]
fn g7_interface_names_are_what_the_kernel_takes() {
    for good in ["e", "eth0", "a.b", "123456789012345", "ünïcode"] {
        let env = environment("DEL", &[("CNI_IFNAME", good)]);
        assert_eq!(
            attachment(parse_request(&env, &conf(json!({})))).id.ifname,
            good
        );
    }
    for bad in [
        ".",
        "..",
        "1234567890123456",
        "eth%d",
        "a/b",
        "a:b",
        "a b",
        "a\t",
        "a\u{a0}b",
        "a\u{2003}",
        "üüüüüüüü",
    ] {
        for command in ["ADD", "DEL"] {
            let error = refusal(command, &[("CNI_IFNAME", bad)], &conf(json!({})));
            assert_eq!(error.code, ErrorCode::InvalidEnvironment, "{bad:?}");
            assert!(error.msg.contains("CNI_IFNAME"), "{error}");
        }
    }
}

#[test]
fn g8_what_is_not_one_json_object_is_code_6() {
    for stdin in [
        &b""[..],
        b" ",
        b"garbage",
        b"[]",
        b"7",
        b"\"x\"",
        b"true",
        b"{",
        b"{}{}",
        b"{\"name\":\"a\"} x",
        b"{\"name\":\"\xff\"}",
    ] {
        let refused = request("ADD", stdin).expect_err("no object");
        assert_eq!(refused.error.code, ErrorCode::Decode, "{stdin:?}");
        assert_eq!(refused.version, SpecVersion::NEWEST);
        assert!(refused.error.details.is_some());
    }
}

#[test]
fn g8_null_parses_and_then_lacks_a_name() {
    let refused = request("ADD", b"null").expect_err("no name");
    assert_eq!(
        (refused.error.code, refused.error.msg.as_str()),
        (ErrorCode::InvalidConfig, "missing network name")
    );
}

#[test]
fn g8_g9_unknown_keys_and_capabilities_are_no_matter() {
    let stdin = conf(
        json!({ "capabilities": { "portMappings": true }, "cni.dev/x": [1], "whatever": { "deep": [{}] } }),
    );
    let attachment = attachment(request("ADD", &stdin));
    assert_eq!(
        attachment.conf.get("WhatEver"),
        Some(&json!({ "deep": [{}] }))
    );
    let whole: Value = serde_json::from_slice(&stdin).expect("valid JSON");
    assert_eq!(
        Value::Object(attachment.conf.raw),
        whole,
        "the document goes to a delegated plugin as it came"
    );
}

#[test]
fn g10_keys_stand_in_any_case() {
    let stdin = br#"{"CNIVERSION":"0.4.0","Name":"a","TYPE":"slash32","IPAM":{"Type":"host-local"},
        "NAME":"b","PrevResult":{"IPS":[{"Version":"4","ADDRESS":"10.1.0.2/32"}]},"DNS":{"NameServers":["10.0.0.10"]},
        "Args":{"CNI":{"IPs":["10.1.0.9"]}},"RuntimeConfig":{"PORTMAPPINGS":[{"HostPort":80,"ContainerPort":8080}]}}"#;
    let conf = attachment(request("CHECK", stdin)).conf;
    assert_eq!(
        (conf.version, conf.name.as_str()),
        (SpecVersion::V0_4_0, "b"),
        "the last duplicate wins"
    );
    assert_eq!(
        (conf.plugin_type.as_deref(), conf.ipam_type.as_deref()),
        (Some("slash32"), Some("host-local"))
    );
    assert_eq!(conf.prev_result.expect("a prevResult").ips.len(), 1);
    assert_eq!(conf.dns.expect("a dns").nameservers, ["10.0.0.10"]);
    assert_eq!(conf.args_ips, ["10.1.0.9"]);
    assert_eq!(conf.runtime_config.port_mappings[0].protocol, Protocol::Tcp);
}

#[test]
fn g11_an_absent_version_is_0_1_0() {
    for stdin in [
        &br#"{"name":"net"}"#[..],
        br#"{"name":"net","cniVersion":""}"#,
        br#"{"name":"net","cniVersion":null}"#,
    ] {
        assert_eq!(
            attachment(request("ADD", stdin)).conf.version,
            SpecVersion::V0_1_0
        );
    }
    assert_eq!(
        refusal("ADD", &[], &conf(json!({ "cniVersion": 1 }))).code,
        ErrorCode::Decode
    );
}

#[test]
fn g11_a_foreign_version_is_code_1_with_both_sides_named() {
    for version in ["1.1", "2.0.0", "0.5.0", "v1.0.0"] {
        for command in ["ADD", "DEL", "CHECK", "GC", "STATUS"] {
            let error = refusal(command, &[], &conf(json!({ "cniVersion": version })));
            assert_eq!(
                error.code,
                ErrorCode::IncompatibleVersion,
                "{command} {version}"
            );
            assert!(error.msg.contains(version), "{error}");
            assert!(
                error
                    .details
                    .expect("details")
                    .contains("0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0")
            );
        }
    }
}

#[test]
fn g12_verbs_need_the_version_that_brought_them() {
    for version in SpecVersion::ALL {
        let stdin = conf(json!({ "cniVersion": version.as_str(), "prevResult": {} }));
        for (command, since) in [
            ("ADD", SpecVersion::V0_1_0),
            ("DEL", SpecVersion::V0_1_0),
            ("CHECK", SpecVersion::V0_4_0),
            ("GC", SpecVersion::V1_1_0),
            ("STATUS", SpecVersion::V1_1_0),
        ] {
            match request(command, &stdin) {
                Ok(_) => assert!(version >= since, "{command} {version}"),
                Err(refused) => {
                    assert!(version < since, "{command} {version}: {}", refused.error);
                    assert_eq!(refused.error.code, ErrorCode::IncompatibleVersion);
                    assert_eq!(refused.version, version);
                }
            }
        }
    }
}

#[test]
fn g12_the_version_is_checked_before_the_rest_is_believed() {
    let stdin = conf(json!({ "cniVersion": "9.0.0", "name": "a/b", "runtimeConfig": 7 }));
    assert_eq!(
        refusal("ADD", &[("CNI_IFNAME", "a/b")], &stdin).code,
        ErrorCode::IncompatibleVersion
    );
}

#[test]
fn g15_errors_are_worded_in_the_configurations_version() {
    let refused = parse_request(
        &environment("ADD", &[("CNI_NETNS", "")]),
        &conf(json!({ "cniVersion": "0.4.0" })),
    );
    assert_eq!(refused.expect_err("no netns").version, SpecVersion::V0_4_0);
    let refused = request("FROB", &conf(json!({ "cniVersion": "0.3.1" })));
    assert_eq!(refused.expect_err("no verb").version, SpecVersion::V0_3_1);
}

#[test]
fn g18_the_override_is_one_or_true() {
    for (value, expected) in [
        ("1", true),
        ("true", true),
        ("TRUE", true),
        ("0", false),
        ("yes", false),
        ("", false),
    ] {
        assert_eq!(
            environment("ADD", &[("CNI_NETNS_OVERRIDE", value)]).netns_override,
            expected,
            "{value:?}"
        );
    }
}

#[test]
fn k4_types_are_file_names() {
    for bad in ["../sh", "/bin/sh", "a/b", ".", "..", "a\0"] {
        let error = refusal("ADD", &[], &conf(json!({ "ipam": { "type": bad } })));
        assert_eq!(error.code, ErrorCode::InvalidConfig, "{bad:?}");
        assert!(error.msg.starts_with("bad value of ipam.type: "), "{error}");
        assert_eq!(
            refusal("DEL", &[], &conf(json!({ "type": bad }))).code,
            ErrorCode::InvalidConfig
        );
    }
    assert_eq!(
        refusal("ADD", &[], &conf(json!({ "ipam": [] }))).code,
        ErrorCode::InvalidConfig
    );
    let conf = attachment(request("ADD", &conf(json!({ "ipam": null })))).conf;
    assert!(conf.ipam.is_empty() && conf.ipam_type.is_none());
}

#[test]
fn d1_del_goes_on_without_netns_and_with_any_prev_result() {
    for prev in [
        json!(null),
        json!({}),
        json!("garbage"),
        json!([1]),
        json!({ "ips": 7 }),
        json!({ "cniVersion": "9.9.9" }),
    ] {
        let stdin = conf(json!({ "prevResult": prev }));
        let env = environment("DEL", &[("CNI_NETNS", "")]);
        let attachment = attachment(parse_request(&env, &stdin));
        assert_eq!(attachment.netns, None);
        assert_eq!(
            attachment.conf.prev_result_error.is_some(),
            !(prev.is_null() || prev == json!({})),
            "{prev}"
        );
        assert!(
            attachment
                .conf
                .prev_result
                .unwrap_or_default()
                .ips
                .is_empty()
        );
    }
}

#[test]
fn x8_add_and_check_refuse_a_prev_result_that_cannot_be_read() {
    for command in ["ADD", "CHECK"] {
        let error = refusal(
            command,
            &[],
            &conf(json!({ "prevResult": { "ips": [{ "address": "10.0.0.1" }] } })),
        );
        assert_eq!(error.code, ErrorCode::InvalidConfig);
        assert_eq!(
            error.msg,
            "bad value of prevResult.ips[0].address: \"10.0.0.1\""
        );
    }
}

#[test]
fn x8_prev_result_is_read_in_the_configurations_version() {
    let legacy = json!({ "cniVersion": "0.2.0", "prevResult": { "ip4": { "ip": "10.1.0.2/32" } } });
    assert_eq!(
        attachment(request("ADD", &conf(legacy)))
            .conf
            .prev_result
            .expect("a prevResult")
            .ips
            .len(),
        1
    );
    let modern = json!({ "prevResult": { "ip4": { "ip": "10.1.0.2/32" }, "ips": [] } });
    assert_eq!(
        attachment(request("ADD", &conf(modern)))
            .conf
            .prev_result
            .expect("a prevResult")
            .ips
            .len(),
        0
    );
}

#[test]
fn c1_check_without_prev_result_is_code_7() {
    let error = refusal("CHECK", &[], &conf(json!({ "prevResult": null })));
    assert_eq!(error.code, ErrorCode::InvalidConfig);
    assert!(error.msg.contains("prevResult"), "{error}");
}

#[test]
fn g20_del_succeeds_with_what_made_add_fail() {
    let changes = [("CNI_ARGS", "garbage")];
    let stdin = conf(json!({ "runtimeConfig": { "mac": "garbage" }, "dns": "garbage" }));
    assert_eq!(refusal("ADD", &[], &stdin).code, ErrorCode::InvalidConfig);
    assert_eq!(
        refusal("ADD", &changes, &conf(json!({}))).code,
        ErrorCode::InvalidEnvironment
    );
    let attachment = attachment(parse_request(&environment("DEL", &changes), &stdin));
    assert_eq!(attachment.args, CniArgs::default());
    assert_eq!(attachment.conf.runtime_config.mac, None);
}

#[test]
fn gc2_the_list_reaches_the_request_and_a_malformed_one_is_code_7() {
    let key = "cni.dev/valid-attachments";
    let valid = |changes| match request("GC", &conf(changes)) {
        Ok(Request::Gc { valid, conf }) => {
            assert_eq!(conf.name, "net");
            valid
        }
        other => panic!("no GC: {other:?}"),
    };
    let expected = vec![("c1".to_owned(), "eth0".to_owned())];
    assert_eq!(
        valid(json!({ key: [{ "containerID": "c1", "ifname": "eth0" }] })),
        Some(expected)
    );
    assert_eq!(valid(json!({ key: null })), Some(vec![]));
    assert_eq!(valid(json!({})), None);
    assert_eq!(
        refusal("GC", &[], &conf(json!({ key: "all" }))).code,
        ErrorCode::InvalidConfig
    );
}

#[test]
fn a11_capability_and_args_addresses_overrule_cni_args() {
    let env = environment("ADD", &[("CNI_ARGS", "IgnoreUnknown=1;IP=10.0.0.3")]);
    let requested = |changes| {
        let ips = attachment(parse_request(&env, &conf(changes))).requested_ips();
        ips.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let args = json!({ "cni": { "ips": ["10.0.0.2/24", "garbage", 7] } });
    assert_eq!(
        requested(json!({ "args": args, "runtimeConfig": { "ips": ["10.0.0.1", "fd00::1/64"] } })),
        ["10.0.0.1", "fd00::1"]
    );
    assert_eq!(requested(json!({ "args": args })), ["10.0.0.2"]);
    assert_eq!(
        requested(json!({ "args": { "cni": { "ips": "garbage" } } })),
        ["10.0.0.3"]
    );
    assert_eq!(requested(json!({ "args": [] })), ["10.0.0.3"]);
}

#[test]
fn d7_no_error_text_reads_as_if_nothing_were_to_do() {
    let stdins = [
        &b""[..],
        b"[]",
        &conf(json!({ "name": "" })),
        &conf(json!({ "ipam": { "type": "/" } })),
        &conf(json!({ "cniVersion": "7" })),
    ];
    for stdin in stdins {
        let text = refusal("DEL", &[], stdin).to_string().to_lowercase();
        assert!(
            !text.contains("not found") && !text.contains("no such file"),
            "{text}"
        );
    }
}
