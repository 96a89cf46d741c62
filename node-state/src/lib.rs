//! The files of `/run/slash32`, through which plugin and agent meet.
//!
//! The plugin writes one record per attachment and one line per operation; the agent writes the `ready` stamp; both
//! take the host-port lock. Nothing here knows the kernel or the protocol: see `dataplane` and `cni-spec`.
//!
//! Every write is whole or not there at all, also when the process is killed or the disk is full; a file that cannot
//! be read never hides the others; and a folder that somebody else could write to is refused (we run as root).
//! Nothing is synced to the disk: the default folder is a tmpfs, and what a power cut leaves of a `stateDir` on a disk
//! belongs to pods that are gone: it reads as [`StateError::Unreadable`] or carries another boot's id.

mod boot;
mod dir;
mod error;
pub mod folder;
pub mod lock;
pub mod netfilter;
pub mod oplog;
pub mod ready;
pub mod record;

pub use boot::boot_id;
pub use dir::StateDir;
pub use error::StateError;
