//! SIGKILL for a running plugin, at real speed: after a delay, wherever it is by then. The kernel finishes a call that
//! it has begun. (`strace` has the exact places; this has the places that only happen at speed.)

use crate::machine::Machine;
use crate::programs;
use crate::site::Site;
use anyhow::Result;
use serde_json::Value;
use std::io::{Seek, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Duration;

const SIGKILL: i32 = 9;

/// One attachment (eth0) whose operations are shot at.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The node.
    pub site: &'a Site,
    /// Container ID.
    pub id: &'a str,
    /// The pod.
    pub netns: &'a Machine,
    /// stdin.
    pub request: &'a Value,
}

impl Target<'_> {
    /// Starts a verb and kills it after `delay`; true where it had not ended before.
    pub fn shoot(&self, verb: &str, delay: Duration) -> Result<bool> {
        let mut stdin = tempfile::tempfile()?;
        stdin.write_all(self.request.to_string().as_bytes())?;
        stdin.rewind()?;
        let program = programs::binaries()?.join("slash32");
        let mut command = self.site.node.machine.command(program);
        command
            .envs([
                ("CNI_COMMAND", verb),
                ("CNI_CONTAINERID", self.id),
                ("CNI_IFNAME", "eth0"),
            ])
            .env("CNI_NETNS", self.netns.netns())
            .stdin(stdin)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = command.spawn()?;
        std::thread::sleep(delay);
        let _ = child.kill();
        Ok(child.wait()?.signal() == Some(SIGKILL))
    }

    /// ADD that must succeed.
    pub fn add(&self) -> Result<Value> {
        self.site
            .call("ADD", self.id, self.netns, self.request)?
            .success()
    }

    /// DEL that must succeed.
    pub fn del(&self) -> Result<()> {
        self.site
            .call("DEL", self.id, self.netns, self.request)?
            .silent()
    }

    /// CHECK of what `result` promised.
    pub fn check(&self, result: &Value) -> Result<()> {
        let request = crate::site::with_previous(self.request, result);
        self.site
            .call("CHECK", self.id, self.netns, &request)?
            .silent()
    }
}
