//! A folder that only we can change, held open: everything in it is reached relative to its descriptor.
//!
//! Root-run plugins have been led astray by links laid in `/run` or `/tmp`. So a folder is opened without following a
//! link in its last part, must belong to our own effective user, and must not be writable by anybody else; what is
//! created is 0700, files 0600. From then on no path is walked again, so nothing can be swapped beneath us.
//!
//! Names may have one level of sub-folder (`owners/abc`): that folder is ours too, since it lies in one.
//! Used by this crate's records and stamps, and by `ipam` for its claims.

use crate::StateError;
use crate::lock::FileLock;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{self, AtFlags, OFlag};
use nix::sys::stat::{self, Mode};
use nix::unistd::{self, UnlinkatFlags};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

mod trust;

/// No file of ours comes near this size; a larger one is not ours, and must not fill the memory of the plugin.
const READ_LIMIT: u64 = 1 << 20;
/// How long two writers of one file wait for each other; a write takes microseconds.
const WRITER_PATIENCE: Duration = Duration::from_secs(2);

/// An open folder, checked (see the module's text).
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
    path: PathBuf,
}

/// One name in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name; names that are not UTF-8 are never ours and are left out.
    pub name: String,
    /// Its inode: two names with one inode are one file.
    pub inode: u64,
}

impl Folder {
    /// The folder at `path`, if there is one. [`StateError::Untrusted`] for a link, a file, or somebody else's folder.
    pub fn open(path: &Path) -> Result<Option<Folder>, StateError> {
        trust::open(path)
    }

    /// The folder at `path`, made where it is missing, its missing parents too: all of them 0700.
    pub fn ensure(path: &Path) -> Result<Folder, StateError> {
        trust::ensure(path)
    }

    /// The sub-folder `name`, if there is one; checked like any other.
    pub fn open_sub(&self, name: &str) -> Result<Option<Folder>, StateError> {
        trust::open_in(self.fd.as_fd(), name.as_ref(), self.path_of(name))
    }

    /// The sub-folder `name`, made where it is missing.
    pub fn ensure_sub(&self, name: &str) -> Result<Folder, StateError> {
        trust::ensure_in(self.fd.as_fd(), name.as_ref(), self.path_of(name))
    }

    /// Where it lies, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of `name` in it, for messages.
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The whole of a file; None where there is none. More than 1 MiB is [`StateError::Unreadable`].
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StateError> {
        let Some(mut file) = self.open_file(name, OFlag::O_RDONLY)? else {
            return Ok(None);
        };
        let mut content = Vec::with_capacity(1024);
        let read = Read::by_ref(&mut file)
            .take(READ_LIMIT + 1)
            .read_to_end(&mut content);
        read.map_err(|e| self.error("read", name, e))?;
        if content.len() as u64 > READ_LIMIT {
            let reason = format!("larger than {READ_LIMIT} bytes, so not a file of ours");
            return Err(StateError::Unreadable {
                path: self.path_of(name),
                reason,
            });
        }
        Ok(Some(content))
    }

    /// Opens a file with `flags`, never through a link; None where there is none. Created files are 0600.
    pub fn open_file(&self, name: &str, flags: OFlag) -> Result<Option<File>, StateError> {
        // O_NONBLOCK: a FIFO laid in place of a file must not hang us.
        let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        match fcntl::openat(&self.fd, name, flags, Mode::S_IRUSR | Mode::S_IWUSR) {
            Ok(fd) => Ok(Some(File::from(fd))),
            Err(Errno::ENOENT) if !flags.contains(OFlag::O_CREAT) => Ok(None),
            Err(errno) => Err(self.error("open", name, errno)),
        }
    }

