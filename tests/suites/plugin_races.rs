//! Calls for one thing at the same moment: an attachment, a host port, an ADD and its DEL. Runtimes promise not
//! to do the first and the last (G19), and do it when they are killed and start again (2.1).

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use slash32_tests::crowd::at_once;
use slash32_tests::machine::Machine;
use slash32_tests::site::{Reply, Site, dual_stack, patched, with_previous};
use slash32_tests::suite;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    suite::main(&[
        (
            "a1_of_two_adds_of_one_attachment_at_once_one_is_whole",
            one_attachment_twice_at_once,
        ),
        (
            "x3_of_many_that_want_one_host_port_at_once_one_gets_it",
            one_host_port_for_many,
        ),
        (
            "an_add_that_outlives_its_del_is_cleared_by_the_next_del",
            add_beside_del,
        ),
    ])
}

fn crowd(site: &Site, size: usize) -> Result<Vec<(String, Machine)>> {
    (0..size)
        .map(|n| Ok((format!("c{n}"), site.netns()?)))
        .collect()
}

fn one_attachment_twice_at_once() -> Result<()> {
    let site = Site::new()?;
    let request = dual_stack();
    for round in 0..60 {
        let (id, netns) = (format!("c{round}"), site.netns()?);
        let replies = at_once(&[(), ()], |()| site.call("ADD", &id, &netns, &request))?;
        let replies: Vec<Reply> = replies.into_iter().collect::<Result<_>>()?;
        let (won, lost): (Vec<_>, Vec<_>) = replies
            .into_iter()
            .partition(|reply| reply.outcome.status.success());
        ensure!(
            won.len() == 1,
            "round {round}: {} of 2 succeeded: {won:?} {lost:?}",
            won.len()
        );
        for (result, refusal) in won.into_iter().zip(lost) {
            refusal.failed()?;
            // The loser must not have taken anything from the winner (A4).
            let result = result.success()?;
            let check = site.call("CHECK", &id, &netns, &with_previous(&request, &result))?;
            check.silent().with_context(|| format!("round {round}"))?;
        }
        site.call("DEL", &id, &netns, &request)?.silent()?;
    }
    site.expect_clean()
}

fn one_host_port_for_many() -> Result<()> {
    let site = Site::new()?;
    let pass = site.run_agent_once()?;
    ensure!(pass.status.success(), "{}{}", pass.stdout, pass.stderr);
    let wanted = json!({"runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}});
    let (pods, request) = (crowd(&site, 20)?, patched(&dual_stack(), wanted));
    let replies = at_once(&pods, |(id, netns)| site.call("ADD", id, netns, &request))?;
    let mut owner = None;
    let mut refusals = Vec::new();
    for ((id, _), reply) in pods.iter().zip(replies) {
        let reply = reply?;
        if reply.outcome.status.success() {
            ensure!(owner.replace(id).is_none(), "two pods have host port 8080");
        } else {
            refusals.push(reply.failed()?);
        }
    }
    let owner = owner.with_context(|| format!("nobody got host port 8080: {refusals:?}"))?;
    for refusal in refusals {
        ensure!(
            refusal.contains("8080") && refusal.contains(owner.as_str()),
            "owner is {owner}: {refusal}"
        );
    }
    for (id, netns) in &pods {
        site.call("DEL", id, netns, &request)?.silent()?;
    }
    site.expect_clean()
}

/// The runtime was killed in ADD, started again and called DEL, while the old ADD still ran (2.1).
fn add_beside_del() -> Result<()> {
    let (site, request) = (Site::new()?, dual_stack());
    let mut both = 0;
    for round in 0..30 {
        let (id, netns) = (format!("c{round}"), site.netns()?);
        let verbs = ["ADD", "DEL"];
        let ends = at_once(&verbs, |verb| -> Result<bool> {
            if *verb == "DEL" {
                std::thread::sleep(Duration::from_micros(300 * round));
            }
            let reply = site.call(verb, &id, &netns, &request)?;
            Ok(reply.outcome.status.success())
        })?;
        let [added, deleted] = <[Result<bool>; 2]>::try_from(ends)
            .ok()
            .context("two ends")?;
        // DEL never fails over an ADD that is under way (D1); ADD may lose its ground.
        if !deleted? {
            bail!("round {round}: DEL failed beside a running ADD");
        }
        both += usize::from(added?);
        site.call("DEL", &id, &netns, &request)?.silent()?;
        site.expect_clean()
            .with_context(|| format!("round {round}"))?;
    }
    ensure!(both > 0, "no ADD came through beside a DEL");
    Ok(())
}
