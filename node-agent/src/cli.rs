//! The command line as typed. Resolved into `Settings` by main; what each command does is in the file of its name.

use crate::commands::format::Format;
use crate::settings::raw::RawSettings;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
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

const STATUS_EXAMPLES: &str = "\
Examples:
  slash32-agent status                         # on the node, as root
  kubectl -n kube-system exec ds/slash32-agent -- slash32-agent status
  slash32-agent status --watch                 # again every 2 seconds
  slash32-agent status -o json | jq '.peers[] | select(.route != \"present\")'

Works without a running agent too: peers are then known from the file of Nodes, or from the kernel's routes.";

const DOCTOR_EXAMPLES: &str = "\
Examples:
  slash32-agent doctor                         # on the node, as root
  kubectl -n kube-system exec ds/slash32-agent -- slash32-agent doctor
  slash32-agent doctor -o json | jq '.checks[] | select(.findings != [])'
  slash32-agent doctor --no-probes             # sends no packet

Exit codes:
  0  nothing found, notes at most
  1  warnings
  2  errors (wrong usage is 2 as well, and prints no diagnosis)

Changes nothing. To each peer (16 at most) a small and a full-sized ICMP echo are sent, three times at most.";

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  slash32-agent explain --from default/web --to 10.244.2.7:8080
  slash32-agent explain --from default/web --to kube-system/kube-dns --protocol udp
  slash32-agent explain --from 10.244.1.3 --to 198.51.100.10 -o svg > way.svg
  slash32-agent explain --from default/web --to 10.96.0.1:443 --trace    # and send one real packet

A pod is namespace/name, a name, or the beginning of a container's id; pods of other nodes are written as addresses.
A Service is a namespace/name that kube-proxy has rules for on this node, or its ClusterIP.
--trace adds the table 'inet slash32-trace' for about two seconds: one rule that marks this very packet for tracing.

Exit codes: 0 it arrives or goes on to another machine, 1 it ends here (or could not be explained)";

const CAPTURE_EXAMPLES: &str = "\
Examples:
  slash32-agent capture default/web -w web.pcap
  slash32-agent capture default/web | tcpdump -r - -n port 80
  slash32-agent capture 10.244.1.3 --count 100 --snaplen 128 -w headers.pcap

Seen from the host's side of the link: what the pod sends comes in there. Needs CAP_NET_RAW. Checksums of packets that
the node itself makes are often not computed yet at this point.";

const BUNDLE_EXAMPLES: &str = "\
Examples:
  slash32-agent bundle                         # ./slash32-NODE-TIME.tar.gz
  slash32-agent bundle -w /tmp/report.tar.gz --log /var/log/slash32.log

In it: version, settings in force, status, doctor, records, operations, links, routes, rules, our nftables table, the names
of other chains, metrics, the log's end. Not in it: kubeconfig, tokens, keys, other plugins' configurations. It names
pods, nodes and addresses: look into it before you send it.";

const COMPLETION_EXAMPLES: &str = "\
Examples:
  source <(slash32-agent completion bash)
  slash32-agent completion zsh > \"${fpath[1]}/_slash32-agent\"
  slash32-agent completion fish > ~/.config/fish/completions/slash32-agent.fish";

