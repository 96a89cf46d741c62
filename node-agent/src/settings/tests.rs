//! Every key's default, range and error; no file, flag or environment is read here.

use super::values::kebab_case;
use super::*;
use raw::RawMasquerade;

fn around() -> Surroundings {
    Surroundings {
        node_name: None,
        hostname: Some("worker-1".into()),
    }
}

fn from(change: impl FnOnce(&mut RawSettings)) -> Result<Settings, String> {
    let mut raw = RawSettings::default();
    change(&mut raw);
    Settings::from_raw(raw, &around()).map_err(|error| error.to_string())
}

#[test]
fn defaults_are_those_of_the_manual() {
    let settings = from(|_| {}).unwrap();
    assert_eq!(settings.node_name, "worker-1");
    assert_eq!(settings.nodes_file, None);
    assert_eq!(settings.cni_conf_name, "10-slash32.conflist");
    assert_eq!(settings.cni_bin_dir, None);
    assert_eq!(
        settings.plugin_dir,
        std::path::Path::new("/opt/slash32/bin")
    );
    assert!(settings.masquerade.enabled && settings.anti_spoofing);
    assert_eq!(settings.mtu, MtuSetting::Auto);
    assert_eq!(settings.listen, Some("127.0.0.1:9532".parse().unwrap()));
    assert_eq!(settings.resync_interval, Duration::from_secs(60));
    assert_eq!(settings.leak_grace_period, Duration::from_secs(300));
}

#[test]
fn the_node_name_is_the_setting_then_node_name_then_the_host_name() {
    let both = Surroundings {
        node_name: Some("from-env".into()),
        hostname: Some("host".into()),
    };
    let named = RawSettings {
        node_name: Some("set".into()),
        ..RawSettings::default()
    };
    assert_eq!(Settings::from_raw(named, &both).unwrap().node_name, "set");
    assert_eq!(
        Settings::from_raw(RawSettings::default(), &both)
            .unwrap()
            .node_name,
        "from-env"
    );
    let neither = Settings::from_raw(RawSettings::default(), &Surroundings::default()).unwrap_err();
    assert!(neither.to_string().contains("nodeName"), "{neither}");
}

