//! One run of the program on this machine: its folder, its cgroups, and the kernel's settings that kubelets change.
//!
//! All else that a cluster makes dies with the program's namespaces. These three do not, so they are named by the run,
//! locked while it lives, and taken away at its end; a killed run's are taken away when the next one starts.

use crate::cluster::cgroups::{Group, Hierarchy, ROOT, find_hierarchies, mount_all};
use crate::enter;
use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Our folder in each cgroup hierarchy.
const CGROUP: &str = "slash32-e2e";

/// What kubelet sets in the one kernel that all share, and what three nodes need more of than there is.
const SETTINGS: [&str; 4] = [
    "vm/overcommit_memory",
    "kernel/panic",
    "kernel/panic_on_oops",
    "fs/inotify/max_user_instances",
];

/// A run. Dropping it removes what would outlive the program.
#[derive(Debug)]
pub struct Run {
    /// Ours on a real file system: containerd's snapshots cannot lie on an overlay.
    pub folder: PathBuf,
    /// Kept from run to run: images, and what failed tests left to read.
    pub cache: PathBuf,
    /// The machine's cgroup hierarchies.
    pub hierarchies: Vec<Hierarchy>,
    group: Group,
    lock: Option<Flock<File>>,
}

impl Run {
    /// Takes away what killed runs left, and begins. Once in a program, after [`enter::enter`].
    pub fn begin() -> Result<Run> {
        let cache = PathBuf::from(std::env::var_os("SLASH32_E2E_CACHE").context(
            "SLASH32_E2E_CACHE is not set: run 'make e2e', or name a folder for images and nodes' data",
        )?);
        std::fs::create_dir_all(cache.join("runs"))?;
        let hierarchies = find_hierarchies()?;
        // The lab's fresh /sys has none.
        mount_all(&hierarchies, Path::new(ROOT))?;
        let name = enter::outer_pid();
        let _gate = lock_gate(&cache)?;
        clear_stale(&cache, &hierarchies)?;
        let folder = cache.join("runs").join(name);
        std::fs::create_dir_all(&folder)?;
        let lock = try_lock(&folder.join("lock"))?.context("two runs with one process number")?;
        save_settings(&cache)?;
        write_setting("fs/inotify/max_user_instances", "1024")?;
        Ok(Run {
            group: Group::make(&hierarchies, Path::new(CGROUP).join(name))?,
            folder,
            cache,
            hierarchies,
            lock: Some(lock),
        })
    }

    /// A group of the run.
    pub fn group(&self, name: &str) -> Result<Group> {
        self.group.child(name)
    }

    /// Takes everything away, and looks whether anything is left; an error names it.
    pub fn end(&mut self) -> Result<()> {
        let Some(lock) = self.lock.take() else {
            return Ok(());
        };
        self.group.remove()?;
        let _gate = lock_gate(&self.cache)?;
        drop(lock);
        std::fs::remove_dir_all(&self.folder)
            .with_context(|| format!("remove {}", self.folder.display()))?;
        if live_runs(&self.cache)?.is_empty() {
            restore_settings(&self.cache)?;
            remove_cgroup_root(&self.hierarchies);
        }
        let left = self.group.processes();
        if !left.is_empty() || self.folder.exists() {
            bail!(
                "left by the run: processes {left:?}, {}",
                self.folder.display()
            );
        }
        Ok(())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("e2e: {error:#}");
        }
    }
}

/// Begin and end of runs, one at a time.
fn lock_gate(cache: &Path) -> Result<Flock<File>> {
    let file = File::create(cache.join("gate")).context("open the gate of runs")?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, error)| error)
        .context("lock the gate of runs")
}

fn try_lock(path: &Path) -> Result<Option<Flock<File>>> {
    let file = File::create(path).with_context(|| format!("open {}", path.display()))?;
    Ok(Flock::lock(file, FlockArg::LockExclusiveNonblock).ok())
}

fn folders(cache: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(cache.join("runs"))?;
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

fn live_runs(cache: &Path) -> Result<Vec<PathBuf>> {
    let mut live = Vec::new();
    for folder in folders(cache)? {
        if try_lock(&folder.join("lock"))?.is_none() {
            live.push(folder);
        }
    }
    Ok(live)
}

fn clear_stale(cache: &Path, hierarchies: &[Hierarchy]) -> Result<()> {
    let live = live_runs(cache)?;
    for folder in folders(cache)?.iter().filter(|one| !live.contains(one)) {
        eprintln!("e2e: removing what a killed run left: {}", folder.display());
        let name = folder.file_name().unwrap_or_default();
        Group::make(hierarchies, Path::new(CGROUP).join(name))?.remove()?;
        std::fs::remove_dir_all(folder)?;
    }
    if live.is_empty() && cache.join("kernel-settings").exists() {
        restore_settings(cache)?;
    }
    Ok(())
}

/// Only when empty: another run may have its folder there.
fn remove_cgroup_root(hierarchies: &[Hierarchy]) {
    if let Ok(root) = Group::make(hierarchies, CGROUP) {
        for door in root.doors() {
            let _ = door.parent().map(std::fs::remove_dir);
        }
    }
}

fn read_setting(name: &str) -> Result<String> {
    let path = Path::new("/proc/sys").join(name);
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    Ok(text.trim().to_owned())
}

fn write_setting(name: &str, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys").join(name);
    std::fs::write(&path, value).with_context(|| format!("write {value} to {}", path.display()))
}

/// The first of several runs saves, the last restores.
fn save_settings(cache: &Path) -> Result<()> {
    let path = cache.join("kernel-settings");
    if path.exists() {
        return Ok(());
    }
    let mut text = String::new();
    for name in SETTINGS {
        text.push_str(&format!("{name} {}\n", read_setting(name)?));
    }
    std::fs::write(path, text).context("save the kernel's settings")
}

fn restore_settings(cache: &Path) -> Result<()> {
    let path = cache.join("kernel-settings");
    let text = std::fs::read_to_string(&path).context("read the saved settings of the kernel")?;
    for (name, value) in text.lines().filter_map(|line| line.split_once(' ')) {
        if read_setting(name)? != value {
            write_setting(name, value)?;
        }
    }
    std::fs::remove_file(path).context("remove the saved settings of the kernel")
}
