//! Each system call of ADD and DEL refused once, and from there on for good: all or nothing, one error document,
//! and a DEL afterwards that leaves nothing (A4, A9, D1, G13, G14, I11).

use anyhow::{Context, Result, ensure};
use serde_json::json;
use slash32_tests::fault_sweep::{
    Fault, Sweep, expect_add_whole_or_nothing, expect_del_cleans, expect_del_finished, run_with,
};
use slash32_tests::machine::run_here;
use slash32_tests::site::{Site, dual_stack, patched};
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

fn errors_of(call: &str) -> Vec<&'static str> {
    let found = FAULTS.iter().find(|(name, _)| *name == call);
    found.map_or_else(Vec::new, |(_, errors)| errors.to_vec())
}

/// Runs `each` for every fault of `verb`.
fn sweep(
    verb: &str,
    for_good: bool,
    each: impl Fn(&Traced<'_>, &Fault) -> Result<()>,
) -> Result<()> {
    let sweep = Sweep {
        verb,
        for_good,
        errors: &errors_of,
    };
    sweep.run(each).map(drop)
}

fn add_refused_once() -> Result<()> {
    sweep("ADD", false, expect_add_whole_or_nothing)
}

fn add_refused_for_good() -> Result<()> {
    sweep("ADD", true, |traced, fault| {
        run_with(traced, "ADD", fault)?;
        expect_del_cleans(traced)
    })
}

fn del_refused_once() -> Result<()> {
    sweep("DEL", false, expect_del_finished)
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
