//! The order in which a request is examined, so that the first error told is the one to mend first.
//!
//! The verb, then missing variables (all of them in one message), then stdin as JSON, then its version before anything else
//! in it is believed (G12), then the values.

use super::{
    Attachment, AttachmentId, CniArgs, Environment, Refusal, Request,
    args::parse_args,
    attachments::read_valid_attachments,
    conf::{NetConf, Strictness, decode_conf, read_conf, read_version},
    environment::{checked_container_id, checked_ifname},
};
use crate::{
    error::{CniError, ErrorCode},
    json::quote,
    version::{SpecVersion, version_document},
};

/// The verbs that come with a configuration to act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Add,
    Check,
    Del,
    Gc,
    Status,
}

impl Verb {
    fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Check => "CHECK",
            Self::Del => "DEL",
            Self::Gc => "GC",
            Self::Status => "STATUS",
        }
    }

    /// The version that brought the verb (G12).
    fn since(self) -> SpecVersion {
        match self {
            Self::Add | Self::Del => SpecVersion::V0_1_0,
            Self::Check => SpecVersion::V0_4_0,
            Self::Gc | Self::Status => SpecVersion::V1_1_0,
        }
    }

    fn strictness(self) -> Strictness {
        match self {
            Self::Add | Self::Check | Self::Status => Strictness::All,
            Self::Del | Self::Gc => Strictness::KeysOnly,
        }
    }
}

/// Validates environment and stdin. Pure: whether CNI_NETNS is a namespace, and another than the plugin's own (G18), is the
/// plugin's check. CNI_PATH is never required here: only a delegated IPAM plugin needs it (G3).
///
/// # Errors
/// Codes 1, 4, 6 and 7 (G16), and the version in which to word them.
pub fn parse_request(env: &Environment, stdin: &[u8]) -> Result<Request, Refusal> {
    let verb = match env.command.as_deref().unwrap_or_default() {
        "" => return Ok(Request::About),
        "VERSION" => return Ok(Request::Version(version_document(stdin))),
        "ADD" => Verb::Add,
        "CHECK" => Verb::Check,
        "DEL" => Verb::Del,
        "GC" => Verb::Gc,
        "STATUS" => Verb::Status,
        other => {
            return Err(Refusal {
                error: unknown_command(other),
                version: version_of(stdin),
            });
        }
    };
    if let Err(error) = refuse_missing_variables(env, verb) {
        return Err(Refusal {
            error,
            version: version_of(stdin),
        });
    }
    let newest = |error| Refusal {
        error,
        version: SpecVersion::NEWEST,
    };
    let raw = decode_conf(stdin).map_err(newest)?;
    let version = read_version(&raw).map_err(newest)?;
    let refuse = |error| Refusal { error, version };
    refuse_early_version(verb, version).map_err(refuse)?;
    let conf = read_conf(raw, version, verb.strictness()).map_err(refuse)?;
    read_request(env, verb, conf).map_err(refuse)
}

fn read_request(env: &Environment, verb: Verb, conf: NetConf) -> Result<Request, CniError> {
    match verb {
        Verb::Gc => Ok(Request::Gc {
            valid: read_valid_attachments(&conf.raw)?,
            conf,
        }),
        Verb::Status => Ok(Request::Status { conf }),
        Verb::Add => {
            refuse_bad_prev_result(&conf)?;
            Ok(Request::Add(read_attachment(env, verb, conf)?))
        }
        Verb::Check => {
            refuse_bad_prev_result(&conf)?;
            if conf.prev_result.is_none() {
                let error = CniError::new(
                    ErrorCode::InvalidConfig,
                    "missing prevResult, with which CHECK compares",
                );
                return Err(error.with_details("the runtime has to pass the result of ADD"));
            }
            Ok(Request::Check(read_attachment(env, verb, conf)?))
        }
        Verb::Del => Ok(Request::Del(read_attachment(env, verb, conf)?)),
    }
}

fn read_attachment(env: &Environment, verb: Verb, conf: NetConf) -> Result<Attachment, CniError> {
    let id = AttachmentId {
        network: conf.name.clone(),
        container_id: checked_container_id(env.container_id.as_deref().unwrap_or_default())?,
        ifname: checked_ifname(env.ifname.as_deref().unwrap_or_default())?,
    };
    let args = match env.args.as_deref().map(parse_args) {
        None => CniArgs::default(),
        Some(Err(_)) if verb.strictness() == Strictness::KeysOnly => CniArgs::default(),
        Some(parsed) => parsed?,
    };
    Ok(Attachment {
        id,
        netns: env.netns.as_deref().map(Into::into),
        args,
        conf,
    })
}

fn unknown_command(command: &str) -> CniError {
    let msg = format!("unknown CNI_COMMAND: {}", quote(command));
    CniError::new(ErrorCode::InvalidEnvironment, msg)
        .with_details("wanted ADD, CHECK, DEL, GC, STATUS or VERSION, in upper case")
}

fn refuse_missing_variables(env: &Environment, verb: Verb) -> Result<(), CniError> {
    let of_attachment = matches!(verb, Verb::Add | Verb::Check | Verb::Del);
    let needed = [
        ("CNI_CONTAINERID", of_attachment, &env.container_id),
        (
            "CNI_NETNS",
            matches!(verb, Verb::Add | Verb::Check),
            &env.netns,
        ),
        ("CNI_IFNAME", of_attachment, &env.ifname),
    ];
    let is_missing = |(name, required, value): (&'static str, bool, &Option<String>)| {
        (required && value.as_deref().is_none_or(str::is_empty)).then_some(name)
    };
    let missing: Vec<&str> = needed.into_iter().filter_map(is_missing).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let msg = format!("required env variables [{}] missing", missing.join(","));
    let details = format!("{} needs them, and they must not be empty", verb.as_str());
    Err(CniError::new(ErrorCode::InvalidEnvironment, msg).with_details(details))
}

fn refuse_early_version(verb: Verb, version: SpecVersion) -> Result<(), CniError> {
    if version >= verb.since() {
        return Ok(());
    }
    let msg = format!("config version {version} does not allow {}", verb.as_str());
    let details = format!(
        "{} came with {}; set cniVersion in the network configuration accordingly",
        verb.as_str(),
        verb.since()
    );
    Err(CniError::new(ErrorCode::IncompatibleVersion, msg).with_details(details))
}

fn refuse_bad_prev_result(conf: &NetConf) -> Result<(), CniError> {
    conf.prev_result_error.clone().map_or(Ok(()), Err)
}

/// The version in which to word an error of the environment: that of stdin where it can be read.
fn version_of(stdin: &[u8]) -> SpecVersion {
    decode_conf(stdin)
        .and_then(|conf| read_version(&conf))
        .unwrap_or(SpecVersion::NEWEST)
}
