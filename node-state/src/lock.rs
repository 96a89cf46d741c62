//! Advisory locks with a bounded wait (I12): flock(2), which the kernel drops when the holder ends, SIGKILL included.
//!
//! Polled rather than waited for: flock has no timeout, and a signal to break it off has no place in a library. The
//! sections under our locks last tens of microseconds, so the first tries come in quick succession.

use crate::folder::Folder;
use crate::{StateDir, StateError};
use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

const FIRST_SLEEP: Duration = Duration::from_micros(50);
const LONGEST_SLEEP: Duration = Duration::from_millis(2);
const HOST_PORTS: &str = "hostports.lock";

/// An advisory flock, freed by the kernel when the process ends (I12).
#[derive(Debug)]
pub struct FileLock {
    file: File,
}

impl FileLock {
    /// Takes the lock at `path`, whose folder is made where it is missing. Waits at most `patience`, polling.
    pub fn acquire(path: &Path, patience: Duration) -> Result<FileLock, StateError> {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or_else(|| StateError::Unreadable {
                path: path.to_owned(),
                reason: "not the path of a lock file".to_owned(),
            })?;
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        Folder::ensure(folder)?.lock(name, patience)
    }

    /// Takes the lock on an open file; `path` is for messages.
    pub(crate) fn on(file: File, path: &Path, patience: Duration) -> Result<FileLock, StateError> {
        let start = Instant::now();
        let mut sleep = FIRST_SLEEP;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(FileLock { file }),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(e)) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(TryLockError::Error(e)) => {
                    return Err(StateError::from_io("lock", path.to_owned(), e));
                }
            }
            let waited = start.elapsed();
            if waited >= patience {
                return Err(StateError::LockTimeout {
                    path: path.to_owned(),
                    waited_ms: waited.as_millis() as u64,
                });
            }
            std::thread::sleep(sleep.min(patience - waited));
            sleep = (sleep * 2).min(LONGEST_SLEEP);
        }
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

impl StateDir {
    /// The lock under which host ports and their nftables elements change; plugin and agent both take it.
    pub fn lock_host_ports(&self, patience: Duration) -> Result<FileLock, StateError> {
        Folder::ensure(self.root())?.lock(HOST_PORTS, patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_lock_is_waited_for_within_bounds_and_names_its_path_i12() {
        let state = StateDir::new(tempfile::tempdir().unwrap().path().join("s"));
        let held = state.lock_host_ports(Duration::ZERO).unwrap();
        let start = Instant::now();
        let error = state
            .lock_host_ports(Duration::from_millis(40))
            .unwrap_err();
        assert!(
            start.elapsed() >= Duration::from_millis(40)
                && start.elapsed() < Duration::from_secs(5)
        );
        assert!(
            matches!(&error, StateError::LockTimeout { waited_ms, .. } if *waited_ms >= 40),
            "{error}"
        );
        assert!(error.to_string().contains("hostports.lock"), "{error}");
        drop(held);
        state.lock_host_ports(Duration::ZERO).unwrap();
        std::fs::remove_dir_all(state.root()).unwrap();
    }

    #[test]
    fn one_holder_at_a_time_among_threads() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("counter.lock");
        let counter = dir.path().join("counter");
        std::fs::write(&counter, "0").unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        let _lock = FileLock::acquire(&path, Duration::from_secs(20)).unwrap();
                        let count: u32 =
                            std::fs::read_to_string(&counter).unwrap().parse().unwrap();
                        std::fs::write(&counter, (count + 1).to_string()).unwrap();
                    }
                });
            }
        });
        assert_eq!(std::fs::read_to_string(&counter).unwrap(), "200");
    }
}
