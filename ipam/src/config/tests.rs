use super::*;
use proptest::prelude::*;
use serde_json::json;

fn parse_ipam(ipam: Value) -> Result<IpamConfig, IpamError> {
    IpamConfig::parse(ipam.as_object().unwrap(), None)
}

fn sets(config: &IpamConfig) -> Vec<String> {
    config.sets.iter().map(RangeSet::describe).collect()
}

#[test]
fn ranges_are_read_as_host_local_spells_them() {
    let config = parse_ipam(json!({
        "type": "slash32-ipam",
        "ranges": [
            [{"subnet": "10.1.2.0/24", "rangeStart": "10.1.2.9", "rangeEnd": "10.1.2.17", "gateway": "10.1.2.1"},
             {"subnet": "10.5.0.0/30"}],
            [{"subnet": "2001:db8:1::/64"}]
        ],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "192.168.0.0/16", "gw": "10.1.2.1"}],
        "dataDir": "/var/lib/slash32",
        "resolvConf": "/etc/resolv.conf",
    }))
    .unwrap();
    assert_eq!(
        sets(&config),
        [
            "10.1.2.9-10.1.2.17,10.5.0.1-10.5.0.2",
            "2001:db8:1::1-2001:db8:1:0:ffff:ffff:ffff:ffff"
        ]
    );
    assert_eq!(config.routes[1].1, Some("10.1.2.1".parse().unwrap()));
    assert_eq!(config.data_dir.unwrap(), PathBuf::from("/var/lib/slash32"));
    assert_eq!(
        config.sets[0].ranges[1].gateway, None,
        "no address is lost to a gateway nobody named"
    );
}

#[test]
fn old_spelling_and_any_case_are_read_x2() {
    let config = parse_ipam(
        json!({"Subnet": "10.1.2.0/24", "RANGESTART": "10.1.2.9", "Gateway": "", "Ranges": [],
        "Routes": null, "DATADIR": "/x"}),
    )
    .unwrap();
    assert_eq!(sets(&config), ["10.1.2.9-10.1.2.254"]);
    assert_eq!(config.data_dir.unwrap(), PathBuf::from("/x"));
    let both = parse_ipam(json!({"subnet": "10.1.2.0/24", "ranges": [[{"subnet": "fd00::/64"}]]}))
        .unwrap();
    assert_eq!(both.sets.len(), 2);
}

#[test]
fn ip_ranges_capability_replaces_all_ranges_i7() {
    let ipam = json!({"subnet": "10.1.2.0/24", "ranges": [[{"subnet": "fd00::/64"}]]});
    let ranges = json!([[{"subnet": "10.9.0.0/24"}]]);
    let config = IpamConfig::parse(ipam.as_object().unwrap(), Some(&ranges)).unwrap();
    assert_eq!(sets(&config), ["10.9.0.1-10.9.0.254"]);
    let config = IpamConfig::parse(ipam.as_object().unwrap(), Some(&json!([]))).unwrap();
    assert_eq!(config.sets.len(), 2);
}

#[test]
fn default_gateway_is_the_first_address_where_asked_for() {
    let config = parse_ipam(json!({"ranges": [[{"subnet": "10.1.2.0/24"}, {"subnet": "10.1.3.0/24", "gateway": "10.1.3.9"}],
        [{"subnet": "fd00::/64"}]]}))
    .unwrap()
    .with_default_gateways();
    let gateways: Vec<_> = config
        .sets
        .iter()
        .flat_map(|set| &set.ranges)
        .map(|r| r.gateway.unwrap().to_string())
        .collect();
    assert_eq!(gateways, ["10.1.2.1", "10.1.3.9", "fd00::1"]);
    let tiny = parse_ipam(json!({"subnet": "10.1.2.0/31"}))
        .unwrap()
        .with_default_gateways();
    assert_eq!(tiny.sets[0].ranges[0].gateway, None);
}

