//! Each system call of ADD and DEL refused once, and from there on for good: all or nothing, one error document,
//! and a DEL afterwards that leaves nothing (A4, A9, D1, G13, G14, I11).

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use slash32_tests::machine::{Machine, run_here};
use slash32_tests::site::{Reply, Site, dual_stack, patched};
use slash32_tests::strace::Traced;
use slash32_tests::suite;
use std::process::ExitCode;

/// (system call, what the kernel may answer to it)
const FAULTS: [(&str, &[&str]); 30] = [
    ("socket", &["EMFILE"]),
    ("bind", &["ENOMEM"]),
    ("setsockopt", &["ENOBUFS"]),
    ("sendto", &["ENOBUFS", "EINTR"]),
    ("sendmsg", &["ENOBUFS", "EINTR"]),
    ("recvfrom", &["ENOBUFS", "EINTR"]),
    ("recvmsg", &["ENOBUFS", "EINTR"]),
    ("setns", &["ENOMEM"]),
    ("open", &["EMFILE", "EINTR"]),
    ("openat", &["EMFILE", "EINTR"]),
    ("openat2", &["EMFILE"]),
    ("read", &["EIO", "EINTR"]),
    ("pread64", &["EIO"]),
    ("readv", &["EIO"]),
    ("write", &["ENOSPC", "EINTR"]),
    ("writev", &["ENOSPC"]),
    ("flock", &["ENOLCK", "EINTR"]),
    ("fcntl", &["EMFILE"]),
    ("mkdir", &["ENOSPC"]),
    ("mkdirat", &["ENOSPC"]),
    ("rename", &["ENOSPC"]),
    ("renameat", &["ENOSPC"]),
    ("renameat2", &["ENOSPC"]),
    ("link", &["ENOSPC"]),
    ("linkat", &["ENOSPC"]),
    ("unlink", &["EIO"]),
    ("unlinkat", &["EIO"]),
    ("getdents64", &["ENOMEM"]),
    ("fchmod", &["EIO"]),
    ("ftruncate", &["EIO"]),
];

fn main() -> ExitCode {
    suite::main(&[
        (
            "a9_an_add_refused_once_anywhere_leaves_nothing",
            add_refused_once,
        ),
        (
            "a9_what_an_add_leaves_that_is_refused_for_good_is_removed_by_del",
            add_refused_for_good,
        ),
        (
            "d1_a_del_refused_once_anywhere_is_finished_by_the_next",
            del_refused_once,
        ),
        (
            "i11_a_full_disk_at_any_size_is_told_and_leaves_nothing",
            full_disk,
        ),
    ])
}

