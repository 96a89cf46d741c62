//! Where the bench runs: private namespaces, the programs, the options.

use anyhow::{Context, Result, bail};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Set in the process that runs inside the private namespaces.
const INSIDE: &str = "SLASH32_BENCH_INSIDE";

/// From the environment, since `make bench ROUNDS=20` is how a person says it.
pub(crate) struct Options {
    pub(crate) rounds: usize,
    /// ONLY: one part of the bench, by its name in main.rs.
    only: Option<String>,
    /// Folder of slash32, slash32-agent (release, static).
    pub(crate) binaries: PathBuf,
    /// Folder of ptp, host-local, portmap.
    pub(crate) reference: PathBuf,
    /// The bare netlink program, built from tests/bench/floor.c.
    pub(crate) floor: PathBuf,
}

impl Options {
    pub(crate) fn from_environment() -> Result<Self> {
        let path = |name: &str| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .with_context(|| format!("{name} is not set; run 'make bench'"))
        };
        let rounds = match std::env::var("ROUNDS") {
            Ok(text) => text
                .parse()
                .ok()
                .filter(|rounds| (5..=1000).contains(rounds))
                .with_context(|| format!("ROUNDS is {text}: must be a number from 5 to 1000"))?,
            Err(_) => 100,
        };
        Ok(Options {
            rounds,
            only: std::env::var("ONLY").ok(),
            binaries: path("SLASH32_BIN_DIR")?,
            reference: path("SLASH32_REFERENCE_PLUGINS")?,
            floor: path("SLASH32_FLOOR")?,
        })
    }
}

/// Runs this program again in network and mount namespaces of its own; the kernel takes them, and all
/// that was made in them, away with the process.
pub(crate) fn enter_private_namespaces() -> Result<()> {
    if std::env::var_os(INSIDE).is_some() {
        run("mount", &["-t", "tmpfs", "tmpfs", "/run"])?;
        run("mount", &["-t", "sysfs", "sysfs", "/sys"])?;
        run("mount", &["-t", "proc", "proc", "/proc"])?;
        std::fs::create_dir_all("/run/netns")?;
        return run("ip", &["link", "set", "lo", "up"]);
    }
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--propagation", "private"]);
    // Whatever still runs ends with the bench, also when that is killed.
    command.args(["--pid", "--fork", "--kill-child"]);
    if !nix::unistd::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let error = command
        .arg("--")
        .arg(std::env::current_exe()?)
        .env(INSIDE, "1")
        .exec();
    Err(error).context("run unshare")
}

pub(crate) struct Bench {
    pub(crate) options: Options,
}

impl Bench {
    pub(crate) fn prepare(options: Options) -> Result<Self> {
        for program in [
            options.binaries.join("slash32"),
            options.binaries.join("slash32-agent"),
            options.floor.clone(),
            options.reference.join("ptp"),
            options.reference.join("host-local"),
            options.reference.join("portmap"),
        ] {
            if !program.is_file() {
                bail!(
                    "{} is missing; run 'make bench', which builds and installs what is needed",
                    program.display()
                );
            }
        }
        lay_node(&options)?;
        Ok(Bench { options })
    }

    pub(crate) fn wants(&self, part: &str) -> bool {
        self.options.only.as_deref().is_none_or(|only| only == part)
    }

    pub(crate) fn slash32(&self) -> PathBuf {
        self.options.binaries.join("slash32")
    }

    pub(crate) fn agent(&self) -> PathBuf {
        self.options.binaries.join("slash32-agent")
    }
}

/// One node with a link to one client, and one whole pass of the real agent: table, sysctls, conflist.
fn lay_node(options: &Options) -> Result<()> {
    std::fs::write("/run/nodes.yaml", NODE)?;
    run("ip", &["netns", "add", "client"])?;
    run(
        "ip",
        &[
            "link", "add", "uplink", "type", "veth", "peer", "name", "eth0", "netns", "client",
        ],
    )?;
    run("ip", &["address", "add", "192.0.2.1/16", "dev", "uplink"])?;
    run("ip", &["link", "set", "uplink", "up"])?;
    run(
        "ip",
        &[
            "-n",
            "client",
            "address",
            "add",
            "192.0.2.2/16",
            "dev",
            "eth0",
        ],
    )?;
    run("ip", &["-n", "client", "link", "set", "eth0", "up"])?;
    let agent = options.binaries.join("slash32-agent");
    run(
        &agent.to_string_lossy(),
        &[
            "run",
            "--once",
            "--node-name",
            "n1",
            "--nodes-file",
            "/run/nodes.yaml",
            "--cni-conf-dir",
            "/run/cni",
            "--listen",
            "",
        ],
    )
}

const NODE: &str = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Node\n  metadata: {name: n1}\n  spec: {podCIDR: 10.244.1.0/24, podCIDRs: [10.244.1.0/24]}\n  status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}\n";

/// A network namespace of its own for a pod, removed when dropped.
pub(crate) struct PodNetns {
    name: String,
}

impl PodNetns {
    pub(crate) fn new(name: &str) -> Result<Self> {
        run("ip", &["netns", "add", name])?;
        Ok(PodNetns { name: name.into() })
    }

    pub(crate) fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }
}

impl Drop for PodNetns {
    fn drop(&mut self) {
        if let Err(error) = run("ip", &["netns", "del", &self.name]) {
            eprintln!("bench: {error:#}");
        }
    }
}

pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("run {program}"))?;
    if !output.status.success() {
        bail!(
            "{program} {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

pub(crate) fn file_size(path: &Path) -> Result<u64> {
    Ok(std::fs::metadata(path)
        .with_context(|| format!("look at {}", path.display()))?
        .len())
}