#[test]
fn every_bad_value_is_refused_by_key_value_and_what_is_allowed() {
    type Change = fn(&mut RawSettings);
    let cases: &[(&str, Change)] = &[
        (
            "nodeName: \"Has Space\" ... --node-name SLASH32_NODE_NAME a-z",
            |raw| raw.node_name = Some("Has Space".into()),
        ),
        (
            "nodesFile: \"nodes.yaml\" ... absolute SLASH32_NODES_FILE",
            |raw| raw.nodes_file = Some("nodes.yaml".into()),
        ),
        ("stateDir: \"run\" ... absolute", |raw| {
            raw.state_dir = Some("run".into())
        }),
        ("cniBinDir: \"bin\" ... absolute --cni-bin-dir", |raw| {
            raw.cni_bin_dir = Some("bin".into())
        }),
        ("pluginDir: \"bin\" ... absolute --plugin-dir", |raw| {
            raw.plugin_dir = Some("bin".into())
        }),
        ("cniConfName: \"../x.conflist\" ... .conflist", |raw| {
            raw.cni_conf_name = Some("../x.conflist".into())
        }),
        ("cniConfName: \"10.conf\" ... .conflist", |raw| {
            raw.cni_conf_name = Some("10.conf".into())
        }),
        ("networkName: \"a/b\" ... letter", |raw| {
            raw.network_name = Some("a/b".into())
        }),
        (
            "clusterCIDRs: \"10.0.0.1/8\" ... 10.0.0.0/8 --cluster-cidrs SLASH32_CLUSTER_CIDRS",
            |raw| {
                raw.cluster_cidrs = Some(vec!["10.0.0.1/8".into()]);
            },
        ),
        (
            "masquerade.enabled: \"yes\" ... true, false --masquerade-enabled SLASH32_MASQUERADE_ENABLED",
            |raw| {
                raw.masquerade.enabled = Some("yes".into());
            },
        ),
        ("masquerade.exclude: \"all\" ... CIDR", |raw| {
            raw.masquerade = RawMasquerade {
                exclude: Some(vec!["all".into()]),
                ..RawMasquerade::default()
            };
        }),
        (
            "antiSpoofing: \"0\" ... true, false --anti-spoofing",
            |raw| raw.anti_spoofing = Some("0".into()),
        ),
        ("mtu: \"100\" ... 576 65535", |raw| {
            raw.mtu = Some("100".into())
        }),
        ("mtu: \"big\" ... auto", |raw| raw.mtu = Some("big".into())),
        ("encapsulation: \"gre\" ... none, ipip, vxlan", |raw| {
            raw.encapsulation = Some("gre".into())
        }),
        ("listen: \"9532\" ... address:port", |raw| {
            raw.listen = Some("9532".into())
        }),
        ("logFormat: \"xml\" ... auto, text, json", |raw| {
            raw.log_format = Some("xml".into())
        }),
        (
            "logLevel: \"loud\" ... error, warn, info, debug, trace",
            |raw| raw.log_level = Some("loud".into()),
        ),
        ("resyncInterval: \"0s\" ... 1s 3600s", |raw| {
            raw.resync_interval = Some("0s".into())
        }),
        ("resyncInterval: \"60\" ... s, m or h", |raw| {
            raw.resync_interval = Some("60".into())
        }),
        (
            "leakGracePeriod: \"99999999999999999999h\" ... 86400s",
            |raw| {
                raw.leak_grace_period = Some("99999999999999999999h".into());
            },
        ),
        ("nftProgram: \"\" ... program", |raw| {
            raw.nft_program = Some(String::new())
        }),
        ("procSys: \"sys\" ... absolute", |raw| {
            raw.proc_sys = Some("sys".into())
        }),
    ];
    for (expected, change) in cases {
        let message = from(change).unwrap_err();
        let (head, needles) = expected.split_once(" ... ").unwrap();
        assert!(message.contains(head), "{message}\nlacks {head}");
        for needle in needles.split(' ') {
            assert!(message.contains(needle), "{message}\nlacks {needle}");
        }
    }
}

#[test]
fn durations_take_seconds_minutes_and_hours() {
    for (text, seconds) in [("1s", 1), ("90s", 90), ("5m", 300), ("1h", 3600)] {
        assert_eq!(
            from(|raw| raw.resync_interval = Some(text.into()))
                .unwrap()
                .resync_interval
                .as_secs(),
            seconds
        );
    }
}

#[test]
fn an_empty_list_from_the_environment_is_no_cidr() {
    let settings = from(|raw| raw.cluster_cidrs = Some(vec![String::new()])).unwrap();
    assert!(settings.cluster_cidrs.is_empty());
}

#[test]
fn an_empty_listen_turns_the_server_off() {
    assert_eq!(
        from(|raw| raw.listen = Some(String::new())).unwrap().listen,
        None
    );
}

#[test]
fn the_effective_settings_name_every_key_of_the_manual() {
    let manual = include_str!("../../../docs/settings.md");
    let effective = from(|_| {}).unwrap().effective();
    for (key, _) in &effective {
        assert!(
            manual.contains(&format!("| `{key}` |")),
            "docs/settings.md lacks {key}"
        );
        let kebab = kebab_case(key);
        assert!(
            manual.contains(&format!("`--{kebab}`")),
            "docs/settings.md lacks --{kebab}"
        );
        let variable = format!("SLASH32_{}", kebab.replace('-', "_").to_uppercase());
        assert!(
            manual.contains(&format!("`{variable}`")),
            "docs/settings.md lacks {variable}"
        );
    }
}
