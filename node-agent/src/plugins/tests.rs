//! Against folders on disk; what a runtime sees meanwhile is put to the test in tests/suites/cluster_install.rs.

use super::*;
use crate::settings::Surroundings;
use crate::settings::raw::RawSettings;
use std::fs::{Permissions, read, write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use tempfile::TempDir;

/// Our plugins answer VERSION, as the real ones do.
const OURS: &str = "#!/bin/sh\nexit 0\n# ours";

struct Site {
    dir: TempDir,
    settings: Settings,
}

impl Site {
    fn new() -> Site {
        let dir = tempfile::tempdir().unwrap();
        let raw = RawSettings {
            node_name: Some("a".into()),
            cni_bin_dir: Some(dir.path().join("cni/bin").display().to_string()),
            plugin_dir: Some(dir.path().join("image").display().to_string()),
            ..RawSettings::default()
        };
        let settings = Settings::from_raw(raw, &Surroundings::default()).unwrap();
        std::fs::create_dir(dir.path().join("image")).unwrap();
        for name in NAMES {
            write(dir.path().join("image").join(name), OURS).unwrap();
        }
        Site { dir, settings }
    }

    /// The names written; no problem is allowed.
    fn install(&self) -> Vec<&'static str> {
        let (written, problems) = ensure_plugins(&self.settings);
        assert_eq!(problems, []);
        written
    }

    fn bin(&self, name: &str) -> PathBuf {
        self.dir.path().join("cni/bin").join(name)
    }

    fn put(&self, name: &str, text: &str, mode: u32) {
        std::fs::create_dir_all(self.bin("")).unwrap();
        write(self.bin(name), text).unwrap();
        std::fs::set_permissions(self.bin(name), Permissions::from_mode(mode)).unwrap();
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.bin("")).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

#[test]
fn plugins_are_put_into_a_folder_made_for_them_and_equal_ones_left_alone() {
    let site = Site::new();
    assert_eq!(site.install(), NAMES);
    let first = std::fs::metadata(site.bin("slash32")).unwrap();
    assert_eq!(first.mode() & 0o7777, 0o755);
    assert_eq!(site.names(), NAMES);
    assert_eq!(site.install(), [""; 0]);
    let second = std::fs::metadata(site.bin("slash32")).unwrap();
    assert_eq!(
        (first.ino(), first.ctime(), first.ctime_nsec()),
        (second.ino(), second.ctime(), second.ctime_nsec())
    );
}

#[test]
fn without_the_setting_nothing_is_touched() {
    let mut site = Site::new();
    site.settings.cni_bin_dir = None;
    assert_eq!(site.install(), [""; 0]);
    assert!(!site.bin("").exists());
    assert!(remove_plugins(&site.settings).is_empty());
}

#[test]
fn another_content_size_right_or_owner_is_replaced_by_another_inode() {
    let site = Site::new();
    let same_size = OURS.replace("ours", "evil");
    for (text, mode) in [
        (same_size.as_str(), 0o755),
        ("short", 0o755),
        ("", 0o755),
        (OURS, 0o644),
        (OURS, 0o4755),
        (OURS, 0o777),
    ] {
        site.put("slash32", text, mode);
        let old = std::fs::File::open(site.bin("slash32")).unwrap();
        site.install();
        let new = std::fs::metadata(site.bin("slash32")).unwrap();
        assert_ne!(
            old.metadata().unwrap().ino(),
            new.ino(),
            "{text:?} {mode:o}"
        );
        assert_eq!(read(site.bin("slash32")).unwrap(), OURS.as_bytes());
        assert_eq!(new.mode() & 0o7777, 0o755);
        // Whoever executes the old one still has the whole of it.
        assert_eq!(
            old.metadata().unwrap().len(),
            u64::try_from(text.len()).unwrap()
        );
    }
}

#[test]
fn links_and_left_overs_are_replaced_and_never_followed() {
    let site = Site::new();
    let victim = site.dir.path().join("victim");
    write(&victim, "precious").unwrap();
    std::fs::create_dir_all(site.bin("")).unwrap();
    symlink(&victim, site.bin("slash32")).unwrap();
    symlink(&victim, site.bin(".slash32.new")).unwrap();
    // Equal content behind a link is no plugin of ours either.
    symlink(
        site.dir.path().join("image/slash32-ipam"),
        site.bin("slash32-ipam"),
    )
    .unwrap();
    assert_eq!(site.install(), NAMES);
    assert_eq!(read(&victim).unwrap(), b"precious");
    for name in NAMES {
        assert!(site.bin(name).symlink_metadata().unwrap().is_file());
    }
    site.put(".slash32-ipam.new", "half", 0o600);
    assert_eq!(site.install(), [""; 0]);
    assert_eq!(site.names(), NAMES);
}

#[test]
fn a_folder_in_the_place_of_a_plugin_is_told_and_blocks_as_long_as_none_works() {
    let site = Site::new();
    std::fs::create_dir_all(site.bin("slash32")).unwrap();
    let (written, problems) = ensure_plugins(&site.settings);
    assert_eq!(written, ["slash32-ipam"]);
    let [problem] = problems.as_slice() else {
        panic!("{problems:?}")
    };
    assert_eq!(problem.kind, ProblemKind::PluginMissing);
    for part in [
        "cni/bin/slash32",
        "remove the folder",
        "no plugin that works",
    ] {
        assert!(problem.text.contains(part), "{}", problem.text);
    }
    assert_eq!(site.names(), NAMES, "no temporary file is left");
}

#[test]
fn an_older_plugin_that_works_keeps_the_node_ready() {
    let site = Site::new();
    std::fs::remove_file(site.dir.path().join("image/slash32")).unwrap();
    for (old, kind) in [
        ("#!/bin/sh\nexit 0\n", ProblemKind::PluginOutdated),
        ("#!/bin/sh\nexit 1\n", ProblemKind::PluginMissing),
        ("torn", ProblemKind::PluginMissing),
    ] {
        site.put("slash32", old, 0o755);
        let (_, problems) = ensure_plugins(&site.settings);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].kind, kind, "{old:?}");
        assert!(
            problems[0].text.contains("image/slash32"),
            "{}",
            problems[0].text
        );
        assert_eq!(read(site.bin("slash32")).unwrap(), old.as_bytes());
    }
    // slash32-ipam is not what our own conflist names.
    std::fs::remove_file(site.dir.path().join("image/slash32-ipam")).unwrap();
    std::fs::remove_file(site.bin("slash32-ipam")).unwrap();
    let (_, problems) = ensure_plugins(&site.settings);
    assert_eq!(problems[1].kind, ProblemKind::PluginOutdated);
}

