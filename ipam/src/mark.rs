//! How far a range has been walked: addresses from the mark on were never handed out by the walk.
//!
//! `mark.<first>-<last>`: 17 bytes, the next address as a number, and 1 where the walk has reached the end. Losing it
//! costs time, never an address: the walk starts over, and steps over what is claimed or waiting.

use crate::range::Range;
use crate::store::{Locked, Store};
use nix::fcntl::OFlag;
use node_state::StateError;
use std::os::unix::fs::FileExt;

const LENGTH: usize = 17;

/// The next address that the walk would look at; None at the end.
pub(crate) fn read_mark(store: &Store, range: &Range) -> Result<Option<u128>, StateError> {
    let start = Some(range.first_number());
    let Some(file) = store.folder.open_file(&name(range), OFlag::O_RDONLY)? else {
        return Ok(start);
    };
    let mut bytes = [0; LENGTH + 1];
    let Ok(LENGTH) = file.read_at(&mut bytes, 0) else {
        return Ok(start);
    };
    let next = u128::from_be_bytes(bytes[..16].try_into().expect("16 of 18 bytes"));
    Ok(match bytes[16] {
        0 if (range.first_number()..=range.last_number()).contains(&next) => Some(next),
        1 => None,
        _ => start,
    })
}

/// Moves the mark to `next`; None, or beyond the last address, is the end.
pub(crate) fn write_mark(
    locked: &Locked<'_>,
    range: &Range,
    next: Option<u128>,
) -> Result<(), StateError> {
    let next = next.filter(|next| *next <= range.last_number());
    let mut bytes = [0; LENGTH];
    bytes[..16].copy_from_slice(&next.unwrap_or_default().to_be_bytes());
    bytes[16] = u8::from(next.is_none());
    let name = name(range);
    let error = |source| StateError::from_io("write", locked.folder.path_of(&name), source);
    match locked
        .folder
        .open_file(&name, OFlag::O_WRONLY | OFlag::O_CREAT)?
    {
        Some(file) => file.write_all_at(&bytes, 0).map_err(error),
        None => Ok(()),
    }
}

fn name(range: &Range) -> String {
    format!("mark.{}-{}", range.first, range.last)
}
