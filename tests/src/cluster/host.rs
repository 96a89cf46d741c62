//! One node of the cluster: namespaces, a root file system and cgroups of its own, and the components that run in it.

use crate::cluster::cgroups::Group;
use crate::cluster::component::{Component, Recipe};
use crate::cluster::components;
use crate::cluster::node_init::{self, Spec};
use crate::cluster::run::Run;
use crate::machine::{Outcome, finish};
use crate::node::Node;
use crate::wait;
use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Programs inside a node.
const PATH: &str =
    "/opt/k8s:/opt/containerd:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Folders that must lie on a real file system, kept over reboots.
const DATA: [(&str, &str); 3] = [
    ("containerd", "/var/lib/containerd"),
    ("kubelet", "/var/lib/kubelet"),
    ("log", "/var/log"),
];

/// A node that is up. All that runs in it ends when it is dropped.
#[derive(Debug)]
pub struct Host {
    /// cp, worker1 or worker2.
    pub name: String,
    /// Its network in the lab, and its addresses.
    pub node: Node,
    spec: Spec,
    group: Group,
    data: PathBuf,
    life: Mutex<Option<Life>>,
    components: Mutex<BTreeMap<String, Component>>,
}

/// From boot to reboot.
#[derive(Debug)]
struct Life {
    launcher: Child,
    pid: i32,
}

impl Host {
    /// Makes its folders and boots it. `programs` are bound into it: (from, to).
    pub fn boot(
        run: &Run,
        cluster: &str,
        node: &Node,
        programs: &[(PathBuf, PathBuf)],
    ) -> Result<Host> {
        let name = node.name.clone();
        let data = run.folder.join(cluster).join(&name);
        let overlay = Path::new("/run/nodes").join(cluster).join(&name);
        let config = overlay.join("config");
        std::fs::create_dir_all(config.join("manifests"))?;
        let mut binds: Vec<(PathBuf, PathBuf)> = programs.to_vec();
        binds.push((config, "/etc/kubernetes".into()));
        for (folder, inside) in DATA {
            std::fs::create_dir_all(data.join(folder))?;
            binds.push((data.join(folder), inside.into()));
        }
        let host = Host {
            group: run.group(&format!("{cluster}-{name}"))?,
            spec: Spec {
                name: name.clone(),
                overlay,
                binds,
                machine_id: fresh_machine_id()?,
            },
            name,
            node: node.clone(),
            data,
            life: Mutex::new(None),
            components: Mutex::default(),
        };
        host.start()?;
        Ok(host)
    }

    fn start(&self) -> Result<()> {
        let mut command = node_init::command(&self.spec)?;
        let doors = self.group.doors();
        let netns = self.node.machine.netns();
        // SAFETY: between fork and exec files are opened and written, and one system call is made; nothing else.
        unsafe {
            command.pre_exec(move || {
                enter_group(&doors)?;
                setns(File::open(&netns)?, CloneFlags::CLONE_NEWNET)?;
                Ok(())
            });
        }
        let mut launcher = command
            .spawn()
            .with_context(|| format!("launch node {}", self.name))?;
        let stdout = launcher.stdout.take().context("no pipe")?;
        let pid =
            node_init::await_ready(stdout).with_context(|| format!("boot node {}", self.name))?;
        *lock(&self.life) = Some(Life { launcher, pid });
        Ok(())
    }

    /// The node's process 1 as this program numbers it.
    pub fn pid(&self) -> Result<i32> {
        let life = lock(&self.life);
        life.as_ref()
            .map(|life| life.pid)
            .with_context(|| format!("node {} is down", self.name))
    }

    /// All processes of the node, as this program numbers them.
    pub fn processes(&self) -> Vec<i32> {
        self.group.processes()
    }

    /// A path of the node, as it is reached from here.
    pub fn path(&self, inside: &str) -> Result<PathBuf> {
        let root = PathBuf::from(format!("/proc/{}/root", self.pid()?));
        Ok(root.join(inside.trim_start_matches('/')))
    }

