//! Cgroups of our own (v1): one folder in each hierarchy for a run, one below it for each node and each component.
//!
//! A node sees its own folder as the root, by a cgroup namespace, so that a kubelet and a runc inside touch nothing
//! else of the machine.

use crate::machine::run_here;
use crate::suite::Missing;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the hierarchies are mounted, here and in every node.
pub const ROOT: &str = "/sys/fs/cgroup";

/// One hierarchy of version 1: the folder's name, and the mount option that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    name: String,
    option: String,
}

/// The machine's hierarchies, as /proc/self/cgroup tells them.
pub fn find_hierarchies() -> Result<Vec<Hierarchy>> {
    let text = std::fs::read_to_string("/proc/self/cgroup").context("read /proc/self/cgroup")?;
    let found = parse_hierarchies(&text);
    if found.is_empty() {
        return Err(
            Missing("the cluster needs cgroup v1, and this machine has v2 alone".into()).into(),
        );
    }
    Ok(found)
}

/// Lines of /proc/self/cgroup: `number:controllers:path`. Version 2 is the one without controllers.
fn parse_hierarchies(text: &str) -> Vec<Hierarchy> {
    let controllers = text.lines().filter_map(|line| line.split(':').nth(1));
    controllers
        .filter(|name| !name.is_empty())
        .map(|name| match name.strip_prefix("name=") {
            Some(bare) => Hierarchy {
                name: bare.into(),
                option: format!("none,{name}"),
            },
            None => Hierarchy {
                name: name.into(),
                option: name.into(),
            },
        })
        .collect()
}

/// Mounts each hierarchy below a folder. Inside a cgroup namespace that shows the namespace's part alone.
pub fn mount_all(hierarchies: &[Hierarchy], at: &Path) -> Result<()> {
    let at_text = at.to_string_lossy();
    run_here(&["mount", "-t", "tmpfs", "-o", "mode=755", "cgroup", &at_text])?;
    for hierarchy in hierarchies {
        let folder = at.join(&hierarchy.name);
        std::fs::create_dir_all(&folder)?;
        let option = &hierarchy.option;
        run_here(&[
            "mount",
            "-t",
            "cgroup",
            "-o",
            option,
            "cgroup",
            &folder.to_string_lossy(),
        ])?;
    }
    Ok(())
}

/// One group: the same relative folder in every hierarchy.
#[derive(Debug, Clone)]
pub struct Group {
    path: PathBuf,
    hierarchies: Vec<String>,
}

impl Group {
    /// Makes it, with the folders above it. cpuset needs its processors and memory nodes copied down before
    /// it takes a process.
    pub fn make(hierarchies: &[Hierarchy], path: impl Into<PathBuf>) -> Result<Group> {
        let group = Group {
            path: path.into(),
            hierarchies: hierarchies.iter().map(|one| one.name.clone()).collect(),
        };
        for (hierarchy, folder) in group.hierarchies.iter().zip(group.folders()) {
            std::fs::create_dir_all(&folder)
                .with_context(|| format!("make cgroup {}", folder.display()))?;
            if hierarchy.split(',').any(|name| name == "cpuset") {
                copy_down(&Path::new(ROOT).join(hierarchy), &group.path)?;
            }
        }
        Ok(group)
    }

    /// A group below this one.
    pub fn child(&self, name: &str) -> Result<Group> {
        let hierarchies: Vec<Hierarchy> = self
            .hierarchies
            .iter()
            .map(|name| Hierarchy {
                name: name.clone(),
                option: String::new(),
            })
            .collect();
        Group::make(&hierarchies, self.path.join(name))
    }

    fn folders(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.hierarchies
            .iter()
            .map(|hierarchy| Path::new(ROOT).join(hierarchy).join(&self.path))
    }

    /// The files to which a process writes 0 to move itself in.
    pub fn doors(&self) -> Vec<PathBuf> {
        self.folders()
            .map(|folder| folder.join("cgroup.procs"))
            .collect()
    }

    /// The processes in it and below.
    pub fn processes(&self) -> Vec<i32> {
        let mut all: Vec<i32> = Vec::new();
        for folder in self.folders().flat_map(|folder| folders_below(&folder)) {
            let text = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            all.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        }
        all.retain(|pid| *pid > 0);
        all.sort_unstable();
        all.dedup();
        all
    }

    /// SIGKILL to all in it and below, then its removal. What forks meanwhile is met by the next round.
    pub fn remove(&self) -> Result<()> {
        crate::wait::until(
            &format!("cgroup {} is empty and gone", self.path.display()),
            Duration::from_secs(20),
            || {
                for pid in self.processes() {
                    let _ = nix::sys::signal::kill(
                        nix::unistd::Pid::from_raw(pid),
                        nix::sys::signal::Signal::SIGKILL,
                    );
                }
                for folder in self.folders().flat_map(|folder| folders_below(&folder)) {
                    let _ = std::fs::remove_dir(folder);
                }
                Ok(self.folders().all(|folder| !folder.exists()))
            },
        )
        .with_context(|| format!("still in it: {:?}", self.processes()))
        .map(drop)
    }
}

/// A folder and all below it, the deepest first.
fn folders_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut all: Vec<PathBuf> = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .flat_map(|entry| folders_below(&entry.path()))
        .collect();
    all.push(folder.to_path_buf());
    all
}

fn copy_down(root: &Path, path: &Path) -> Result<()> {
    let mut above = root.to_path_buf();
    for part in path.components() {
        let folder = above.join(part);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let value = std::fs::read_to_string(above.join(file))?;
            if std::fs::read_to_string(folder.join(file))?
                .trim()
                .is_empty()
            {
                std::fs::write(folder.join(file), value.trim())?;
            }
        }
        above = folder;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_version_1_are_found_by_their_controllers() {
        let text = "9:name=systemd:/\n3:cpu,cpuacct:/\n0::/\n";
        let names: Vec<(String, String)> = parse_hierarchies(text)
            .into_iter()
            .map(|one| (one.name, one.option))
            .collect();
        let pair = |name: &str, option: &str| (name.to_owned(), option.to_owned());
        assert_eq!(
            names,
            [
                pair("systemd", "none,name=systemd"),
                pair("cpu,cpuacct", "cpu,cpuacct")
            ]
        );
    }
}
