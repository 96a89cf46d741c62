//! Many at once, and killed anywhere: no address twice, nothing left after DEL or GC (G19, G20, I11, I12).

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use slash32_tests::crowd::at_once;
use slash32_tests::kill::Target;
use slash32_tests::machine::{Machine, run_here};
use slash32_tests::random::Random;
use slash32_tests::site::{Reply, Site, dual_stack, patched};
use slash32_tests::strace::Traced;
use slash32_tests::suite;
use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;
use std::time::Duration;

const POD_COUNT: usize = 200;
const RANDOM_KILLS: usize = 75;
const SIGKILL: i32 = 9;

/// Calls that change what others see. A kill between two of them is a kill before the second.
const CHANGING: [&str; 18] = [
    "sendto",
    "sendmsg",
    "write",
    "writev",
    "open",
    "openat",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "fchmod",
    "ftruncate",
    "flock",
];

fn main() -> ExitCode {
    suite::main(&[
        (
            "i12_200_parallel_adds_get_200_addresses_and_200_dels_leave_nothing",
            two_hundred_at_once,
        ),
        (
            "g19_the_same_attachment_added_eight_times_at_once_is_made_once",
            same_attachment_at_once,
        ),
        (
            "i11_an_add_killed_before_any_change_is_undone_by_del_or_gc",
            add_killed_anywhere,
        ),
        (
            "i11_a_del_killed_before_any_change_is_finished_by_del_or_gc",
            del_killed_anywhere,
        ),
        (
            "i11_kills_at_random_moments_leave_nothing_and_no_address_twice",
            killed_at_random,
        ),
    ])
}

fn addresses(result: &Value) -> Vec<String> {
    let ips = result["ips"].as_array().cloned().unwrap_or_default();
    ips.iter().map(|ip| ip["address"].to_string()).collect()
}

/// Calls a verb for each name at the same time.
fn all_at_once(site: &Site, verb: &str, names: &[String]) -> Result<Vec<Value>> {
    let documents = at_once(names, |name| {
        let netns = format!("/run/netns/{name}");
        site.call_at(verb, name, &netns, "eth0", &dual_stack())?
            .success()
            .context(name.clone())
    })?;
    documents.into_iter().collect()
}

fn two_hundred_at_once() -> Result<()> {
    let site = Site::new()?;
    let names: Vec<String> = (0..POD_COUNT)
        .map(|n| format!("{}-storm{n}", site.node.machine.name))
        .collect();
    for name in &names {
        run_here(&["ip", "netns", "add", name])?;
    }
    let results = all_at_once(&site, "ADD", &names)?;
    let distinct: BTreeSet<String> = results.iter().flat_map(addresses).collect();
    ensure!(
        distinct.len() == 2 * POD_COUNT,
        "{} addresses for {POD_COUNT} pods",
        distinct.len()
    );
    all_at_once(&site, "DEL", &names)?;
    site.expect_clean()
}

fn same_attachment_at_once() -> Result<()> {
    let site = Site::new()?;
    let netns = site.netns()?;
    let replies: Vec<Reply> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| site.call("ADD", "c1", &netns, &dual_stack())))
            .collect();
        calls
            .into_iter()
            .map(|call| call.join().unwrap_or_else(|_| bail!("a thread panicked")))
            .collect::<Result<_>>()
    })?;
    let made: Vec<&Reply> = replies
        .iter()
        .filter(|reply| reply.outcome.status.success())
        .collect();
    ensure!(made.len() == 1, "{} of 8 succeeded", made.len());
    let request = slash32_tests::site::with_previous(&dual_stack(), &made[0].document);
    site.call("CHECK", "c1", &netns, &request)?.silent()?;
    site.call("DEL", "c1", &netns, &request)?.silent()?;
    site.expect_clean()
}

