//! One plugin at a time, killed at random moments: DEL cleans up after it, and the next pods get addresses that nobody has.

use crate::scale::{kills, tell};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use slash32_tests::fault_sweep::{lay, whole_request};
use slash32_tests::kill::Target;
use slash32_tests::random::Random;
use slash32_tests::site::dual_stack;
use slash32_tests::suite::Test;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

pub(crate) const TESTS: &[Test] = &[
    (
        "kills_of_add_leave_nothing_after_del_and_no_address_twice",
        kills_of_add,
    ),
    (
        "kills_of_del_leave_nothing_after_the_next_and_no_address_twice",
        kills_of_del,
    ),
];

/// Rounds that are tried at most for each kill that hit: a random moment may come after the end.
const ROUNDS_PER_KILL: usize = 3;

pub(crate) fn addresses(result: &Value) -> BTreeSet<String> {
    let ips = result["ips"].as_array().into_iter().flatten();
    ips.filter_map(|ip| ip["address"].as_str().map(str::to_owned))
        .collect()
}

/// How long a verb takes here (the median), and half of it more: moments are drawn from that.
fn span_of(target: &Target<'_>, verb: &str) -> Result<Duration> {
    let mut took = Vec::new();
    for _ in 0..9 {
        let start = Instant::now();
        target.add()?;
        let added = start.elapsed();
        target.del()?;
        took.push(if verb == "ADD" {
            added
        } else {
            start.elapsed() - added
        });
    }
    took.sort();
    Ok(took[took.len() / 2] * 3 / 2)
}

fn moment(random: &mut Random, span: Duration) -> Duration {
    Duration::from_micros(random.below(u64::try_from(span.as_micros()).unwrap_or(u64::MAX).max(1)))
}

fn kills_of_add() -> Result<()> {
    kill_again_and_again("ADD", |target, bystander, delay| {
        let hit = target.shoot("ADD", delay)?;
        expect_other_addresses(target, bystander)?;
        Ok(hit)
    })
}

fn kills_of_del() -> Result<()> {
    kill_again_and_again("DEL", |target, bystander, delay| {
        target.add()?;
        let hit = target.shoot("DEL", delay)?;
        expect_other_addresses(target, bystander)?;
        Ok(hit)
    })
}

/// What the victim's link still has, the next pod must not get; it is a whole pod.
fn expect_other_addresses(target: &Target<'_>, bystander: &Target<'_>) -> Result<()> {
    let result = bystander.add().context("an ADD after the kill")?;
    let shown = target
        .netns
        .read(&["ip", "-o", "address", "show", "scope", "global"])?;
    for address in addresses(&result) {
        ensure!(
            !shown.contains(&format!(" {address} ")),
            "{address} was given to a second pod while the first still has it: {shown}"
        );
    }
    bystander.check(&result)?;
    bystander.del()
}

fn kill_again_and_again(
    verb: &str,
    kill: impl Fn(&Target<'_>, &Target<'_>, Duration) -> Result<bool>,
) -> Result<()> {
    let (site, netns) = lay()?;
    let other = site.netns()?;
    let (request, plain) = (whole_request(), dual_stack());
    let victim = Target {
        site: &site,
        id: "victim",
        netns: &netns,
        request: &request,
    };
    let bystander = Target {
        site: &site,
        id: "bystander",
        netns: &other,
        request: &plain,
    };
    let span = span_of(&victim, verb)?;
    let mut random = Random::named(verb);
    let (mut hits, mut rounds) = (0, 0);
    while hits < kills() && rounds < ROUNDS_PER_KILL * kills() {
        rounds += 1;
        let delay = moment(&mut random, span);
        let told = || format!("{verb} killed after {delay:?}, round {rounds}");
        hits += usize::from(kill(&victim, &bystander, delay).with_context(told)?);
        victim.del().with_context(told)?;
        site.expect_clean().with_context(told)?;
    }
    ensure!(
        hits == kills(),
        "only {hits} of {rounds} kills were faster than the plugin"
    );
    tell(format_args!(
        "{hits} kills of {verb} in {rounds} rounds, moments below {span:?}"
    ));
    let result = victim.add().context("an ADD after all kills")?;
    victim.check(&result)?;
    victim.del()?;
    site.expect_clean()
}