    /// Writes a file whole: a reader, or a crash at any moment, finds the old content or the new.
    ///
    /// Two writers of one name take turns on the temporary file, `.NAME.new`. One left by a killed process is
    /// overwritten by the next writer of that name, and goes with [`Folder::remove`]: they never pile up.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<(), StateError> {
        let temporary = temporary_name(name);
        loop {
            let file = self.create(&temporary)?;
            let lock = FileLock::on(file, &self.path_of(&temporary), WRITER_PATIENCE)?;
            // Whom we waited for has renamed it away: what we hold is the file that readers see now.
            let ours =
                stat::fstat(lock.file()).map_err(|e| self.error("look at", &temporary, e))?;
            if self.inode(&temporary)? != Some(ours.st_ino) {
                continue;
            }
            return self.fill_and_rename(lock.file(), &temporary, name, content);
        }
    }

    /// As [`Folder::write`], for a caller who holds a lock that keeps every other writer of `temporary` away.
    pub fn write_locked(
        &self,
        name: &str,
        temporary: &str,
        content: &[u8],
    ) -> Result<(), StateError> {
        let file = self.create(temporary)?;
        self.fill_and_rename(&file, temporary, name, content)
    }

    fn create(&self, name: &str) -> Result<File, StateError> {
        let opened = self.open_file(name, OFlag::O_RDWR | OFlag::O_CREAT)?;
        opened.ok_or_else(|| self.error("create", name, Errno::ENOENT))
    }

    fn fill_and_rename(
        &self,
        file: &File,
        temporary: &str,
        name: &str,
        content: &[u8],
    ) -> Result<(), StateError> {
        let written = self
            .fill(file, content)
            .map_err(|e| self.error("write", name, e))
            .and_then(|()| {
                fcntl::renameat(&self.fd, temporary, &self.fd, name)
                    .map_err(|e| self.error("rename into place", name, e))
            });
        if written.is_err() {
            // What we report is the first error; the temporary is overwritten next time if even this fails.
            let _ = self.unlink(temporary);
        }
        written
    }

    fn fill(&self, mut file: &File, content: &[u8]) -> std::io::Result<()> {
        // A left-over may be longer than we are.
        if file.metadata()?.len() > 0 {
            file.set_len(0)?;
        }
        file.write_all(content)
    }

    /// A second name for a file; false where the new name is taken (link(2) never overwrites).
    pub fn link(&self, from: &str, to: &str) -> Result<bool, StateError> {
        match unistd::linkat(&self.fd, from, &self.fd, to, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::EEXIST) => Ok(false),
            Err(errno) => Err(self.error("link", to, errno)),
        }
    }

    /// Removes a file, and the temporary that a killed writer of it may have left. False where there was none.
    pub fn remove(&self, name: &str) -> Result<bool, StateError> {
        self.unlink(&temporary_name(name))?;
        self.unlink(name)
    }

    /// Removes this one name. False where there was none.
    pub fn unlink(&self, name: &str) -> Result<bool, StateError> {
        match unistd::unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(self.error("remove", name, errno)),
        }
    }

    /// The inode behind a name; None where there is none.
    pub fn inode(&self, name: &str) -> Result<Option<u64>, StateError> {
        Ok(self.stat(name)?.map(|stat| stat.st_ino))
    }

    /// When the file was last written, in milliseconds since the epoch; None where there is none.
    pub fn modified_ms(&self, name: &str) -> Result<Option<u64>, StateError> {
        let stat = self.stat(name)?;
        Ok(stat.map(|stat| {
            stat.st_mtime.max(0) as u64 * 1000 + stat.st_mtime_nsec.max(0) as u64 / 1_000_000
        }))
    }

    fn stat(&self, name: &str) -> Result<Option<stat::FileStat>, StateError> {
        match stat::fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(self.error("look at", name, errno)),
        }
    }

    /// The names in it, in no order, without those that begin with a dot (our temporaries).
    pub fn entries(&self) -> Result<Vec<Entry>, StateError> {
        let error = |errno| self.error("list", "", errno);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut listing = Dir::openat(&self.fd, ".", flags, Mode::empty()).map_err(error)?;
        let mut entries = Vec::new();
        for entry in listing.iter() {
            let entry = entry.map_err(error)?;
            match entry.file_name().to_str() {
                Ok(name) if !name.starts_with('.') => entries.push(Entry {
                    name: name.to_owned(),
                    inode: entry.ino(),
                }),
                _ => {}
            }
        }
        Ok(entries)
    }

    /// The lock file `name` in this folder, made where it is missing; waits at most `patience`.
    pub fn lock(&self, name: &str, patience: Duration) -> Result<FileLock, StateError> {
        FileLock::on(self.create(name)?, &self.path_of(name), patience)
    }

    fn error(
        &self,
        what: &'static str,
        name: &str,
        source: impl Into<std::io::Error>,
    ) -> StateError {
        StateError::from_io(what, self.path_of(name), source)
    }
}

/// `.NAME.new`, in the same folder as NAME.
fn temporary_name(name: &str) -> String {
    match name.rsplit_once('/') {
        Some((folder, name)) => format!("{folder}/.{name}.new"),
        None => format!(".{name}.new"),
    }
}

#[cfg(test)]
mod tests;
