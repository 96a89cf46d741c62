//! The file of Nodes, read again whenever it changes. Watches the parent directory, since editors rename and ConfigMaps
//! swap symlinks, and looks by the clock as well, since a watch can be lost or refused. Runs on its own thread; tells
//! the reconcile thread through `Waker`. A file that cannot be used leaves the last view standing.

use super::document::{self, DocumentError};
use crate::problem::{Problem, ProblemKind};
use crate::view::ClusterView;
use crate::wake::Waker;
use notify::Watcher;
use std::fs::{File, Metadata};
use std::io::BufReader;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// How long the file must have been still before it is read: a writer that truncates and writes anew is not done at its
/// first write.
const QUIET: Duration = Duration::from_millis(30);
/// The longest wait for that stillness.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often the file is looked at without an event.
const POLL: Duration = Duration::from_secs(5);

/// Reads once. The error is a sentence that names the file.
pub(crate) fn read_view(path: &Path) -> Result<ClusterView, Problem> {
    let complain = |reason: String| {
        Problem::new(
            ProblemKind::NodesFile,
            format!("nodes file {}: {reason}", path.display()),
        )
    };
    // Without O_NONBLOCK the open of a named pipe would wait for a writer for ever.
    let file = File::options()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(path)
        .map_err(|error| complain(error.to_string()))?;
    if file.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        return Err(complain("is not a regular file".to_owned()));
    }
    let nodes = document::read_nodes(BufReader::with_capacity(64 * 1024, file))
        .map_err(|error: DocumentError| complain(format!("refused: {error}")))?;
    Ok(ClusterView::from_nodes(&nodes))
}

/// Reads and watches for ever; returns only when nobody listens any more.
pub(crate) fn watch(path: PathBuf, waker: Arc<Waker>) {
    let (sender, events) = sync_channel(1);
    let mut watch = DirectoryWatch::new(&path, sender);
    let mut seen = None;
    loop {
        watch.ensure();
        let now = Stamp::of(&path);
        if seen.as_ref() != Some(&now) {
            settle(&path, &events);
            // Taken before reading: a change while we read is a new stamp, and read again.
            seen = Some(Stamp::of(&path));
            if !waker.set_view(read_view(&path)) {
                return;
            }
            continue;
        }
        match events.recv_timeout(POLL) {
            Ok(()) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(POLL),
        }
        if waker.is_stopped() {
            return;
        }
    }
}

/// Waits until the file has been the same for `QUIET`, at most `PATIENCE`. One that was written long ago is still
/// already: an agent that starts reads it at once.
fn settle(path: &Path, events: &Receiver<()>) {
    let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
    if modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age > PATIENCE)) {
        return;
    }
    let start = Instant::now();
    let mut last = Stamp::of(path);
    while start.elapsed() < PATIENCE {
        std::thread::sleep(QUIET);
        let _ = events.try_recv();
        let now = Stamp::of(path);
        if now == last {
            return;
        }
        last = now;
    }
}

/// What tells one content from another without reading it; symlinks are followed.
#[derive(Debug, PartialEq, Eq)]
enum Stamp {
    Absent(std::io::ErrorKind),
    File {
        dev: u64,
        ino: u64,
        size: u64,
        mtime: (i64, i64),
        ctime: (i64, i64),
    },
}

impl Stamp {
    fn of(path: &Path) -> Stamp {
        std::fs::metadata(path).map_or_else(
            |error| Stamp::Absent(error.kind()),
            |metadata| Stamp::from(&metadata),
        )
    }
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Stamp {
        Stamp::File {
            dev: metadata.dev(),
            ino: metadata.ino(),
            size: metadata.size(),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            ctime: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// The inotify watch of the parent directory, made again when the directory was not there or was replaced.
struct DirectoryWatch {
    directory: PathBuf,
    sender: SyncSender<()>,
    watcher: Option<notify::RecommendedWatcher>,
    identity: Option<(u64, u64)>,
    refused: bool,
}

impl DirectoryWatch {
    fn new(path: &Path, sender: SyncSender<()>) -> DirectoryWatch {
        let directory = path.parent().unwrap_or(Path::new("/")).to_owned();
        DirectoryWatch {
            directory,
            sender,
            watcher: None,
            identity: None,
            refused: false,
        }
    }

    fn ensure(&mut self) {
        let identity = std::fs::metadata(&self.directory)
            .ok()
            .map(|metadata| (metadata.dev(), metadata.ino()));
        if identity == self.identity && (self.watcher.is_some() || identity.is_none()) {
            return;
        }
        self.identity = identity;
        self.watcher = None;
        if identity.is_none() {
            return;
        }
        match self.start() {
            Ok(watcher) => (self.watcher, self.refused) = (Some(watcher), false),
            Err(error) if !self.refused => {
                self.refused = true;
                tracing::warn!(
                    "watch {}: {error}; looking every {} s instead (inotify limits: sysctl fs.inotify)",
                    self.directory.display(),
                    POLL.as_secs()
                );
            }
            Err(_) => {}
        }
    }

    fn start(&self) -> notify::Result<notify::RecommendedWatcher> {
        let sender = self.sender.clone();
        // A full channel already says all that there is to say; reading the file ourselves is no change of it.
        let mut watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                if !event.is_ok_and(|event| event.kind.is_access()) {
                    let _ = sender.try_send(());
                }
            })?;
        watcher.watch(&self.directory, notify::RecursiveMode::NonRecursive)?;
        Ok(watcher)
    }
}

#[cfg(test)]
mod tests;