const MAN_EXAMPLES: &str = "\
Examples:
  slash32-agent man | man -l -
  slash32-agent man status > /usr/local/share/man/man1/slash32-agent-status.1";

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
    /// Show this node at a glance: peers, addresses, pods, operations, drift
    #[command(after_help = STATUS_EXAMPLES)]
    Status(StatusArgs),
    /// Look for every known trouble of this node, and say how to cure it
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(DoctorArgs),
    /// Tell what becomes of a packet, hop by hop, and of its answer
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain(ExplainArgs),
    /// Write what passes a pod's link as a pcap, from the host
    #[command(after_help = CAPTURE_EXAMPLES)]
    Capture(CaptureArgs),
    /// Write one archive for a bug report, secrets left out
    #[command(after_help = BUNDLE_EXAMPLES)]
    Bundle(BundleArgs),
    /// Print the completion script of a shell
    #[command(after_help = COMPLETION_EXAMPLES)]
    Completion {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page
    #[command(after_help = MAN_EXAMPLES)]
    Man {
        /// Of this command alone
        command: Option<String>,
    },
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

/// `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// How to print it
    #[arg(
        short,
        long,
        value_enum,
        default_value = "table",
        value_name = "FORMAT"
    )]
    pub(crate) output: Format,
    /// Again and again, until stopped
    #[arg(short, long)]
    pub(crate) watch: bool,
    /// Seconds between two looks with --watch
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=3600), value_name = "SECONDS")]
    pub(crate) interval: u32,
    /// How many of the plugin's last operations are shown, at most 1000
    #[arg(long, default_value_t = 10, value_name = "COUNT")]
    pub(crate) operations: usize,
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
}

/// `doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// How to print it
    #[arg(
        short,
        long,
        value_enum,
        default_value = "table",
        value_name = "FORMAT"
    )]
    pub(crate) output: Format,
    /// Send no packets to peers
    #[arg(long)]
    pub(crate) no_probes: bool,
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
}

/// `explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// Who sends: a pod of this node, or an address
    #[arg(long, value_name = "POD|IP")]
    pub(crate) from: String,
    /// Who is meant: a pod of this node, a Service, or an address, with a port
    #[arg(long, value_name = "POD|SERVICE|IP[:PORT]")]
    pub(crate) to: String,
    /// Protocol [default: the Service's, tcp with a port, else icmp]
    #[arg(long, value_enum)]
    pub(crate) protocol: Option<ProtocolArg>,
    /// Confirm it: send one real packet, and show the kernel's own trace of it
    #[arg(long)]
    pub(crate) trace: bool,
    /// How to print it
    #[arg(
        short,
        long,
        value_enum,
        default_value = "table",
        value_name = "FORMAT"
    )]
    pub(crate) output: ExplainFormat,
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
}

/// Protocols with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProtocolArg {
    Tcp,
    Udp,
    Sctp,
}

impl ProtocolArg {
    /// As packet filters spell it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// `-o` of explain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExplainFormat {
    /// For people
    Table,
    /// For programs
    Json,
    /// The same as YAML
    Yaml,
    /// A picture for every browser
    Svg,
    /// A picture for documents that draw Mermaid
    Mermaid,
}

/// `capture`.
#[derive(Debug, Args)]
pub(crate) struct CaptureArgs {
    /// A pod of this node: namespace/name, name, address, or the beginning of the container's id
    pub(crate) pod: String,
    /// Where to; - is stdout
    #[arg(short, long, default_value = "-", value_name = "FILE")]
    pub(crate) write: String,
    /// Ends after so many packets
    #[arg(short, long, default_value_t = 10_000)]
    pub(crate) count: u64,
    /// Ends after so many seconds
    #[arg(short, long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400), value_name = "SECONDS")]
    pub(crate) duration: u32,
    /// Bytes that are kept of each packet
    #[arg(short, long, default_value_t = 262_144, value_parser = clap::value_parser!(u32).range(14..=262_144), value_name = "BYTES")]
    pub(crate) snaplen: u32,
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
}

/// `bundle`.
#[derive(Debug, Args)]
pub(crate) struct BundleArgs {
    /// The archive [default: slash32-NODE-TIME.tar.gz here]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) write: Option<String>,
    /// The agent's log, where it is neither kubelet's nor the journal's
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
}

/// Where settings come from.
#[derive(Debug, Clone, Args)]
pub(crate) struct SettingsArgs {
    /// Settings file, YAML [default: /etc/slash32/agent.yaml where there is one]
    #[arg(long, env = "SLASH32_CONFIG", value_name = "PATH")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) raw: RawSettings,
}