    /// Where a log of the node lies; it stays when the node is down.
    pub fn log_path(&self, component: &str) -> PathBuf {
        self.data.join("log").join(format!("{component}.log"))
    }

    /// Where containerd, kubelet or log keep their data, seen from outside.
    pub(crate) fn data(&self, folder: &str) -> PathBuf {
        self.data.join(folder)
    }

    /// The folder of all logs, those of pods included.
    pub fn log_folder(&self) -> PathBuf {
        self.data.join("log")
    }

    /// Writes a file below /etc/kubernetes.
    pub fn write_config(&self, name: &str, text: &str) -> Result<()> {
        let path = self.spec.overlay.join("config").join(name);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }

    /// A command that will run in all namespaces of the node.
    pub fn command(&self, arguments: &[&str]) -> Result<Command> {
        self.command_in(&self.group.child("components/shell")?, arguments)
    }

    fn command_in(&self, group: &Group, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.pid()?.to_string()])
            .args([
                "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--wd=/", "--",
            ])
            .args(arguments)
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", "/root");
        let doors = group.doors();
        // SAFETY: between fork and exec files are opened and written, nothing else.
        unsafe {
            command.pre_exec(move || enter_group(&doors));
        }
        Ok(command)
    }

    /// Runs to the end, whatever the end.
    pub fn try_run(&self, arguments: &[&str]) -> Result<Outcome> {
        finish(self.command(arguments)?, b"", crate::machine::PATIENCE)
    }

    /// Standard output of a command that must succeed, trimmed.
    pub fn read(&self, arguments: &[&str]) -> Result<String> {
        let outcome = self.try_run(arguments)?;
        if !outcome.status.success() {
            bail!(
                "on {}: {} ended with {}\n{}{}",
                self.name,
                arguments.join(" "),
                outcome.status,
                outcome.stdout,
                outcome.stderr
            );
        }
        Ok(outcome.stdout.trim().to_owned())
    }

    /// Loads an archive of the run's images into containerd, as `ctr images import` does for a user.
    pub fn import(&self, archive: &Path) -> Result<()> {
        let file = archive.file_name().context("an archive without a name")?;
        let inside = format!("/opt/images/{}", file.to_string_lossy());
        self.read(&["ctr", "-n", "k8s.io", "images", "import", &inside])
            .map(drop)
    }

    /// Starts a component; its output goes to its log.
    pub fn run_component(&self, recipe: Recipe) -> Result<()> {
        let group = self.group.child(&format!("components/{}", recipe.name))?;
        let arguments: Vec<&str> = recipe.arguments.iter().map(String::as_str).collect();
        let command = self.command_in(&group, &arguments)?;
        let log = self.log_path(&recipe.name);
        let component = Component::start(recipe, command, &log)?;
        lock(&self.components).insert(component.recipe.name.clone(), component);
        Ok(())
    }

    /// SIGKILL to the component's own process; its children (containerd's shims) live on, as under systemd's
    /// KillMode=process.
    pub fn kill_component(&self, name: &str) -> Result<()> {
        let mut components = lock(&self.components);
        components
            .get_mut(name)
            .with_context(|| format!("no {name} on {}", self.name))?
            .kill()
    }

    /// Starts a component that was killed or has ended, with the arguments that it had.
    pub fn start_component(&self, name: &str) -> Result<()> {
        let recipe = lock(&self.components)
            .remove(name)
            .with_context(|| format!("no {name} on {}", self.name))?
            .recipe
            .clone();
        self.run_component(recipe)
    }

    /// The address that the node can be given in place of its own; its kubelet's certificate names both.
    pub fn spare_address(&self) -> String {
        let [v4, _] = self.node.addresses();
        let net = v4.trim_end_matches(|letter: char| letter.is_ascii_digit());
        format!("{net}{}", 40 + self.node.number)
    }

    /// Takes the node's IPv4 address away and gives it the spare one, as an administrator does: kubelet and kube-proxy
    /// are started anew.
    pub fn change_address(&self) -> Result<()> {
        let ([old, _], new) = (self.node.addresses(), self.spare_address());
        self.kill_component("kubelet")?;
        let machine = &self.node.machine;
        let gateway = machine.read(&["sh", "-c", "ip -4 route show default | cut -d' ' -f3"])?;
        machine.run(&["ip", "address", "add", &format!("{new}/24"), "dev", "eth0"])?;
        machine.run(&["ip", "address", "del", &format!("{old}/24"), "dev", "eth0"])?;
        // The new address was a second one of its subnet, and went with the first; so did the route.
        machine.run(&[
            "ip",
            "address",
            "replace",
            &format!("{new}/24"),
            "dev",
            "eth0",
        ])?;
        machine.run(&["ip", "route", "replace", "default", "via", &gateway])?;
        if let Some(kubelet) = lock(&self.components).get_mut("kubelet") {
            for argument in &mut kubelet.recipe.arguments {
                if argument.starts_with("--node-ip=") {
                    *argument = format!("--node-ip={new}");
                }
            }
        }
        self.start_component("kubelet")?;
        self.restart_component("kube-proxy")
    }

    /// Kills and starts.
    pub fn restart_component(&self, name: &str) -> Result<()> {
        self.kill_component(name)?;
        self.start_component(name)
    }

    /// An error with the end of the log when a component has ended by itself.
    pub fn expect_alive(&self) -> Result<()> {
        for component in lock(&self.components).values_mut() {
            component
                .expect_alive()
                .with_context(|| format!("on {}", self.name))?;
        }
        Ok(())
    }

    /// Every process of the node ends at once, as by a lost power supply.
    pub fn power_off(&self) -> Result<()> {
        let Some(mut life) = lock(&self.life).take() else {
            return Ok(());
        };
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(life.pid),
            nix::sys::signal::Signal::SIGKILL,
        )?;
        life.launcher.wait()?;
        for component in lock(&self.components).values_mut() {
            component.wait()?;
        }
        wait::until(
            &format!("all processes of {} have ended", self.name),
            Duration::from_secs(20),
            || Ok(self.group.processes().is_empty()),
        )?;
        // The kernel has let go of the namespaces' mounts when the group can go.
        self.group.remove()
    }

    /// Boots again after [`Host::power_off`]: /etc and /var as they were, /run empty, no component.
    pub fn power_on(&self) -> Result<()> {
        // The group went with the power: made again, and the same.
        self.group.child("components")?;
        self.start()
    }

    /// containerd, and until it serves kubelets: its socket is there some time before, and a kubelet that is told "server is
    /// not initialized yet" ends itself.
    pub(crate) fn run_runtime(&self) -> Result<()> {
        let log = self.log_path("containerd");
        let told = || std::fs::read_to_string(&log).unwrap_or_default();
        let before = told().len();
        self.run_component(components::containerd())?;
        let what = format!("containerd of {} serves", self.name);
        wait::until(&what, Duration::from_secs(60), || {
            self.expect_alive()?;
            std::thread::sleep(Duration::from_millis(20));
            Ok(told()[before..].contains("Start streaming server"))
        })
        .map(drop)
    }

    /// What ran before a power-off, started again; the runtime first, since kubelet ends itself without it.
    pub fn start_components(&self) -> Result<()> {
        let names: Vec<String> = lock(&self.components).keys().cloned().collect();
        self.run_runtime()?;
        names
            .iter()
            .filter(|name| *name != "containerd")
            .try_for_each(|name| self.start_component(name))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let ended = self.power_off().and_then(|()| self.group.remove());
        if let Err(error) = ended {
            eprintln!("e2e: end of node {}: {error:#}", self.name);
        }
        if let Err(error) = std::fs::remove_dir_all(&self.data) {
            eprintln!("e2e: remove {}: {error}", self.data.display());
        }
        let _ = std::fs::remove_dir_all(&self.spec.overlay);
    }
}

fn enter_group(doors: &[PathBuf]) -> std::io::Result<()> {
    doors.iter().try_for_each(|door| std::fs::write(door, "0"))
}

fn fresh_machine_id() -> Result<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    Ok(text.trim().replace('-', ""))
}

/// A test that panicked while it held the lock has failed already.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
