//! The folder of one network: `lock`, `owners/`, `addresses/`, `boot`, `released.4|6`, `mark.<range>`.
//!
//! This file knows names and single steps; the order of steps, which makes them safe against crashes, is in
//! `allocate.rs` and `release.rs`. A [`Locked`] store is the proof that the lock is held.

use crate::claim::{Found, Holder, Holding};
use crate::error::IpamError;
use node_state::StateError;
use node_state::folder::Folder;
use node_state::lock::FileLock;
use node_state::record::AttachmentKey;
use std::net::IpAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Long enough for 200 ADDs at once on a busy node; a holder needs tens of microseconds.
const PATIENCE: Duration = Duration::from_secs(10);
const LOCK: &str = "lock";
const BOOT: &str = "boot";
const OWNERS: &str = "owners";
const ADDRESSES: &str = "addresses";
/// One for all holders: it is written under the lock, so the next writer overwrites what a killed one left.
const NEW_OWNER: &str = "owners/.new";

/// The store of one network: `<data_dir>/<network>/`.
///
/// Cheap to make; opens nothing until it is asked for something. All changes are made under one lock per network with
/// a bounded wait; looking needs no lock.
#[derive(Debug)]
pub struct Ipam {
    pub(crate) dir: PathBuf,
    pub(crate) holder: Holder,
}

impl Ipam {
    /// The claims of `network` below `data_dir`. Touches nothing.
    pub fn open(data_dir: impl Into<PathBuf>, network: &str, holder: Holder) -> Ipam {
        Ipam {
            dir: data_dir.into().join(folder_name(network)),
            holder,
        }
    }

    /// The network's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// STATUS (S2): true where the folder can be made and written to, tried by a real file.
    pub fn probe_writable(&self) -> Result<(), IpamError> {
        let store = Store::ensure(&self.dir)?;
        store.folder.write("probe", b"probe")?;
        store.folder.unlink("probe")?;
        Ok(())
    }
}

/// A network's name is a file name by the CNI rules (G6); whatever else comes must not lead out of `data_dir`.
fn folder_name(network: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let fits = network.len() <= 200 && network.chars().all(plain);
    if fits && network.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return network.to_owned();
    }
    let key = AttachmentKey {
        network: network.to_owned(),
        container_id: String::new(),
        ifname: String::new(),
    };
    format!("~{}", key.hash12())
}

/// The open folder.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) folder: Folder,
}

/// The open folder, with its lock held until this is dropped.
#[derive(Debug)]
pub(crate) struct Locked<'a> {
    store: &'a Store,
    _lock: FileLock,
}

impl Deref for Locked<'_> {
    type Target = Store;

    fn deref(&self) -> &Store {
        self.store
    }
}

impl Store {
    /// The folder, if there is one.
    pub(crate) fn open(dir: &Path) -> Result<Option<Store>, StateError> {
        Ok(Folder::open(dir)?.map(|folder| Store { folder }))
    }

    /// The folder, made where it is missing. Its sub-folders come with the first holder.
    pub(crate) fn ensure(dir: &Path) -> Result<Store, StateError> {
        Ok(Store {
            folder: Folder::ensure(dir)?,
        })
    }

