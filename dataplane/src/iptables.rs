//! The iptables programs of both families and both flavours: `iptables-restore --noflush` for whole states,
//! `iptables-save` and `iptables -S` for looking. Who calls: the agent; and the plugin for host ports, on a node whose
//! agent has chosen this back-end.
//!
//! Programs are called by the name of their flavour (`iptables-legacy-restore`), never by that of the alternative
//! (`iptables-restore`), unless the machine has only that one, and then only after it has told its flavour.

use crate::error::{KernelError, Result};
use crate::names::XTABLES_PREFIX;
use crate::program;

pub mod ports;

/// Seconds to wait for the lock of the legacy programs, `/run/xtables.lock`.
const WAIT: &str = "5";
const INSTALL: &str = "install iptables (apt install iptables)";

/// The two implementations: they keep their rules in different places of the kernel and do not see each other's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Flavour {
    /// The kernel's old ip_tables.
    Legacy,
    /// nf_tables behind the old command line.
    Nft,
}

impl Flavour {
    /// Both.
    pub const ALL: [Flavour; 2] = [Flavour::Legacy, Flavour::Nft];

    /// `iptables-legacy`, `iptables-nft`: the name of its IPv4 program.
    pub fn as_str(self) -> &'static str {
        match self {
            Flavour::Legacy => "iptables-legacy",
            Flavour::Nft => "iptables-nft",
        }
    }

    /// The reverse of [`Flavour::as_str`].
    pub fn parse(name: &str) -> Option<Flavour> {
        Flavour::ALL
            .into_iter()
            .find(|flavour| flavour.as_str() == name)
    }

    fn suffix(self) -> &'static str {
        match self {
            Flavour::Legacy => "legacy",
            Flavour::Nft => "nft",
        }
    }
}

impl std::fmt::Display for Flavour {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Applies a script of `iptables-restore`, leaving all chains alone that it does not name. Each table of it is changed
/// whole or not at all.
pub fn restore(flavour: Flavour, v6: bool, script: &str) -> Result<()> {
    let program = find(flavour, v6, "-restore")?;
    program::run(&program, &["--noflush", "--wait", WAIT], script, INSTALL).map(drop)
}

/// What `iptables-save` prints, of one table or of all that are there. Naming a table makes the legacy kernel create it.
pub fn save(flavour: Flavour, v6: bool, table: Option<&str>) -> Result<String> {
    let program = find(flavour, v6, "-save")?;
    let arguments: &[&str] = match &table {
        Some(table) => &["-t", table],
        None => &[],
    };
    program::run(&program, arguments, "", INSTALL)
}

/// The rules of one chain as `iptables -S` prints them; `None`: there is no such chain.
pub fn list_chain(flavour: Flavour, v6: bool, table: &str, chain: &str) -> Result<Option<String>> {
    let program = find(flavour, v6, "")?;
    let arguments = ["-w", WAIT, "-t", table, "-S", chain];
    let ended = program::run_to_end(&program, &arguments, "", INSTALL)?;
    match ended.status.code() {
        Some(0) => Ok(Some(ended.stdout)),
        // Exit status 1 for a chain that is absent, 3 and 4 for a kernel or a lock that is not to be had (iptables(8)).
        Some(1) => Ok(None),
        _ => Err(program::failed(&program, &arguments, &ended)),
    }
}

/// True where this machine has the flavour's programs for IPv4.
pub fn is_installed(flavour: Flavour) -> bool {
    ["-restore", "-save", ""]
        .iter()
        .all(|verb| find(flavour, false, verb).is_ok())
}

/// True where the kernel holds legacy tables of the family in this namespace. Reading this creates none.
pub fn has_legacy_tables(v6: bool) -> bool {
    let file = if v6 {
        "ip6_tables_names"
    } else {
        "ip_tables_names"
    };
    std::fs::read_to_string(format!("/proc/self/net/{file}"))
        .is_ok_and(|names| !names.trim().is_empty())
}

/// True for a chain of ours.
pub fn is_own_chain(name: &str) -> bool {
    name.starts_with(XTABLES_PREFIX)
}

/// Path of the program of a flavour, family and verb ("", "-save", "-restore").
fn find(flavour: Flavour, v6: bool, verb: &str) -> Result<String> {
    let family = if v6 { "ip6tables" } else { "iptables" };
    let exact = format!("{family}-{}{verb}", flavour.suffix());
    if let Some(path) = program::find(&exact) {
        return Ok(path.display().to_string());
    }
    let plain = program::find(&format!("{family}{verb}"))
        .zip(program::find(family))
        .filter(|(_, main)| flavour_of(&main.display().to_string()) == Some(flavour));
    plain
        .map(|(path, _)| path.display().to_string())
        .ok_or_else(|| {
            let mut error = KernelError::new(format!("find the program {exact}"), libc::ENOENT);
            error.message = format!("there is no such program; {INSTALL}");
            error
        })
}

/// `iptables v1.8.9 (nf_tables)`, `(legacy)`, or nothing before 1.8, when there was only one.
fn flavour_of(program: &str) -> Option<Flavour> {
    let version = program::run(program, &["--version"], "", INSTALL).ok()?;
    Some(if version.contains("nf_tables") {
        Flavour::Nft
    } else {
        Flavour::Legacy
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_flavours_are_read_back() {
        for flavour in Flavour::ALL {
            assert_eq!(Flavour::parse(flavour.as_str()), Some(flavour));
        }
        assert_eq!(Flavour::parse("iptables"), None);
    }
}
