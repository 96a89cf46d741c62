//! A disk that is really full: a tmpfs of 64 KiB, in a mount namespace of the test's own (`unshare -Urm`).
//!
//! The test binary starts itself inside. Where user namespaces cannot be had, the test is reported as ignored, never as
//! passed.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use libtest_mimic::{Arguments, Failed, Trial};
use node_state::folder::Folder;
use node_state::oplog::Operation;
use node_state::{StateDir, StateError};
use std::path::Path;
use std::process::{Command, ExitCode};

const INSIDE: &str = "SLASH32_STATE_TEST_INSIDE";

fn main() -> ExitCode {
    if let Ok(folder) = std::env::var(INSIDE) {
        full_disk_inside(Path::new(&folder));
        return ExitCode::SUCCESS;
    }
    let possible = Command::new("unshare").args(["-Urm", "true"]).status();
    let possible = possible.is_ok_and(|status| status.success());
    let name = "full_disk_leaves_the_old_content_and_no_temporary_i11";
    let tests = vec![Trial::test(name, full_disk).with_ignored_flag(!possible)];
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

fn full_disk() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let script = format!(
        "mount -t tmpfs -o size=64k,mode=0700 tmpfs {} && exec \"$1\"",
        dir.path().display()
    );
    let mut unshare = Command::new("unshare");
    unshare
        .args(["-Urm", "sh", "-c", &script, "sh"])
        .arg(std::env::current_exe()?)
        .env(INSIDE, dir.path());
    let output = unshare.output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned().into())
}

fn full_disk_inside(path: &Path) {
    let state = StateDir::new(path);
    let folder = Folder::ensure(path).unwrap();
    folder.write("kept", b"old").unwrap();
    let mut files = 0;
    while folder
        .write(&format!("filler{files}"), &[b'x'; 4096])
        .is_ok()
    {
        files += 1;
        assert!(files < 100, "the disk never fills");
    }
    let error = folder.write("kept", b"new").unwrap_err();
    assert!(matches!(&error, StateError::Full { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("kept") && text.contains("df -h"), "{text}");
    assert_eq!(folder.read("kept").unwrap().unwrap(), b"old");
    assert!(matches!(
        state.probe_writable(),
        Err(StateError::Full { .. })
    ));
    assert!(state.append_operation(&operation()).is_err());

    let left = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let left: Vec<String> = left.filter(|name| name.starts_with('.')).collect();
    assert!(left.is_empty(), "temporaries stayed: {left:?}");
    assert!(folder.remove("filler0").unwrap());
    folder.write("kept", b"new").unwrap();
    state.probe_writable().unwrap();
}

fn operation() -> Operation {
    Operation {
        at_ms: 1,
        command: "ADD".into(),
        network: "n".into(),
        container_id: "c".into(),
        ifname: "eth0".into(),
        duration_us: 1,
        code: 0,
        error: "x".repeat(2000),
    }
}
