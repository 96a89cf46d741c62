//! Each system call of a verb refused in turn, by strace, on a node where everything is asked for at once: two families,
//! host ports, shaping. What has to hold after each is the caller's.

use crate::machine::Machine;
use crate::site::{Reply, Site, dual_stack, patched};
use crate::strace::Traced;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// What the start of any program calls before its first own line: a refusal there may end it without a word.
pub const BEFORE_MAIN: [&str; 11] = [
    "execve",
    "arch_prctl",
    "set_tid_address",
    "brk",
    "mmap",
    "munmap",
    "mprotect",
    "poll",
    "rt_sigaction",
    "rt_sigprocmask",
    "sigaltstack",
];

/// One injected fault.
#[derive(Debug)]
pub struct Fault {
    /// strace's expression.
    pub injection: String,
    /// No error document can be asked for: the fault hits the answer on stdout itself, the start of the program, or the
    /// way back into the plugin's own namespace, where it ends itself at once rather than act in the wrong one.
    pub speechless: bool,
}

/// What to refuse.
pub struct Sweep<'a> {
    /// ADD or DEL.
    pub verb: &'a str,
    /// From the position on, every further call of the kind too.
    pub for_good: bool,
    /// The errors for each call of a kind; none leaves it alone.
    pub errors: &'a dyn Fn(&str) -> Vec<&'static str>,
}

impl std::fmt::Debug for Sweep<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sweep of {}, for good: {}", self.verb, self.for_good)
    }
}

/// Everything at once.
pub fn whole_request() -> Value {
    patched(
        &dual_stack(),
        json!({"runtimeConfig": {
            "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}, {"hostPort": 5353, "containerPort": 53, "protocol": "udp"}],
            "bandwidth": {"ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 8_000_000, "egressBurst": 800_000},
        }}),
    )
}

/// A node with the agent's table, and a pod's namespace.
pub fn lay() -> Result<(Site, Machine)> {
    let site = Site::new()?;
    let laid = site.run_agent_once()?;
    ensure!(laid.status.success(), "{}", laid.stderr);
    let netns = site.netns()?;
    Ok((site, netns))
}

impl Sweep<'_> {
    /// Runs `each` for every fault, on a fresh node after each failure, and tells all failures. The number of faults.
    pub fn run(&self, each: impl Fn(&Traced<'_>, &Fault) -> Result<()>) -> Result<usize> {
        let request = whole_request();
        let (mut site, mut netns) = lay()?;
        let faults = self.list_faults(&site, &netns, &request)?;
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
                failures.push(format!("{} with {}: {error:#}", self.verb, fault.injection));
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
        Ok(faults.len())
    }

    fn list_faults(&self, site: &Site, netns: &Machine, request: &Value) -> Result<Vec<Fault>> {
        let traced = Traced {
            site,
            id: "c1",
            netns,
            request,
        };
        // Not the first of its node: that one makes folders too.
        site.call("ADD", "c1", netns, request)?.success()?;
        if self.verb == "ADD" {
            site.call("DEL", "c1", netns, request)?.silent()?;
        }
        let (counts, answers) = traced.count(self.verb)?;
        site.call("DEL", "c1", netns, request)?.silent()?;
        let mut faults = Vec::new();
        let plus = if self.for_good { "+" } else { "" };
        for (call, count) in &counts {
            for position in 1..=*count {
                let hits =
                    |answer: &usize| *answer == position || (self.for_good && *answer >= position);
                let speechless = call == "setns"
                    || BEFORE_MAIN.contains(&call.as_str())
                    || (call == "write" && answers.iter().any(hits));
                // A call that is interrupted for ever is retried for ever: no kernel does that.
                let errors = (self.errors)(call)
                    .into_iter()
                    .filter(|error| !self.for_good || *error != "EINTR");
                faults.extend(errors.map(|error| Fault {
                    injection: format!("{call}:error={error}:when={position}{plus}"),
                    speechless,
                }));
            }
        }
        Ok(faults)
    }
}

/// Whether the verb succeeded; a failure must have told itself properly.
pub fn run_with(traced: &Traced<'_>, verb: &str, fault: &Fault) -> Result<bool> {
    let outcome = traced.run(verb, &[&fault.injection])?;
    let succeeded = outcome.status.success();
    if !fault.speechless {
        let reply = Reply::read(outcome)?;
        ensure!(
            !reply.document.to_string().contains("panicked"),
            "{}",
            reply.document
        );
    }
    Ok(succeeded)
}

/// DEL by the plugin as it is, and nothing left after it.
pub fn expect_del_cleans(traced: &Traced<'_>) -> Result<()> {
    traced
        .site
        .call("DEL", traced.id, traced.netns, traced.request)?
        .silent()?;
    traced.site.expect_clean().context("after DEL")
}

/// An ADD that is refused once somewhere: nothing is left by a failure that could tell itself, nor by DEL.
pub fn expect_add_whole_or_nothing(traced: &Traced<'_>, fault: &Fault) -> Result<()> {
    let succeeded = run_with(traced, "ADD", fault)?;
    if !succeeded && !fault.speechless {
        traced
            .site
            .expect_clean()
            .context("after the failed ADD alone")?;
    }
    expect_del_cleans(traced)
}

/// A DEL that is refused once somewhere: a success has cleaned, and a failure is finished by the next.
pub fn expect_del_finished(traced: &Traced<'_>, fault: &Fault) -> Result<()> {
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
}
