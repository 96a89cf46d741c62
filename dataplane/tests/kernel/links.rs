//! Veth pairs: made by one message, told apart when in the way, found, removed.

use dataplane::link::VethObstacle;
use dataplane::netlink::Netlink;
use dataplane::netns::Netns;

use crate::lab::{self, Case, POD_MAC, run, run_in, veth};

pub(crate) const TRIALS: &[Case] = &[
    (
        "links::a_pair_is_made_with_names_macs_mtu_and_alias",
        a_pair_is_made_with_names_macs_mtu_and_alias,
    ),
    (
        "links::the_echoed_indexes_are_those_of_iproute2",
        the_echoed_indexes_are_those_of_iproute2,
    ),
    (
        "links::a_taken_pod_interface_is_told_apart_and_untouched_a1",
        a_taken_pod_interface_is_told_apart_and_untouched,
    ),
    (
        "links::a_taken_host_name_is_told_apart",
        a_taken_host_name_is_told_apart,
    ),
    (
        "links::removing_what_is_absent_is_done",
        removing_what_is_absent_is_done,
    ),
    ("links::a_long_alias_is_cut", a_long_alias_is_cut),
    (
        "links::an_mtu_out_of_range_is_named",
        an_mtu_out_of_range_is_named,
    ),
    (
        "links::a_panic_inside_a_namespace_comes_back_home",
        a_panic_inside_a_namespace_comes_back_home,
    ),
    (
        "links::a_thousand_links_are_listed_whole",
        a_thousand_links_are_listed_whole,
    ),
];

fn a_pair_is_made_with_names_macs_mtu_and_alias() {
    let pod = lab::pod_netns();
    let mut host = Netlink::open().unwrap();
    host.create_veth(&veth("s32test", &pod)).unwrap();
    let shown = run("ip", "-d link show dev s32test");
    for part in [
        "BROADCAST,MULTICAST,UP",
        "mtu 1450",
        "ee:ee:ee:ee:ee:ee",
        "veth",
        "alias default/web-0 eth0",
    ] {
        assert!(shown.contains(part) || part == "{part} in {shown}");
    }
    let inside = run_in(&pod, "ip", "-d link show dev eth0");
    for part in ["mtu 1450", "02:00:00:00:00:05", "veth"] {
        assert!(inside.contains(part), "{part} in {inside}");
    }
    let link = host.find_link("s32test").unwrap().expect("just made");
    assert_eq!(link.kind.as_deref(), Some("veth"));
    assert_eq!(link.mac, Some([0xee; 6]));
    assert!(link.up && link.mtu == 1450 && link.peer_netns_id.is_some());
    assert_eq!(host.find_link_by_index(link.index).unwrap(), Some(link));
}

fn the_echoed_indexes_are_those_of_iproute2() {
    let pod = lab::pod_netns();
    // So that the two indexes differ.
    run_in(&pod, "ip", "link add br0 type bridge");
    let pair = Netlink::open()
        .unwrap()
        .create_veth(&veth("s32test", &pod))
        .unwrap();
    assert!(run("ip", "-o link show dev s32test").starts_with(&format!("{}: ", pair.host_index)));
    assert!(
        run_in(&pod, "ip", "-o link show dev eth0").starts_with(&format!("{}: ", pair.pod_index))
    );
    assert_ne!(pair.host_index, pair.pod_index);
}

fn a_taken_pod_interface_is_told_apart_and_untouched() {
    let pod = lab::pod_netns();
    run_in(&pod, "ip", "link add eth0 type bridge");
    let before = run_in(&pod, "ip", "-o link show dev eth0");
    let mut host = Netlink::open().unwrap();
    let error = host.create_veth(&veth("s32test", &pod)).unwrap_err();
    assert!(
        error.is_exists()
            && error
                .to_string()
                .contains("the pod already has an interface eth0"),
        "{error}"
    );
    let obstacle = host.find_veth_obstacle(&veth("s32test", &pod)).unwrap();
    assert!(
        matches!(obstacle, Some(VethObstacle::PodInterface(link)) if link.kind.as_deref() == Some("bridge"))
    );
    assert_eq!(run_in(&pod, "ip", "-o link show dev eth0"), before);
    assert_eq!(host.find_link("s32test").unwrap(), None, "nothing is left");
}

