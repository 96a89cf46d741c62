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
    (
        "table::the_generation_counts_transactions_and_nothing_else",
        the_generation,
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
        "add set inet slash32 cluster4 { type ipv4_addr; flags interval; }",
        "add element inet slash32 cluster4 { 10.244.0.0/24, 10.244.2.0/24 }",
        "add element inet slash32 cluster4 { 192.0.2.1 }",
        "flush set inet slash32 cluster4",
        "delete table inet slash32",
    ] {
        run("nft", change);
        let fresh = seen.insert(now());
        // These two bring back what was there before.
        let back = change.starts_with("delete chain") || change.starts_with("flush set");
        assert!(fresh != back, "{change}");
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

fn the_generation() {
    let mut nfnetlink = lay_table();
    let now = || Nfnetlink::open().unwrap().ruleset_generation().unwrap();
    let first = now();
    assert_eq!(now(), first, "reading is no transaction");
    run("nft", "add table inet other");
    assert_eq!(now(), first + 1, "another owner's");
    nfnetlink
        .add_host_ports(&[entry(None, 8080, "10.1.0.5", 80)])
        .unwrap();
    assert_eq!(now(), first + 2, "elements");
    let script =
        "add table inet slash32\ndelete table inet slash32\ntable inet slash32 {\nchain a { }\n}\n";
    nft::run_script("nft", script).unwrap();
    assert_eq!(now(), first + 3, "a script is one, whatever is in it");
    assert!(nft::run_script("nft", "add rule inet nothing here accept\n").is_err());
    assert_eq!(now(), first + 3, "a refused one is none");
}
