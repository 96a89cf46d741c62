use super::*;
use serde_json::json;

fn read(asked: Value) -> Result<RuntimeConfig, CniError> {
    let conf = json!({ "runtimeConfig": asked });
    RuntimeConfig::from_conf(conf.as_object().expect("an object"))
}

fn refused(asked: Value) -> String {
    let error = read(asked.clone()).expect_err(&asked.to_string());
    assert_eq!(error.code, ErrorCode::InvalidConfig);
    assert!(error.details.is_some(), "{error}");
    error.msg
}

#[test]
fn x1_what_is_absent_is_not_asked_for() {
    assert_eq!(
        RuntimeConfig::from_conf(&Map::new()),
        Ok(RuntimeConfig::default())
    );
    let nothing = json!({ "portMappings": null, "bandwidth": null, "ips": null, "mac": "", "ipRanges": [], "dns": {}, "cgroupPath": "/x", "aliases": ["y"] });
    for asked in [json!(null), json!({}), nothing] {
        assert_eq!(read(asked), Ok(RuntimeConfig::default()));
    }
    assert_eq!(refused(json!([])), "bad value of runtimeConfig: a list");
}

#[test]
fn x2_what_containerd_sends_is_what_the_convention_says() {
    let containerd = read(json!({
        "portMappings": [{ "HostPort": 8080, "ContainerPort": 80, "Protocol": "TCP", "HostIP": "" }],
        "bandwidth": { "IngressRate": 1000, "IngressBurst": 4294967295_u64, "EgressRate": 0, "EgressBurst": 0 },
        "dns": { "Servers": ["10.96.0.10"], "Searches": ["svc"], "Options": null },
    }));
    let convention = read(json!({
        "portMappings": [{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }],
        "bandwidth": { "ingressRate": 1000, "ingressBurst": 4294967295_u64 },
        "dns": { "servers": ["10.96.0.10"], "searches": ["svc"] },
    }));
    assert_eq!(containerd, convention);
    let config = convention.expect("valid");
    assert_eq!(
        config.port_mappings,
        [PortMapping {
            host_ip: None,
            host_port: 8080,
            container_port: 80,
            protocol: Protocol::Tcp
        }]
    );
    assert_eq!(
        config.bandwidth,
        Some(Bandwidth {
            ingress_rate: 1000,
            ingress_burst: 4294967295,
            egress_rate: 0,
            egress_burst: 0
        })
    );
    let dns = config.dns.expect("a dns");
    assert_eq!(
        (dns.nameservers, dns.search),
        (vec!["10.96.0.10".to_owned()], vec!["svc".to_owned()])
    );
}

#[test]
fn x3_one_port_may_lead_to_several_places_by_address_and_protocol() {
    let config = read(json!({ "portMappings": [
        { "hostPort": 53, "containerPort": 53, "protocol": "udp" },
        { "hostPort": 53, "containerPort": 5353, "protocol": "tcp" },
        { "hostPort": 53, "containerPort": 54, "protocol": "Sctp", "hostIP": "::1" },
        { "hostPort": 53, "containerPort": 55, "protocol": "udp", "hostIP": "192.0.2.1" },
        { "hostPort": 53, "containerPort": 53, "protocol": "UDP" },
    ] }));
    let mappings = config.expect("valid").port_mappings;
    assert_eq!(
        mappings
            .iter()
            .map(|mapping| mapping.container_port)
            .collect::<Vec<_>>(),
        [53, 5353, 54, 55],
        "twice the same is once"
    );
}