fn whole_request() -> Value {
    patched(
        &dual_stack(),
        json!({"runtimeConfig": {
            "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
            "bandwidth": {"ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 8_000_000, "egressBurst": 800_000},
        }}),
    )
}

/// DEL on even positions, GC on odd ones: both are what follows an ADD in real life (G20, 2.3).
fn clean_up(site: &Site, netns: &Machine, request: &Value, position: usize) -> Result<()> {
    if position.is_multiple_of(2) {
        site.call("DEL", "c1", netns, request)?.silent()?;
    } else {
        // GC leaves alone what is as young as itself (GC6).
        std::thread::sleep(Duration::from_millis(3));
        let mut list = request.clone();
        list["cni.dev/valid-attachments"] = json!([]);
        site.call_network("GC", &list)?.silent()?;
    }
    site.expect_clean()
}

/// Kills `verb` before each changing call in turn; `before` brings the node into the state it starts from.
fn killed_anywhere(
    verb: &str,
    before: impl Fn(&Site, &Machine, &Value) -> Result<()>,
) -> Result<()> {
    let site = Site::new()?;
    ensure!(site.run_agent_once()?.status.success());
    let (netns, request) = (site.netns()?, whole_request());
    let traced = Traced {
        site: &site,
        id: "c1",
        netns: &netns,
        request: &request,
    };
    site.call("ADD", "c1", &netns, &request)?.success()?;
    site.call("DEL", "c1", &netns, &request)?.silent()?;
    before(&site, &netns, &request)?;
    let (counts, _) = traced.count(verb)?;
    clean_up(&site, &netns, &request, 0)?;
    let mut kills = 0;
    for call in CHANGING {
        for position in 1..=counts.get(call).copied().unwrap_or(0) {
            let injection = format!("{call}:signal=SIGKILL:when={position}");
            before(&site, &netns, &request)?;
            let outcome = traced.run(verb, &[&injection])?;
            // The system calls of a run depend a little on what the allocator finds.
            kills += usize::from(outcome.status.signal() == Some(SIGKILL));
            clean_up(&site, &netns, &request, position)
                .with_context(|| format!("{verb} with {injection}"))?;
        }
    }
    ensure!(kills > 30, "only {kills} kills");
    let pod = site.add("after", &whole_request())?;
    Reply::read(pod.call("CHECK")?)?.silent()
}

fn add_killed_anywhere() -> Result<()> {
    killed_anywhere("ADD", |_, _, _| Ok(()))
}

fn del_killed_anywhere() -> Result<()> {
    killed_anywhere("DEL", |site, netns, request| {
        site.call("ADD", "c1", netns, request)?.success().map(drop)
    })
}

/// Real speed, where the sweep above has strace's; the kernel finishes a call that it has begun.
fn killed_at_random() -> Result<()> {
    let site = Site::new()?;
    ensure!(site.run_agent_once()?.status.success());
    let (netns, bystander) = (site.netns()?, site.netns()?);
    let standing = site.add("standing", &dual_stack())?;
    let request = whole_request();
    let target = Target {
        site: &site,
        id: "c1",
        netns: &netns,
        request: &request,
    };
    // The same moments each time, as far as the machine goes along.
    let mut random = Random::new(0x2545_f491_4f6c_dd1d);
    let mut moment = |below| Duration::from_micros(random.below(below));
    for round in 0..RANDOM_KILLS {
        target.shoot("ADD", moment(4000))?;
        let result = site
            .call("ADD", "bystander", &bystander, &dual_stack())?
            .success()?;
        ensure!(
            addresses(&result)
                .iter()
                .all(|address| !standing.result.to_string().contains(address)),
            "{result}"
        );
        if !round.is_multiple_of(2) {
            target.shoot("DEL", moment(25_000))?;
        }
        target.del()?;
        site.call("DEL", "bystander", &bystander, &dual_stack())?
            .silent()?;
        let result = target.add().with_context(|| format!("round {round}"))?;
        ensure!(addresses(&result).len() == 2);
        target.shoot("DEL", moment(25_000))?;
        target.del()?;
    }
    Reply::read(standing.call("CHECK")?)?.silent()?;
    standing.del()?;
    site.expect_clean()
}
