//! One line per operation of the plugin, which the agent turns into metrics and into `status`.
//!
//! Best effort by contract: no ADD fails because of its log. A line is appended with one write(2), so lines of
//! parallel processes do not mix; a line torn by a full disk is skipped by the reader, with the one after it.

use crate::folder::Folder;
use crate::{StateDir, StateError};
use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};
use std::io::{Read, Seek, SeekFrom, Write};

const OPERATIONS: &str = "operations.jsonl";
/// Where the plugin starts the file anew, agent or no agent.
const FILE_LIMIT: u64 = 4 << 20;
/// What one call of `read_operations` takes in: the agent's memory stays small after a long absence.
const READ_CHUNK: u64 = 1 << 20;
/// An error text longer than this is cut: a delegated plugin may have said anything.
const ERROR_LIMIT: usize = 2048;

/// One operation of the plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// When it ended, in milliseconds since the epoch.
    pub at_ms: u64,
    /// ADD, DEL, CHECK, GC.
    pub command: String,
    /// The network's name.
    pub network: String,
    /// CNI_CONTAINERID.
    pub container_id: String,
    /// CNI_IFNAME.
    pub ifname: String,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// The CNI error code; 0 is success.
    pub code: u32,
    /// The error's text, empty on success.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}

impl StateDir {
    /// Appends one line; at 4 MiB the file starts anew. Best effort by contract: the caller ignores the error.
    pub fn append_operation(&self, op: &Operation) -> Result<(), StateError> {
        let folder = Folder::ensure(self.root())?;
        let mut op = op.clone();
        op.error.truncate(op.error.floor_char_boundary(ERROR_LIMIT));
        let mut line =
            serde_json::to_vec(&op).expect("a struct of strings and integers always serializes");
        line.push(b'\n');

        let error = |e| StateError::from_io("append to", folder.path_of(OPERATIONS), e);
        let flags = OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT;
        let Some(mut file) = folder.open_file(OPERATIONS, flags)? else {
            return Ok(());
        };
        if file.metadata().map_err(error)?.len() + line.len() as u64 > FILE_LIMIT {
            file.set_len(0).map_err(error)?;
        }
        // Not write_all: the rest of a torn line would land behind another process's.
        let written = file.write(&line).map_err(error)?;
        if written < line.len() {
            return Err(error(std::io::Error::from(std::io::ErrorKind::StorageFull)));
        }
        Ok(())
    }

    /// Operations from byte `offset`, and the offset to go on from; starts at 0 again when the file has shrunk, or
    /// was started anew and has grown past `offset`. At most 1 MiB a call: call again while the offset moves.
    /// Lines that cannot be read are skipped; a last line without its end is left for the next call.
    pub fn read_operations(&self, offset: u64) -> Result<(Vec<Operation>, u64), StateError> {
        let Some(folder) = Folder::open(self.root())? else {
            return Ok((Vec::new(), 0));
        };
        let Some(mut file) = folder.open_file(OPERATIONS, OFlag::O_RDONLY)? else {
            return Ok((Vec::new(), 0));
        };
        let error = |e| StateError::from_io("read", folder.path_of(OPERATIONS), e);
        let offset = if is_line_start(&mut file, offset).map_err(error)? {
            offset
        } else {
            0
        };

        file.seek(SeekFrom::Start(offset)).map_err(error)?;
        let mut chunk = Vec::new();
        file.take(READ_CHUNK)
            .read_to_end(&mut chunk)
            .map_err(error)?;
        let end = match chunk.iter().rposition(|byte| *byte == b'\n') {
            Some(last) => last + 1,
            // 1 MiB without a line's end is nothing that we wrote: step over it.
            None if chunk.len() as u64 == READ_CHUNK => chunk.len(),
            None => 0,
        };
        let lines = chunk[..end]
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        let operations = lines
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect();
        Ok((operations, offset + end as u64))
    }
}

/// Whether a line begins at `offset`: the byte before it ends one. False beyond the end of the file.
fn is_line_start(file: &mut std::fs::File, offset: u64) -> std::io::Result<bool> {
    if offset == 0 {
        return Ok(true);
    }
    file.seek(SeekFrom::Start(offset - 1))?;
    let mut before = [0];
    Ok(file.read(&mut before)? == 1 && before == *b"\n")
}

#[cfg(test)]
mod tests;
