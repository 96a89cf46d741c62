//! containerd's folder with the base images imported, kept from run to run.
//!
//! containerd itself made it, from the archives; each node gets a copy in which what never changes (blobs, unpacked
//! layers) is hard-linked. It saves each cluster the unpacking of 250 MB on three nodes at once.

use crate::cluster::Containerd;
use crate::cluster::host::Host;
use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder that nodes copy.
#[derive(Debug)]
pub(crate) struct Seed(PathBuf);

/// The one for these archives, made on `maker` (booted, no containerd running) when it is not there yet.
pub(crate) fn ensure(
    cache: &Path,
    version: Containerd,
    maker: &Host,
    archives: &[PathBuf],
) -> Result<Seed> {
    let folder = cache.join("seeds");
    std::fs::create_dir_all(&folder)?;
    let gate = std::fs::File::create(folder.join("gate"))?;
    let _gate = Flock::lock(gate, FlockArg::LockExclusive).map_err(|(_, error)| error)?;
    let seed = folder.join(format!("{version:?}"));
    let stamp = archives
        .iter()
        .filter_map(|archive| Some(archive.file_name()?.to_string_lossy().into_owned()))
        .collect::<Vec<_>>()
        .join("\n");
    if std::fs::read_to_string(seed.join("stamp")).is_ok_and(|old| old == stamp) {
        return Ok(Seed(seed));
    }
    let _ = std::fs::remove_dir_all(&seed);
    maker.run_runtime()?;
    archives
        .iter()
        .try_for_each(|archive| maker.import(archive))?;
    maker.kill_component("containerd")?;
    copy(&maker.data("containerd"), &seed.join("containerd"))?;
    std::fs::write(seed.join("stamp"), stamp)?;
    empty(&maker.data("containerd"))?;
    Ok(Seed(seed))
}

impl Seed {
    /// Fills a node's folder, before its containerd runs.
    pub(crate) fn lay(&self, host: &Host) -> Result<()> {
        copy(&self.0.join("containerd"), &host.data("containerd"))
    }
}

/// Hard links, but for the databases, which change in place.
fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    shell("cp -al \"$1/.\" \"$2/\"", from, to)?;
    shell(
        "cd \"$1\" && find . -name '*.db' -exec cp --parents --remove-destination {} \"$2/\" \\;",
        from,
        to,
    )
}

/// The folder itself is mounted in the node, and stays.
fn empty(folder: &Path) -> Result<()> {
    shell("find \"$1\" -mindepth 1 -delete", folder, folder)
}

fn shell(script: &str, from: &Path, to: &Path) -> Result<()> {
    let output = Command::new("sh")
        .args(["-ec", script, "sh"])
        .args([from, to])
        .output()
        .with_context(|| format!("run {script}"))?;
    anyhow::ensure!(
        output.status.success(),
        "{script}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
