//! What no library test can show: real processes, killed at any moment, two hundred at once, and a disk that is full.
//!
//! The test binary starts itself as the process under test (`child`). The last tests need strace, or a user namespace
//! with a small tmpfs; where that cannot be had they are reported as ignored, never as passed.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test fails by panicking; a child answers on stdout

use ipam::{Holder, Ipam, IpamConfig, IpamError};
use libtest_mimic::{Arguments, Failed, Trial};
use node_state::record::AttachmentKey;
use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

const CHILD: &str = "SLASH32_IPAM_TEST_CHILD";
/// Six addresses, so that every one is handed out again and again.
const SMALL: &str =
    r#"{"ranges":[[{"subnet":"10.0.0.0/29"}],[{"subnet":"fd00::/125","rangeEnd":"fd00::6"}]]}"#;
const CAPACITY: usize = 6;

fn main() -> ExitCode {
    if let Ok(child) = std::env::var(CHILD) {
        return child_main(&child);
    }
    let arguments = Arguments::from_args();
    let strace = runs("strace", &["-e", "trace=none", "true"]);
    let namespaces = runs("unshare", &["-Urm", "true"]);
    let tests = vec![
        Trial::test(
            "two_hundred_processes_get_two_hundred_addresses_i12",
            processes_at_once,
        ),
        Trial::test(
            "sigkill_at_random_moments_neither_doubles_nor_loses_an_address_i11",
            storm,
        ),
        Trial::test(
            "sigkill_at_every_system_call_neither_doubles_nor_loses_an_address_i11",
            every_call,
        )
        .with_ignored_flag(!strace),
        Trial::test(
            "full_disk_leaves_no_half_claim_and_del_still_works_i11",
            full_disk,
        )
        .with_ignored_flag(!namespaces),
        Trial::test(
            "read_only_folder_does_not_fail_del_of_nothing_i8",
            read_only,
        )
        .with_ignored_flag(!namespaces),
    ];
    libtest_mimic::run(&arguments, tests).exit_code()
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    let quiet = || Stdio::null();
    let status = Command::new(program)
        .args(arguments)
        .stdin(quiet())
        .stdout(quiet())
        .stderr(quiet())
        .status();
    status.is_ok_and(|status| status.success())
}

// ===== the process under test =====

fn child_main(child: &str) -> ExitCode {
    let words: Vec<&str> = child.split(' ').collect();
    let (verb, data_dir) = (words[0], Path::new(words[1]));
    let ipam = store(data_dir);
    match verb {
        "add" => drop(ipam.allocate(&key(words[2]), &small(), &[]).unwrap()),
        "add-wide" => {
            let wide = config(r#"{"ranges":[[{"subnet":"10.0.0.0/24"}]]}"#);
            println!(
                "{}",
                ipam.allocate(&key(words[2]), &wide, &[]).unwrap().leases[0].address
            );
        }
        "del" => drop(ipam.release(&key(words[2])).unwrap()),
        "churn" => loop {
            let _ = ipam.allocate(&key(words[2]), &small(), &[]);
            let _ = ipam.release(&key(words[2]));
        },
        "full-disk" => full_disk_inside(data_dir),
        "read-only" => read_only_inside(data_dir),
        other => panic!("no verb {other}"),
    }
    ExitCode::SUCCESS
}

fn start(command: &mut Command, child: &str) -> Child {
    command
        .env(CHILD, child)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn this() -> Command {
    Command::new(std::env::current_exe().unwrap())
}

fn store(data_dir: &Path) -> Ipam {
    Ipam::open(data_dir, "n", Holder::Slash32)
}

fn key(container: &str) -> AttachmentKey {
    AttachmentKey {
        network: "n".into(),
        container_id: container.into(),
        ifname: "eth0".into(),
    }
}

fn config(text: &str) -> IpamConfig {
    let ipam: serde_json::Value = serde_json::from_str(text).unwrap();
    IpamConfig::parse(ipam.as_object().unwrap(), None).unwrap()
}

fn small() -> IpamConfig {
    config(SMALL)
}

// ===== tests =====

fn processes_at_once() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let add = |i: usize| {
        start(
            &mut this(),
            &format!("add-wide {} c{i}", dir.path().display()),
        )
    };
    let children: Vec<Child> = (0..200).map(add).collect();
    let mut addresses = HashSet::new();
    for child in children {
        let output = child.wait_with_output()?;
        assert!(output.status.success());
        addresses.insert(String::from_utf8(output.stdout)?);
    }
    assert_eq!(addresses.len(), 200);
    Ok(())
}

/// Four churning processes, killed after a random few milliseconds and started again, each with its own key.
fn storm() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    all_addresses_can_be_had(dir.path(), "at first");
    let mut random = 0x9e37_79b9_u64;
    for round in 0..60 {
        let names: Vec<String> = (0..4).map(|i| format!("r{round}-{i}")).collect();
        let churn = |name: &String| {
            start(
                &mut this(),
                &format!("churn {} {name}", dir.path().display()),
            )
        };
        let mut children: Vec<Child> = names.iter().map(churn).collect();
        for child in &mut children {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            std::thread::sleep(Duration::from_micros(500 + (random >> 33) % 6000));
            child.kill()?;
            child.wait()?;
        }
        no_address_has_two_holders(dir.path());
        // As the runtime does: DEL for every ADD that failed (G20).
        names
            .iter()
            .for_each(|name| drop(store(dir.path()).release(&key(name)).unwrap()));
        every_address_waits_once(dir.path(), &format!("round {round}"));
        all_addresses_can_be_had(dir.path(), &format!("round {round}"));
    }
    Ok(())
}

