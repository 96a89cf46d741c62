//! The folder of plugins, held open: everything in it is reached relative to its descriptor and never through a symbolic
//! link, so that nobody can lead a write elsewhere. The folder itself may be one (`/opt/cni/bin` is, on some systems).

use super::PluginError;
use nix::errno::Errno;
use nix::fcntl::{self, AtFlags, OFlag};
use nix::sys::stat::{self, Mode};
use nix::unistd::{self, UnlinkatFlags};
use std::fs::{File, Permissions, TryLockError};
use std::io::{self, Read, Seek};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// As every program: for all to execute, for root to change.
const MODE: u32 = 0o755;
/// Two agents meet here only while one replaces the other; an installation takes milliseconds.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// Of both files at once; the agent stays small.
const CHUNK: usize = 32 * 1024;

/// An open folder.
#[derive(Debug)]
pub(super) struct BinFolder {
    dir: File,
    path: PathBuf,
}

/// What stands under a plugin's name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The same content, ours, executable by all.
    Right,
    /// The same content with another owner or other rights.
    Equal,
    /// Something else, or nothing; a phrase to be followed by the source's path.
    Other(&'static str),
}

/// A plugin of the image. Followed if it is a link: pluginDir is ours.
pub(super) fn open_source(path: &Path) -> Result<File, PluginError> {
    let fail = |source| PluginError::new("open", path, source);
    let file = File::open(path).map_err(fail)?;
    match file.metadata().map_err(fail)? {
        found if found.is_file() && found.len() > 0 => Ok(file),
        _ => Err(fail(io::Error::new(
            io::ErrorKind::InvalidData,
            "not a program (see setting pluginDir)",
        ))),
    }
}

impl BinFolder {
    /// Made where it is missing.
    pub(super) fn ensure(path: &Path) -> Result<BinFolder, PluginError> {
        let mut builder = std::fs::DirBuilder::new();
        let made = builder.recursive(true).mode(MODE).create(path);
        made.map_err(|error| PluginError::new("create folder", path, error))?;
        Self::open(path)?
            .ok_or_else(|| PluginError::new("open folder", path, io::ErrorKind::NotFound))
    }

    /// None where there is none.
    pub(super) fn open(path: &Path) -> Result<Option<BinFolder>, PluginError> {
        let flags = OFlag::O_DIRECTORY.bits();
        match File::options().read(true).custom_flags(flags).open(path) {
            Ok(dir) => Ok(Some(BinFolder {
                dir,
                path: path.to_owned(),
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(PluginError::new("open folder", path, error)),
        }
    }

    /// Alone in it among agents, until dropped: of two that write one temporary file, one would name the other's half.
    pub(super) fn locked(self) -> Result<BinFolder, PluginError> {
        let start = Instant::now();
        loop {
            let error = match self.dir.try_lock() {
                Ok(()) => return Ok(self),
                Err(TryLockError::Error(error)) => error,
                Err(TryLockError::WouldBlock) if start.elapsed() > LOCK_PATIENCE => {
                    io::ErrorKind::TimedOut.into()
                }
                Err(TryLockError::WouldBlock) => {
                    std::thread::sleep(Duration::from_millis(5));
                    continue;
                }
            };
            return Err(PluginError::new("lock folder", self.path, error));
        }
    }

    /// Compares with `source`, which is read from its start.
    pub(super) fn find(&self, name: &str, source: &File) -> Result<Found, PluginError> {
        let fail = |error: io::Error| PluginError::new("compare", self.path.join(name), error);
        // O_NONBLOCK: a FIFO in its place must not hang us.
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let there = match fcntl::openat(&self.dir, name, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::ELOOP) => return Ok(Found::Other("a symbolic link, not")),
            // Nothing, a socket, a file that we may not read: never ours.
            Err(_) => return Ok(Found::Other("it cannot be read, unlike")),
        };
        let found = there.metadata().map_err(fail)?;
        if !found.is_file() || found.len() != source.metadata().map_err(fail)?.len() {
            return Ok(Found::Other("it is not"));
        }
        if !same_content(&there, source).map_err(fail)? {
            return Ok(Found::Other("it is not"));
        }
        let ours = found.uid() == unistd::geteuid().as_raw();
        Ok(if ours && found.mode() & 0o7777 == MODE {
            Found::Right
        } else {
            Found::Equal
        })
    }

    /// True where anything stands under this name.
    pub(super) fn holds(&self, name: &str) -> Result<bool, PluginError> {
        match stat::fstatat(&self.dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(PluginError::new("look at", self.path.join(name), errno)),
        }
    }

    /// Writes the whole of `source` beside `name`, then names it so.
    pub(super) fn install(&self, name: &str, source: &File) -> Result<(), PluginError> {
        let temporary = temporary_name(name);
        let written = self.write(&temporary, source).and_then(|()| {
            fcntl::renameat(&self.dir, temporary.as_str(), &self.dir, name)
                .map_err(|errno| PluginError::new("rename to", self.path.join(name), errno))
        });
        if written.is_err() {
            // The first error is the one to tell; the next installation removes it if even this fails.
            let _ = self.unlink(&temporary);
        }
        written?;
        // The conflist, which comes after, must not survive a power cut that this name does not.
        self.dir
            .sync_all()
            .map_err(|error| PluginError::new("sync folder", &self.path, error))
    }

    /// The file is closed at the end: while anybody holds it open for writing it could not be executed.
    fn write(&self, temporary: &str, source: &File) -> Result<(), PluginError> {
        let path = self.path.join(temporary);
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = fcntl::openat(&self.dir, temporary, flags, Mode::S_IRUSR | Mode::S_IWUSR)
            .map_err(|errno| PluginError::new("create", &path, errno))?;
        let mut file = File::from(file);
        fill(&mut file, source).map_err(|error| PluginError::new("write", path, error))
    }

    /// What an installation left that was killed. True where there was something.
    pub(super) fn remove_leftover(&self, name: &str) -> Result<bool, PluginError> {
        let temporary = temporary_name(name);
        // Asked first: a folder on a read-only file system refuses also what is not there.
        if !self.holds(&temporary)? {
            return Ok(false);
        }
        self.unlink(&temporary).map(|()| true)
    }

    /// The plugin itself.
    pub(super) fn remove(&self, name: &str) -> Result<(), PluginError> {
        self.unlink(name)
    }

    fn unlink(&self, name: &str) -> Result<(), PluginError> {
        unistd::unlinkat(&self.dir, name, UnlinkatFlags::NoRemoveDir)
            .map_err(|errno| PluginError::new("remove", self.path.join(name), errno))
    }
}

fn fill(file: &mut File, mut source: &File) -> io::Result<()> {
    source.rewind()?;
    io::copy(&mut source, file)?;
    file.set_permissions(Permissions::from_mode(MODE))?;
    // A power cut between rename and write-back would leave an empty plugin.
    file.sync_all()
}

/// Hidden, so that nobody takes it for a plugin.
fn temporary_name(name: &str) -> String {
    format!(".{name}.new")
}

/// Sizes are equal already.
fn same_content(mut one: &File, mut other: &File) -> io::Result<bool> {
    other.rewind()?;
    let (mut left, mut right) = (vec![0; CHUNK], vec![0; CHUNK]);
    loop {
        let length = one.read(&mut left)?;
        if length == 0 {
            return Ok(true);
        }
        match other.read_exact(&mut right[..length]) {
            Ok(()) if left[..length] == right[..length] => {}
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}
