//! Limits of the machine that end connections or blind the agent and kubelet; and the clock.

use super::Verdict;
use crate::commands::doctor::finding::Finding;
use crate::commands::doctor::sight::Sight;

/// Of the conntrack table and of open files.
const NEARLY_FULL_PERCENT: u64 = 80;
const FULL_PERCENT: u64 = 95;
/// Less than this in the state folder's file system and the next records may not fit.
const LITTLE_SPACE: u64 = 1 << 20;
/// What two clocks on one machine can differ by: none; a write that was under way.
const FUTURE_MS: u64 = 5_000;

pub(super) fn check_conntrack(sight: &Sight) -> Verdict {
    let number = |key: &str| sight.sysctls.number(key);
    let (Some(count), Some(max)) = (
        number("net/netfilter/nf_conntrack_count"),
        number("net/netfilter/nf_conntrack_max"),
    ) else {
        return Err("the kernel shows no nf_conntrack_count (procSys?)".into());
    };
    let percent = count.saturating_mul(100) / max.max(1);
    let text = format!(
        "the conntrack table holds {count} of {max} connections; when it is full, new ones are dropped"
    );
    let cure = "sysctl -w net.netfilter.nf_conntrack_max=LARGER (kube-proxy sets it from conntrack.maxPerCore); 'conntrack -L' shows who fills it";
    Ok(match percent {
        FULL_PERCENT.. => vec![Finding::error(text, cure)],
        NEARLY_FULL_PERCENT.. => vec![Finding::warning(text, cure)],
        _ => Vec::new(),
    })
}

pub(super) fn check_limits(sight: &Sight) -> Verdict {
    let mut findings = Vec::new();
    if let Err(reason) = &sight.host.inotify {
        findings.push(Finding::warning(
            format!("no further inotify watch can be had ({reason}): kubelet, the container runtime and the agent miss changes of files"),
            "sysctl -w fs.inotify.max_user_instances=8192 fs.inotify.max_user_watches=524288, and write it to /etc/sysctl.d",
        ));
    }
    if let Some((open, most)) = sight.sysctls.get("fs/file-nr").and_then(file_numbers)
        && open.saturating_mul(100) >= most.saturating_mul(NEARLY_FULL_PERCENT)
    {
        findings.push(Finding::warning(
            format!("{open} of {most} file descriptors of the machine are open"),
            "find who holds them (lsof), or raise fs.file-max",
        ));
    }
    if let Some(free) = sight.host.state_free.filter(|free| *free < LITTLE_SPACE) {
        findings.push(Finding::error(
            format!("the state folder's file system has {free} bytes left: pods cannot be added"),
            "free space there (df -h /run)",
        ));
    }
    Ok(findings)
}

/// `allocated unused maximum`.
fn file_numbers(text: &str) -> Option<(u64, u64)> {
    let mut numbers = text.split_whitespace().map(str::parse);
    let open = numbers.next()?.ok()?;
    let most = numbers.nth(1)?.ok()?;
    (most > 0).then_some((open, most))
}

pub(super) fn check_clock(sight: &Sight) -> Verdict {
    let look = &sight.look;
    let newest = look
        .records
        .iter()
        .map(|record| record.created_ms)
        .chain(look.operations.iter().map(|operation| operation.at_ms))
        .max();
    let ahead = newest.map_or(0, |newest| newest.saturating_sub(look.at_ms));
    let mut findings = Vec::new();
    if ahead > FUTURE_MS {
        findings.push(Finding::warning(
            format!("the clock went back: the plugin's newest line is {} s ahead of it", ahead / 1000),
            "keep the clock in step (chrony, systemd-timesyncd); certificates and leases depend on it",
        ));
    }
    if sight.host.clock_synchronised == Some(false) {
        findings.push(Finding::note(
            "no time daemon keeps the kernel's clock in step",
            "run chrony or systemd-timesyncd, unless the hypervisor does it",
        ));
    }
    Ok(findings)
}