/// Everything at once: two families, host ports, shaping; the agent's table is laid.
fn whole_request() -> Value {
    patched(
        &dual_stack(),
        json!({"runtimeConfig": {
            "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}, {"hostPort": 5353, "containerPort": 53, "protocol": "udp"}],
            "bandwidth": {"ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 8_000_000, "egressBurst": 800_000},
        }}),
    )
}

/// A node with the agent's table, a pod's namespace, and a request.
fn lay() -> Result<(Site, Machine)> {
    let site = Site::new()?;
    let laid = site.run_agent_once()?;
    ensure!(laid.status.success(), "{}", laid.stderr);
    let netns = site.netns()?;
    Ok((site, netns))
}

/// One injected fault.
struct Fault {
    injection: String,
    /// No error document can be asked for: the fault hits the answer on stdout itself, or the way back into the
    /// plugin's own namespace, where it ends itself at once rather than act in the wrong one.
    speechless: bool,
}

/// Runs `each` for every fault of `verb`, on a fresh node after each failure, and tells all failures.
fn sweep(verb: &str, plus: &str, each: impl Fn(&Traced<'_>, &Fault) -> Result<()>) -> Result<()> {
    let request = whole_request();
    let (mut site, mut netns) = lay()?;
    let faults = {
        let traced = Traced {
            site: &site,
            id: "c1",
            netns: &netns,
            request: &request,
        };
        site.call("ADD", "c1", &netns, &request)?.success()?;
        if verb == "ADD" {
            site.call("DEL", "c1", &netns, &request)?.silent()?;
        }
        // Not the first of its node: that one makes folders too.
        let faults = list_faults(&traced, verb, plus)?;
        site.call("DEL", "c1", &netns, &request)?.silent()?;
        faults
    };
    ensure!(
        faults.len() > 50,
        "only {} faults: the list of system calls has aged",
        faults.len()
    );
    let mut failures = Vec::new();
    for fault in &faults {
        let traced = Traced {
            site: &site,
            id: "c1",
            netns: &netns,
            request: &request,
        };
        if let Err(error) = each(&traced, fault) {
            failures.push(format!("{verb} with {}: {error:#}", fault.injection));
            (site, netns) = lay()?;
        }
    }
    ensure!(
        failures.is_empty(),
        "{} of {} faults:\n{}",
        failures.len(),
        faults.len(),
        failures.join("\n")
    );
    Ok(())
}

fn list_faults(traced: &Traced<'_>, verb: &str, plus: &str) -> Result<Vec<Fault>> {
    let (counts, answers) = traced.count(verb)?;
    let mut faults = Vec::new();
    for (call, errors) in FAULTS {
        for position in 1..=counts.get(call).copied().unwrap_or(0) {
            // A call that is interrupted for ever is retried for ever: no kernel does that.
            for error in errors
                .iter()
                .filter(|error| plus.is_empty() || **error != "EINTR")
            {
                let hits = |answer: &usize| {
                    *answer == position || (!plus.is_empty() && *answer >= position)
                };
                let speechless = call == "setns" || (call == "write" && answers.iter().any(hits));
                faults.push(Fault {
                    injection: format!("{call}:error={error}:when={position}{plus}"),
                    speechless,
                });
            }
        }
    }
    Ok(faults)
}

/// Whether the verb succeeded; a failure must have told itself properly.
fn run_with(traced: &Traced<'_>, verb: &str, fault: &Fault) -> Result<bool> {
    let outcome = traced.run(verb, &[&fault.injection])?;
    let succeeded = outcome.status.success();
    if succeeded || !fault.speechless {
        Reply::read(outcome)?;
    }
    Ok(succeeded)
}

fn expect_del_cleans(traced: &Traced<'_>) -> Result<()> {
    traced
        .site
        .call("DEL", traced.id, traced.netns, traced.request)?
        .silent()?;
    traced.site.expect_clean().context("after DEL")
}

fn add_refused_once() -> Result<()> {
    sweep("ADD", "", |traced, fault| {
        let succeeded = run_with(traced, "ADD", fault)?;
        if !succeeded && !fault.speechless {
            traced
                .site
                .expect_clean()
                .context("after the failed ADD alone")?;
        }
        expect_del_cleans(traced)
    })
}

fn add_refused_for_good() -> Result<()> {
    sweep("ADD", "+", |traced, fault| {
        run_with(traced, "ADD", fault)?;
        expect_del_cleans(traced)
    })
}

fn del_refused_once() -> Result<()> {
    sweep("DEL", "", |traced, fault| {
        traced
            .site
            .call("ADD", traced.id, traced.netns, traced.request)?
            .success()?;
        if run_with(traced, "DEL", fault)? {
            return traced
                .site
                .expect_clean()
                .context("DEL said that it is done");
        }
        expect_del_cleans(traced)
    })
}

/// A tmpfs that fills up at each page of what ADD writes.
fn full_disk() -> Result<()> {
    let site = Site::new()?;
    let netns = site.netns()?;
    let folder = "/run/small";
    std::fs::create_dir_all(folder)?;
    let request = patched(&dual_stack(), json!({"stateDir": folder}));
    let (mut refused, mut served) = (0, 0);
    for pages in 1..=14 {
        let options = format!("size={}k,mode=700", 4 * pages);
        run_here(&["mount", "-t", "tmpfs", "-o", &options, "tmpfs", folder])?;
        let reply = site.call("ADD", "c1", &netns, &request)?;
        if reply.outcome.status.success() {
            served += 1;
        } else {
            let text = reply.refused(5).with_context(|| options.clone())?;
            ensure!(text.contains(folder) && text.contains("space"), "{text}");
            expect_nothing_attached(&site, folder).with_context(|| options.clone())?;
            refused += 1;
        }
        site.call("DEL", "c1", &netns, &request)?
            .silent()
            .with_context(|| options.clone())?;
        expect_nothing_attached(&site, folder)?;
        run_here(&["umount", folder])?;
    }
    ensure!(
        refused > 0 && served > 0,
        "{refused} refused, {served} served: the sizes have aged"
    );
    Ok(())
}

fn expect_nothing_attached(site: &Site, folder: &str) -> Result<()> {
    site.expect_clean()?;
    let left: Vec<String> = slash32_tests::site::files_below(folder.as_ref())?
        .into_iter()
        .map(|(path, _)| path)
        .filter(|path| {
            ["/attachments/", "/addresses/", "/owners/"]
                .iter()
                .any(|part| path.contains(part))
        })
        .collect();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}
