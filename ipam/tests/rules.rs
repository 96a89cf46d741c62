//! The rules of address management, one by one (I1 to I15), through the public API.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use ipam::{Holder, Ipam, IpamConfig, IpamError};
use node_state::record::AttachmentKey;
use serde_json::json;
use std::collections::HashSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

struct Fixture {
    dir: tempfile::TempDir,
    ipam: Ipam,
}

impl Fixture {
    fn new() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let ipam = Ipam::open(dir.path().join("ipam"), "n", Holder::Slash32);
        Fixture { dir, ipam }
    }

    fn add(&self, container: &str, config: &IpamConfig) -> Result<String, IpamError> {
        let leases = self.ipam.allocate(&key(container), config, &[])?.leases;
        let addresses: Vec<String> = leases
            .iter()
            .map(|lease| lease.address.to_string())
            .collect();
        Ok(addresses.join(" "))
    }

    fn add_all(&self, containers: &[&str], config: &IpamConfig) {
        for container in containers {
            self.add(container, config).unwrap();
        }
    }

    fn claim_file(&self, address: &str) -> PathBuf {
        self.ipam.dir().join("addresses").join(address)
    }

    /// What the folder looks like after a reboot, where it lies on a disk.
    fn reboot(&self) {
        let owners = std::fs::read_dir(self.ipam.dir().join("owners")).unwrap();
        let here = node_state::boot_id().unwrap();
        for file in owners
            .map(|entry| entry.unwrap().path())
            .chain([self.ipam.dir().join("boot")])
        {
            let text = std::fs::read_to_string(&file).unwrap();
            std::fs::write(&file, text.replace(&here, "another-boot")).unwrap();
        }
    }
}

fn key(container: &str) -> AttachmentKey {
    AttachmentKey {
        network: "n".into(),
        container_id: container.into(),
        ifname: "eth0".into(),
    }
}

fn config(ipam: serde_json::Value) -> IpamConfig {
    IpamConfig::parse(ipam.as_object().unwrap(), None).unwrap()
}

fn subnet(subnet: &str) -> IpamConfig {
    config(json!({"ranges": [[{"subnet": subnet}]]}))
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn lease_carries_subnet_and_gateway_of_its_range() {
    let f = Fixture::new();
    let config = config(
        json!({"ranges": [[{"subnet": "10.1.0.0/24", "gateway": "10.1.0.1"}], [{"subnet": "fd00::/64"}]]}),
    );
    let leases = f.ipam.allocate(&key("a"), &config, &[]).unwrap().leases;
    assert_eq!(
        (leases[0].address, leases[0].gateway),
        (ip("10.1.0.2"), Some(ip("10.1.0.1")))
    );
    assert_eq!(leases[0].subnet.to_string(), "10.1.0.0/24");
    assert_eq!(
        (leases[1].address, leases[1].gateway),
        (ip("fd00::1"), None)
    );
}

#[test]
fn full_v6_pool_takes_no_v4_address_i4() {
    let f = Fixture::new();
    let config =
        config(json!({"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00::/127"}]]}));
    f.add("a", &config).unwrap();
    f.add("b", &config).unwrap();
    let error = f.add("c", &config).unwrap_err().to_string();
    assert_eq!(
        error,
        "no IP addresses available in range set: fd00::-fd00::1"
    );
    assert_eq!(f.ipam.claims().unwrap().len(), 4);
    f.ipam.release(&key("a")).unwrap();
    assert_eq!(f.add("d", &config).unwrap(), "10.1.0.3 fd00::");
}

#[test]
fn full_pool_is_told_at_once_and_changes_nothing_i6() {
    let f = Fixture::new();
    let config =
        config(json!({"ranges": [[{"subnet": "10.1.0.0/30"}, {"subnet": "10.2.0.8/31"}]]}));
    f.add_all(&["a", "b", "c", "d"], &config);
    let names = || {
        let folders = ["", "owners", "addresses"].map(|name| f.ipam.dir().join(name));
        let files = folders
            .iter()
            .flat_map(|folder| std::fs::read_dir(folder).unwrap());
        files
            .map(|file| file.unwrap().path())
            .collect::<HashSet<PathBuf>>()
    };
    f.add("e", &config).unwrap_err();
    let before = names();
    let error = f.add("e", &config).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no IP addresses available in range set: 10.1.0.1-10.1.0.2,10.2.0.8-10.2.0.9"
    );
    assert_eq!(names(), before);
}

