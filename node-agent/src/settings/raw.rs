//! The settings as they were written: in the file, in a flag, in the environment. One struct serves all three, so that
//! no key can exist in one place only. Every value is text here; `Settings` gives it a type and a range.

use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Where the agent looks when `--config` is not given; there may be no such file.
pub(crate) const DEFAULT_CONFIG: &str = "/etc/slash32/agent.yaml";

/// All keys, unvalidated; absent is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, clap::Args)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[command(next_help_heading = "Settings (each is also a key of the settings file)")]
pub(crate) struct RawSettings {
    /// Name of this node's Node object [default: $NODE_NAME, then the host name]
    #[arg(long, env = "SLASH32_NODE_NAME", value_name = "NAME")]
    pub(crate) node_name: Option<String>,
    /// File of Nodes, as `kubectl get nodes -o yaml` prints them; read again whenever it changes
    #[arg(long, env = "SLASH32_NODES_FILE", value_name = "PATH")]
    pub(crate) nodes_file: Option<String>,
    /// Kubeconfig of the API server whose Nodes count, where nodesFile is not set [default: the pod's service account]
    #[arg(long, env = "SLASH32_KUBECONFIG", value_name = "PATH")]
    pub(crate) kubeconfig: Option<String>,
    /// URL of the API server instead of the kubeconfig's or the Service's, such as https://192.0.2.1:6443
    #[arg(long, env = "SLASH32_API_SERVER", value_name = "URL")]
    pub(crate) api_server: Option<String>,
    /// Folder in which plugin and agent meet [default: /run/slash32]
    #[arg(long, env = "SLASH32_STATE_DIR", value_name = "PATH")]
    pub(crate) state_dir: Option<String>,
    /// Folder of the CNI configuration [default: /etc/cni/net.d]
    #[arg(long, env = "SLASH32_CNI_CONF_DIR", value_name = "PATH")]
    pub(crate) cni_conf_dir: Option<String>,
    /// Name of our file in it [default: 10-slash32.conflist]
    #[arg(long, env = "SLASH32_CNI_CONF_NAME", value_name = "NAME")]
    pub(crate) cni_conf_name: Option<String>,
    /// Where the runtime looks for plugins: ours are put there and kept up to date [default: not installed]
    #[arg(long, env = "SLASH32_CNI_BIN_DIR", value_name = "PATH")]
    pub(crate) cni_bin_dir: Option<String>,
    /// Where the plugins to install are [default: /opt/slash32/bin]
    #[arg(long, env = "SLASH32_PLUGIN_DIR", value_name = "PATH")]
    pub(crate) plugin_dir: Option<String>,
    /// Name of the CNI network [default: slash32]
    #[arg(long, env = "SLASH32_NETWORK_NAME", value_name = "NAME")]
    pub(crate) network_name: Option<String>,
    /// The cluster's pod CIDRs, never masqueraded; without them those of the Nodes count
    #[serde(rename = "clusterCIDRs")]
    #[arg(
        long = "cluster-cidrs",
        env = "SLASH32_CLUSTER_CIDRS",
        value_name = "CIDR,...",
        value_delimiter = ','
    )]
    pub(crate) cluster_cidrs: Option<Vec<String>>,
    /// Masquerading of pods towards the world.
    #[command(flatten)]
    pub(crate) masquerade: RawMasquerade,
    /// Drop packets whose source is not the pod's own address: true or false [default: true]
    #[arg(long, env = "SLASH32_ANTI_SPOOFING", value_name = "BOOL")]
    pub(crate) anti_spoofing: Option<String>,
    /// MTU of pods: auto (of the link that carries the node's address), or a number [default: auto]
    #[arg(long, env = "SLASH32_MTU", value_name = "auto|BYTES")]
    pub(crate) mtu: Option<String>,
    /// How peers are reached that are not on a link of this node: none, ipip or vxlan [default: none]
    #[arg(long, env = "SLASH32_ENCAPSULATION", value_name = "MODE")]
    pub(crate) encapsulation: Option<String>,
    /// Peers that are reached so: always (all), or cross-subnet (those on no link of this node) [default: cross-subnet]
    #[arg(long, env = "SLASH32_ENCAPSULATION_WHEN", value_name = "WHEN")]
    pub(crate) encapsulation_when: Option<String>,
    /// Name of the IPIP device; any but tunl0 is made, bound to the node's address [default: tunl0]
    #[arg(long, env = "SLASH32_IPIP_DEVICE", value_name = "NAME")]
    pub(crate) ipip_device: Option<String>,
    /// UDP port of VXLAN, the same on all nodes [default: 4789]
    #[arg(long, env = "SLASH32_VXLAN_PORT", value_name = "PORT")]
    pub(crate) vxlan_port: Option<String>,
    /// VXLAN network identifier, the same on all nodes [default: 3232]
    #[serde(rename = "vxlanVNI")]
    #[arg(long, env = "SLASH32_VXLAN_VNI", value_name = "NUMBER")]
    pub(crate) vxlan_vni: Option<String>,
    /// Family of VXLAN's outer packets, the same on all nodes: auto, ipv4 or ipv6 [default: auto]
    #[arg(long, env = "SLASH32_VXLAN_UNDERLAY", value_name = "FAMILY")]
    pub(crate) vxlan_underlay: Option<String>,
    /// Transmit checksum offload of the VXLAN device: auto, on or off [default: auto]
    #[arg(
        long,
        env = "SLASH32_VXLAN_CHECKSUM_OFFLOAD",
        value_name = "auto|on|off"
    )]
    pub(crate) vxlan_checksum_offload: Option<String>,
    /// Address of /healthz, /readyz, /status and /metrics; empty turns them off [default: 127.0.0.1:9532]
    #[arg(long, env = "SLASH32_LISTEN", value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<String>,
    /// auto (text on a terminal, json otherwise), text or json [default: auto]
    #[arg(long, env = "SLASH32_LOG_FORMAT", value_name = "FORMAT")]
    pub(crate) log_format: Option<String>,
    /// error, warn, info, debug or trace [default: info]
    #[arg(long, env = "SLASH32_LOG_LEVEL", value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
    /// How often everything is compared without an event, 1s to 1h [default: 60s]
    #[arg(long, env = "SLASH32_RESYNC_INTERVAL", value_name = "DURATION")]
    pub(crate) resync_interval: Option<String>,
    /// How long a record or claim without a pod is kept, 0s to 24h [default: 5m]
    #[arg(long, env = "SLASH32_LEAK_GRACE_PERIOD", value_name = "DURATION")]
    pub(crate) leak_grace_period: Option<String>,
    /// How packet filter rules are written: auto, nftables, iptables, iptables-legacy or iptables-nft [default: auto]
    #[arg(long, env = "SLASH32_NETFILTER", value_name = "BACKEND")]
    pub(crate) netfilter: Option<String>,
    /// The nft program, by name or path [default: nft]
    #[arg(long, env = "SLASH32_NFT_PROGRAM", value_name = "PROGRAM")]
    pub(crate) nft_program: Option<String>,
    /// Where the host's /proc/sys is seen [default: /proc/sys]
    #[arg(long, env = "SLASH32_PROC_SYS", value_name = "PATH")]
    pub(crate) proc_sys: Option<String>,
}

