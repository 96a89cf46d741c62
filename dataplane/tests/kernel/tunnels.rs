//! Tunnel devices and their entries, checked with iproute2.

use dataplane::netlink::Netlink;
use dataplane::tunnel::{Entry, EntryOp, TunnelKind, TunnelSpec, ensure_tx_checksum, tx_checksum};

use crate::lab::{Case, run};

pub(crate) const TRIALS: &[Case] = &[
    ("a_vxlan_device_is_made_seen_and_fits", a_vxlan_device),
    ("entries_are_set_replaced_listed_and_removed", entries),
    ("an_address_is_given_once_and_taken_again", addresses),
    ("checksum_offload_goes_off_and_on", offload),
];

const MAC: [u8; 6] = [0x32, 0x32, 192, 0, 2, 1];

fn spec(local: &str) -> TunnelSpec {
    TunnelSpec {
        name: "s32vxlan".into(),
        kind: TunnelKind::Vxlan {
            vni: 3232,
            port: 4789,
            local: local.parse().unwrap(),
            mac: MAC,
        },
        mtu: 1450,
    }
}

/// The device, up.
fn make(netlink: &mut Netlink, spec: &TunnelSpec) -> u32 {
    netlink.create_tunnel(spec).unwrap();
    let link = netlink.find_link(&spec.name).unwrap().unwrap();
    assert!(netlink.ensure_tunnel_values(&link, spec).unwrap());
    let link = netlink.find_link(&spec.name).unwrap().unwrap();
    assert!(
        !netlink.ensure_tunnel_values(&link, spec).unwrap(),
        "nothing is left to do"
    );
    link.index
}

fn a_vxlan_device() {
    let mut netlink = Netlink::open().unwrap();
    for local in ["192.0.2.1", "2001:db8::1"] {
        let spec = spec(local);
        make(&mut netlink, &spec);
        let shown = run("ip", "-d link show s32vxlan");
        for part in [
            "mtu 1450",
            "32:32:c0:00:02:01",
            "vxlan id 3232",
            &format!("local {local}"),
            "dstport 4789",
            "nolearning",
            "addrgenmode none",
            "UP",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        let link = netlink.find_link("s32vxlan").unwrap().unwrap();
        assert!(link.tunnel.as_ref().unwrap().fits(&spec.kind), "{link:?}");
        let again = netlink.create_tunnel(&spec).unwrap_err();
        assert!(again.is_exists(), "{again}");
        assert!(again.to_string().contains("VNI 3232, port 4789"), "{again}");
        assert!(netlink.remove_link("s32vxlan").unwrap());
    }
    run(
        "ip",
        "link add s32vxlan type vxlan id 3232 dstport 4789 local 192.0.2.1 remote 192.0.2.9",
    );
    let link = netlink.find_link("s32vxlan").unwrap().unwrap();
    assert!(
        !link.tunnel.unwrap().fits(&spec("192.0.2.1").kind),
        "learning, with a default peer"
    );
}

fn entries() {
    let mut netlink = Netlink::open().unwrap();
    let index = make(&mut netlink, &spec("192.0.2.1"));
    let mac = [0x32, 0x32, 192, 0, 2, 2];
    let wanted = [
        Entry::Neighbour {
            address: "192.0.2.2".parse().unwrap(),
            mac,
        },
        Entry::Neighbour {
            address: "fe80::2".parse().unwrap(),
            mac,
        },
        Entry::Forwarding {
            mac,
            node: "192.0.2.2".parse().unwrap(),
        },
    ];
    let set = wanted.map(EntryOp::Set);
    for result in netlink.apply_entries(index, &set) {
        result.unwrap();
    }
    let shown = run("bridge", "fdb show dev s32vxlan");
    assert!(
        shown.contains("32:32:c0:00:02:02 dst 192.0.2.2 self permanent"),
        "{shown}"
    );
    let mut seen = netlink.list_entries(index).unwrap();
    seen.sort();
    assert_eq!(seen, wanted);
    let moved = Entry::Forwarding {
        mac,
        node: "192.0.2.3".parse().unwrap(),
    };
    netlink.apply_entries(index, &[EntryOp::Set(moved)])[0]
        .as_ref()
        .unwrap();
    assert!(netlink.list_entries(index).unwrap().contains(&moved));
    let gone = [
        EntryOp::Remove(moved),
        EntryOp::Remove(wanted[0]),
        EntryOp::Remove(wanted[0]),
    ];
    for result in netlink.apply_entries(index, &gone) {
        result.unwrap();
    }
    assert_eq!(netlink.list_entries(index).unwrap(), [wanted[1]]);
}

fn addresses() {
    let mut netlink = Netlink::open().unwrap();
    let index = make(&mut netlink, &spec("192.0.2.1"));
    for ip in ["192.0.2.1", "2001:db8::1"] {
        let ip = ip.parse().unwrap();
        for _ in 0..2 {
            netlink
                .ensure_address(index, ip, Some("s32vxlan:s32"))
                .unwrap();
        }
    }
    let shown = run("ip", "-o address show dev s32vxlan");
    assert_eq!(shown.lines().count(), 2, "{shown}");
    assert!(
        shown.contains("192.0.2.1/32 scope global s32vxlan:s32"),
        "{shown}"
    );
    let all = netlink.list_addresses().unwrap();
    let labelled = all
        .iter()
        .find(|info| info.index == index && info.address.is_ipv4());
    assert_eq!(labelled.unwrap().label.as_deref(), Some("s32vxlan:s32"));
    for ip in ["192.0.2.1", "2001:db8::1", "192.0.2.1"] {
        netlink.remove_address(index, ip.parse().unwrap()).unwrap();
    }
    assert_eq!(run("ip", "-o address show dev s32vxlan"), "");
}

fn offload() {
    let mut netlink = Netlink::open().unwrap();
    make(&mut netlink, &spec("192.0.2.1"));
    assert!(tx_checksum("s32vxlan").unwrap());
    assert!(ensure_tx_checksum("s32vxlan", false).unwrap());
    assert!(!ensure_tx_checksum("s32vxlan", false).unwrap());
    assert!(!tx_checksum("s32vxlan").unwrap());
    assert!(ensure_tx_checksum("s32vxlan", true).unwrap());
    let missing = tx_checksum("nolink").unwrap_err();
    assert!(missing.is_not_found(), "{missing}");
}
