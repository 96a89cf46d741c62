//! The table as a whole: laid by the nft program, watched by its fingerprint.

use std::collections::BTreeSet;

use dataplane::hostport::Nfnetlink;
use dataplane::nft;

use crate::hostports::{answers, entry, lay_table};
use crate::lab::{Case, run};

pub(crate) const TRIALS: &[Case] = &[
    (
        "table::the_fingerprint_ignores_elements_and_sees_every_change",
        the_fingerprint,
    ),
    (
        "table::a_failing_script_changes_nothing_and_says_why",
        a_failing_script,
    ),
];

fn the_fingerprint() {
    let mut nfnetlink = lay_table();
    let first = nfnetlink.table_fingerprint().unwrap().expect("a table");
    let now = || Nfnetlink::open().unwrap().table_fingerprint().unwrap();
    assert_eq!(now(), Some(first), "stable");
    nfnetlink
        .add_host_ports(&[entry(None, 8080, "10.1.0.5", 80)])
        .unwrap();
    run("nft", "add table inet other");
    run("nft", "add chain inet other x");
    run("ip", "addr add 192.0.2.1/32 dev lo");
    assert!(!answers("192.0.2.1:1"), "a packet through the counter");
    assert!(run("nft", "list chain inet slash32 hostports").contains("counter packets 1"));
    assert_eq!(
        now(),
        Some(first),
        "elements, counters and other tables do not matter"
    );
    let mut seen = BTreeSet::from([Some(first)]);
    for change in [
        "add rule inet slash32 output accept",
        "insert rule inet slash32 hostports accept",
        "flush chain inet slash32 postrouting",
        "add chain inet slash32 more",
        "delete chain inet slash32 more",
        "add set inet slash32 more { type ipv4_addr; }",
        "chain inet slash32 output { policy drop; }",
        "delete table inet slash32",
    ] {
        run("nft", change);
        let fresh = seen.insert(now());
        assert!(fresh || change.starts_with("delete chain"), "{change}");
    }
    assert_eq!(now(), None);
    lay_table();
    assert!(seen.insert(now()), "laid anew, it is another table");
}

fn a_failing_script() {
    lay_table();
    let before = run("nft", "list ruleset");
    let error = nft::run_script(
        "nft",
        "delete table inet slash32\nadd rule inet nothing here accept\n",
    )
    .unwrap_err();
    assert!(
        error.to_string().contains("No such file or directory"),
        "{error}"
    );
    assert_eq!(run("nft", "list ruleset"), before);
    assert!(nft::version("nft").unwrap().starts_with("nftables v"));
}
