//! What can go wrong with a file of ours: every error names the path and what was attempted.

use std::io;
use std::path::PathBuf;

/// Errors of this crate, each with path and what was attempted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// A system call failed.
    #[error("{what} {path}: {source}")]
    Io {
        /// The step, as a verb: "write", "open folder".
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// As the kernel put it.
        #[source]
        source: io::Error,
    },
    /// The file system has no space, no inode or no quota left. Nothing half-written stays behind.
    #[error(
        "{what} {path}: {source}; free space or inodes there (see 'df -h {path}' and 'df -i {path}')"
    )]
    Full {
        /// The step, as a verb.
        what: &'static str,
        /// The file that could not be written.
        path: PathBuf,
        /// ENOSPC or EDQUOT.
        #[source]
        source: io::Error,
    },
    /// Somebody else could change what is in this folder, so nothing in it can be believed.
    #[error("refuse {path}: {reason}; remove it, or choose another folder")]
    Untrusted {
        /// The folder, or what stands in its place.
        path: PathBuf,
        /// "is a symbolic link", "belongs to uid 1000", ...
        reason: String,
    },
    /// The file is there and says nothing that we understand: torn by a power cut, or not ours.
    #[error("read {path}: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why it makes no sense.
        reason: String,
    },
    /// Another process held the lock all the while.
    #[error("lock {path}: still held by another process after {waited_ms} ms (see 'lsof {path}')")]
    LockTimeout {
        /// The lock's file.
        path: PathBuf,
        /// How long we waited, in milliseconds.
        waited_ms: u64,
    },
}

impl StateError {
    /// Sorts a failed system call: a full disk gets its own variant, since there is something to do about it.
    pub fn from_io(what: &'static str, path: PathBuf, source: impl Into<io::Error>) -> StateError {
        let source = source.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                StateError::Full { what, path, source }
            }
            _ => StateError::Io { what, path, source },
        }
    }

    /// True where the file system refuses every write: mounted read-only, or no permission.
    pub fn is_read_only(&self) -> bool {
        matches!(self, StateError::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied))
    }
}