#[test]
fn size_of_the_range_costs_nothing_i6() {
    for range in ["10.0.0.0/8", "fd00::/64", "fd00:1::/48"] {
        let f = Fixture::new();
        let config = subnet(range);
        let start = Instant::now();
        for round in 0..3 {
            (0..30).for_each(|i| drop(f.add(&format!("{round}-{i}"), &config).unwrap()));
            (0..30).for_each(|i| drop(f.ipam.release(&key(&format!("{round}-{i}"))).unwrap()));
        }
        // The mark at its end (a broken file): found out by what is claimed, not by a scan of 2^80 addresses.
        let mark = format!(
            "mark.{}-{}",
            config.sets[0].ranges[0].first, config.sets[0].ranges[0].last
        );
        std::fs::write(f.ipam.dir().join(mark), [&[0; 16][..], &[1]].concat()).unwrap();
        (0..120).for_each(|i| drop(f.add(&format!("again-{i}"), &config).unwrap()));
        assert_eq!(f.ipam.claims().unwrap().len(), 120);
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "{range}: {:?}",
            start.elapsed()
        );
    }
}

#[test]
fn requests_are_met_or_refused_with_the_reason_i7() {
    let f = Fixture::new();
    let config = config(
        json!({"ranges": [[{"subnet": "10.1.0.0/24", "gateway": "10.1.0.1"}], [{"subnet": "fd00::/64"}]]}),
    );
    let leases = f
        .ipam
        .allocate(&key("a"), &config, &[ip("10.1.0.77")])
        .unwrap()
        .leases;
    assert_eq!(
        (leases[0].address, leases[1].address),
        (ip("10.1.0.77"), ip("fd00::1"))
    );
    for (requested, reason) in [
        (
            vec!["10.1.0.77"],
            "requested address 10.1.0.77: held by container a interface eth0",
        ),
        (vec!["10.1.0.1"], "it is the gateway"),
        (vec!["10.1.0.0"], "network address"),
        (vec!["10.1.0.255"], "broadcast"),
        (
            vec!["10.9.0.1"],
            "none of the ranges 10.1.0.1-10.1.0.254 and fd00::1",
        ),
        (
            vec!["10.1.0.5", "10.1.0.6"],
            "10.1.0.5 of the same range set is requested as well",
        ),
        (
            vec!["10.1.0.5", "fd00::1"],
            "requested address fd00::1: held by container a",
        ),
    ] {
        let requested: Vec<IpAddr> = requested.into_iter().map(ip).collect();
        let error = f
            .ipam
            .allocate(&key("b"), &config, &requested)
            .unwrap_err()
            .to_string();
        assert!(error.contains(reason), "{error}");
    }
    assert_eq!(
        f.ipam.claims().unwrap().len(),
        2,
        "an unmet request leaves nothing"
    );
    assert_eq!(f.ipam.release(&key("b")).unwrap(), [] as [IpAddr; 0]);
}

#[test]
fn released_addresses_wait_until_all_others_had_their_turn_i13() {
    let f = Fixture::new();
    let config = subnet("10.1.0.0/29");
    for (container, address) in [
        ("a", "10.1.0.1"),
        ("b", "10.1.0.2"),
        ("c", "10.1.0.3"),
        ("d", "10.1.0.4"),
    ] {
        assert_eq!(f.add(container, &config).unwrap(), address);
        f.ipam.release(&key(container)).unwrap();
    }
    assert_eq!(f.add("e", &config).unwrap(), "10.1.0.5");
    assert_eq!(f.add("f", &config).unwrap(), "10.1.0.6");
    assert_eq!(f.add("g", &config).unwrap(), "10.1.0.1");
    assert_eq!(
        f.ipam.usage(&config).unwrap(),
        ipam::Usage {
            used: 3,
            free: 3,
            cooling: 3
        }
    );
}

