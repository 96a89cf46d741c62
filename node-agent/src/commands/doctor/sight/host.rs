//! What surrounds the network: limits of the machine, managers of links, the clock, the container runtime. In a container
//! much of it is out of sight; that is told, and no trouble of its own.

use crate::look::Look;
use crate::nft::render::{TableModel, render_table};
use crate::settings::Settings;
use ipam::{Holder, Ipam};
use node_state::StateDir;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Where runtimes look for plugins unless told otherwise.
const CNI_BIN_DIR: &str = "/opt/cni/bin";

/// Limits, managers, clock.
#[derive(Debug, Clone)]
pub(in crate::commands::doctor) struct Host {
    /// One more inotify watch can be had.
    pub(in crate::commands::doctor) inotify: Result<(), String>,
    /// Free bytes in the state folder's file system; `None`: not there, or not readable.
    pub(in crate::commands::doctor) state_free: Option<u64>,
    /// Our links (by index) that another program says it manages.
    pub(in crate::commands::doctor) managed: Vec<(u32, &'static str)>,
    /// `None`: the kernel does not tell.
    pub(in crate::commands::doctor) clock_synchronised: Option<bool>,
    pub(in crate::commands::doctor) bin_dir: PathBuf,
    /// Names of the programs there; `None`: there is no such folder.
    pub(in crate::commands::doctor) programs: Option<BTreeSet<String>>,
}

/// The container runtime of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::commands::doctor) struct Runtime {
    pub(in crate::commands::doctor) name: &'static str,
    /// As its program prints it; `None`: out of reach from here.
    pub(in crate::commands::doctor) version: Option<String>,
}

impl Host {
    pub(super) fn read(settings: &Settings) -> Host {
        let bin_dir = settings.cni_bin_dir.clone();
        let bin_dir = bin_dir.unwrap_or_else(|| CNI_BIN_DIR.into());
        Host {
            inotify: try_inotify(),
            state_free: nix::sys::statvfs::statvfs(&settings.state_dir)
                .ok()
                .map(|stat| stat.blocks_available().saturating_mul(stat.fragment_size())),
            managed: find_managed(),
            clock_synchronised: dataplane::clock::is_synchronised(),
            programs: list_programs(&bin_dir),
            bin_dir,
        }
    }
}

/// As kubelet and the agent itself do it.
fn try_inotify() -> Result<(), String> {
    use notify::Watcher;
    let watched = notify::recommended_watcher(|_: notify::Result<notify::Event>| {}).and_then(
        |mut watcher| watcher.watch(Path::new("/proc/self"), notify::RecursiveMode::NonRecursive),
    );
    watched.map_err(|error| error.to_string())
}

/// What a manager wrote of a link says that it manages it.
type Manages = fn(&str) -> bool;

/// systemd-networkd and NetworkManager leave a file per link, named by its index.
fn find_managed() -> Vec<(u32, &'static str)> {
    let mut managed = Vec::new();
    let sources: [(&str, &'static str, Manages); 2] = [
        ("/run/systemd/netif/links", "systemd-networkd", |text| {
            text.lines().any(|line| {
                line.strip_prefix("ADMIN_STATE=")
                    .is_some_and(|state| !["unmanaged", "pending", "initialized"].contains(&state))
            })
        }),
        ("/run/NetworkManager/devices", "NetworkManager", |text| {
            text.lines().any(|line| line.trim() == "managed=true")
        }),
    ];
    for (folder, manager, manages) in sources {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let index = entry.file_name().to_string_lossy().parse();
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            if let (Ok(index), true) = (index, manages(&text)) {
                managed.push((index, manager));
            }
        }
    }
    managed
}

fn list_programs(folder: &Path) -> Option<BTreeSet<String>> {
    let entries = std::fs::read_dir(folder).ok()?;
    let names = entries.flatten().map(|entry| entry.file_name());
    Some(
        names
            .map(|name| name.to_string_lossy().into_owned())
            .collect(),
    )
}

/// nft and the kernel look at our table without laying it: whatever the kernel lacks is named.
pub(super) fn check_table(settings: &Settings) -> Result<(), String> {
    let model = TableModel {
        anti_spoofing: true,
        masquerade: true,
        ..TableModel::default()
    };
    dataplane::nft::check_script(&settings.nft_program, &render_table(&model))
        .map_err(|error| error.to_string())
}

/// By their sockets.
pub(super) fn find_runtime() -> Option<Runtime> {
    let known = [
        ("containerd", "/run/containerd/containerd.sock"),
        ("containerd", "/run/k3s/containerd/containerd.sock"),
        ("crio", "/run/crio/crio.sock"),
    ];
    let (name, _) = known
        .iter()
        .find(|(_, socket)| Path::new(socket).exists())?;
    let version = dataplane::nft::list(name, &["--version"]).ok();
    Some(Runtime {
        name,
        version: version.as_deref().and_then(find_version),
    })
}

/// The first word that looks like one: `containerd github.com/containerd/containerd v2.0.1 abc`, `crio version 1.32.0`.
pub(in crate::commands::doctor) fn find_version(text: &str) -> Option<String> {
    let words = text.split_whitespace();
    let mut numbers = words.map(|word| word.trim_start_matches('v'));
    let is_version = |word: &&str| {
        word.starts_with(|first: char| first.is_ascii_digit()) && word.matches('.').count() >= 2
    };
    numbers.find(is_version).map(str::to_owned)
}

/// Claims of ours without a record, of this boot; young ones may belong to an ADD that is under way.
pub(super) fn find_orphans(settings: &Settings, look: &Look) -> Result<Vec<IpAddr>, String> {
    let state = StateDir::new(settings.state_dir.clone());
    let ipam = Ipam::open(state.ipam_dir(), &settings.network_name, Holder::Slash32);
    let claims = ipam.claims().map_err(|error| error.to_string())?;
    let keys: BTreeSet<_> = look.records.iter().map(|record| &record.key).collect();
    let settled = settings.leak_grace_period + std::time::Duration::from_secs(60);
    Ok(claims
        .into_iter()
        .filter(|claim| claim.holder == Some(Holder::Slash32))
        .filter(|claim| claim.age.is_some_and(|age| age > settled))
        .filter(|claim| {
            claim
                .owner
                .as_ref()
                .is_some_and(|owner| !keys.contains(owner))
        })
        .map(|claim| claim.address)
        .collect())
}
