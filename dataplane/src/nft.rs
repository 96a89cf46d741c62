//! The nft program: a whole script by `nft -f -`, which is one transaction.
//!
//! Text is the only documented interface of nftables and the one that an administrator can read. Who calls: the agent, which
//! lays the table; never the plugin.

use crate::error::Result;
use crate::program;

const INSTALL: &str = "install nftables (apt install nftables)";

/// Runs the script as one transaction: all of it or nothing. The error carries what nft said.
pub fn run_script(program: &str, script: &str) -> Result<()> {
    program::run(program, &["-f", "-"], script, INSTALL).map(drop)
}

/// What `nft list chain` prints; an error where there is no such chain.
pub fn list_chain(program: &str, chain: &[&str]) -> Result<String> {
    program::run(
        program,
        &[&["-a", "list", "chain"], chain].concat(),
        "",
        INSTALL,
    )
}

/// What `nft --version` prints (`nftables v1.0.6 (Lester Gooch #5)`), or an error that says how to install it.
pub fn version(program: &str) -> Result<String> {
    Ok(program::run(program, &["--version"], "", INSTALL)?
        .trim()
        .to_owned())
}

/// Has nft and the kernel look at the script without carrying it out: what this kernel cannot do is the error.
pub fn check_script(program: &str, script: &str) -> Result<()> {
    program::run(program, &["--check", "-f", "-"], script, INSTALL).map(drop)
}

/// What nft prints for these arguments, which must only read: `list ruleset`, `-j list chains`.
pub fn list(program: &str, arguments: &[&str]) -> Result<String> {
    program::run(program, arguments, "", INSTALL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_says_how_to_install_it() {
        let error = version("/nonexistent/nft").expect_err("absent");
        assert!(
            error.is_not_found() && error.to_string().contains("apt install nftables"),
            "{error}"
        );
    }
}
