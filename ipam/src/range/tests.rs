use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn range(subnet: &str) -> Range {
    Range::new(subnet.parse().unwrap(), None, None, None).unwrap()
}

#[test]
fn network_and_broadcast_are_never_handed_out_i5() {
    for (subnet, first, last, capacity) in [
        ("10.244.1.0/24", "10.244.1.1", "10.244.1.254", 254),
        ("10.0.0.0/30", "10.0.0.1", "10.0.0.2", 2),
        ("10.0.0.0/31", "10.0.0.0", "10.0.0.1", 2),
        ("10.0.0.7/32", "10.0.0.7", "10.0.0.7", 1),
        ("10.0.0.0/8", "10.0.0.1", "10.255.255.254", (1 << 24) - 2),
        (
            "fd00::/64",
            "fd00::1",
            "fd00::ffff:ffff:ffff:ffff",
            u128::from(u64::MAX),
        ),
        ("fd00::/127", "fd00::", "fd00::1", 2),
        ("fd00::9/128", "fd00::9", "fd00::9", 1),
    ] {
        let range = range(subnet);
        assert_eq!(
            (range.first, range.last, range.capacity()),
            (ip(first), ip(last), capacity),
            "{subnet}"
        );
    }
}

#[test]
fn start_and_end_narrow_but_never_widen() {
    let subnet: IpNetwork = "10.0.0.0/24".parse().unwrap();
    let narrow = Range::new(
        subnet,
        Some(ip("10.0.0.10")),
        Some(ip("10.0.0.20")),
        Some(ip("10.0.0.15")),
    )
    .unwrap();
    assert_eq!(narrow.capacity(), 10);
    assert!(
        narrow.serves(ip("10.0.0.10"))
            && !narrow.serves(ip("10.0.0.15"))
            && !narrow.serves(ip("10.0.0.21"))
    );
    let whole = Range::new(subnet, Some(ip("10.0.0.0")), Some(ip("10.0.0.255")), None).unwrap();
    assert_eq!(
        (whole.first, whole.last),
        (ip("10.0.0.1"), ip("10.0.0.254"))
    );
}

#[test]
fn senseless_ranges_are_refused_with_key_and_value() {
    let refuse = |subnet: &str, start: Option<&str>, end: Option<&str>, gateway: Option<&str>| {
        Range::new(
            subnet.parse().unwrap(),
            start.map(ip),
            end.map(ip),
            gateway.map(ip),
        )
        .unwrap_err()
    };
    assert_eq!(refuse("10.0.0.5/24", None, None, None).0, "subnet");
    assert!(
        refuse("10.0.0.5/24", None, None, None)
            .1
            .contains("10.0.0.0/24")
    );
    for subnet in [
        "::ffff:10.0.0.0/120",
        "::/64",
        "::fffe:0:0/95",
        "ff02::/64",
        "127.0.0.0/8",
        "224.0.0.0/4",
        "0.0.0.0/0",
    ] {
        assert_eq!(refuse(subnet, None, None, None).0, "subnet", "{subnet}");
    }
    assert_eq!(
        refuse("10.0.0.0/24", Some("10.0.1.1"), None, None).0,
        "rangeStart"
    );
    assert_eq!(
        refuse("10.0.0.0/24", None, Some("fd00::1"), None).0,
        "rangeEnd"
    );
    assert_eq!(
        refuse("10.0.0.0/24", Some("10.0.0.9"), Some("10.0.0.8"), None).0,
        "rangeEnd"
    );
    assert_eq!(
        refuse("10.0.0.0/24", Some("10.0.0.255"), None, None).0,
        "rangeEnd"
    );
    assert_eq!(
        refuse("10.0.0.0/24", None, None, Some("fe80::1")).0,
        "gateway"
    );
}

#[test]
fn refused_addresses_are_told_why_i7() {
    let with_gateway = Range::new(
        "10.0.0.0/24".parse().unwrap(),
        None,
        None,
        Some(ip("10.0.0.1")),
    )
    .unwrap();
    let sets = [
        RangeSet {
            ranges: vec![with_gateway],
        },
        RangeSet {
            ranges: vec![range("fd00::/64")],
        },
    ];
    for (address, reason) in [
        ("10.0.0.1", "gateway"),
        ("10.0.0.0", "network address of 10.0.0.0/24"),
        ("10.0.0.255", "broadcast address"),
        (
            "10.1.0.1",
            "none of the ranges 10.0.0.1-10.0.0.254 and fd00::1-",
        ),
        ("fd00::", "network address of fd00::/64"),
    ] {
        assert!(
            why_not_served(&sets, ip(address)).contains(reason),
            "{address}: {}",
            why_not_served(&sets, ip(address))
        );
    }
}