/// `strace` kills the child as it enters the n-th call of each kind (it counts them kind by kind), for every n until the
/// child lives: before each of its system calls once.
fn every_call() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    all_addresses_can_be_had(dir.path(), "at first");
    let mut killed = 0;
    for verb in ["add", "del"] {
        for call in CALLS {
            let before = killed;
            while killed_at(dir.path(), verb, call, killed - before + 1)? {
                killed += 1;
            }
        }
    }
    assert!(
        killed > 60,
        "killed {killed} times only: strace does not do what we think"
    );
    Ok(())
}

/// Every kind of call that the library makes; '?' for those that an architecture may not have.
const CALLS: [&str; 12] = [
    "openat",
    "?newfstatat",
    "?statx",
    "?fstat",
    "read",
    "pread64",
    "write",
    "pwrite64",
    "renameat",
    "linkat",
    "unlinkat",
    "flock",
];

/// False where the child lived, since it made fewer such calls.
fn killed_at(dir: &Path, verb: &str, call: &str, n: usize) -> Result<bool, Failed> {
    let when = format!("{verb} killed at {call} {n}");
    let name = format!("{verb}-{n}");
    if verb == "del" {
        store(dir).allocate(&key(&name), &small(), &[])?;
    }
    let (trace, inject) = (
        format!("trace={call}"),
        format!("inject={call}:signal=KILL:when={n}"),
    );
    let mut strace = Command::new("strace");
    strace
        .args(["-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject])
        .arg(std::env::current_exe()?);
    let lived = start(&mut strace, &format!("{verb} {} {name}", dir.display()))
        .wait()?
        .success();
    no_address_has_two_holders(dir);
    store(dir).release(&key(&name))?;
    assert_eq!(store(dir).claims()?, [], "{when}");
    every_address_waits_once(dir, &when);
    if lived {
        all_addresses_can_be_had(dir, &when);
    }
    Ok(!lived)
}

fn full_disk() -> Result<(), Failed> {
    inside_tmpfs("full-disk")
}

fn read_only() -> Result<(), Failed> {
    inside_tmpfs("read-only")
}

/// Runs this binary in a mount namespace of its own, with 64 KiB of tmpfs.
fn inside_tmpfs(verb: &str) -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let script = format!(
        "mount -t tmpfs -o size=64k,mode=0700 tmpfs {0} && exec \"$1\"",
        dir.path().display()
    );
    let mut unshare = Command::new("unshare");
    unshare
        .args(["-Urm", "sh", "-c", &script, "sh"])
        .arg(std::env::current_exe()?);
    let status = start(&mut unshare, &format!("{verb} {}", dir.path().display())).wait()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{verb}: {status}").into())
    }
}

