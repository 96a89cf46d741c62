//! Network namespaces: opening, telling apart, working inside for a moment.
//!
//! A namespace is known by (device, inode) of its nsfs file, never by its path: `/run/netns/x` may be another one tomorrow.
//! Entering is per thread, so [`Netns::run`] must never be called on a thread of an async runtime's pool.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::fstatfs;

use crate::error::{KernelError, Result};

/// `NSFS_MAGIC` of linux/magic.h; the types of libc differ between its targets.
const NSFS_MAGIC: u64 = 0x6e73_6673;
/// `NS_GET_NSTYPE` of linux/nsfs.h: `_IO(0xb7, 0x3)`.
const NS_GET_NSTYPE: u64 = 0xb703;

/// The calling thread's own. Not `/proc/self/ns/net`, which is the main thread's.
const OWN: &str = "/proc/thread-self/ns/net";

/// An open network namespace: it lives at least as long as this.
#[derive(Debug)]
pub struct Netns {
    fd: OwnedFd,
    dev: u64,
    ino: u64,
}

impl Netns {
    /// Opens a namespace by the path of its file (`CNI_NETNS`). ENOENT where the path is absent, EINVAL where it is no
    /// network namespace: after a reboot a stale plain file, or the file of another kind of namespace.
    pub fn open(path: &Path) -> Result<Netns> {
        let what = || format!("open network namespace {}", path.display());
        // O_NONBLOCK: a FIFO in the path must not hang us.
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)
            .map_err(|e| KernelError::from_io(what(), &e))?;
        Netns::from_file(file).map_err(|e| KernelError { what: what(), ..e })
    }

    /// The calling thread's own.
    pub fn current() -> Result<Netns> {
        Netns::open(Path::new(OWN))
    }

    fn from_file(file: File) -> Result<Netns> {
        let no_netns = || KernelError {
            what: String::new(),
            errno: libc::EINVAL,
            message: "this is no network namespace".into(),
        };
        let kind = fstatfs(&file)
            .map_err(|e| KernelError::new("", e as i32))?
            .filesystem_type()
            .0;
        if kind as u64 != NSFS_MAGIC {
            return Err(no_netns());
        }
        // SAFETY: NS_GET_NSTYPE takes no argument and only returns a number; the descriptor is open for the whole call.
        let nstype =
            unsafe { libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(&file), NS_GET_NSTYPE as _) };
        if nstype != libc::CLONE_NEWNET {
            return Err(no_netns());
        }
        let meta = file.metadata().map_err(|e| KernelError::from_io("", &e))?;
        Ok(Netns {
            fd: file.into(),
            dev: meta.dev(),
            ino: meta.ino(),
        })
    }

    /// (device, inode): equal for equal namespaces, whatever the paths.
    pub fn identity(&self) -> (u64, u64) {
        (self.dev, self.ino)
    }

    /// A second handle of the same namespace.
    pub(crate) fn try_clone(&self) -> Result<Netns> {
        let fd = self
            .fd
            .try_clone()
            .map_err(|e| KernelError::from_io("duplicate a namespace's descriptor", &e))?;
        Ok(Netns {
            fd,
            dev: self.dev,
            ino: self.ino,
        })
    }

    /// Runs `f` inside, on this thread, and comes back.
    ///
    /// Aborts the process if it cannot come back, and comes back when `f` panics: a thread that stays in a pod's namespace
    /// would do the node's work there. `f` must not start threads: they would inherit the namespace.
    pub fn run<T>(&self, f: impl FnOnce() -> T) -> Result<T> {
        let home = File::open(OWN).map_err(|e| KernelError::from_io(format!("open {OWN}"), &e))?;
        setns(&self.fd, CloneFlags::CLONE_NEWNET).map_err(|e| {
            KernelError::new(
                format!("enter network namespace {}:{}", self.dev, self.ino),
                e as i32,
            )
        })?;
        let _way_back = WayBack(home);
        Ok(f())
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Returns the thread to the namespace it came from.
struct WayBack(File);

impl Drop for WayBack {
    fn drop(&mut self) {
        if setns(&self.0, CloneFlags::CLONE_NEWNET).is_err() {
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_path_is_not_found() {
        let error = Netns::open(Path::new("/nonexistent/netns")).expect_err("must fail");
        assert!(error.is_not_found(), "{error}");
    }

    #[test]
    fn a_plain_file_or_another_kind_of_namespace_is_einval() {
        for path in ["/proc/version", "/proc/self/ns/mnt", "/etc"] {
            let error = Netns::open(Path::new(path)).expect_err(path);
            assert_eq!(error.errno, libc::EINVAL, "{error}");
            assert!(error.to_string().contains(path), "{error}");
        }
    }

    #[test]
    fn a_namespace_is_known_by_inode_not_by_path() {
        let a = Netns::current().expect("own namespace");
        let b = Netns::open(Path::new("/proc/self/task/../ns/net"))
            .expect("own namespace by another path");
        assert_eq!(a.identity(), b.identity());
    }
}
