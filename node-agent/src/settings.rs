//! The settings, valid: what `RawSettings` becomes once every value has its type and its range. Everything behind this
//! file may rely on them. An error names key, value and what is allowed.

use crate::netfilter::choose::NetfilterSetting;
use axum::http::Uri;
use dataplane::iptables::Flavour;
use ipnetwork::IpNetwork;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) mod encapsulation;
pub(crate) mod raw;
mod values;

use encapsulation::Encapsulation;
use raw::RawSettings;
use values::{
    absolute, error, non_empty, one_of, parse_api_server, parse_bool, parse_cidrs, parse_conf_name,
    parse_duration, parse_mtu, parse_network_name, parse_node_name,
};

/// How pods get their MTU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MtuSetting {
    /// That of the link which carries the node's address.
    Auto,
    /// This one, in bytes.
    Fixed(u32),
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Text,
    /// One object per line.
    Json,
}

/// Source address translation of pods towards the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Masquerade {
    pub(crate) enabled: bool,
    /// Destinations that see the pod's own address, besides pods and nodes.
    pub(crate) exclude: Vec<IpNetwork>,
}

/// The settings in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) node_name: String,
    /// The source of Nodes; without it the API server is.
    pub(crate) nodes_file: Option<PathBuf>,
    /// How to reach the API server; without it by the pod's service account.
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Instead of the URL that the kubeconfig or the pod's environment names.
    pub(crate) api_server: Option<Uri>,
    pub(crate) state_dir: PathBuf,
    pub(crate) cni_conf_dir: PathBuf,
    pub(crate) cni_conf_name: String,
    /// Where plugins are installed; `None`: somebody else does that.
    pub(crate) cni_bin_dir: Option<PathBuf>,
    pub(crate) plugin_dir: PathBuf,
    pub(crate) network_name: String,
    pub(crate) cluster_cidrs: Vec<IpNetwork>,
    pub(crate) masquerade: Masquerade,
    pub(crate) anti_spoofing: bool,
    pub(crate) mtu: MtuSetting,
    pub(crate) encapsulation: Encapsulation,
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) log_format: LogFormat,
    pub(crate) log_level: tracing::Level,
    pub(crate) resync_interval: Duration,
    pub(crate) leak_grace_period: Duration,
    pub(crate) netfilter: NetfilterSetting,
    pub(crate) nft_program: String,
    pub(crate) proc_sys: PathBuf,
}

/// A value that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "setting {key}: {value:?} is not usable: {reason} (file key {key}, flag {flag}, environment {env})"
)]
pub(crate) struct SettingError {
    key: &'static str,
    flag: String,
    env: String,
    value: String,
    reason: String,
}

/// What the process knows by itself, for defaults.
#[derive(Debug, Clone, Default)]
pub(crate) struct Surroundings {
    /// NODE_NAME, as a DaemonSet sets it from the downward API.
    pub(crate) node_name: Option<String>,
    pub(crate) hostname: Option<String>,
}

impl Surroundings {
    /// As this process finds them.
    pub(crate) fn of_process() -> Surroundings {
        Surroundings {
            node_name: std::env::var("NODE_NAME")
                .ok()
                .filter(|name| !name.is_empty()),
            hostname: hostname(),
        }
    }
}

/// As the kernel has it; lower case, as kubelet spells Node names.
fn hostname() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_lowercase()).filter(|name| !name.is_empty())
}

// ===== conversion =====

