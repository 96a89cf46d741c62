//! The order of the steps and the values that we derive; that the kernel takes them is proven in `dataplane/tests`.

use super::*;

fn route(dst: &str) -> PodRoute {
    let dst = dst.parse().unwrap();
    PodRoute {
        dst,
        gw: None,
        mtu: None,
        advmss: None,
        priority: None,
        table: None,
        scope: None,
    }
}

fn spec(addresses: &[&str], routes: Vec<PodRoute>) -> PodSideSpec {
    let addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
    PodSideSpec {
        index: 2,
        addresses,
        gateway_mac: [0xee; 6],
        routes,
    }
}

#[test]
fn up_comes_before_addresses_and_neighbours_before_routes() {
    let spec = spec(
        &["10.1.0.5", "fd00::5"],
        vec![route("0.0.0.0/0"), route("::/0")],
    );
    let shown: Vec<String> = compute_steps(&spec)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        shown,
        [
            "turn off generated ipv6 addresses",
            "set the link up",
            "add address fe80::5/64",
            "add address 10.1.0.5/32",
            "add address fd00::5/128",
            "add local route fd00::5",
            "add route 169.254.1.1/32 scope link",
            "add permanent neighbour 169.254.1.1",
            "add permanent neighbour fe80::ecee:eeff:feee:eeee",
            "add route 0.0.0.0/0 via 169.254.1.1",
            "add route ::/0 via fe80::ecee:eeff:feee:eeee",
        ]
    );
}

#[test]
fn no_default_route_is_made_up() {
    let steps_spec = spec(&["10.1.0.5"], vec![]);
    assert!(
        !compute_steps(&steps_spec)
            .iter()
            .any(|step| matches!(step, Step::Route(_)))
    );
}

#[test]
fn another_gateway_gets_a_neighbour_of_its_own_once() {
    let via = |dst| PodRoute {
        gw: Some("10.1.0.1".parse().unwrap()),
        ..route(dst)
    };
    let spec = spec(&["10.1.0.5"], vec![via("0.0.0.0/0"), via("10.0.0.0/8")]);
    let wanted = Step::Neighbour("10.1.0.1".parse().unwrap());
    assert_eq!(
        compute_steps(&spec)
            .iter()
            .filter(|step| **step == wanted)
            .count(),
        1
    );
}

#[test]
fn a_route_declared_on_link_has_no_gateway() {
    assert_eq!(
        gateway_of(&PodRoute {
            scope: Some(SCOPE_LINK),
            ..route("10.2.0.0/16")
        }),
        None
    );
    assert_eq!(
        gateway_of(&PodRoute {
            scope: Some(0),
            ..route("10.2.0.0/16")
        }),
        Some(GATEWAY_V4.into())
    );
}

#[test]
fn a_pods_link_local_shows_its_host_part_and_is_never_the_gateways() {
    assert_eq!(
        link_local_of("fd00:10::5".parse().unwrap()).to_string(),
        "fe80::5"
    );
    assert_eq!(
        link_local_of("fd00:10::".parse().unwrap()).to_string(),
        "fe80::1"
    );
    assert_eq!(
        link_local_of("fd00::ecee:eeff:feee:eeee".parse().unwrap()).to_string(),
        "fe80::1"
    );
}
