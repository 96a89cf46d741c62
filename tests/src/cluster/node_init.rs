//! Process 1 of a node: makes the node's root file system, then reaps what has lost its parent.
//!
//! The program runs itself for it, twice: the first process unshares and starts the second, which is number 1 in the
//! node's process namespace. When it is killed the kernel ends everything else of the node.

use crate::cluster::cgroups::{find_hierarchies, mount_all};
use crate::machine::run_here;
use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// What the processes get to know, as JSON in the environment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    /// The host name.
    pub name: String,
    /// Holds `upper`, `work` and `root` of the overlay; on a tmpfs, since an upper folder may not lie in the lower.
    pub overlay: PathBuf,
    /// (from, to) of what is bound into the node; each `from` is on a real file system.
    pub binds: Vec<(PathBuf, PathBuf)>,
    /// 32 hexadecimal digits.
    pub machine_id: String,
}

const SPEC: &str = "SLASH32_NODE_SPEC";
const STAGE: &str = "SLASH32_NODE_STAGE";

/// Folders in which something of the machine's own could show through.
const HIDDEN: [&str; 6] = [
    "etc/cni",
    "opt/cni",
    "var/lib/cni",
    "etc/kubernetes",
    "etc/slash32",
    "var/lib/calico",
];

/// The command that becomes a node; its cgroups and network are the caller's matter.
pub fn command(spec: &Spec) -> Result<Command> {
    let mut command = Command::new("/proc/self/exe");
    command
        .env(SPEC, serde_json::to_string(spec)?)
        .env(STAGE, "outside")
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    Ok(command)
}

/// Reads the two lines of a starting node: its process number as seen from here, and "ready".
pub fn await_ready(stdout: impl std::io::Read) -> Result<i32> {
    let mut lines = std::io::BufReader::new(stdout).lines();
    let mut next = || lines.next().transpose().map(Option::unwrap_or_default);
    let pid = next()?;
    let word = next()?;
    if word != "ready" {
        bail!("process 1 of the node ended while it made its file system");
    }
    pid.parse()
        .with_context(|| format!("process number {pid:?}"))
}

/// Call it first of all in `main`: it answers only in a process that [`command`] made.
pub fn run_if_asked() -> Option<ExitCode> {
    let stage = std::env::var(STAGE).ok()?;
    let done = std::env::var(SPEC)
        .context("no specification of the node")
        .and_then(|text| Ok(serde_json::from_str(&text)?))
        .and_then(|spec| match stage.as_str() {
            "outside" => start_inside(),
            _ => become_node(&spec),
        });
    if let Err(error) = done {
        eprintln!("node: {error:#}");
        return Some(ExitCode::FAILURE);
    }
    Some(ExitCode::SUCCESS)
}

/// Its cgroup is the node's already, so that it becomes the root of the cgroup namespace.
fn start_inside() -> Result<()> {
    unshare(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWCGROUP,
    )
    .context("unshare the node's namespaces")?;
    let mut child = Command::new("/proc/self/exe")
        .env(STAGE, "inside")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("start process 1")?;
    tell(&child.id().to_string())?;
    // Its "ready" comes after the number that it cannot know itself.
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        std::io::BufReader::new(stdout).read_line(&mut line)?;
    }
    tell(line.trim())?;
    child.wait()?;
    Ok(())
}

fn tell(line: &str) -> Result<()> {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{line}")?;
    Ok(stdout.flush()?)
}

fn become_node(spec: &Spec) -> Result<()> {
    make_root(spec)?;
    std::fs::write("/proc/sys/kernel/hostname", &spec.name).context("set the host name")?;
    tell("ready")?;
    loop {
        match nix::sys::wait::wait() {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            // Nobody to wait for: look again soon.
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(50)),
        }
    }
}

fn make_root(spec: &Spec) -> Result<()> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let hierarchies = find_hierarchies()?;
    let [upper, work, root] = ["upper", "work", "root"].map(|name| spec.overlay.join(name));
    let first_boot = !upper.exists();
    for folder in [&upper, &work, &root] {
        std::fs::create_dir_all(folder)?;
    }
    let options = format!(
        "lowerdir=/,upperdir={},workdir={}",
        upper.display(),
        work.display()
    );
    mount(
        Some("overlay"),
        &root,
        Some("overlay"),
        MsFlags::empty(),
        Some(options.as_str()),
    )
    .context("mount the node's overlay")?;
    if first_boot {
        write_identity(spec, &root)?;
    }
    for (from, to) in &spec.binds {
        bind(from, &root.join(to.strip_prefix("/")?))?;
    }
    mount_kernel_folders(&root)?;
    mount_all(&hierarchies, &root.join("sys/fs/cgroup"))?;
    let old = root.join("mnt");
    nix::unistd::pivot_root(&root, &old).context("pivot_root")?;
    std::env::set_current_dir("/")?;
    umount2("/mnt", MntFlags::MNT_DETACH).context("let go of the machine's file system")?;
    // kubelet and containerd pass mounts on to containers.
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SHARED, none)?;
    Ok(())
}

fn write_identity(spec: &Spec, root: &Path) -> Result<()> {
    for folder in HIDDEN {
        let path = root.join(folder);
        if path.exists() {
            std::fs::remove_dir_all(&path).with_context(|| format!("hide {}", path.display()))?;
        }
    }
    let hosts = format!("127.0.0.1 localhost {}\n::1 localhost\n", spec.name);
    for (file, text) in [
        ("etc/machine-id", spec.machine_id.as_str()),
        ("etc/hostname", &spec.name),
        ("etc/hosts", &hosts),
        ("etc/resolv.conf", "nameserver 198.51.100.10\n"),
    ] {
        let path = root.join(file);
        // It may be a link to what is not there.
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

fn bind(from: &Path, to: &Path) -> Result<()> {
    let none: Option<&str> = None;
    if from.is_dir() {
        std::fs::create_dir_all(to)?;
    } else {
        to.parent().map(std::fs::create_dir_all).transpose()?;
        std::fs::write(to, "")?;
    }
    mount(
        Some(from),
        to,
        none,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        none,
    )
    .with_context(|| format!("bind {} to {}", from.display(), to.display()))
}

fn mount_kernel_folders(root: &Path) -> Result<()> {
    for (kind, folder) in [
        ("proc", "proc"),
        ("sysfs", "sys"),
        ("tmpfs", "run"),
        ("tmpfs", "tmp"),
    ] {
        let target = root.join(folder);
        run_here(&["mount", "-t", kind, kind, &target.to_string_lossy()])?;
    }
    bind(Path::new("/dev"), &root.join("dev"))?;
    for folder in ["run/lock", "run/netns", "run/containerd"] {
        std::fs::create_dir_all(root.join(folder))?;
    }
    Ok(())
}
