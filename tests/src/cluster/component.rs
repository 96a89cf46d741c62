//! One program of the cluster that runs in a node: started through nsenter, killed by its own process number.

use crate::wait;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What to run.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Names log and cgroup.
    pub name: String,
    /// Program and arguments.
    pub arguments: Vec<String>,
}

impl Recipe {
    /// From what stands in the code; the program is the name where nothing else is said.
    pub fn new(name: &str, arguments: impl IntoIterator<Item = String>) -> Recipe {
        Recipe {
            name: name.into(),
            arguments: std::iter::once(name.to_owned()).chain(arguments).collect(),
        }
    }
}

/// A component that was started.
#[derive(Debug)]
pub struct Component {
    /// As it was started.
    pub recipe: Recipe,
    launcher: Child,
    log: PathBuf,
    killed: bool,
}

impl Component {
    /// Starts it; the log is appended to.
    pub fn start(recipe: Recipe, mut command: Command, log: &Path) -> Result<Component> {
        let file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(log)?;
        let launcher = command
            .stdin(Stdio::null())
            .stderr(file.try_clone()?)
            .stdout(file)
            .spawn()
            .with_context(|| format!("start {}", recipe.name))?;
        Ok(Component {
            recipe,
            launcher,
            log: log.to_path_buf(),
            killed: false,
        })
    }

    /// SIGKILL to the program alone. nsenter is its parent and ends with it.
    pub fn kill(&mut self) -> Result<()> {
        self.killed = true;
        let launcher = self.launcher.id();
        let children = format!("/proc/{launcher}/task/{launcher}/children");
        // nsenter has its child some milliseconds after it was started.
        wait::until(
            &format!("{} runs", self.recipe.name),
            Duration::from_secs(5),
            || {
                Ok(self.launcher.try_wait()?.is_some()
                    || std::fs::read_to_string(&children).is_ok_and(|text| !text.trim().is_empty()))
            },
        )?;
        for pid in std::fs::read_to_string(&children)
            .unwrap_or_default()
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
        {
            nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid),
                nix::sys::signal::Signal::SIGKILL,
            )?;
        }
        self.wait()
    }

    /// Until it has ended.
    pub fn wait(&mut self) -> Result<()> {
        self.killed = true;
        wait::until(
            &format!("{} has ended", self.recipe.name),
            Duration::from_secs(10),
            || Ok(self.launcher.try_wait()?.is_some()),
        )
        .map(drop)
    }

    /// An error with the end of the log when it has ended by itself.
    pub fn expect_alive(&mut self) -> Result<()> {
        if self.killed {
            return Ok(());
        }
        if let Some(status) = self.launcher.try_wait()? {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let start = log.len().saturating_sub(2500);
            let end = log.get(start..).unwrap_or(&log);
            bail!("{} ended with {status}:\n{end}", self.recipe.name);
        }
        Ok(())
    }
}
