//! The CNI configuration: written last of all, when this node's network works, since its appearance is what turns the
//! node Ready. By rename inside the directory (containerd reloads on that), from a temporary file whose extension no
//! runtime reads; not touched while it is right. Left in place on exit.

use crate::desired::Desired;
use crate::settings::Settings;
use cni_spec::conflist::{ConflistSpec, render_conflist};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The text for this node. Pure.
pub(crate) fn compute_conflist(settings: &Settings, desired: &Desired) -> String {
    let default_state = settings.state_dir == Path::new(node_state::StateDir::DEFAULT);
    render_conflist(&ConflistSpec {
        name: settings.network_name.clone(),
        mtu: desired.mtu,
        ranges: desired.pod_cidrs.iter().map(|cidr| vec![*cidr]).collect(),
        state_dir: (!default_state).then(|| settings.state_dir.display().to_string()),
        chained: Vec::new(),
    })
}

/// The file could not be written; the old one, if any, stands.
#[derive(Debug, thiserror::Error)]
#[error("{what} {path}: {source}")]
pub(crate) struct ConflistError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// True when it was written, false when it was right already.
pub(crate) fn ensure_conflist(settings: &Settings, text: &str) -> Result<bool, ConflistError> {
    let path = settings.cni_conf_dir.join(&settings.cni_conf_name);
    if std::fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
        return Ok(false);
    }
    let fail = |what, path: &Path| {
        let path = path.to_owned();
        move |source| ConflistError { what, path, source }
    };
    std::fs::create_dir_all(&settings.cni_conf_dir)
        .map_err(fail("create", &settings.cni_conf_dir))?;
    let temporary = settings
        .cni_conf_dir
        .join(format!(".{}.tmp", settings.cni_conf_name));
    write_new(&temporary, text).map_err(fail("write", &temporary))?;
    std::fs::rename(&temporary, &path).map_err(fail("rename to", &path))?;
    Ok(true)
}

/// A left-over of a killed agent is replaced, never followed: somebody may have put a symlink there.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(path)?;
    // The umask of whoever started us must not keep the runtime from reading it.
    file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
    file.write_all(text.as_bytes())?;
    // A power cut between rename and write-back would leave an empty file, and containerd without any network.
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Surroundings;
    use crate::settings::raw::RawSettings;
    use std::os::unix::fs::MetadataExt;

    fn settings(dir: &Path) -> Settings {
        let raw = RawSettings {
            node_name: Some("a".into()),
            cni_conf_dir: Some(dir.display().to_string()),
            ..RawSettings::default()
        };
        Settings::from_raw(raw, &Surroundings::default()).unwrap()
    }

    #[test]
    fn it_is_written_by_rename_readable_and_left_alone_while_right() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(&dir.path().join("net.d"));
        let path = settings.cni_conf_dir.join("10-slash32.conflist");
        assert!(ensure_conflist(&settings, "one").unwrap());
        let first = std::fs::metadata(&path).unwrap();
        assert_eq!(first.mode() & 0o777, 0o644);
        assert!(!ensure_conflist(&settings, "one").unwrap());
        assert_eq!(std::fs::metadata(&path).unwrap().ino(), first.ino());
        assert!(ensure_conflist(&settings, "two").unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(
            std::fs::read_dir(&settings.cni_conf_dir).unwrap().count(),
            1
        );
    }

    #[test]
    fn a_symlink_in_the_place_of_the_temporary_file_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path());
        let victim = dir.path().join("victim");
        std::fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, dir.path().join(".10-slash32.conflist.tmp")).unwrap();
        assert!(ensure_conflist(&settings, "text").unwrap());
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
        assert_eq!(
            std::fs::read_to_string(dir.path().join("10-slash32.conflist")).unwrap(),
            "text"
        );
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let error = ensure_conflist(&settings(&dir.path().join("file/net.d")), "text").unwrap_err();
        assert!(error.to_string().contains("file/net.d"), "{error}");
    }
}