#[test]
fn x3_bad_ports_are_refused_by_name_and_value() {
    for (mapping, msg) in [
        (json!({ "hostPort": 0, "containerPort": 80 }), "hostPort: 0"),
        (
            json!({ "hostPort": -1, "containerPort": 80 }),
            "hostPort: -1",
        ),
        (
            json!({ "hostPort": 65536, "containerPort": 80 }),
            "hostPort: 65536",
        ),
        (
            json!({ "hostPort": "80", "containerPort": 80 }),
            "hostPort: \"80\"",
        ),
        (json!({ "hostPort": 80 }), "containerPort: nothing"),
        (
            json!({ "hostPort": 80, "containerPort": 0 }),
            "containerPort: 0",
        ),
        (
            json!({ "hostPort": 80, "containerPort": 80, "protocol": "icmp" }),
            "protocol: \"icmp\"",
        ),
        (
            json!({ "hostPort": 80, "containerPort": 80, "hostIP": "node" }),
            "hostIP: \"node\"",
        ),
    ] {
        assert_eq!(
            refused(json!({ "portMappings": [mapping] })),
            format!("bad value of runtimeConfig.portMappings[0].{msg}")
        );
    }
    assert_eq!(
        refused(json!({ "portMappings": [7] })),
        "bad value of runtimeConfig.portMappings[0]: 7"
    );
    assert_eq!(
        refused(json!({ "portMappings": {} })),
        "bad value of runtimeConfig.portMappings: an object"
    );
    let clash =
        json!([{ "hostPort": 80, "containerPort": 1 }, { "hostPort": 80, "containerPort": 2 }]);
    assert_eq!(
        refused(json!({ "portMappings": clash })),
        "bad value of runtimeConfig.portMappings[1].hostPort: 80"
    );
}

#[test]
fn x4_rate_and_burst_come_together_and_the_burst_fits_the_kernel() {
    let largest = (1_u64 << 35) - 9;
    let config = read(json!({ "bandwidth": { "egressRate": 1, "egressBurst": largest } }))
        .expect("what cri-o sends");
    assert_eq!(config.bandwidth.expect("limits").egress_burst, largest);
    assert_eq!(
        refused(json!({ "bandwidth": { "egressRate": 1, "egressBurst": largest + 1 } })),
        format!(
            "bad value of runtimeConfig.bandwidth.egressBurst: {}",
            largest + 1
        )
    );
    assert_eq!(
        refused(json!({ "bandwidth": { "ingressRate": 1 } })),
        "bad value of runtimeConfig.bandwidth.ingressBurst: 0"
    );
    assert_eq!(
        refused(json!({ "bandwidth": { "ingressBurst": 1 } })),
        "bad value of runtimeConfig.bandwidth.ingressRate: 0"
    );
    assert_eq!(
        refused(json!({ "bandwidth": { "ingressRate": -5 } })),
        "bad value of runtimeConfig.bandwidth.ingressRate: -5"
    );
    assert_eq!(
        read(json!({ "bandwidth": { "ingressRate": 0 } }))
            .expect("unlimited")
            .bandwidth,
        None
    );
}

#[test]
fn x5_addresses_and_mac_are_validated() {
    let config =
        read(json!({ "ips": ["10.0.0.7", "10.0.0.8/24", "fd00::7"], "mac": "C2:B0:57:49:47:F1" }))
            .expect("valid");
    assert_eq!(
        config
            .ips
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["10.0.0.7/32", "10.0.0.8/24", "fd00::7/128"]
    );
    assert_eq!(config.mac, Some([0xc2, 0xb0, 0x57, 0x49, 0x47, 0xf1]));
    assert_eq!(
        refused(json!({ "ips": ["10.0.0.7", "x"] })),
        "bad value of runtimeConfig.ips[1]: \"x\""
    );
    assert_eq!(
        refused(json!({ "ips": [7] })),
        "bad value of runtimeConfig.ips[0]: 7"
    );
    assert_eq!(
        refused(json!({ "mac": "01:00:5e:00:00:01" })),
        "bad value of runtimeConfig.mac: \"01:00:5e:00:00:01\""
    );
}

#[test]
fn i7_ip_ranges_are_passed_on_as_they_are() {
    let ranges = json!([[{ "subnet": "10.9.0.0/24", "RangeStart": "10.9.0.8" }]]);
    assert_eq!(
        read(json!({ "IPRanges": ranges }))
            .expect("valid")
            .ip_ranges,
        Some(ranges)
    );
    assert_eq!(
        refused(json!({ "ipRanges": "x" })),
        "bad value of runtimeConfig.ipRanges: \"x\""
    );
}
