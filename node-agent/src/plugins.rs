//! The plugin binaries in the runtime's folder (setting cniBinDir): put in place by rename, only where they differ from
//! those of pluginDir, before the conflist that names them. A runtime that executes one meanwhile runs the old or the new
//! one: the new one is another inode, whole, and closed before it gets its name (so no ETXTBSY either). Called by
//! `reconcile` at each full pass, and by `uninstall`, which takes away what is equal to ours.

use crate::problem::{Problem, ProblemKind};
use crate::settings::Settings;
use folder::{BinFolder, Found};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

mod folder;

/// What runtimes call, and what other main plugins may call for addresses.
const NAMES: [&str; 2] = ["slash32", "slash32-ipam"];

/// An answer to VERSION takes a millisecond.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A step that failed; nothing is half done.
#[derive(Debug, thiserror::Error)]
#[error("{what} {path}: {source}{}", advice(.source, .path))]
pub(crate) struct PluginError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl PluginError {
    fn new(what: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        let (path, source) = (path.into(), source.into());
        PluginError { what, path, source }
    }
}

/// What a user can do about it.
fn advice(error: &io::Error, path: &Path) -> String {
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => {
            "; mount it writable, or put the plugins there by hand and leave cniBinDir empty".into()
        }
        io::ErrorKind::PermissionDenied => {
            "; the folder must belong to root and be writable by it (chown root:root)".into()
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            let folder = path.parent().unwrap_or(path).display();
            format!("; free space there (see 'df -h {folder}' and 'df -i {folder}')")
        }
        io::ErrorKind::IsADirectory => "; remove the folder that stands in its place".into(),
        _ => String::new(),
    }
}

// ===== installing =====

/// The names that were written, and what could not be. Nothing without the setting. A node is kept from turning ready
/// only while no plugin is there that answers: an old one serves pods well until the new one can be written.
pub(crate) fn ensure_plugins(settings: &Settings) -> (Vec<&'static str>, Vec<Problem>) {
    let (mut written, mut problems) = (Vec::new(), Vec::new());
    let Some(target) = &settings.cni_bin_dir else {
        return (written, problems);
    };
    let folder = match BinFolder::ensure(target).and_then(BinFolder::locked) {
        Ok(folder) => folder,
        // One sentence for both of them.
        Err(error) => return (written, vec![complaint(target, NAMES[0], &error)]),
    };
    for name in NAMES {
        match ensure_plugin(&folder, &settings.plugin_dir, name) {
            Ok(true) => written.push(name),
            Ok(false) => {}
            Err(error) => problems.push(complaint(target, name, &error)),
        }
    }
    (written, problems)
}

/// True where it was written.
fn ensure_plugin(folder: &BinFolder, from: &Path, name: &str) -> Result<bool, PluginError> {
    let source = folder::open_source(&from.join(name))?;
    folder.remove_leftover(name)?;
    if folder.find(name, &source)? == Found::Right {
        return Ok(false);
    }
    folder.install(name, &source)?;
    Ok(true)
}

fn complaint(target: &Path, name: &'static str, error: &PluginError) -> Problem {
    let text = format!("install plugin {name} into {}: {error}", target.display());
    // Our conflist names slash32 alone.
    if name != NAMES[0] || answers(&target.join(name)) {
        return Problem::new(ProblemKind::PluginOutdated, text);
    }
    Problem::new(
        ProblemKind::PluginMissing,
        format!("{text}; and no plugin that works is there"),
    )
}

/// True where the plugin says which versions it speaks.
fn answers(plugin: &Path) -> bool {
    let child = Command::new(plugin)
        .env("CNI_COMMAND", "VERSION")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else { return false };
    if let Some(mut stdin) = child.stdin.take() {
        // It may have ended without reading.
        let _ = stdin.write_all(br#"{"cniVersion":"1.0.0"}"#);
    }
    let start = Instant::now();
    while start.elapsed() < ANSWER_WITHIN {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) => std::thread::sleep(Duration::from_millis(1)),
            Err(_) => break,
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    false
}

// ===== removing =====

/// Removes those that are equal to pluginDir's, and what a killed installation left. Answers per path: removed, absent,
/// or left alone for a reason.
pub(crate) fn remove_plugins(settings: &Settings) -> Vec<(PathBuf, Result<bool, String>)> {
    let Some(target) = &settings.cni_bin_dir else {
        return Vec::new();
    };
    let folder = match BinFolder::open(target) {
        Ok(None) => return Vec::new(),
        Ok(Some(folder)) => folder.locked(),
        Err(error) => Err(error),
    };
    match folder {
        Err(error) => vec![(target.clone(), Err(error.to_string()))],
        Ok(folder) => NAMES
            .iter()
            .map(|name| {
                let removed = remove_plugin(&folder, &settings.plugin_dir, name);
                (target.join(name), removed)
            })
            .collect(),
    }
}

fn remove_plugin(folder: &BinFolder, from: &Path, name: &str) -> Result<bool, String> {
    let said = |error: PluginError| error.to_string();
    let leftover = folder.remove_leftover(name).map_err(said)?;
    if !folder.holds(name).map_err(said)? {
        return Ok(leftover);
    }
    let source = folder::open_source(&from.join(name))
        .map_err(|error| format!("left alone, there is nothing to compare it with: {error}"))?;
    match folder.find(name, &source).map_err(said)? {
        Found::Right | Found::Equal => folder.remove(name).map(|()| true).map_err(said),
        Found::Other(what) => Err(format!(
            "left alone: {what} {}; remove it by hand, or uninstall with the version that put it there",
            from.join(name).display()
        )),
    }
}

#[cfg(test)]
mod tests;