fn a_taken_host_name_is_told_apart() {
    let (pod, other) = (lab::pod_netns(), lab::pod_netns());
    let mut host = Netlink::open().unwrap();
    host.create_veth(&veth("s32test", &other)).unwrap();
    let error = host.create_veth(&veth("s32test", &pod)).unwrap_err();
    assert!(
        error.is_exists() && error.to_string().contains("(default/web-0 eth0)"),
        "{error}"
    );
    let obstacle = host.find_veth_obstacle(&veth("s32test", &pod)).unwrap();
    assert!(matches!(obstacle, Some(VethObstacle::HostLink(link)) if link.name == "s32test"));
    assert!(
        !run_in(&pod, "ip", "link").contains("eth0"),
        "nothing is left"
    );
}

fn removing_what_is_absent_is_done() {
    let pod = lab::pod_netns();
    let mut host = Netlink::open().unwrap();
    assert!(!host.remove_link("s32nothing").unwrap());
    assert!(!host.remove_link("a-name-that-no-link-can-have").unwrap());
    host.create_veth(&veth("s32test", &pod)).unwrap();
    assert!(host.remove_link("s32test").unwrap());
    assert!(!host.remove_link("s32test").unwrap());
    assert!(!run_in(&pod, "ip", "link").contains("eth0"));
    assert_eq!(host.find_link_by_index(4_000_000).unwrap(), None);
}

fn a_long_alias_is_cut() {
    let pod = lab::pod_netns();
    let alias = "ü".repeat(300);
    let mut host = Netlink::open().unwrap();
    host.create_veth(&dataplane::link::VethSpec {
        alias: Some(&alias),
        ..veth("s32test", &pod)
    })
    .unwrap();
    assert_eq!(
        host.find_link("s32test").unwrap().unwrap().alias.unwrap(),
        "ü".repeat(127)
    );
}

fn an_mtu_out_of_range_is_named() {
    let pod = lab::pod_netns();
    let spec = dataplane::link::VethSpec {
        mtu: Some(20),
        pod_mac: Some(POD_MAC),
        ..veth("s32test", &pod)
    };
    let error = Netlink::open().unwrap().create_veth(&spec).unwrap_err();
    assert_eq!(error.errno, nix::libc::EINVAL);
    assert!(error.to_string().contains("mtu 20"), "{error}");
}

fn a_panic_inside_a_namespace_comes_back_home() {
    let (home, pod) = (Netns::current().unwrap().identity(), lab::pod_netns());
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let result = std::panic::catch_unwind(|| pod.run(|| panic!("inside")));
    std::panic::set_hook(hook);
    assert!(result.is_err());
    assert_eq!(Netns::current().unwrap().identity(), home);
    assert_eq!(
        pod.run(|| Netns::current().unwrap().identity()).unwrap(),
        pod.identity()
    );
}

fn a_thousand_links_are_listed_whole() {
    let script: String = (0..500)
        .map(|i| format!("link add v{i} type veth peer name w{i}\n"))
        .collect();
    std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
    let file = std::env::temp_dir().join(format!("slash32-links-{}", std::process::id()));
    std::fs::write(&file, script).unwrap();
    run("ip", &format!("-batch {}", file.display()));
    std::fs::remove_file(&file).unwrap();
    let links = Netlink::open().unwrap().list_links().unwrap();
    assert_eq!(links.len(), 1001);
    let named = |name: &str| links.iter().find(|link| link.name == name).unwrap();
    assert_eq!(named("v7").peer_index, Some(named("w7").index));
    assert_eq!(named("lo").kind, None);
}
