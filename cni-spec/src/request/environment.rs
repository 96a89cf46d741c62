//! The CNI_* variables, and the rules for the names in them (G3, G4, G5, G7).
//!
//! libcni exports all of them for every verb, empty where they do not apply, so that empty is absent. Any other variable is
//! ignored (G23).

use crate::{
    error::{CniError, ErrorCode},
    json::quote,
};
use std::path::PathBuf;

/// The CNI_* variables as the process found them; empty is absent (G4).
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// CNI_COMMAND, the verb.
    pub command: Option<String>,
    /// CNI_CONTAINERID.
    pub container_id: Option<String>,
    /// CNI_NETNS, the path of the pod's network namespace.
    pub netns: Option<String>,
    /// CNI_IFNAME, the link to make in it.
    pub ifname: Option<String>,
    /// CNI_ARGS, `K=V;K=V`.
    pub args: Option<String>,
    /// CNI_PATH, the folders of plugins.
    pub path: Option<String>,
    /// CNI_NETNS_OVERRIDE is `1` or `true`: the plugin's own namespace is allowed (G18).
    pub netns_override: bool,
}

impl Environment {
    /// The variables of this process. Bytes that are no UTF-8 become U+FFFD, which no name may contain.
    pub fn from_process() -> Self {
        Self::from_lookup(|name| {
            std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
        })
    }

    /// The variables as `lookup` knows them.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let variable = |name: &str| lookup(name).filter(|value| !value.is_empty());
        Environment {
            command: variable("CNI_COMMAND"),
            container_id: variable("CNI_CONTAINERID"),
            netns: variable("CNI_NETNS"),
            ifname: variable("CNI_IFNAME"),
            args: variable("CNI_ARGS"),
            path: variable("CNI_PATH"),
            netns_override: variable("CNI_NETNS_OVERRIDE")
                .is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("true")),
        }
    }
}

/// CNI_PATH split at ':', empty entries dropped.
pub fn search_path(env: &Environment) -> Vec<PathBuf> {
    let entries = env.path.iter().flat_map(|path| path.split(':'));
    entries
        .filter(|entry| !entry.is_empty())
        .map(PathBuf::from)
        .collect()
}

/// The characters of containerIDs and network names: `^[A-Za-z0-9][A-Za-z0-9_.-]*$` (G5, G6).
pub(super) fn is_valid_name(name: &str) -> bool {
    let starts_well = name
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    starts_well
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

/// CNI_CONTAINERID, where it may be used in a path or a key (G5).
pub(super) fn checked_container_id(value: &str) -> Result<String, CniError> {
    if is_valid_name(value) {
        return Ok(value.to_owned());
    }
    let msg = format!("bad value of CNI_CONTAINERID: {}", quote(value));
    Err(CniError::new(ErrorCode::InvalidEnvironment, msg)
        .with_details("wanted letters, digits, '_', '.' and '-', a letter or digit first"))
}

/// CNI_IFNAME, where the kernel can take it for a link's name (G7). libcni lets '%' pass, but to the kernel `eth%d` is a
/// pattern: it would make eth0, and nobody would find the link again.
pub(super) fn checked_ifname(value: &str) -> Result<String, CniError> {
    const LONGEST: usize = 15;
    let wanted = if value.is_empty() || value.len() > LONGEST {
        "wanted 1 to 15 bytes"
    } else if value == "." || value == ".." {
        "wanted a name other than '.' and '..'"
    } else if value
        .chars()
        .any(|letter| matches!(letter, '/' | ':' | '%') || letter.is_whitespace())
    {
        "wanted a name without '/', ':', '%' and white space"
    } else {
        return Ok(value.to_owned());
    };
    let msg = format!("bad value of CNI_IFNAME: {}", quote(value));
    Err(CniError::new(ErrorCode::InvalidEnvironment, msg).with_details(wanted))
}