fn full_disk_inside(data_dir: &Path) {
    let ipam = store(data_dir);
    let config = config(r#"{"ranges":[[{"subnet":"10.0.0.0/24"}],[{"subnet":"fd00::/64"}]]}"#);
    for round in 0..3 {
        let mut held = BTreeMap::new();
        let error = loop {
            let name = format!("{round}-{}", held.len());
            match ipam.allocate(&key(&name), &config, &[]) {
                Ok(allocation) => held.insert(name, allocation),
                Err(error) => break error,
            };
            assert!(held.len() < 100, "the disk never fills");
        };
        let text = error.to_string();
        assert!(
            matches!(error, IpamError::State(node_state::StateError::Full { .. })),
            "{text}"
        );
        assert!(text.contains("df -h") && text.contains("owners/"), "{text}");
        assert_eq!(
            ipam.claims().unwrap().len(),
            2 * held.len(),
            "a half claim stayed"
        );
        assert!(
            ipam.claims()
                .unwrap()
                .iter()
                .all(|claim| claim.owner.is_some())
        );
        for name in held.keys() {
            assert_eq!(
                ipam.release(&key(name)).unwrap().len(),
                2,
                "DEL on a full disk"
            );
        }
        assert_eq!(ipam.claims().unwrap(), []);
    }
    let left: usize = ["owners", "addresses"]
        .map(|sub| std::fs::read_dir(ipam.dir().join(sub)).unwrap().count())
        .iter()
        .sum();
    assert_eq!(left, 0, "temporaries stayed");
}

fn read_only_inside(data_dir: &Path) {
    let ipam = store(data_dir);
    ipam.allocate(&key("held"), &small(), &[]).unwrap();
    let status = Command::new("mount")
        .args(["-o", "remount,bind,ro"])
        .arg(data_dir)
        .status()
        .unwrap();
    assert!(status.success());
    assert!(ipam.release(&key("other")).unwrap().is_empty());
    assert!(
        ipam.release(&key("held")).is_err(),
        "a claim that cannot be removed is an error"
    );
    assert_eq!(ipam.find(&key("held")).unwrap().len(), 2);
    assert!(ipam.probe_writable().is_err());
}

// ===== invariants =====

fn no_address_has_two_holders(data_dir: &Path) {
    let ipam = store(data_dir);
    let mut holders: BTreeMap<IpAddr, AttachmentKey> = BTreeMap::new();
    for claim in ipam.claims().unwrap() {
        let owner = claim.owner.expect("a claim is never torn by a kill");
        assert!(ipam.find(&owner).unwrap().contains(&claim.address));
        assert_eq!(holders.insert(claim.address, owner), None);
    }
}

/// Once all addresses have had their first turn, each that is not held stands in line, once: a crash has dropped none
/// from it (the search for lost addresses would hide that) and doubled none.
fn every_address_waits_once(data_dir: &Path, when: &str) {
    let usage = store(data_dir).usage(&small()).unwrap();
    assert_eq!(
        (usage.used, usage.cooling),
        (0, 2 * CAPACITY as u64),
        "{when}"
    );
}

/// After the DELs every address can be had, once; and is given back.
fn all_addresses_can_be_had(data_dir: &Path, when: &str) {
    let ipam = store(data_dir);
    let names: Vec<String> = (0..CAPACITY).map(|i| format!("probe{i}")).collect();
    for set in 0..2 {
        let lease = |name: &String| {
            ipam.allocate(&key(name), &small(), &[])
                .map(|a| a.leases[set].address)
        };
        let addresses: Result<HashSet<IpAddr>, _> = names.iter().map(lease).collect();
        assert_eq!(
            addresses.unwrap_or_else(|e| panic!("{when}: {e}")).len(),
            CAPACITY,
            "{when}"
        );
    }
    let more = ipam.allocate(&key("one-more"), &small(), &[]);
    assert!(
        matches!(more, Err(IpamError::Exhausted { .. })),
        "{when}: {more:?}"
    );
    names
        .iter()
        .for_each(|name| drop(ipam.release(&key(name)).unwrap()));
}
