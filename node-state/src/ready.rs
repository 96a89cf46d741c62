//! The agent's `ready` stamp: the first full pass since boot has converged. STATUS answers 50 without it.

use crate::folder::Folder;
use crate::{StateDir, StateError};
use serde::{Deserialize, Serialize};

const READY: &str = "ready";

/// The agent's stamp: a full pass converged since this boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadyStamp {
    /// The boot in which it converged; a stamp of another boot says nothing.
    pub boot_id: String,
    /// The agent that wrote it.
    pub agent_version: String,
    /// When, in milliseconds since the epoch.
    pub since_ms: u64,
}

impl StateDir {
    /// Writes the stamp, whole or not at all.
    pub fn write_ready(&self, stamp: &ReadyStamp) -> Result<(), StateError> {
        let folder = Folder::ensure(self.root())?;
        let text =
            serde_json::to_vec(stamp).expect("a struct of strings and integers always serializes");
        folder.write(READY, &text)
    }

    /// The stamp; None where there is none. The caller compares its boot id with [`crate::boot_id`].
    pub fn read_ready(&self) -> Result<Option<ReadyStamp>, StateError> {
        let Some(folder) = Folder::open(self.root())? else {
            return Ok(None);
        };
        let Some(text) = folder.read(READY)? else {
            return Ok(None);
        };
        let unreadable = |e: serde_json::Error| StateError::Unreadable {
            path: folder.path_of(READY),
            reason: e.to_string(),
        };
        serde_json::from_slice(&text).map(Some).map_err(unreadable)
    }

    /// Removes the stamp. Absent is done.
    pub fn remove_ready(&self) -> Result<(), StateError> {
        match Folder::open(self.root())? {
            Some(folder) => folder.remove(READY).map(drop),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamp_comes_and_goes() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path().join("s"));
        assert_eq!(state.read_ready().unwrap(), None);
        state.remove_ready().unwrap();
        let stamp = ReadyStamp {
            boot_id: "b".into(),
            agent_version: "0.1.0".into(),
            since_ms: 7,
        };
        state.write_ready(&stamp).unwrap();
        assert_eq!(state.read_ready().unwrap(), Some(stamp));
        state.remove_ready().unwrap();
        assert_eq!(state.read_ready().unwrap(), None);
    }

    #[test]
    fn torn_stamp_is_unreadable_and_names_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path());
        std::fs::write(dir.path().join("ready"), "").unwrap();
        let error = state.read_ready().unwrap_err();
        assert!(
            matches!(&error, StateError::Unreadable { path, .. } if path.ends_with("ready")),
            "{error}"
        );
    }
}