    pub(crate) fn lock(&self) -> Result<Locked<'_>, StateError> {
        Ok(Locked {
            store: self,
            _lock: self.folder.lock(LOCK, PATIENCE)?,
        })
    }

    // ===== holders =====

    pub(crate) fn owner(&self, hash: &str) -> Result<Found, StateError> {
        self.read(&owner_name(hash))
    }

    pub(crate) fn owner_inode(&self, hash: &str) -> Result<Option<u64>, StateError> {
        self.folder.inode(&owner_name(hash))
    }

    /// The hashes of all holders.
    pub(crate) fn owners(&self) -> Result<Vec<String>, StateError> {
        let Some(folder) = self.folder.open_sub(OWNERS)? else {
            return Ok(Vec::new());
        };
        Ok(folder
            .entries()?
            .into_iter()
            .map(|entry| entry.name)
            .collect())
    }

    // ===== claims =====

    pub(crate) fn claim(&self, address: IpAddr) -> Result<Found, StateError> {
        self.read(&claim_name(address))
    }

    pub(crate) fn claim_inode(&self, address: IpAddr) -> Result<Option<u64>, StateError> {
        self.folder.inode(&claim_name(address))
    }

    pub(crate) fn is_claimed(&self, address: IpAddr) -> Result<bool, StateError> {
        Ok(self.claim_inode(address)?.is_some())
    }

    /// All claimed addresses, with the inodes of their files. Names that are no addresses are not ours.
    pub(crate) fn claimed(&self) -> Result<Vec<(IpAddr, u64)>, StateError> {
        let Some(folder) = self.folder.open_sub(ADDRESSES)? else {
            return Ok(Vec::new());
        };
        let entries = folder.entries()?.into_iter();
        Ok(entries
            .filter_map(|entry| Some((entry.name.parse().ok()?, entry.inode)))
            .collect())
    }

    pub(crate) fn claim_path(&self, address: IpAddr) -> PathBuf {
        self.folder.path_of(&claim_name(address))
    }

    pub(crate) fn claim_modified_ms(&self, address: IpAddr) -> Result<Option<u64>, StateError> {
        self.folder.modified_ms(&claim_name(address))
    }

    // ===== boot =====

    /// The boot in which claims of other boots were last swept.
    pub(crate) fn swept_boot(&self) -> Result<Option<String>, StateError> {
        Ok(self
            .folder
            .read(BOOT)?
            .map(|text| String::from_utf8_lossy(&text).into_owned()))
    }

    fn read(&self, name: &str) -> Result<Found, StateError> {
        match self.folder.read(name) {
            Ok(None) => Ok(Found::Absent),
            Ok(Some(text)) => Ok(serde_json::from_slice(&text).map_or(Found::Torn, Found::Held)),
            Err(StateError::Unreadable { .. }) => Ok(Found::Torn),
            Err(error) => Err(error),
        }
    }
}

impl Locked<'_> {
    /// Writes the holder's file: from here on a crash leaves a trace that names these addresses.
    pub(crate) fn write_owner(&self, hash: &str, holding: &Holding) -> Result<(), StateError> {
        let text = serde_json::to_vec(holding)
            .expect("a struct of strings and integers always serializes");
        let write = || {
            self.folder
                .write_locked(&owner_name(hash), NEW_OWNER, &text)
        };
        match write() {
            Err(StateError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                // The first holder of this network. No claim can be of another boot: nothing to sweep later.
                self.folder.ensure_sub(ADDRESSES)?;
                self.write_swept_boot(&holding.boot_id)?;
                self.folder.ensure_sub(OWNERS)?;
                write()
            }
            written => written,
        }
    }

    pub(crate) fn remove_owner(&self, hash: &str) -> Result<bool, StateError> {
        self.folder.unlink(&owner_name(hash))
    }

    /// Gives an address to a holder; false where it has one already, whoever that is.
    pub(crate) fn link_claim(&self, hash: &str, address: IpAddr) -> Result<bool, StateError> {
        self.folder.link(&owner_name(hash), &claim_name(address))
    }

    pub(crate) fn remove_claim(&self, address: IpAddr) -> Result<bool, StateError> {
        self.folder.unlink(&claim_name(address))
    }

    pub(crate) fn write_swept_boot(&self, boot_id: &str) -> Result<(), StateError> {
        self.folder
            .write_locked(BOOT, ".boot.new", boot_id.as_bytes())
    }
}

fn owner_name(hash: &str) -> String {
    format!("{OWNERS}/{hash}")
}

fn claim_name(address: IpAddr) -> String {
    format!("{ADDRESSES}/{address}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_network_name_leads_out_of_the_data_folder() {
        for name in [
            "../x",
            "/etc",
            "..",
            ".",
            "",
            "a/b",
            "-a",
            "é",
            &"x".repeat(300),
        ] {
            let dir = Ipam::open("/data", name, Holder::Slash32).dir;
            assert_eq!(dir.parent(), Some(Path::new("/data")), "{name}");
            assert!(
                dir.file_name().unwrap().to_str().unwrap().starts_with('~'),
                "{name}"
            );
        }
        assert_eq!(
            Ipam::open("/data", "slash32.v-1_a", Holder::Slash32).dir,
            Path::new("/data/slash32.v-1_a")
        );
    }
}