#[test]
fn second_add_of_a_key_gives_what_it_holds_a4() {
    let f = Fixture::new();
    let config = subnet("10.1.0.0/29");
    assert!(f.ipam.allocate(&key("a"), &config, &[]).unwrap().fresh);
    let again = f
        .ipam
        .allocate(&key("a"), &config, &[ip("10.1.0.1")])
        .unwrap();
    assert!(!again.fresh && again.leases[0].address == ip("10.1.0.1"));
    let error = f
        .ipam
        .allocate(&key("a"), &config, &[ip("10.1.0.2")])
        .unwrap_err();
    assert!(
        error.to_string().contains("holds 10.1.0.1 already"),
        "{error}"
    );
    assert_eq!(f.ipam.find(&key("a")).unwrap(), [ip("10.1.0.1")]);
}

#[test]
fn del_of_what_is_not_there_succeeds_and_makes_nothing_i8() {
    let f = Fixture::new();
    assert!(f.ipam.release(&key("a")).unwrap().is_empty());
    assert!(f.ipam.find(&key("a")).unwrap().is_empty());
    assert!(!f.dir.path().join("ipam").exists());
    f.add("b", &subnet("10.1.0.0/29")).unwrap();
    assert!(f.ipam.release(&key("a")).unwrap().is_empty());
    assert_eq!(f.ipam.claims().unwrap().len(), 1);
}

#[test]
fn gc_frees_what_is_refused_goes_on_and_spares_the_rest_i10() {
    let f = Fixture::new();
    let config = subnet("10.1.0.0/29");
    f.add_all(&["a", "b", "c"], &config);
    std::fs::write(f.claim_file("10.1.0.2"), "").unwrap();
    std::fs::write(f.claim_file("not-an-address"), "").unwrap();
    let (freed, errors) = f.ipam.retain(&|claim| claim.owner == Some(key("c")));
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(
        freed.iter().collect::<HashSet<_>>(),
        [ip("10.1.0.1"), ip("10.1.0.2")].iter().collect()
    );
    assert_eq!(
        std::fs::read_dir(f.ipam.dir().join("owners"))
            .unwrap()
            .count(),
        1
    );
    assert_eq!(f.ipam.find(&key("c")).unwrap(), [ip("10.1.0.3")]);
}

#[test]
fn gc_does_not_free_an_address_that_has_a_new_holder_since_it_looked() {
    let f = Fixture::new();
    let config = subnet("10.1.0.0/32");
    f.add("old", &config).unwrap();
    let (freed, errors) = f.ipam.retain(&|_| {
        f.ipam.release(&key("old")).unwrap();
        f.add("new", &config).unwrap();
        false
    });
    assert!(
        freed.is_empty() && errors.is_empty(),
        "{freed:?} {errors:?}"
    );
    assert_eq!(f.ipam.find(&key("new")).unwrap(), [ip("10.1.0.0")]);
}

#[test]
fn unreadable_claim_blocks_its_own_address_and_is_told_i11() {
    let f = Fixture::new();
    let config = subnet("10.1.0.0/29");
    f.add("a", &config).unwrap();
    std::fs::write(f.claim_file("10.1.0.1"), b"\x00\x00").unwrap();
    std::fs::write(f.claim_file("10.1.0.2"), "").unwrap();
    assert_eq!(f.add("b", &config).unwrap(), "10.1.0.3");
    let error = f
        .ipam
        .allocate(&key("c"), &config, &[ip("10.1.0.2")])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("cannot be read") && error.contains("addresses/10.1.0.2"),
        "{error}"
    );
    let claims = f.ipam.claims().unwrap();
    let unreadable = claims
        .iter()
        .filter(|claim| claim.owner.is_none() && claim.age.is_some());
    assert_eq!(unreadable.count(), 2);
    // Its holder's DEL still frees it: file and claim are one inode.
    assert_eq!(f.ipam.release(&key("a")).unwrap(), [ip("10.1.0.1")]);
    f.add_all(&["d", "e", "f", "g"], &config);
    assert!(matches!(
        f.add("h", &config),
        Err(IpamError::Exhausted { .. })
    ));
}

