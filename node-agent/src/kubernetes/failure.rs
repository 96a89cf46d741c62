//! Why a request failed, told apart by type and status code, and the sentence for it: what was attempted, at which
//! server, since when, and what to do. Used by all that asks the API server.

use crate::problem::{Problem, ProblemKind};
use k8s_openapi::jiff::Timestamp;
use kube::core::Status;
use std::error::Error;
use std::time::Duration;

/// The classes, as the label `kind` of slash32_api_errors_total spells them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureKind {
    /// The credentials cannot be read.
    Access,
    /// No connection, or one that broke, or no answer in time.
    Unreachable,
    /// No TLS: a certificate that is not trusted, or not for this host.
    Tls,
    /// 401
    Unauthorized,
    /// 403
    Forbidden,
    /// 410, or history that is not this server's: the resource version says nothing any more.
    Gone,
    /// 429
    Busy,
    /// Another 4xx: the server does not know what was asked for.
    Unsupported,
    /// 5xx, and whatever is no answer of an API server.
    Server,
}

impl FailureKind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Unreachable => "unreachable",
            Self::Tls => "tls",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::Gone => "gone",
            Self::Busy => "busy",
            Self::Unsupported => "unsupported",
            Self::Server => "server",
        }
    }
}

/// One failed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) kind: FailureKind,
    /// In the words of whoever refused.
    reason: String,
}

impl Failure {
    pub(super) fn new(kind: FailureKind, reason: impl Into<String>) -> Failure {
        Failure {
            kind,
            reason: reason.into(),
        }
    }

    /// Nothing came within `patience`.
    pub(super) fn timeout(patience: Duration) -> Failure {
        let reason = format!("no answer within {} s", patience.as_secs());
        Failure::new(FailureKind::Unreachable, reason)
    }

    /// By the types in the chain of causes, never by text.
    pub(super) fn of(error: &kube::Error) -> Failure {
        match error {
            kube::Error::Api(status) => Failure::of_status(status),
            kube::Error::SerdeError(error) => Failure::new(
                FailureKind::Server,
                format!("its answer cannot be read: {error}"),
            ),
            kube::Error::RustlsTls(error) => Failure::new(FailureKind::Tls, error.to_string()),
            kube::Error::Auth(error) => Failure::new(FailureKind::Access, error.to_string()),
            other => Failure::of_chain(other),
        }
    }

    /// An answer of the API server, or an event of kind ERROR.
    pub(super) fn of_status(status: &Status) -> Failure {
        let kind = match status.code {
            401 => FailureKind::Unauthorized,
            403 => FailureKind::Forbidden,
            410 => FailureKind::Gone,
            429 => FailureKind::Busy,
            400..=499 => FailureKind::Unsupported,
            _ => FailureKind::Server,
        };
        Failure::new(kind, format!("{} ({})", status.message.trim(), status.code))
    }

