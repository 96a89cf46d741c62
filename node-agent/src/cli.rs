//! The command line as typed. Resolved into `Settings` by main; what each command does is in the file of its name.

use crate::settings::raw::RawSettings;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

const AFTER_HELP: &str = "\
Exit codes:
  0  done: stopped by a signal, converged (run --once), nothing left (uninstall), version told
  1  failed, or problems remain; each is named on stderr
  2  wrong usage: an unknown flag, a setting that cannot be used

Signals: SIGTERM and SIGINT end `run` gracefully. The kernel stays as it is: pods keep their network, and the next
agent takes over what it finds.";

const RUN_EXAMPLES: &str = "\
Examples:
  kubectl get nodes -o yaml > /var/lib/slash32/nodes.yaml
  slash32-agent run --nodes-file /var/lib/slash32/nodes.yaml
  slash32-agent run --once --nodes-file /var/lib/slash32/nodes.yaml   # one pass, tells what is wrong
  SLASH32_LOG_LEVEL=debug slash32-agent run --config /etc/slash32/agent.yaml

A flag wins over its environment variable, that over the settings file, that over the default.";

/// Slash32's node agent: routes, masquerading and host ports of one node, kept as they should be
#[derive(Debug, Parser)]
#[command(name = "slash32-agent", version, after_help = AFTER_HELP, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Keep this node's pod network until stopped
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArgs),
    /// Remove from this node all that is Slash32's, and only that
    Uninstall(UninstallArgs),
    /// Print the version
    Version,
}

/// `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Do one full pass and exit: 0 converged, 1 with problems
    #[arg(long)]
    pub(crate) once: bool,
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
}

/// `uninstall`.
#[derive(Debug, Args)]
pub(crate) struct UninstallArgs {
    /// Also while pods are attached: their links are removed, and they lose their network
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
}

/// Where settings come from.
#[derive(Debug, Args)]
pub(crate) struct SettingsArgs {
    /// Settings file, YAML [default: /etc/slash32/agent.yaml where there is one]
    #[arg(long, env = "SLASH32_CONFIG", value_name = "PATH")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) raw: RawSettings,
}
