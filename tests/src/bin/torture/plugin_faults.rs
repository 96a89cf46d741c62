//! Every system call of ADD and DEL with every error that a machine in need gives, and reads and writes that come a byte
//! at a time. The suite `faults` has the likely ones; FAULTS_PER_CALL=7 tries the whole product.

use crate::scale::{faults_per_call, tell};
use anyhow::{Context, Result, ensure};
use slash32_tests::bytewise;
use slash32_tests::fault_sweep::{
    Fault, Sweep, expect_add_whole_or_nothing, expect_del_finished, lay, whole_request,
};
use slash32_tests::kill::Target;
use slash32_tests::random::Random;
use slash32_tests::site::Reply;
use slash32_tests::strace::Traced;
use slash32_tests::suite::Test;
use std::cell::RefCell;

pub(crate) const TESTS: &[Test] = &[
    (
        "every_call_of_add_with_every_error_leaves_all_or_nothing",
        every_call_of_add,
    ),
    (
        "every_call_of_del_with_every_error_is_finished_by_the_next",
        every_call_of_del,
    ),
    (
        "reads_and_writes_of_one_byte_each_change_nothing",
        one_byte_at_a_time,
    ),
];

const ERRORS: [&str; 7] = [
    "ENOSPC", "EMFILE", "EINTR", "ENOMEM", "EBUSY", "ENOBUFS", "EPERM",
];

/// So many errors for one call; none where it cannot fail, or is not the program's.
pub(crate) fn choose_errors(call: &str, random: &mut Random, count: usize) -> Vec<&'static str> {
    if ["execve", "exit", "exit_group", "rt_sigreturn"].contains(&call) {
        return Vec::new();
    }
    let mut errors = ERRORS.to_vec();
    while errors.len() > count {
        let out = random.below(errors.len() as u64);
        errors.remove(usize::try_from(out).unwrap_or(0));
    }
    errors
}

fn sweep(verb: &str, each: impl Fn(&Traced<'_>, &Fault) -> Result<()>) -> Result<()> {
    let random = RefCell::new(Random::named(&format!("faults of {verb}")));
    let sweep = Sweep {
        verb,
        for_good: false,
        errors: &|call| choose_errors(call, &mut random.borrow_mut(), faults_per_call()),
    };
    let count = sweep.run(each)?;
    tell(format_args!("{count} faults of {verb}"));
    Ok(())
}

fn every_call_of_add() -> Result<()> {
    sweep("ADD", expect_add_whole_or_nothing)
}

fn every_call_of_del() -> Result<()> {
    sweep("DEL", expect_del_finished)
}

fn one_byte_at_a_time() -> Result<()> {
    let (site, netns) = lay()?;
    let request = whole_request();
    let target = Target {
        site: &site,
        id: "c1",
        netns: &netns,
        request: &request,
    };
    for round in 0..3 {
        let (outcome, shortened) = bytewise::run(&target, "ADD")?;
        ensure!(
            shortened > 100,
            "only {shortened} reads and writes were shortened"
        );
        let result = Reply::read(outcome)?.success().context("ADD")?;
        target.check(&result)?;
        let (outcome, shortened) = bytewise::run(&target, "DEL")?;
        Reply::read(outcome)?.silent().context("DEL")?;
        site.expect_clean()?;
        tell(format_args!(
            "round {round}: {shortened} reads and writes of one byte in DEL"
        ));
    }
    Ok(())
}