    fn of_chain(error: &(dyn Error + 'static)) -> Failure {
        let mut kind = FailureKind::Server;
        let mut deepest = error;
        let mut next = Some(error);
        while let Some(error) = next {
            deepest = error;
            if error.is::<rustls::Error>() {
                kind = FailureKind::Tls;
            } else if kind != FailureKind::Tls
                && (error.is::<std::io::Error>() || error.is::<hyper_util::client::legacy::Error>())
            {
                kind = FailureKind::Unreachable;
            }
            // An io::Error's source() leaves out what it wraps.
            let wrapped = error.downcast_ref::<std::io::Error>();
            next = match wrapped.and_then(std::io::Error::get_ref) {
                Some(inner) => Some(inner),
                None => error.source(),
            };
        }
        Failure::new(kind, deepest.to_string())
    }

    /// A problem for the user: `what` is verb and resource, `since` the first failure of the row. The text stays the
    /// same while the cause does.
    pub(super) fn problem(&self, url: String, what: &str, since: Option<Timestamp>) -> Problem {
        let since = since.map_or_else(String::new, |since| {
            format!(" since {}", since.strftime("%Y-%m-%d %H:%M:%S UTC"))
        });
        Problem::new(
            ProblemKind::Api,
            format!("{}{since}; {}", self.sentence(&url, what), self.advice()),
        )
    }

    fn sentence(&self, url: &str, what: &str) -> String {
        let reason = &self.reason;
        match self.kind {
            FailureKind::Access => {
                format!("no usable credentials for the API server to {what}: {reason}")
            }
            FailureKind::Unreachable => {
                format!("the API server {url} cannot be reached to {what}: {reason}")
            }
            FailureKind::Tls => {
                format!("no TLS connection to the API server {url} to {what}: {reason}")
            }
            FailureKind::Unauthorized => {
                format!("the API server {url} does not accept our credentials to {what}: {reason}")
            }
            FailureKind::Forbidden => {
                format!("the API server {url} does not allow us to {what}: {reason}")
            }
            FailureKind::Gone
            | FailureKind::Busy
            | FailureKind::Unsupported
            | FailureKind::Server => {
                format!("the API server {url} cannot serve us to {what}: {reason}")
            }
        }
    }

    fn advice(&self) -> &'static str {
        match self.kind {
            FailureKind::Access => {
                "see whether that file is there, readable and whole; it is read again at each attempt"
            }
            FailureKind::Unreachable => {
                "what is routed stays as it is. Does it run, and does this node reach that address? Where kube-proxy \
                 does not run yet, set apiServer (--api-server, SLASH32_API_SERVER) to an address of the control plane"
            }
            FailureKind::Tls => {
                "its certificate must come from the CA of the kubeconfig or service account, and name the host of that \
                 URL"
            }
            FailureKind::Unauthorized => {
                "is the token (or client certificate) still valid, and is the service account still there? It is read \
                 again at each attempt"
            }
            FailureKind::Forbidden => {
                "apply the ClusterRole and ClusterRoleBinding slash32-agent (manifests/base/rbac.yaml), or bind them \
                 to the user that is named here"
            }
            FailureKind::Gone
            | FailureKind::Busy
            | FailureKind::Unsupported
            | FailureKind::Server => {
                "what is routed stays as it is; tried again until it works. Its own log says more"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    fn status(code: u16) -> Failure {
        let mut status = Status::failure("words of the server", "Reason");
        status.code = code;
        Failure::of(&kube::Error::Api(Box::new(status)))
    }

    #[test]
    fn answers_are_told_apart_by_their_code() {
        for (code, kind) in [
            (401, FailureKind::Unauthorized),
            (403, FailureKind::Forbidden),
            (410, FailureKind::Gone),
            (429, FailureKind::Busy),
            (400, FailureKind::Unsupported),
            (422, FailureKind::Unsupported),
            (500, FailureKind::Server),
            (504, FailureKind::Server),
        ] {
            assert_eq!(status(code).kind, kind, "{code}");
        }
    }

    #[test]
    fn a_refused_connection_and_a_bad_certificate_are_found_below_what_wraps_them() {
        let refused = io::Error::from_raw_os_error(nix::libc::ECONNREFUSED);
        let wrapped = kube::Error::Service(Box::new(io::Error::other(refused)));
        let failure = Failure::of(&wrapped);
        assert_eq!(failure.kind, FailureKind::Unreachable);
        assert!(failure.reason.contains("refused"), "{failure:?}");
        let bad = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let wrapped =
            kube::Error::Service(Box::new(io::Error::new(io::ErrorKind::InvalidData, bad)));
        let failure = Failure::of(&wrapped);
        assert_eq!(failure.kind, FailureKind::Tls);
        assert!(failure.reason.contains("UnknownIssuer"), "{failure:?}");
    }

    #[test]
    fn a_sentence_names_server_attempt_cause_and_what_to_do() {
        let text = |failure: Failure| {
            let url = "https://192.0.2.1:6443".to_owned();
            failure
                .problem(url, "watch nodes", Some(Timestamp::UNIX_EPOCH))
                .text
        };
        let told = text(status(403));
        for part in [
            "https://192.0.2.1:6443",
            "watch nodes",
            "words of the server",
            "403",
            "1970-01-01 00:00:00 UTC",
            "ClusterRole",
            "rbac.yaml",
        ] {
            assert!(told.contains(part), "{part} is not in {told}");
        }
        let told = text(Failure::timeout(Duration::from_secs(30)));
        assert!(
            told.contains("30 s") && told.contains("apiServer"),
            "{told}"
        );
    }
}
