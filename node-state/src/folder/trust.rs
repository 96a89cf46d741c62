//! Opening a folder, or making it, so that what we hold is ours: the checks behind [`Folder::open`] and
//! [`Folder::ensure`].
//!
//! Links in the middle of a path are followed: `/var/run` is one on every machine, and whoever configured the path
//! chose it. The last part is not, nor is any part that we make ourselves.

use super::Folder;
use crate::StateError;
use nix::errno::Errno;
use nix::fcntl::{self, AtFlags, OFlag};
use nix::sys::stat::{self, Mode, SFlag};
use nix::unistd;
use std::ffi::OsStr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

const FLAGS: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_CLOEXEC);

pub(super) fn open(path: &Path) -> Result<Option<Folder>, StateError> {
    match fcntl::open(path, FLAGS | OFlag::O_NOFOLLOW, Mode::empty()) {
        Ok(fd) => check(fd, path.to_owned()).map(Some),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(explain(errno, stat::lstat(path), path.to_owned())),
    }
}

pub(super) fn ensure(path: &Path) -> Result<Folder, StateError> {
    if let Some(folder) = open(path)? {
        return Ok(folder);
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        let reason =
            "not the path of a folder that could be made (it ends in '..' or is a root)".to_owned();
        return Err(StateError::Untrusted {
            path: path.to_owned(),
            reason,
        });
    };
    let parent = if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
    };
    match fcntl::open(parent, FLAGS, Mode::empty()) {
        Ok(parent) => ensure_in(fd(&parent), name, path.to_owned()),
        // A parent that we make is checked like the folder itself; one that stands is the administrator's business.
        Err(Errno::ENOENT) => ensure_in(fd(&ensure(parent)?.fd), name, path.to_owned()),
        Err(errno) => Err(StateError::from_io("open folder", parent.to_owned(), errno)),
    }
}

pub(super) fn open_in(
    parent: BorrowedFd<'_>,
    name: &OsStr,
    path: PathBuf,
) -> Result<Option<Folder>, StateError> {
    match fcntl::openat(parent, name, FLAGS | OFlag::O_NOFOLLOW, Mode::empty()) {
        Ok(fd) => check(fd, path).map(Some),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(explain(
            errno,
            stat::fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW),
            path,
        )),
    }
}

pub(super) fn ensure_in(
    parent: BorrowedFd<'_>,
    name: &OsStr,
    path: PathBuf,
) -> Result<Folder, StateError> {
    if let Some(folder) = open_in(parent, name, path.clone())? {
        return Ok(folder);
    }
    match stat::mkdirat(parent, name, Mode::S_IRWXU) {
        // EEXIST: another process was faster; what it made is checked below.
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(StateError::from_io("create folder", path, errno)),
    }
    open_in(parent, name, path.clone())?.ok_or_else(|| {
        StateError::from_io("open folder", path, std::io::Error::from(Errno::ENOENT))
    })
}

fn check(fd: OwnedFd, path: PathBuf) -> Result<Folder, StateError> {
    let stat = stat::fstat(&fd).map_err(|e| StateError::from_io("look at", path.clone(), e))?;
    match distrust(stat.st_uid, stat.st_mode, unistd::geteuid().as_raw()) {
        None => Ok(Folder { fd, path }),
        Some(reason) => Err(StateError::Untrusted { path, reason }),
    }
}

/// Why a folder is not ours alone. In a user namespace a stranger's shows the overflow uid, which is not ours either.
pub(super) fn distrust(owner: u32, mode: u32, us: u32) -> Option<String> {
    if owner != us {
        return Some(format!("it belongs to uid {owner}, and we run as uid {us}"));
    }
    (mode & 0o022 != 0).then(|| format!("others may write to it (mode {:04o})", mode & 0o7777))
}

/// O_NOFOLLOW with O_DIRECTORY answers ENOTDIR for a link: look again, to say what really stands there.
fn explain(errno: Errno, found: nix::Result<stat::FileStat>, path: PathBuf) -> StateError {
    let kind = found.map(|stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT);
    match (errno, kind) {
        (Errno::ENOTDIR | Errno::ELOOP, Ok(SFlag::S_IFLNK)) => StateError::Untrusted {
            path,
            reason: "it is a symbolic link".to_owned(),
        },
        (Errno::ENOTDIR, Ok(kind)) if kind != SFlag::S_IFDIR => StateError::Untrusted {
            path,
            reason: "it is not a folder".to_owned(),
        },
        _ => StateError::from_io("open folder", path, errno),
    }
}

fn fd(fd: &OwnedFd) -> BorrowedFd<'_> {
    use std::os::fd::AsFd;
    fd.as_fd()
}
