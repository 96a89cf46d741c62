//! Which boot this is. Attachments and claims of another boot belong to pods whose namespaces are gone (I15).

use crate::StateError;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The kernel's id of this boot: a UUID, the same in every container of the machine (random(4)).
pub fn boot_id() -> Result<String, StateError> {
    let error = |source| StateError::from_io("read", PathBuf::from(BOOT_ID), source);
    // One read gives all of a file of /proc this short: this runs in every ADD.
    let mut text = [0; 64];
    let length = File::open(BOOT_ID)
        .and_then(|mut file| file.read(&mut text))
        .map_err(error)?;
    Ok(String::from_utf8_lossy(&text[..length])
        .trim_end()
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::boot_id;

    #[test]
    fn boot_id_is_one_uuid_and_stays_the_same() {
        let id = boot_id().unwrap();
        assert_eq!(id.len(), 36);
        assert_eq!(id.matches('-').count(), 4);
        assert_eq!(id, boot_id().unwrap());
    }
}
