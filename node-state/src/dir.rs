//! The state folder and the names in it: `attachments/`, `ipam/`, `ready`, `hostports.lock`, `netfilter`, `operations.jsonl`.

use crate::StateError;
use crate::folder::Folder;
use std::path::{Path, PathBuf};

const PROBE: &str = "probe";

/// The folder (default `/run/slash32`) and the names in it. Creating it: 0700, parents included; a symbolic link, or a
/// folder that another user owns or may write to, is refused.
#[derive(Debug, Clone)]
pub struct StateDir {
    root: PathBuf,
}

impl StateDir {
    /// Where it is unless the configuration says otherwise: a tmpfs, so that it dies with the boot as the pods do.
    pub const DEFAULT: &'static str = "/run/slash32";

    /// The state folder at `root`. Touches nothing.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        StateDir { root: root.into() }
    }

    /// Its path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where our own IPAM keeps its claims, unless its configuration names another `dataDir`.
    pub fn ipam_dir(&self) -> PathBuf {
        self.root.join("ipam")
    }

    /// Makes the folder where it is missing, and checks it where it is there.
    pub fn ensure(&self) -> Result<(), StateError> {
        Folder::ensure(&self.root).map(drop)
    }

    /// True state of writability: creates and removes a probe file (STATUS, S2). The file has content, since a full
    /// tmpfs still makes empty ones.
    pub fn probe_writable(&self) -> Result<(), StateError> {
        let folder = Folder::ensure(&self.root)?;
        folder.write(PROBE, b"probe")?;
        folder.unlink(PROBE).map(drop)
    }
}

impl Default for StateDir {
    fn default() -> Self {
        StateDir::new(Self::DEFAULT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn ensure_makes_folder_and_parents_for_us_alone() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path().join("a/b/slash32"));
        state.ensure().unwrap();
        state.ensure().unwrap();
        for made in ["a", "a/b", "a/b/slash32"] {
            let mode = std::fs::metadata(dir.path().join(made))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o700, "{made}");
        }
    }

    #[test]
    fn probe_leaves_nothing_and_refuses_a_link_in_place_of_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path().join("slash32"));
        state.probe_writable().unwrap();
        assert_eq!(std::fs::read_dir(state.root()).unwrap().count(), 0);

        symlink(state.root(), dir.path().join("link")).unwrap();
        let error = StateDir::new(dir.path().join("link"))
            .probe_writable()
            .unwrap_err();
        assert!(error.to_string().contains("symbolic link"), "{error}");
    }
}
