use super::*;
use crate::{error::ErrorCode, version::SpecVersion};
use serde_json::{Value, json};

fn net(text: &str) -> IpNetwork {
    text.parse().expect("a network")
}

fn ip(text: &str) -> Option<IpAddr> {
    Some(text.parse().expect("an address"))
}

/// A dual-stack result with every field set.
fn full() -> CniResult {
    let pod = Interface {
        name: "eth0".to_owned(),
        mac: Some("c2:b0:57:49:47:f1".to_owned()),
        mtu: Some(1480),
        sandbox: Some("/var/run/netns/p".to_owned()),
        socket_path: Some("/run/s".to_owned()),
        pci_id: Some("0000:00:1f.6".to_owned()),
    };
    let host = Interface {
        name: "s32abc".to_owned(),
        mac: Some("ee:ee:ee:ee:ee:ee".to_owned()),
        ..Interface::default()
    };
    let address = |text, gateway| IpConfig {
        address: net(text),
        gateway,
        interface: Some(1),
    };
    CniResult {
        interfaces: vec![host, pod],
        ips: vec![
            address("10.1.0.2/32", ip("169.254.1.1")),
            address("fd00::2/128", None),
            address("10.1.0.3/32", None),
        ],
        routes: vec![
            Route {
                mtu: Some(1400),
                advmss: Some(1360),
                priority: Some(7),
                table: Some(0),
                scope: Some(253),
                ..Route::new(net("0.0.0.0/0"), ip("169.254.1.1"))
            },
            Route::new(net("::/0"), ip("fe80::1")),
        ],
        dns: Dns {
            nameservers: vec!["10.96.0.10".to_owned()],
            domain: Some("local".to_owned()),
            search: vec!["svc".to_owned()],
            options: vec!["ndots:5".to_owned()],
        },
    }
}

fn written(version: SpecVersion) -> Value {
    full().to_value(version).expect("can be said")
}

#[test]
fn a6_the_document_of_1_1_0_has_every_field() {
    let expected = json!({
        "cniVersion": "1.1.0",
        "interfaces": [
            { "name": "s32abc", "mac": "ee:ee:ee:ee:ee:ee" },
            { "name": "eth0", "mac": "c2:b0:57:49:47:f1", "mtu": 1480, "sandbox": "/var/run/netns/p", "socketPath": "/run/s", "pciID": "0000:00:1f.6" },
        ],
        "ips": [
            { "address": "10.1.0.2/32", "gateway": "169.254.1.1", "interface": 1 },
            { "address": "fd00::2/128", "interface": 1 },
            { "address": "10.1.0.3/32", "interface": 1 },
        ],
        "routes": [
            { "dst": "0.0.0.0/0", "gw": "169.254.1.1", "mtu": 1400, "advmss": 1360, "priority": 7, "table": 0, "scope": 253 },
            { "dst": "::/0", "gw": "fe80::1" },
        ],
        "dns": { "nameservers": ["10.96.0.10"], "domain": "local", "search": ["svc"], "options": ["ndots:5"] },
    });
    assert_eq!(written(SpecVersion::V1_1_0), expected);
    let mut same = expected;
    same["cniVersion"] = json!("1.0.0");
    assert_eq!(
        written(SpecVersion::V1_0_0),
        same,
        "libcni has one type for both"
    );
}

#[test]
fn a8_below_1_0_0_addresses_have_a_version_and_no_field_is_newer() {
    for version in [
        SpecVersion::V0_3_0,
        SpecVersion::V0_3_1,
        SpecVersion::V0_4_0,
    ] {
        let document = written(version);
        assert_eq!(document["cniVersion"], version.as_str());
        assert_eq!(document["ips"][0]["version"], "4");
        assert_eq!(document["ips"][1]["version"], "6");
        assert_eq!(
            document["interfaces"][1],
            json!({ "name": "eth0", "mac": "c2:b0:57:49:47:f1", "sandbox": "/var/run/netns/p" })
        );
        assert_eq!(
            document["routes"][0],
            json!({ "dst": "0.0.0.0/0", "gw": "169.254.1.1" })
        );
    }
}

#[test]
fn a8_legacy_versions_tell_the_first_address_of_each_family_with_its_routes() {
    for version in [SpecVersion::V0_1_0, SpecVersion::V0_2_0] {
        let expected = json!({
            "cniVersion": version.as_str(),
            "ip4": { "ip": "10.1.0.2/32", "gateway": "169.254.1.1", "routes": [{ "dst": "0.0.0.0/0", "gw": "169.254.1.1" }] },
            "ip6": { "ip": "fd00::2/128", "routes": [{ "dst": "::/0", "gw": "fe80::1" }] },
            "dns": { "nameservers": ["10.96.0.10"], "domain": "local", "search": ["svc"], "options": ["ndots:5"] },
        });
        assert_eq!(written(version), expected);
    }
}