#[test]
fn what_to_do_follows_from_the_kind_of_the_refusal() {
    for (kind, advice) in [
        (io::ErrorKind::ReadOnlyFilesystem, "mount it writable"),
        (io::ErrorKind::StorageFull, "df -h /opt/cni/bin"),
        (io::ErrorKind::PermissionDenied, "chown root:root"),
    ] {
        let error = PluginError::new("write", "/opt/cni/bin/.slash32.new", kind);
        let text = error.to_string();
        assert!(text.contains(advice), "{text}");
        assert!(text.starts_with("write /opt/cni/bin/.slash32.new: "));
    }
}

#[test]
fn removal_takes_what_is_equal_and_spares_the_rest() {
    let site = Site::new();
    site.install();
    site.put(".slash32.new", "half", 0o600);
    site.put("bridge", "a neighbour", 0o755);
    site.put("slash32-ipam", "somebody's own", 0o755);
    let removed = remove_plugins(&site.settings);
    assert_eq!(removed[0], (site.bin("slash32"), Ok(true)));
    let (path, Err(reason)) = &removed[1] else {
        panic!("{removed:?}")
    };
    assert_eq!(path, &site.bin("slash32-ipam"));
    assert!(
        reason.contains("left alone") && reason.contains("by hand"),
        "{reason}"
    );
    assert_eq!(site.names(), ["bridge", "slash32-ipam"]);
    // Rights and owner do not make it another program.
    site.put("slash32-ipam", OURS, 0o600);
    assert!(
        remove_plugins(&site.settings)
            .iter()
            .any(|(_, removed)| *removed == Ok(true))
    );
    assert_eq!(site.names(), ["bridge"]);
    assert!(
        remove_plugins(&site.settings)
            .iter()
            .all(|(_, removed)| *removed == Ok(false))
    );
}

#[test]
fn removal_without_the_image_or_of_a_link_says_so() {
    let site = Site::new();
    site.install();
    std::fs::remove_file(site.bin("slash32-ipam")).unwrap();
    symlink("slash32", site.bin("slash32-ipam")).unwrap();
    let removed = remove_plugins(&site.settings);
    assert!(
        removed[1]
            .1
            .as_ref()
            .is_err_and(|reason| reason.contains("symbolic link")),
        "{removed:?}"
    );
    site.install();
    std::fs::remove_dir_all(site.dir.path().join("image")).unwrap();
    for (_, removed) in remove_plugins(&site.settings) {
        let reason = removed.unwrap_err();
        assert!(reason.contains("nothing to compare it with"), "{reason}");
    }
    assert_eq!(site.names(), NAMES);
    std::fs::remove_dir_all(site.bin("")).unwrap();
    assert_eq!(remove_plugins(&site.settings), []);
}

#[test]
fn two_agents_take_turns() {
    let site = Site::new();
    for round in 0..20 {
        let text = format!("{OURS}{round}{}", "x".repeat(200_000));
        for name in NAMES {
            write(site.dir.path().join("image").join(name), &text).unwrap();
        }
        std::thread::scope(|scope| {
            let agents: Vec<_> = (0..4).map(|_| scope.spawn(|| site.install())).collect();
            let written: Vec<_> = agents
                .into_iter()
                .flat_map(|agent| agent.join().unwrap())
                .collect();
            assert_eq!(written.len(), NAMES.len(), "{written:?}");
        });
        assert_eq!(read(site.bin("slash32")).unwrap(), text.as_bytes());
        assert_eq!(site.names(), NAMES);
    }
}
