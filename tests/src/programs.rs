//! Where the programs are that the lab runs.

use anyhow::{Context, Result, bail};
use std::path::PathBuf;

/// The folder of slash32, slash32-ipam and slash32-agent: SLASH32_BIN_DIR, which the Makefile sets to
/// the release build.
pub fn binaries() -> Result<PathBuf> {
    let folder = PathBuf::from(std::env::var_os("SLASH32_BIN_DIR").context("SLASH32_BIN_DIR is not set: run 'make test' or 'make demo', or name the folder that holds slash32")?);
    for program in ["slash32", "slash32-ipam", "slash32-agent"] {
        if !folder.join(program).is_file() {
            bail!(
                "{} is missing: 'make build' makes it",
                folder.join(program).display()
            );
        }
    }
    Ok(folder)
}

/// The folder of the reference plugins: SLASH32_REFERENCE_PLUGINS, else where Debian puts them.
pub fn reference_plugins() -> PathBuf {
    std::env::var_os("SLASH32_REFERENCE_PLUGINS")
        .map_or_else(|| PathBuf::from("/usr/lib/cni"), PathBuf::from)
}

/// The folder of cnitool and libcni-check, where they were built: SLASH32_GO_TOOLS.
pub fn go_tools() -> Option<PathBuf> {
    std::env::var_os("SLASH32_GO_TOOLS").map(PathBuf::from)
}
