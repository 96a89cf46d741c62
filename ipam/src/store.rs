//! The folder of one network: `lock`, `owners/`, `addresses/`, `boot`, `released.4|6`, `mark.<range>`.
//!
//! This file knows names and single steps; the order of steps, which makes them safe against crashes, is in
//! `allocate.rs` and `release.rs`. A [`Locked`] store is the proof that the lock is held.

use crate::claim::{Found, Holding};
use crate::network::Ipam;
use node_state::StateError;
use node_state::folder::{Entry, Folder};
use node_state::lock::FileLock;
use std::net::IpAddr;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

/// Long enough for 200 ADDs at once on a busy node; a holder needs tens of microseconds.
const PATIENCE: Duration = Duration::from_secs(10);
const LOCK: &str = "lock";
const BOOT: &str = "boot";
const OWNERS: &str = "owners";
const ADDRESSES: &str = "addresses";
/// One for all holders: it is written under the lock, so the next writer overwrites what a killed one left.
const NEW_OWNER: &str = "owners/.new";

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
    pub(crate) fn open(ipam: &Ipam) -> Result<Option<Store>, StateError> {
        let Some(data_dir) = Folder::open(&ipam.data_dir)? else {
            return Ok(None);
        };
        Ok(data_dir
            .open_sub(&ipam.name)?
            .map(|folder| Store { folder }))
    }

    /// The folder, made where it is missing. Its sub-folders come with the first holder.
    pub(crate) fn ensure(ipam: &Ipam) -> Result<Store, StateError> {
        let folder = Folder::ensure(&ipam.data_dir)?.ensure_sub(&ipam.name)?;
        Ok(Store { folder })
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

    /// All holders' files: their hashes and inodes.
    pub(crate) fn owners(&self) -> Result<Vec<Entry>, StateError> {
        self.folder
            .open_sub(OWNERS)?
            .map_or(Ok(Vec::new()), |folder| folder.entries())
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
