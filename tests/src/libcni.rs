//! Slash32 as runtimes call it: a conflist on a site, and libcni (libcni-check) or cnitool in front of it.

use crate::machine::{Machine, Outcome, PATIENCE, finish};
use crate::programs;
use crate::site::Site;
use crate::suite::Missing;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::path::PathBuf;

/// A network of a site, by its conflist in the site's /etc/cni/net.d.
#[derive(Debug)]
pub struct Network<'a> {
    site: &'a Site,
    file: String,
}

impl<'a> Network<'a> {
    /// The one that the agent wrote.
    pub fn of_agent(site: &'a Site) -> Network<'a> {
        Network {
            site,
            file: "10-slash32.conflist".into(),
        }
    }

    /// One of these plugins, called in any of these versions.
    pub fn new(
        site: &'a Site,
        name: &str,
        versions: &[&str],
        plugins: &Value,
    ) -> Result<Network<'a>> {
        let file = format!("20-{name}.conflist");
        let list = json!({"cniVersion": versions[0], "cniVersions": versions, "name": name, "plugins": plugins});
        let folder = site.node.machine.folder("/etc/cni/net.d");
        std::fs::write(folder.join(&file), list.to_string())?;
        Ok(Network { site, file })
    }

    /// A verb through libcni; what it answers, or the plugin's error as libcni understood it.
    pub fn call(&self, verb: &str, more: &[&str]) -> Result<Answer> {
        let mut command = self.site.node.machine.command(tool("libcni-check")?);
        command
            .args(["run", "--cachedir", "/var/lib/cni/cache", "--conf"])
            .arg(format!("/etc/cni/net.d/{}", self.file))
            .args(["--bin", &plugin_path()?])
            .args(more)
            .arg(verb);
        Answer::read(finish(command, b"", PATIENCE)?)
    }

    /// A verb for a container with its namespace.
    pub fn call_for(&self, verb: &str, id: &str, netns: &Machine, more: &[&str]) -> Result<Answer> {
        let path = netns.netns().to_string_lossy().into_owned();
        let attachment = ["--containerid", id, "--netns", &path];
        self.call(verb, &[&attachment, more].concat())
    }
}

/// What libcni made of a call.
#[derive(Debug, Clone)]
pub struct Answer {
    document: Value,
    success: bool,
}

impl Answer {
    fn read(outcome: Outcome) -> Result<Answer> {
        let success = outcome.status.success();
        let text = if success {
            outcome.stdout.as_str()
        } else {
            // Plugins' own lines may stand before it.
            outcome.stderr.lines().last().unwrap_or_default()
        };
        let document = serde_json::from_str(text)
            .with_context(|| format!("stdout {:?}, stderr {:?}", outcome.stdout, outcome.stderr))?;
        Ok(Answer { document, success })
    }

    /// The document of a call that must succeed.
    pub fn success(self) -> Result<Value> {
        ensure!(self.success, "{}", self.document);
        Ok(self.document)
    }

    /// The message of a call that must fail with this code.
    pub fn refused(self, code: u64) -> Result<String> {
        ensure!(!self.success, "succeeded: {}", self.document);
        ensure!(self.document["code"] == code, "{}", self.document);
        Ok(self.document.to_string())
    }
}

/// libcni-check or cnitool.
pub fn tool(name: &str) -> Result<PathBuf> {
    match programs::go_tools().map(|folder| folder.join(name)) {
        Some(path) if path.is_file() => Ok(path),
        _ => Err(Missing(format!(
            "{name} is not in SLASH32_GO_TOOLS: 'make go-tools' builds it where Go is"
        ))
        .into()),
    }
}

/// CNI_PATH with ours first.
pub fn plugin_path() -> Result<String> {
    let (ours, reference) = (programs::binaries()?, programs::reference_plugins());
    Ok(format!("{}:{}", ours.display(), reference.display()))
}

/// A plugin of the reference set, as Debian installs it.
pub fn reference_plugin(name: &str) -> Result<PathBuf> {
    let path = programs::reference_plugins().join(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(Missing(format!(
        "{} is missing: containernetworking-plugins has it",
        path.display()
    ))
    .into())
}