/// The `masquerade` object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, clap::Args)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct RawMasquerade {
    /// Hide pods behind the node's address on the way out: true or false [default: true]
    #[arg(
        long = "masquerade-enabled",
        env = "SLASH32_MASQUERADE_ENABLED",
        value_name = "BOOL"
    )]
    pub(crate) enabled: Option<String>,
    /// Further destinations that see the pod's own address
    #[arg(
        long = "masquerade-exclude",
        env = "SLASH32_MASQUERADE_EXCLUDE",
        value_name = "CIDR,...",
        value_delimiter = ','
    )]
    pub(crate) exclude: Option<Vec<String>>,
}

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigFileError {
    /// Not there, or not readable.
    #[error("read settings file {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not YAML, an unknown key, a wrong shape: the text names place and key.
    #[error("settings file {path}: {reason}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and what.
        reason: String,
    },
}

impl RawSettings {
    /// Reads `path`; an empty file is no settings at all.
    pub(crate) fn read(path: &Path) -> Result<RawSettings, ConfigFileError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigFileError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text).map_err(|reason| ConfigFileError::Parse {
            path: path.to_owned(),
            reason,
        })
    }

    pub(crate) fn parse(text: &str) -> Result<RawSettings, String> {
        if text
            .lines()
            .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
        {
            return Ok(RawSettings::default());
        }
        serde_saphyr::from_str(text).map_err(|error| error.without_snippet().to_string())
    }

    /// `self` where it says something, else `below`.
    pub(crate) fn over(self, below: RawSettings) -> RawSettings {
        RawSettings {
            node_name: self.node_name.or(below.node_name),
            nodes_file: self.nodes_file.or(below.nodes_file),
            kubeconfig: self.kubeconfig.or(below.kubeconfig),
            api_server: self.api_server.or(below.api_server),
            state_dir: self.state_dir.or(below.state_dir),
            cni_conf_dir: self.cni_conf_dir.or(below.cni_conf_dir),
            cni_conf_name: self.cni_conf_name.or(below.cni_conf_name),
            cni_bin_dir: self.cni_bin_dir.or(below.cni_bin_dir),
            plugin_dir: self.plugin_dir.or(below.plugin_dir),
            network_name: self.network_name.or(below.network_name),
            cluster_cidrs: self.cluster_cidrs.or(below.cluster_cidrs),
            masquerade: RawMasquerade {
                enabled: self.masquerade.enabled.or(below.masquerade.enabled),
                exclude: self.masquerade.exclude.or(below.masquerade.exclude),
            },
            anti_spoofing: self.anti_spoofing.or(below.anti_spoofing),
            mtu: self.mtu.or(below.mtu),
            encapsulation: self.encapsulation.or(below.encapsulation),
            encapsulation_when: self.encapsulation_when.or(below.encapsulation_when),
            ipip_device: self.ipip_device.or(below.ipip_device),
            vxlan_port: self.vxlan_port.or(below.vxlan_port),
            vxlan_vni: self.vxlan_vni.or(below.vxlan_vni),
            vxlan_underlay: self.vxlan_underlay.or(below.vxlan_underlay),
            vxlan_checksum_offload: self.vxlan_checksum_offload.or(below.vxlan_checksum_offload),
            listen: self.listen.or(below.listen),
            log_format: self.log_format.or(below.log_format),
            log_level: self.log_level.or(below.log_level),
            resync_interval: self.resync_interval.or(below.resync_interval),
            leak_grace_period: self.leak_grace_period.or(below.leak_grace_period),
            netfilter: self.netfilter.or(below.netfilter),
            nft_program: self.nft_program.or(below.nft_program),
            proc_sys: self.proc_sys.or(below.proc_sys),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_scalar_is_kept_as_text() {
        let raw = RawSettings::parse(
            "mtu: 1450\nantiSpoofing: false\nresyncInterval: 30s\nmasquerade:\n  enabled: true\n  exclude: [10.0.0.0/8]\nlisten: \"\"\n",
        )
        .unwrap();
        assert_eq!(raw.mtu.as_deref(), Some("1450"));
        assert_eq!(raw.anti_spoofing.as_deref(), Some("false"));
        assert_eq!(raw.masquerade.enabled.as_deref(), Some("true"));
        assert_eq!(
            raw.masquerade.exclude.as_deref(),
            Some(&["10.0.0.0/8".to_owned()][..])
        );
        assert_eq!(raw.listen.as_deref(), Some(""));
    }

    #[test]
    fn an_unknown_key_is_named_with_those_that_exist() {
        let reason = RawSettings::parse("nodeNam: a\n").unwrap_err();
        assert!(
            reason.contains("nodeNam") && reason.contains("nodeName"),
            "{reason}"
        );
        let reason = RawSettings::parse("masquerade: {exclud: []}\n").unwrap_err();
        assert!(
            reason.contains("exclud") && reason.contains("exclude"),
            "{reason}"
        );
    }

    #[test]
    fn a_key_given_twice_is_refused() {
        assert!(RawSettings::parse("mtu: 1400\nmtu: 1500\n").is_err());
    }

    #[test]
    fn an_empty_or_commented_file_sets_nothing() {
        assert_eq!(RawSettings::parse("").unwrap(), RawSettings::default());
        assert_eq!(
            RawSettings::parse("# nothing\n\n  # yet\n").unwrap(),
            RawSettings::default()
        );
    }

    #[test]
    fn flags_win_over_the_file_key_by_key() {
        let file = RawSettings::parse("mtu: 1400\nlogLevel: debug\nmasquerade: {enabled: false}\n")
            .unwrap();
        let flags = RawSettings {
            mtu: Some("1500".into()),
            ..RawSettings::default()
        };
        let both = flags.over(file);
        assert_eq!(both.mtu.as_deref(), Some("1500"));
        assert_eq!(both.log_level.as_deref(), Some("debug"));
        assert_eq!(both.masquerade.enabled.as_deref(), Some("false"));
    }
}