impl Settings {
    /// Validates every value; the first one that cannot be used is the error.
    pub(crate) fn from_raw(
        raw: RawSettings,
        around: &Surroundings,
    ) -> Result<Settings, SettingError> {
        let text =
            |value: Option<String>, default: &str| value.unwrap_or_else(|| default.to_owned());
        let encapsulation = Encapsulation::from_raw(&raw)?;
        let listen = text(raw.listen, "127.0.0.1:9532");
        Ok(Settings {
            node_name: parse_node_name(raw.node_name, around)?,
            nodes_file: raw.nodes_file.map(|path| absolute("nodesFile", path)).transpose()?,
            kubeconfig: raw.kubeconfig.map(|path| absolute("kubeconfig", path)).transpose()?,
            api_server: raw.api_server.map(parse_api_server).transpose()?,
            state_dir: absolute("stateDir", text(raw.state_dir, node_state::StateDir::DEFAULT))?,
            cni_conf_dir: absolute("cniConfDir", text(raw.cni_conf_dir, "/etc/cni/net.d"))?,
            cni_conf_name: parse_conf_name(text(raw.cni_conf_name, "10-slash32.conflist"))?,
            cni_bin_dir: raw
                .cni_bin_dir
                .filter(|path| !path.is_empty())
                .map(|path| absolute("cniBinDir", path))
                .transpose()?,
            plugin_dir: absolute("pluginDir", text(raw.plugin_dir, "/opt/slash32/bin"))?,
            network_name: parse_network_name(text(raw.network_name, "slash32"))?,
            cluster_cidrs: parse_cidrs("clusterCIDRs", raw.cluster_cidrs)?,
            masquerade: Masquerade {
                enabled: parse_bool("masquerade.enabled", raw.masquerade.enabled, true)?,
                exclude: parse_cidrs("masquerade.exclude", raw.masquerade.exclude)?,
            },
            anti_spoofing: parse_bool("antiSpoofing", raw.anti_spoofing, true)?,
            mtu: parse_mtu(text(raw.mtu, "auto"))?,
            encapsulation,
            listen: match listen.as_str() {
                "" => None,
                address => Some(address.parse().map_err(|_| {
                    error("listen", address, "write address:port, such as 127.0.0.1:9532 or [::1]:9532, or leave it empty")
                })?),
            },
            log_format: one_of("logFormat", text(raw.log_format, "auto"), &[
                ("auto", LogFormat::Auto),
                ("text", LogFormat::Text),
                ("json", LogFormat::Json),
            ])?,
            log_level: one_of("logLevel", text(raw.log_level, "info"), &[
                ("error", tracing::Level::ERROR),
                ("warn", tracing::Level::WARN),
                ("info", tracing::Level::INFO),
                ("debug", tracing::Level::DEBUG),
                ("trace", tracing::Level::TRACE),
            ])?,
            resync_interval: parse_duration("resyncInterval", text(raw.resync_interval, "60s"), 1, 3600)?,
            leak_grace_period: parse_duration("leakGracePeriod", text(raw.leak_grace_period, "5m"), 0, 86_400)?,
            netfilter: one_of("netfilter", text(raw.netfilter, "auto"), &[
                ("auto", NetfilterSetting::Auto),
                ("nftables", NetfilterSetting::Nftables),
                ("iptables", NetfilterSetting::Iptables),
                ("iptables-legacy", NetfilterSetting::Flavour(Flavour::Legacy)),
                ("iptables-nft", NetfilterSetting::Flavour(Flavour::Nft)),
            ])?,
            nft_program: non_empty("nftProgram", text(raw.nft_program, "nft"))?,
            proc_sys: absolute("procSys", text(raw.proc_sys, dataplane::sysctl::PROC_SYS))?,
        })
    }

    /// The settings in force, in the order of docs/settings.md, for the log at start.
    pub(crate) fn effective(&self) -> Vec<(&'static str, String)> {
        let list = |cidrs: &[IpNetwork]| {
            cidrs
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(",")
        };
        let mut all = vec![
            ("nodeName", self.node_name.clone()),
            (
                "nodesFile",
                self.nodes_file
                    .as_ref()
                    .map(|path| path.display().to_string())
                    .unwrap_or_default(),
            ),
            (
                "kubeconfig",
                self.kubeconfig
                    .as_ref()
                    .map(|path| path.display().to_string())
                    .unwrap_or_default(),
            ),
            (
                "apiServer",
                self.api_server
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
            ),
            ("stateDir", self.state_dir.display().to_string()),
            ("cniConfDir", self.cni_conf_dir.display().to_string()),
            ("cniConfName", self.cni_conf_name.clone()),
            (
                "cniBinDir",
                self.cni_bin_dir
                    .as_ref()
                    .map(|path| path.display().to_string())
                    .unwrap_or_default(),
            ),
            ("pluginDir", self.plugin_dir.display().to_string()),
            ("networkName", self.network_name.clone()),
            ("clusterCIDRs", list(&self.cluster_cidrs)),
            ("masquerade.enabled", self.masquerade.enabled.to_string()),
            ("masquerade.exclude", list(&self.masquerade.exclude)),
            ("antiSpoofing", self.anti_spoofing.to_string()),
            (
                "mtu",
                match self.mtu {
                    MtuSetting::Auto => "auto".to_owned(),
                    MtuSetting::Fixed(bytes) => bytes.to_string(),
                },
            ),
        ];
        all.extend(self.encapsulation.effective());
        all.extend([
            (
                "listen",
                self.listen
                    .map(|address| address.to_string())
                    .unwrap_or_default(),
            ),
            ("logFormat", format!("{:?}", self.log_format).to_lowercase()),
            ("logLevel", self.log_level.to_string().to_lowercase()),
            (
                "resyncInterval",
                format!("{}s", self.resync_interval.as_secs()),
            ),
            (
                "leakGracePeriod",
                format!("{}s", self.leak_grace_period.as_secs()),
            ),
            ("netfilter", self.netfilter.to_string()),
            ("nftProgram", self.nft_program.clone()),
            ("procSys", self.proc_sys.display().to_string()),
        ]);
        all
    }
}

#[cfg(test)]
mod tests;
