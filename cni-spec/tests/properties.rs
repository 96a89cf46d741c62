//! Properties: no input makes the library panic, and results survive their own documents in every version.

use cni_spec::{
    error::{CniError, ErrorCode},
    request::{Environment, Request, parse_request, search_path},
    result::{CniResult, Dns, Interface, IpConfig, Route},
    version::{SpecVersion, version_document},
};
use ipnetwork::IpNetwork;
use proptest::{collection::vec, option::of, prelude::*};
use serde_json::{Map, Value, json};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fn verbs() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => proptest::sample::select(vec!["ADD", "CHECK", "DEL", "GC", "STATUS", "VERSION", ""]).prop_map(str::to_owned),
        1 => any::<String>(),
    ]
}

fn environments() -> impl Strategy<Value = Environment> {
    let text = || of(prop_oneof!["[a-z0-9.]{0,16}", any::<String>()]);
    let args = of(prop_oneof![
        "((IgnoreUnknown|IP|MAC|K8S_POD_NAME|X)=[a-f0-9:.,]{0,18};?){0,4}",
        any::<String>()
    ]);
    (verbs(), text(), text(), text(), args, text()).prop_map(
        |(command, container_id, netns, ifname, args, path)| Environment {
            command: Some(command),
            container_id,
            netns,
            ifname,
            args,
            path,
            netns_override: false,
        },
    )
}

/// Keys that the library looks for, in odd case at times, so that values reach every reader.
fn keys() -> impl Strategy<Value = String> {
    let known = "cniVersion name type ipam prevResult runtimeConfig portMappings hostPort containerPort protocol hostIP bandwidth \
        ingressRate ingressBurst ips mac ipRanges dns servers searches nameservers interfaces address gateway interface routes dst gw \
        scope table ip4 ip6 ip args cni cni.dev/valid-attachments cni.dev/attachments containerID ifname";
    let known: Vec<String> = known.split_whitespace().map(str::to_owned).collect();
    let known = proptest::sample::select(known);
    prop_oneof![6 => known.clone(), 2 => known.prop_map(|key| key.to_uppercase()), 1 => any::<String>()]
}

fn values() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        Just("1.1.0"),
        Just("0.2.0"),
        Just("0.4.0"),
        Just("10.0.0.1/24"),
        Just("::/0"),
        Just("::ffff:1.2.3.4/97"),
        Just("10.0.0.1"),
        Just("c2:b0:57:49:47:f1"),
        Just("udp"),
        Just("host-local"),
        Just("net"),
        Just(""),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0..70_000_u64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((keys(), inner), 0..6).prop_map(|entries| Value::Object(Map::from_iter(entries))),
        ]
    })
}

/// A document that passes the first checks, with anything in it.
fn plausible() -> impl Strategy<Value = Vec<u8>> {
    let version = proptest::sample::select(SpecVersion::ALL.to_vec());
    (version, vec((keys(), values()), 0..8)).prop_map(|(version, entries)| {
        let mut conf = Map::from_iter(entries);
        conf.insert("cniVersion".to_owned(), version.as_str().into());
        conf.insert("name".to_owned(), "net".into());
        Value::Object(conf).to_string().into_bytes()
    })
}

fn check_request(env: &Environment, stdin: &[u8]) -> Result<(), TestCaseError> {
    search_path(env);
    let version: Value =
        serde_json::from_str(&version_document(stdin)).expect("VERSION answers JSON");
    prop_assert_eq!(
        version["supportedVersions"].as_array().map(Vec::len),
        Some(7)
    );
    match parse_request(env, stdin) {
        Ok(Request::Add(attachment) | Request::Check(attachment) | Request::Del(attachment)) => {
            attachment.requested_ips();
            prop_assert!(
                !attachment.id.container_id.contains(['/', '\0', '\n'])
                    && !attachment.id.network.contains('/')
            );
            prop_assert!((1..=15).contains(&attachment.id.ifname.len()));
        }
        Ok(_) => {}
        Err(refusal) => {
            let code = refusal.error.code;
            let pure = [
                ErrorCode::IncompatibleVersion,
                ErrorCode::InvalidEnvironment,
                ErrorCode::Decode,
                ErrorCode::InvalidConfig,
            ];
            prop_assert!(pure.contains(&code), "{:?}", refusal);
            prop_assert!(
                refusal.error.msg.len() < 1000,
                "msg is short: {}",
                refusal.error.msg
            );
            let document = refusal.error.to_json(refusal.version);
            prop_assert!(!document.contains('\n'));
            prop_assert_eq!(
                CniError::from_json(document.as_bytes()),
                Some(refusal.error)
            );
        }
    }
    Ok(())
}

fn addresses() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
        any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits)).to_canonical()),
    ]
}

fn networks() -> impl Strategy<Value = IpNetwork> {
    (addresses(), 0..=128_u8).prop_map(|(address, prefix)| {
        let widest = if address.is_ipv4() { 32 } else { 128 };
        IpNetwork::new(address, prefix.min(widest)).expect("a prefix that fits")
    })
}