#[test]
fn holder_whose_file_was_removed_by_hand_is_found_by_its_claims() {
    let f = Fixture::new();
    let config =
        config(json!({"ranges": [[{"subnet": "10.1.0.0/29"}], [{"subnet": "fd00::/64"}]]}));
    f.add("a", &config).unwrap();
    std::fs::remove_dir_all(f.ipam.dir().join("owners")).unwrap();
    let both: HashSet<IpAddr> = [ip("10.1.0.1"), ip("fd00::1")].into();
    assert_eq!(
        f.ipam
            .find(&key("a"))
            .unwrap()
            .into_iter()
            .collect::<HashSet<_>>(),
        both
    );
    assert_eq!(
        f.ipam
            .release(&key("a"))
            .unwrap()
            .into_iter()
            .collect::<HashSet<_>>(),
        both
    );
    assert_eq!(f.add("b", &config).unwrap(), "10.1.0.2 fd00::2");
}

#[test]
fn changed_range_leaves_holders_alone_and_serves_new_ones_i14() {
    let f = Fixture::new();
    f.add("a", &subnet("10.1.0.0/24")).unwrap();
    assert_eq!(f.add("b", &subnet("10.2.0.0/24")).unwrap(), "10.2.0.1");
    let again = f
        .ipam
        .allocate(&key("a"), &subnet("10.2.0.0/24"), &[])
        .unwrap();
    assert_eq!(
        (again.leases[0].address, again.leases[0].subnet.prefix()),
        (ip("10.1.0.1"), 32)
    );
    assert_eq!(f.ipam.release(&key("a")).unwrap(), [ip("10.1.0.1")]);
    // Wider again: what the narrow range had given out is not given out twice, nor before its time.
    assert_eq!(f.add("c", &subnet("10.0.0.0/14")).unwrap(), "10.0.0.1");
    let narrow = config(json!({"ranges": [[{"subnet": "10.1.0.0/24", "rangeEnd": "10.1.0.2"}]]}));
    assert_eq!(f.add("d", &narrow).unwrap(), "10.1.0.2");
    assert_eq!(f.add("e", &narrow).unwrap(), "10.1.0.1");
}

#[test]
fn claims_of_another_boot_are_reclaimed_when_their_turn_comes_i15() {
    let f = Fixture::new();
    let config = subnet("10.1.0.0/30");
    f.add_all(&["a", "b"], &config);
    f.reboot();
    assert_eq!(
        f.add("c", &config).unwrap().as_str().len(),
        "10.1.0.1".len(),
        "the pool was full of the dead"
    );
    assert_eq!(f.ipam.claims().unwrap().len(), 1);
    f.add("d", &config).unwrap();
    assert!(matches!(
        f.add("e", &config),
        Err(IpamError::Exhausted { .. })
    ));
    f.reboot();
    let allocation = f.ipam.allocate(&key("c"), &config, &[]).unwrap();
    assert!(allocation.fresh, "a key of another boot starts over");
    f.reboot();
    let held = f.ipam.find(&key("d")).unwrap()[0];
    let requested = f.ipam.allocate(&key("x"), &config, &[held]).unwrap();
    assert_eq!(
        requested.leases[0].address, held,
        "a request may have what only the dead hold"
    );
}

#[test]
fn networks_do_not_see_each_other_gc3() {
    let f = Fixture::new();
    let config = subnet("10.1.0.0/29");
    f.add("a", &config).unwrap();
    let other = Ipam::open(f.dir.path().join("ipam"), "other", Holder::Standalone);
    assert_eq!(
        other.allocate(&key("a"), &config, &[]).unwrap().leases[0].address,
        ip("10.1.0.1")
    );
    other.retain(&|_| false);
    assert_eq!(f.ipam.claims().unwrap().len(), 1);
}

#[test]
fn two_hundred_threads_get_two_hundred_addresses_i12() {
    let f = Fixture::new();
    let config = subnet("10.1.0.0/24");
    let addresses: HashSet<String> = std::thread::scope(|scope| {
        let add = |i: usize| {
            let (f, config) = (&f, &config);
            move || f.add(&format!("c{i}"), config).unwrap()
        };
        let threads: Vec<_> = (0..200).map(|i| scope.spawn(add(i))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(addresses.len(), 200);
}

#[test]
fn no_range_is_a_configuration_error_that_names_the_key_i14() {
    let f = Fixture::new();
    let error = f.add("a", &config(json!({}))).unwrap_err();
    assert!(
        matches!(error, IpamError::Config { ref key, .. } if key == "ranges"),
        "{error}"
    );
    assert!(!f.ipam.dir().exists());
}