#[test]
fn every_error_names_key_and_value() {
    for (ipam, key, value) in [
        (json!({"ranges": {}}), "ranges", "{}"),
        (json!({"ranges": [[]]}), "ranges[0]", "empty"),
        (
            json!({"ranges": [[{"subnet": "10.1.2.0"}]]}),
            "ranges[0][0].subnet",
            "10.1.2.0",
        ),
        (
            json!({"ranges": [[{"subnet": "10.1.2.0/33"}]]}),
            "ranges[0][0].subnet",
            "10.1.2.0/33",
        ),
        (
            json!({"ranges": [[{"subnet": 7}]]}),
            "ranges[0][0].subnet",
            "7",
        ),
        (
            json!({"ranges": [["10.0.0.0/8"]]}),
            "ranges[0][0]",
            "10.0.0.0/8",
        ),
        (json!({"ranges": [[{}]]}), "ranges[0][0].subnet", "missing"),
        (
            json!({"ranges": [[{"subnet": "10.1.2.0/24"}, {"subnet": "fd00::/64"}]]}),
            "ranges[0]",
            "family",
        ),
        (
            json!({"ranges": [[{"subnet": "10.1.2.0/24"}], [{"subnet": "10.1.0.0/16"}]]}),
            "ranges",
            "overlaps",
        ),
        (json!({"subnet": "10.1.2.3/24"}), "subnet", "10.1.2.3/24"),
        (
            json!({"subnet": "10.1.2.0/24", "rangeEnd": "x"}),
            "rangeEnd",
            "\"x\"",
        ),
        (
            json!({"routes": [{"gw": "10.0.0.1"}]}),
            "routes[0].dst",
            "missing",
        ),
        (
            json!({"routes": [{"dst": "10.0.0.0/8", "gw": "y"}]}),
            "routes[0].gw",
            "\"y\"",
        ),
        (json!({"dataDir": "x/y"}), "dataDir", "x/y"),
    ] {
        match parse_ipam(ipam.clone()) {
            Err(IpamError::Config { key: named, reason }) => {
                assert_eq!(named, key, "{ipam}");
                assert!(reason.contains(value), "{ipam}: {reason}");
            }
            other => panic!("{ipam}: {other:?}"),
        }
    }
}

#[test]
fn no_range_is_no_set_i14() {
    assert!(
        parse_ipam(json!({"type": "slash32-ipam"}))
            .unwrap()
            .sets
            .is_empty()
    );
}

/// Values that meet a parser in the field: right, nearly right, and of another type.
fn odd_value() -> impl Strategy<Value = Value> {
    let odd = [
        json!("10.1.0.0/24"),
        json!("10.1.0.7/24"),
        json!("fd00::/64"),
        json!("0.0.0.0/0"),
        json!("::/0"),
        json!("255.255.255.255/32"),
        json!("10.1.0.9"),
        json!("fd00::9"),
        json!("10.1.0.0/99"),
        json!("/"),
        json!(""),
        json!("\u{0}"),
        json!(null),
        json!(-1),
        json!(1e300),
        json!(true),
        json!({}),
        json!([]),
        json!([[]]),
        json!([null]),
    ];
    prop::sample::select(odd.to_vec())
}

proptest! {
    #[test]
    fn parsing_never_panics_and_what_it_accepts_is_sound(
        legacy in prop::collection::btree_map("subnet|rangeStart|RangeEnd|gateway|ranges|routes|dataDir", odd_value(), 0..5),
        ranges in prop::collection::vec(
            prop::collection::vec(
                prop::collection::btree_map("subnet|Subnet|rangeStart|rangeEnd|gateway", odd_value(), 0..4), 0..3),
            0..3),
    ) {
        for ip_ranges in [None, Some(json!(ranges))] {
            let ipam = json!(legacy);
            let Ok(config) = IpamConfig::parse(ipam.as_object().unwrap(), ip_ranges.as_ref()) else { continue };
            for range in config.with_default_gateways().sets.iter().flat_map(|set| &set.ranges) {
                prop_assert!(range.first <= range.last && range.subnet.contains(range.first), "{:?}", range);
                prop_assert!(range.subnet.contains(range.last) && range.capacity() <= 1 << 127, "{:?}", range);
            }
        }
    }
}