fn texts() -> impl Strategy<Value = Option<String>> {
    of(any::<String>().prop_filter("empty is absent", |text| !text.is_empty()))
}

fn interfaces() -> impl Strategy<Value = Interface> {
    (
        any::<String>(),
        texts(),
        of(1..u32::MAX),
        texts(),
        texts(),
        texts(),
    )
        .prop_map(|(name, mac, mtu, sandbox, socket_path, pci_id)| Interface {
            name,
            mac,
            mtu,
            sandbox,
            socket_path,
            pci_id,
        })
}

fn routes() -> impl Strategy<Value = Route> {
    let positive = || of(1..u32::MAX);
    (
        networks(),
        of(addresses()),
        positive(),
        positive(),
        positive(),
        of(any::<u32>()),
        of(any::<u8>()),
    )
        .prop_map(|(dst, gw, mtu, advmss, priority, table, scope)| Route {
            dst,
            gw,
            mtu,
            advmss,
            priority,
            table,
            scope,
        })
}

fn results() -> impl Strategy<Value = CniResult> {
    let ip =
        (networks(), of(addresses()), of(0..3_usize)).prop_map(|(address, gateway, interface)| {
            IpConfig {
                address,
                gateway,
                interface,
            }
        });
    let words = || vec(any::<String>(), 0..3);
    let dns =
        (words(), texts(), words(), words()).prop_map(|(nameservers, domain, search, options)| {
            Dns {
                nameservers,
                domain,
                search,
                options,
            }
        });
    (
        vec(interfaces(), 3),
        vec(ip, 0..4),
        vec(routes(), 0..4),
        dns,
    )
        .prop_map(|(interfaces, ips, routes, dns)| CniResult {
            interfaces,
            ips,
            routes,
            dns,
        })
}

/// What `version` can say of a result (table 1.1).
fn sayable(result: &CniResult, version: SpecVersion) -> CniResult {
    let mut said = result.clone();
    if version < SpecVersion::V1_0_0 {
        for interface in &mut said.interfaces {
            *interface = Interface {
                mtu: None,
                socket_path: None,
                pci_id: None,
                ..interface.clone()
            };
        }
        for route in &mut said.routes {
            *route = Route::new(route.dst, route.gw);
        }
    }
    if version < SpecVersion::V0_3_0 {
        let first = |ipv4: bool| {
            result
                .ips
                .iter()
                .find(move |ip| ip.address.is_ipv4() == ipv4)
                .cloned()
        };
        let families: Vec<IpConfig> = [first(true), first(false)].into_iter().flatten().collect();
        let of_family = |family: &IpConfig| {
            said.routes
                .iter()
                .filter(|route| route.dst.is_ipv4() == family.address.is_ipv4())
                .cloned()
                .collect::<Vec<_>>()
        };
        said.routes = families.iter().flat_map(of_family).collect();
        said.ips = families
            .into_iter()
            .map(|ip| IpConfig {
                interface: None,
                ..ip
            })
            .collect();
        said.interfaces = vec![];
    }
    said
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_a_request_panic(env in environments(), stdin in vec(any::<u8>(), 0..400)) {
        check_request(&env, &stdin)?;
    }

    #[test]
    fn no_configuration_makes_a_request_panic(env in environments(), stdin in plausible()) {
        check_request(&env, &stdin)?;
        let good = Environment {
            container_id: Some("c1".to_owned()),
            netns: Some("/n".to_owned()),
            ifname: Some("eth0".to_owned()),
            args: None,
            ..env
        };
        check_request(&good, &stdin)?;
    }

    #[test]
    fn no_document_makes_a_result_panic(document in values(), version in proptest::sample::select(SpecVersion::ALL.to_vec())) {
        if let Ok(result) = CniResult::from_value(&document, version)
            && let Ok(said) = result.to_value(version)
        {
            prop_assert_eq!(CniResult::from_value(&said, version), Ok(sayable(&result, version)));
        }
    }

    #[test]
    fn results_survive_every_version(result in results()) {
        for version in SpecVersion::ALL {
            match result.to_value(version) {
                Ok(document) => prop_assert_eq!(CniResult::from_value(&document, version), Ok(sayable(&result, version)), "{}", version),
                Err(_) => prop_assert!(version < SpecVersion::V0_3_0 && result.ips.is_empty()),
            }
        }
    }

    #[test]
    fn case_of_keys_changes_nothing(result in results()) {
        let document = result.to_value(SpecVersion::NEWEST).expect("can be said");
        prop_assert_eq!(CniResult::from_value(&shout(document), SpecVersion::NEWEST), Ok(result));
    }
}

/// All keys in upper case.
fn shout(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(shout).collect(),
        Value::Object(map) => map
            .into_iter()
            .map(|(key, value)| (key.to_uppercase(), shout(value)))
            .collect(),
        other => json!(other),
    }
}
