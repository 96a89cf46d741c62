//! `slash32`: the CNI plugin. One request in, one answer out, nothing left running.
//!
//! A runtime executes this program with the request in CNI_* variables and on stdin, and reads
//! one JSON document from stdout. ADD and DEL are a function of that input, the state folder and
//! the kernel: no API server, no agent, no daemon (docs/ARCHITECTURE.md).

mod add;
mod answer;
mod check;
mod config;
mod context;
mod del;
mod delegate;
mod error;
mod gc;
mod host_ports;
mod ipam_driver;
mod mac;
mod plan;
mod record;
mod shaping;
mod status;
mod undo;

use cni_spec::request::{Environment, Request, parse_request};
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let started = Instant::now();
    answer::install_panic_hook();
    let environment = Environment::from_process();
    let stdin = match answer::read_stdin(&environment) {
        Ok(stdin) => stdin,
        Err(refusal) => return answer::refuse(&refusal),
    };
    let request = match parse_request(&environment, &stdin) {
        Ok(request) => request,
        Err(refusal) => return answer::refuse(&refusal),
    };
    let delegation = delegate::Delegation::new(&environment, &stdin);
    match request {
        Request::About => answer::about(),
        Request::Version(document) => answer::print_document(&document),
        Request::Add(attachment) => {
            let (outcome, log) =
                context::logged(started, "ADD", &attachment, |a| add::run(a, &delegation));
            answer::finish_add(outcome, &attachment.conf, log)
        }
        Request::Del(attachment) => {
            let (outcome, log) =
                context::logged(started, "DEL", &attachment, |a| del::run(a, &delegation));
            answer::finish(outcome, attachment.conf.version, Some(log))
        }
        Request::Check(attachment) => {
            let (outcome, log) = context::logged(started, "CHECK", &attachment, |a| {
                check::run(a, &delegation)
            });
            answer::finish(outcome, attachment.conf.version, Some(log))
        }
        Request::Gc { conf, valid } => answer::finish(
            gc::run(&conf, valid.as_deref(), &delegation),
            conf.version,
            None,
        ),
        Request::Status { conf } => {
            answer::finish(status::run(&conf, &delegation), conf.version, None)
        }
    }
}
