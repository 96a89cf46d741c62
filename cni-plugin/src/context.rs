//! What every operation on one attachment needs, gathered once; and its line in the operation log.

use crate::config::parse_state_dir;
use crate::error::Error;
use cni_spec::error::CniError;
use cni_spec::request::{Attachment, AttachmentId};
use dataplane::names::SHAPER_LINK_PREFIX;
use dataplane::netns::Netns;
use node_state::StateDir;
use node_state::oplog::Operation;
use node_state::record::AttachmentKey;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long an operation waits for another process that holds a lock. Runtimes give ADD four
/// minutes and DEL one (2.4); a lock is held for milliseconds, so this is only ever reached
/// when a holder hangs.
pub(crate) const LOCK_PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn key_of(id: &AttachmentId) -> AttachmentKey {
    AttachmentKey {
        network: id.network.clone(),
        container_id: id.container_id.clone(),
        ifname: id.ifname.clone(),
    }
}

/// The ifb that shapes what the pod sends: same 12 characters as the host's link.
pub(crate) fn shaper_link(key: &AttachmentKey) -> String {
    format!("{SHAPER_LINK_PREFIX}{}", key.hash12())
}

/// Opens the pod's namespace; refuses the plugin's own before anything was touched (G18).
pub(crate) fn open_pod_netns(path: &Path, allow_own: bool) -> Result<Netns, Error> {
    let refuse = |reason: String| Error::Netns {
        path: path.into(),
        reason,
    };
    let netns = Netns::open(path).map_err(|error| {
        refuse(format!(
            "{error}; the runtime must create the network namespace before ADD"
        ))
    })?;
    if !allow_own && netns.identity() == Netns::current()?.identity() {
        return Err(refuse("this is the namespace that slash32 itself runs in: a pod on the host's network needs no CNI call (set CNI_NETNS_OVERRIDE=1 to insist)".into()));
    }
    Ok(netns)
}

pub(crate) fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}

/// The operation's line, complete but for its outcome.
pub(crate) struct OperationLog {
    state: Option<StateDir>,
    started: Instant,
    operation: Operation,
}

/// Runs `operation`, and returns its outcome beside the log line that waits for it.
pub(crate) fn logged<T>(
    started: Instant,
    command: &str,
    attachment: &Attachment,
    operation: impl FnOnce(&Attachment) -> Result<T, Error>,
) -> (Result<T, Error>, OperationLog) {
    let log = OperationLog {
        state: parse_state_dir(&attachment.conf).ok().map(StateDir::new),
        started,
        operation: Operation {
            at_ms: now_ms(),
            command: command.into(),
            network: attachment.id.network.clone(),
            container_id: attachment.id.container_id.clone(),
            ifname: attachment.id.ifname.clone(),
            duration_us: 0,
            code: 0,
            error: String::new(),
        },
    };
    (operation(attachment), log)
}

impl OperationLog {
    /// Best effort: an operation does not fail because its log line could not be written.
    pub(crate) fn write(mut self, error: Option<&CniError>) {
        let Some(state) = self.state else { return };
        self.operation.duration_us =
            u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        if let Some(error) = error {
            self.operation.code = error.code.number();
            self.operation.error.clone_from(&error.msg);
        }
        let _ = state.append_operation(&self.operation);
    }
}
