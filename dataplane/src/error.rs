//! The one error of this crate: what was attempted, with which values, and what the kernel answered.
//!
//! Callers branch by errno through the `is_*` methods, never by text. The text is for people: it carries the kernel's own
//! extended acknowledgement ("Nexthop has invalid gateway") and, where the cause is plain, what to do.

use nix::errno::Errno;

/// What was attempted and what the kernel answered. Told apart by errno.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{what}: {message}")]
pub struct KernelError {
    /// What was attempted, with values: `add route 10.1.2.0/24 via 10.0.0.2`.
    pub what: String,
    /// The errno, positive; 0 where the kernel answered something that we do not understand.
    pub errno: i32,
    /// The errno in words, the kernel's extended acknowledgement, what to do.
    pub message: String,
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, KernelError>;

impl KernelError {
    /// `errno` during `what`, the message made from the errno.
    pub fn new(what: impl Into<String>, errno: i32) -> KernelError {
        Refusal::new(errno).during(what)
    }

    /// Something that is no errno: a program that failed, an answer that makes no sense.
    pub fn other(what: impl Into<String>, message: impl Into<String>) -> KernelError {
        KernelError {
            what: what.into(),
            errno: 0,
            message: message.into(),
        }
    }

    /// The error of a file or a system call.
    pub fn from_io(what: impl Into<String>, error: &std::io::Error) -> KernelError {
        match error.raw_os_error() {
            Some(errno) => KernelError::new(what, errno),
            None => KernelError::other(what, error.to_string()),
        }
    }

    /// The thing itself, its link, route, address or process is not there: ENODEV, ENOENT, ESRCH, EADDRNOTAVAIL.
    pub fn is_not_found(&self) -> bool {
        [libc::ENODEV, libc::ENOENT, libc::ESRCH, libc::EADDRNOTAVAIL].contains(&self.errno)
    }

    /// Something with that name or key is there already: EEXIST.
    pub fn is_exists(&self) -> bool {
        self.errno == libc::EEXIST
    }

    /// We are not allowed to: EPERM, EACCES.
    pub fn is_permission(&self) -> bool {
        [libc::EPERM, libc::EACCES].contains(&self.errno)
    }
}

/// The kernel's bare no: turned into a [`KernelError`] by whoever knows what was attempted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) errno: i32,
    /// Text of the extended acknowledgement (`NLMSGERR_ATTR_MSG`).
    pub(crate) text: Option<String>,
}

impl Refusal {
    pub(crate) fn new(errno: i32) -> Refusal {
        Refusal { errno, text: None }
    }

    pub(crate) fn from_io(error: &std::io::Error) -> Refusal {
        Refusal::new(error.raw_os_error().unwrap_or(libc::EIO))
    }

    pub(crate) fn during(self, what: impl Into<String>) -> KernelError {
        let mut message = Errno::from_raw(self.errno).to_string();
        if let Some(text) = self.text.filter(|text| !text.is_empty()) {
            message.push_str(&format!(" (the kernel says: {text})"));
        }
        if let Some(hint) = hint(self.errno) {
            message.push_str("; ");
            message.push_str(hint);
        }
        KernelError {
            what: what.into(),
            errno: self.errno,
            message,
        }
    }
}

/// What to do, where the errno alone tells it.
fn hint(errno: i32) -> Option<&'static str> {
    match errno {
        libc::EPERM => Some("this needs CAP_NET_ADMIN (run as root)"),
        libc::EAFNOSUPPORT => {
            Some("no such address family here (ipv6.disable=1, or an MTU below 1280?)")
        }
        libc::EOPNOTSUPP => Some("this kernel lacks the feature (a module that is not there?)"),
        libc::ENOBUFS => {
            Some("the socket's buffer overran: what was done is not known, read again")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_attempt_errno_and_the_kernels_words() {
        let refusal = Refusal {
            errno: libc::EINVAL,
            text: Some("Nexthop has invalid gateway".into()),
        };
        let error = refusal.during("add route 10.1.2.0/24 via 10.0.0.2");
        assert_eq!(
            error.to_string(),
            "add route 10.1.2.0/24 via 10.0.0.2: EINVAL: Invalid argument (the kernel says: Nexthop has invalid gateway)"
        );
    }

    #[test]
    fn a_missing_capability_is_told_by_name() {
        let error = KernelError::new("create veth s32abc", libc::EPERM);
        assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
        assert!(error.is_permission() && !error.is_not_found() && !error.is_exists());
    }

    #[test]
    fn every_kind_of_absence_is_not_found() {
        for errno in [libc::ENODEV, libc::ENOENT, libc::ESRCH, libc::EADDRNOTAVAIL] {
            assert!(KernelError::new("x", errno).is_not_found());
        }
        assert!(!KernelError::new("x", libc::EEXIST).is_not_found());
    }
}
