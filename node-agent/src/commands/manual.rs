//! `completion` and `man`: written from the same definition as `--help`, so that they cannot differ from it.

use super::format;
use crate::cli::Cli;
use clap::CommandFactory;
use clap_complete::Shell;
use std::process::ExitCode;

const NAME: &str = "slash32-agent";

/// The script that a shell reads, on stdout.
pub(crate) fn print_completion(shell: Shell) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), NAME, &mut script);
    format::print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

/// The manual page in roff, one for all commands, or that of one command.
pub(crate) fn print_man(of: Option<&str>) -> anyhow::Result<ExitCode> {
    let mut command = Cli::command();
    command.build();
    let page = match of {
        None => command,
        Some(name) => match command.find_subcommand(name) {
            Some(found) => found.clone(),
            None => anyhow::bail!("there is no command {name}; 'slash32-agent --help' lists them"),
        },
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page).render(&mut text)?;
    format::print(&String::from_utf8_lossy(&text))?;
    Ok(ExitCode::SUCCESS)
}
