//! Attachment records on disk: one JSON file each, written whole, read one by one.

use super::{AttachmentKey, AttachmentRecord};
use crate::folder::Folder;
use crate::{StateDir, StateError};

const ATTACHMENTS: &str = "attachments";
const SUFFIX: &str = ".json";

impl StateDir {
    /// Atomic: temporary file in the same folder, then rename. 0600.
    pub fn write_record(&self, record: &AttachmentRecord) -> Result<(), StateError> {
        let folder = Folder::ensure(self.root())?.ensure_sub(ATTACHMENTS)?;
        let name = file_name(&record.key);
        let text = serde_json::to_vec(record).map_err(|e| StateError::Unreadable {
            path: folder.path_of(&name),
            reason: format!("cannot be said in JSON: {e}"),
        })?;
        folder.write(&name, &text)
    }

    /// None where there is none; Err(Unreadable) for a torn or foreign file.
    pub fn read_record(&self, key: &AttachmentKey) -> Result<Option<AttachmentRecord>, StateError> {
        match self.open_attachments()? {
            Some(folder) => read(&folder, &file_name(key)),
            None => Ok(None),
        }
    }

    /// Absent is done. Goes by the name alone, so that a torn record can be removed as well.
    pub fn remove_record(&self, key: &AttachmentKey) -> Result<(), StateError> {
        match self.open_attachments()? {
            Some(folder) => folder.remove(&file_name(key)).map(drop),
            None => Ok(()),
        }
    }

    /// All records; a file that cannot be read is in the second list and never hides the others.
    pub fn list_records(&self) -> Result<(Vec<AttachmentRecord>, Vec<StateError>), StateError> {
        let Some(folder) = self.open_attachments()? else {
            return Ok(Default::default());
        };
        let (mut records, mut errors) = (Vec::new(), Vec::new());
        for entry in folder.entries()? {
            match read(&folder, &entry.name) {
                Ok(Some(record)) => records.push(record),
                // Removed since we listed.
                Ok(None) => {}
                Err(error) => errors.push(error),
            }
        }
        Ok((records, errors))
    }

    fn open_attachments(&self) -> Result<Option<Folder>, StateError> {
        match Folder::open(self.root())? {
            Some(root) => root.open_sub(ATTACHMENTS),
            None => Ok(None),
        }
    }
}

fn file_name(key: &AttachmentKey) -> String {
    key.host_link() + SUFFIX
}

fn read(folder: &Folder, name: &str) -> Result<Option<AttachmentRecord>, StateError> {
    let Some(text) = folder.read(name)? else {
        return Ok(None);
    };
    let unreadable = |reason| {
        Err(StateError::Unreadable {
            path: folder.path_of(name),
            reason,
        })
    };
    match serde_json::from_slice::<AttachmentRecord>(&text) {
        // A copied or renamed file must not speak for another attachment.
        Ok(record) if file_name(&record.key) != name => unreadable(format!(
            "it is the record of {:?}, whose file is {}",
            record.key,
            file_name(&record.key)
        )),
        Ok(record) => Ok(Some(record)),
        Err(e) if text.is_empty() => unreadable(format!("empty, as after a power cut ({e})")),
        Err(e) => unreadable(e.to_string()),
    }
}
