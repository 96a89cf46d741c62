//! stdin in, stdout and exit code out: exactly one JSON document, or nothing (G13, G14).

use crate::context::OperationLog;
use crate::error::Error;
use cni_spec::error::{CniError, ErrorCode};
use cni_spec::request::{Environment, NetConf, Refusal};
use cni_spec::result::CniResult;
use cni_spec::version::SpecVersion;
use std::process::ExitCode;

/// VERSION and the about line must work with any stdin, also one that nobody closes (V1, G2).
pub(crate) fn read_stdin(environment: &Environment) -> Result<Vec<u8>, Refusal> {
    match environment.command {
        None => Ok(Vec::new()),
        Some(_) => cni_spec::request::read_stdin(std::io::stdin()),
    }
}

/// A panic must not leave a runtime without an answer: it becomes error 999 (G14).
pub(crate) fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        let error = CniError::new(
            ErrorCode::Internal,
            "slash32 met a state that it was not built for; please report this",
        )
        .with_details(info.to_string());
        print_document(&error.to_json(SpecVersion::NEWEST));
        std::process::exit(1);
    }));
}

pub(crate) fn about() -> ExitCode {
    let versions = SpecVersion::ALL.map(SpecVersion::as_str).join(", ");
    eprintln!(
        "CNI plugin slash32 v{}: routed pod networking, one veth pair and a /32 for each pod",
        env!("CARGO_PKG_VERSION")
    );
    eprintln!("CNI protocol versions supported: {versions}");
    ExitCode::SUCCESS
}

pub(crate) fn refuse(refusal: &Refusal) -> ExitCode {
    fail(&refusal.error, refusal.version)
}

/// ADD: the result, or the error.
pub(crate) fn finish_add(
    outcome: Result<CniResult, Error>,
    conf: &NetConf,
    log: OperationLog,
) -> ExitCode {
    let answer = outcome
        .and_then(|result| Ok(result.to_json(conf.version)?))
        .map_err(CniError::from);
    log.write(answer.as_ref().err());
    match answer {
        Ok(document) => print_document(&document),
        Err(error) => fail(&error, conf.version),
    }
}

/// The other verbs: nothing, or the error.
pub(crate) fn finish(
    outcome: Result<(), Error>,
    version: SpecVersion,
    log: Option<OperationLog>,
) -> ExitCode {
    let answer = outcome.map_err(CniError::from);
    if let Some(log) = log {
        log.write(answer.as_ref().err());
    }
    match answer {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, version),
    }
}

fn fail(error: &CniError, version: SpecVersion) -> ExitCode {
    print_document(&error.to_json(version));
    ExitCode::FAILURE
}

/// A reader that is gone makes the operation a failure: the runtime then calls DEL (G20). Past the buffer of
/// std's stdout, which would print once more at exit what was reported as not printed (G13).
pub(crate) fn print_document(document: &str) -> ExitCode {
    let line = format!("{document}\n");
    let mut rest = line.as_bytes();
    while !rest.is_empty() {
        match nix::unistd::write(std::io::stdout(), rest) {
            Ok(written) => rest = &rest[written..],
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => {
                eprintln!("slash32: write the answer to stdout: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
