//! slash32-agent: the node agent of Slash32. This file is the table of contents; docs/ARCHITECTURE.md is the map.
//!
//! Source of Nodes -> `view` -> `desired` (pure) -> `observe` -> `diff` (pure) -> `apply`, in `reconcile`'s one thread.
//! tokio stays at the edge, in `run` and `kubernetes`: signals, HTTP, the API server.

mod apply;
mod cidr;
mod cli;
mod commands;
mod conflist;
mod desired;
mod diff;
mod facts;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod http;
mod iptables;
mod kubernetes;
mod leaks;
mod logging;
mod look;
mod metrics;
mod netfilter;
mod nft;
mod nodes;
mod observe;
mod pace;
mod plugins;
mod preflight;
mod problem;
mod reconcile;
mod report;
mod ruleset;
mod run;
mod settings;
mod status;
mod sysctls;
mod tunnel;
mod uninstall;
mod view;
mod wake;

use clap::Parser;
use cli::{Cli, Command, SettingsArgs};
use settings::raw::{DEFAULT_CONFIG, RawSettings};
use settings::{Settings, Surroundings};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

/// Wrong usage, as clap has it too.
const EXIT_USAGE: u8 = 2;

/// The program `slash32-agent`.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => {
            with_settings(args.settings, |settings| run::run(settings, args.once))
        }
        Command::Uninstall(args) => with_settings(args.settings, |settings| {
            uninstall::run(&settings, args.force)
        }),
        Command::Status(args) => with_settings(args.settings.clone(), |settings| {
            commands::status::run(&settings, &args)
        }),
        Command::Doctor(args) => with_settings(args.settings.clone(), |settings| {
            commands::doctor::run(&settings, &args)
        }),
        Command::Explain(args) => with_settings(args.settings.clone(), |settings| {
            commands::explain::run(&settings, &args)
        }),
        Command::Capture(args) => with_settings(args.settings.clone(), |settings| {
            commands::capture::run(&settings, &args)
        }),
        Command::Bundle(args) => with_settings(args.settings.clone(), |settings| {
            commands::bundle::run(&settings, &args)
        }),
        Command::Completion { shell } => commands::manual::print_completion(shell),
        Command::Man { command } => commands::manual::print_man(command.as_deref()),
        Command::Version => print_version(),
    };
    result.unwrap_or_else(|error| {
        // The whole chain: what was attempted, and why not.
        complain(&format!("{error:#}"));
        ExitCode::FAILURE
    })
}

/// Settings that cannot be used are wrong usage, whoever wrote them.
fn with_settings(
    args: SettingsArgs,
    command: impl FnOnce(Settings) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    match read_settings(args) {
        Ok(settings) => {
            logging::start(&settings);
            command(settings)
        }
        Err(error) => {
            complain(&format!("{error:#}"));
            Ok(ExitCode::from(EXIT_USAGE))
        }
    }
}

fn read_settings(args: SettingsArgs) -> anyhow::Result<Settings> {
    let file = match &args.config {
        Some(path) => RawSettings::read(path)?,
        None if Path::new(DEFAULT_CONFIG).exists() => RawSettings::read(Path::new(DEFAULT_CONFIG))?,
        None => RawSettings::default(),
    };
    Ok(Settings::from_raw(
        args.raw.over(file),
        &Surroundings::of_process(),
    )?)
}

fn print_version() -> anyhow::Result<ExitCode> {
    writeln!(
        std::io::stdout(),
        "slash32-agent {}",
        env!("CARGO_PKG_VERSION")
    )?;
    Ok(ExitCode::SUCCESS)
}

fn complain(text: &str) {
    // Nobody can be told where stderr is closed.
    let _ = writeln!(std::io::stderr(), "slash32-agent: {text}");
}