#[test]
fn a8_legacy_versions_need_an_address() {
    for version in [SpecVersion::V0_1_0, SpecVersion::V0_2_0] {
        assert!(CniResult::default().to_value(version).is_err());
    }
    let empty = CniResult::default()
        .to_value(SpecVersion::V1_1_0)
        .expect("can be said");
    assert_eq!(
        empty,
        json!({ "cniVersion": "1.1.0" }),
        "empty lists and dns are left out"
    );
}

#[test]
fn a6_an_index_past_the_interfaces_is_never_written() {
    let result = CniResult {
        interfaces: vec![],
        ..full()
    };
    for version in SpecVersion::ALL {
        assert_eq!(
            result.to_value(version).expect_err("bad index").code,
            ErrorCode::Internal
        );
    }
}

#[test]
fn every_version_reads_back_what_it_wrote() {
    for version in SpecVersion::ALL {
        let back = CniResult::from_value(&written(version), version).expect("readable");
        assert_eq!(
            back.to_value(version).expect("can be said"),
            written(version)
        );
    }
    assert_eq!(
        CniResult::from_value(&written(SpecVersion::NEWEST), SpecVersion::NEWEST),
        Ok(full())
    );
}

#[test]
fn the_version_inside_the_document_wins() {
    let legacy = written(SpecVersion::V0_2_0);
    assert_eq!(
        CniResult::from_value(&legacy, SpecVersion::V1_1_0)
            .expect("readable")
            .ips
            .len(),
        2
    );
    let error = CniResult::from_value(&json!({ "cniVersion": "3.0.0" }), SpecVersion::V1_1_0)
        .expect_err("unknown");
    assert_eq!(error.msg, "bad value of cniVersion: \"3.0.0\"");
}

#[test]
fn g10_results_are_read_with_null_lists_unknown_keys_and_any_case() {
    let document = json!({ "Interfaces": null, "IPS": [{ "Address": "10.0.0.2/24", "Gateway": "", "Interface": null, "x": 1 }], "ROUTES": null, "dns": null, "y": {} });
    let result = CniResult::from_value(&document, SpecVersion::V1_0_0).expect("readable");
    assert_eq!(
        result.ips,
        [IpConfig {
            address: net("10.0.0.2/24"),
            gateway: None,
            interface: None
        }]
    );
    assert!(result.interfaces.is_empty() && result.routes.is_empty() && result.dns.is_empty());
}

#[test]
fn g14_null_is_an_empty_result_and_nothing_is_an_error() {
    assert_eq!(
        CniResult::from_slice(b"null", SpecVersion::NEWEST),
        Ok(CniResult::default())
    );
    for text in [&b""[..], b"{} {}", b"log line\n{}", b"[]"] {
        assert_eq!(
            CniResult::from_slice(text, SpecVersion::NEWEST)
                .expect_err("no result")
                .code,
            ErrorCode::Decode
        );
    }
}

#[test]
fn c2_an_index_past_the_interfaces_is_read_for_check_to_refuse() {
    let document = json!({ "ips": [{ "address": "10.0.0.2/32", "interface": 9 }] });
    assert_eq!(
        CniResult::from_value(&document, SpecVersion::NEWEST)
            .expect("readable")
            .ips[0]
            .interface,
        Some(9)
    );
}

#[test]
fn bad_values_are_named_with_their_place() {
    for (document, msg) in [
        (
            json!({ "ips": [{ "address": "10.0.0.1" }] }),
            "bad value of ips[0].address: \"10.0.0.1\"",
        ),
        (
            json!({ "ips": [{}] }),
            "bad value of ips[0].address: nothing",
        ),
        (
            json!({ "ips": [{ "address": "10.0.0.1/8", "interface": -1 }] }),
            "bad value of ips[0].interface: -1",
        ),
        (
            json!({ "interfaces": [null] }),
            "bad value of interfaces[0]: null",
        ),
        (
            json!({ "interfaces": {} }),
            "bad value of interfaces: an object",
        ),
        (
            json!({ "routes": [{ "dst": "::/0" }, { "dst": "::/0", "gw": "x" }] }),
            "bad value of routes[1].gw: \"x\"",
        ),
        (
            json!({ "routes": [{ "dst": "::/0", "scope": 256 }] }),
            "bad value of routes[0].scope: 256",
        ),
        (
            json!({ "dns": { "search": [1] } }),
            "bad value of dns.search[0]: 1",
        ),
        (
            json!({ "cniVersion": "0.2.0", "ip4": { "routes": [] } }),
            "bad value of ip4.ip: nothing",
        ),
    ] {
        let error = CniResult::from_value(&document, SpecVersion::NEWEST).expect_err(msg);
        assert_eq!((error.code, error.msg.as_str()), (ErrorCode::Decode, msg));
    }
}
