use super::*;

fn assigned(addresses: &[&str], routes: &[&str]) -> Assigned {
    Assigned {
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        routes: routes
            .iter()
            .map(|r| Route {
                dst: r.parse().unwrap(),
                gw: None,
                mtu: Some(1400),
                advmss: None,
                priority: None,
                table: None,
                scope: None,
            })
            .collect(),
        dns: Dns::default(),
        fresh: true,
    }
}

fn destinations(plan: &LinkPlan) -> Vec<String> {
    plan.routes
        .iter()
        .map(|r| format!("{} via {}", r.dst, r.gw.unwrap()))
        .collect()
}

#[test]
fn a_dual_stack_pod_gets_a_default_route_in_each_family_through_the_gateway() {
    let plan = compute_plan(
        &assigned(&["10.1.0.5", "fd00::5"], &[]),
        None,
        DefaultRoutes::default(),
    )
    .unwrap();
    assert_eq!(
        destinations(&plan),
        [
            "0.0.0.0/0 via 169.254.1.1",
            "::/0 via fe80::ecee:eeff:feee:eeee"
        ]
    );
}

#[test]
fn routes_of_the_ipam_replace_the_default_and_keep_their_metrics() {
    let plan = compute_plan(
        &assigned(&["10.1.0.5"], &["10.0.0.0/8", "fd00::/8"]),
        None,
        DefaultRoutes::default(),
    )
    .unwrap();
    assert_eq!(
        destinations(&plan),
        ["10.0.0.0/8 via 169.254.1.1"],
        "a route of a family without address is left out"
    );
    assert_eq!(plan.routes[0].mtu, Some(1400));
}

#[test]
fn a_second_interface_leaves_the_first_ones_default_route_alone() {
    let present = DefaultRoutes {
        v4: true,
        v6: false,
    };
    let plan = compute_plan(&assigned(&["10.1.0.5", "fd00::5"], &[]), None, present).unwrap();
    assert_eq!(destinations(&plan), ["::/0 via fe80::ecee:eeff:feee:eeee"]);
}

#[test]
fn an_mtu_below_1280_is_refused_for_ipv6_and_taken_for_ipv4() {
    let error = compute_plan(
        &assigned(&["10.1.0.5", "fd00::5"], &[]),
        Some(1279),
        DefaultRoutes::default(),
    )
    .unwrap_err()
    .to_string();
    assert!(
        error.contains("mtu is 1279") && error.contains("fd00::5"),
        "{error}"
    );
    assert!(
        compute_plan(
            &assigned(&["10.1.0.5"], &[]),
            Some(1279),
            DefaultRoutes::default()
        )
        .is_ok()
    );
}

#[test]
fn every_address_of_the_result_points_at_the_pods_interface_a6() {
    let plan = compute_plan(
        &assigned(&["10.1.0.5", "fd00::5"], &[]),
        Some(1450),
        DefaultRoutes::default(),
    )
    .unwrap();
    let pod = PodLink {
        name: "eth0",
        mac: [2, 0, 0, 0, 0, 1],
        mtu: Some(1450),
        sandbox: "/run/netns/a",
    };
    let result = plan.result("s32abc", &pod, Dns::default());
    assert_eq!(result.interfaces[0].sandbox, None);
    assert_eq!(
        result.interfaces[1].sandbox.as_deref(),
        Some("/run/netns/a")
    );
    assert!(result.ips.iter().all(|ip| ip.interface == Some(1)));
    assert_eq!(result.ips[0].address.to_string(), "10.1.0.5/32");
    assert_eq!(result.ips[1].address.to_string(), "fd00::5/128");
}
