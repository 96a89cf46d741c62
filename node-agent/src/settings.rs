//! The settings, valid: what `RawSettings` becomes once every value has its type and its range. Everything behind this
//! file may rely on them. An error names key, value and what is allowed.

use crate::cidr;
use ipnetwork::IpNetwork;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) mod raw;

use raw::RawSettings;

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
    /// `None` only for commands that need no Nodes (`uninstall`).
    pub(crate) nodes_file: Option<PathBuf>,
    pub(crate) state_dir: PathBuf,
    pub(crate) cni_conf_dir: PathBuf,
    pub(crate) cni_conf_name: String,
    pub(crate) network_name: String,
    pub(crate) cluster_cidrs: Vec<IpNetwork>,
    pub(crate) masquerade: Masquerade,
    pub(crate) anti_spoofing: bool,
    pub(crate) mtu: MtuSetting,
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) log_format: LogFormat,
    pub(crate) log_level: tracing::Level,
    pub(crate) resync_interval: Duration,
    pub(crate) leak_grace_period: Duration,
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
        let listen = text(raw.listen, "127.0.0.1:9532");
        // The key is there so that a settings file can say it already; tunnels are not.
        one_of(
            "encapsulation",
            text(raw.encapsulation, "none"),
            &[("none", ())],
        )?;
        Ok(Settings {
            node_name: parse_node_name(raw.node_name, around)?,
            nodes_file: raw.nodes_file.map(|path| absolute("nodesFile", path)).transpose()?,
            state_dir: absolute("stateDir", text(raw.state_dir, node_state::StateDir::DEFAULT))?,
            cni_conf_dir: absolute("cniConfDir", text(raw.cni_conf_dir, "/etc/cni/net.d"))?,
            cni_conf_name: parse_conf_name(text(raw.cni_conf_name, "10-slash32.conflist"))?,
            network_name: parse_network_name(text(raw.network_name, "slash32"))?,
            cluster_cidrs: parse_cidrs("clusterCIDRs", raw.cluster_cidrs)?,
            masquerade: Masquerade {
                enabled: parse_bool("masquerade.enabled", raw.masquerade.enabled, true)?,
                exclude: parse_cidrs("masquerade.exclude", raw.masquerade.exclude)?,
            },
            anti_spoofing: parse_bool("antiSpoofing", raw.anti_spoofing, true)?,
            mtu: parse_mtu(text(raw.mtu, "auto"))?,
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
        vec![
            ("nodeName", self.node_name.clone()),
            (
                "nodesFile",
                self.nodes_file
                    .as_ref()
                    .map(|path| path.display().to_string())
                    .unwrap_or_default(),
            ),
            ("stateDir", self.state_dir.display().to_string()),
            ("cniConfDir", self.cni_conf_dir.display().to_string()),
            ("cniConfName", self.cni_conf_name.clone()),
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
            ("encapsulation", "none".to_owned()),
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
            ("nftProgram", self.nft_program.clone()),
            ("procSys", self.proc_sys.display().to_string()),
        ]
    }
}

// ===== single values =====

fn parse_node_name(given: Option<String>, around: &Surroundings) -> Result<String, SettingError> {
    let name = given
        .or_else(|| around.node_name.clone())
        .or_else(|| around.hostname.clone())
        .unwrap_or_default();
    let usable = name
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte));
    if name.is_empty() || name.len() > 253 || !usable {
        return Err(error(
            "nodeName",
            &name,
            "a Node's name has 1 to 253 of a-z, 0-9, '-' and '.'",
        ));
    }
    Ok(name)
}

fn parse_conf_name(name: String) -> Result<String, SettingError> {
    let stem = name.strip_suffix(".conflist").unwrap_or_default();
    if stem.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(error(
            "cniConfName",
            &name,
            "write a file name that ends in .conflist, without a path",
        ));
    }
    Ok(name)
}

/// Rule G6 of CNI: the same characters as in a container id.
fn parse_network_name(name: String) -> Result<String, SettingError> {
    let mut bytes = name.bytes();
    let starts = bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    if !starts || !bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)) {
        return Err(error(
            "networkName",
            &name,
            "a CNI network's name is a letter or digit, then letters, digits, '_', '.' or '-'",
        ));
    }
    Ok(name)
}

fn parse_cidrs(
    key: &'static str,
    given: Option<Vec<String>>,
) -> Result<Vec<IpNetwork>, SettingError> {
    let words = given.unwrap_or_default();
    // An empty environment variable is one empty word: no CIDRs.
    let words = words.iter().filter(|word| !word.trim().is_empty());
    words
        .map(|word| cidr::parse_cidr(word).map_err(|reason| error(key, word, &reason)))
        .collect()
}

fn parse_bool(
    key: &'static str,
    given: Option<String>,
    default: bool,
) -> Result<bool, SettingError> {
    given.map_or(Ok(default), |value| {
        one_of(key, value, &[("true", true), ("false", false)])
    })
}

/// 576 is what every IPv4 host must take (RFC 791); 65535 is the largest IP packet.
fn parse_mtu(value: String) -> Result<MtuSetting, SettingError> {
    match (value.as_str(), value.parse::<u32>()) {
        ("auto", _) => Ok(MtuSetting::Auto),
        (_, Ok(bytes @ 576..=65_535)) => Ok(MtuSetting::Fixed(bytes)),
        _ => Err(error(
            "mtu",
            &value,
            "allowed: auto, or a number from 576 to 65535 (1280 at least with IPv6)",
        )),
    }
}

fn parse_duration(
    key: &'static str,
    value: String,
    least: u64,
    most: u64,
) -> Result<Duration, SettingError> {
    let digits = value.bytes().take_while(u8::is_ascii_digit).count();
    let unit = match &value[digits..] {
        "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        _ => None,
    };
    let seconds = value[..digits]
        .parse::<u64>()
        .ok()
        .zip(unit)
        .and_then(|(count, unit)| count.checked_mul(unit));
    match seconds {
        Some(seconds) if (least..=most).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        _ => Err(error(
            key,
            &value,
            &format!("allowed: a whole number with s, m or h, from {least}s to {most}s"),
        )),
    }
}

fn absolute(key: &'static str, value: impl Into<String>) -> Result<PathBuf, SettingError> {
    let value = value.into();
    let path = PathBuf::from(&value);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(error(key, &value, "write an absolute path"))
    }
}

fn non_empty(key: &'static str, value: String) -> Result<String, SettingError> {
    if value.is_empty() {
        Err(error(key, "", "write the program's name or path"))
    } else {
        Ok(value)
    }
}

fn one_of<T: Clone>(
    key: &'static str,
    value: String,
    allowed: &[(&str, T)],
) -> Result<T, SettingError> {
    let found = allowed.iter().find(|(word, _)| *word == value);
    found.map(|(_, meaning)| meaning.clone()).ok_or_else(|| {
        let words: Vec<&str> = allowed.iter().map(|(word, _)| *word).collect();
        error(key, &value, &format!("allowed: {}", words.join(", ")))
    })
}

fn error(key: &'static str, value: &str, reason: &str) -> SettingError {
    let kebab = kebab_case(key);
    SettingError {
        key,
        flag: format!("--{kebab}"),
        env: format!("SLASH32_{}", kebab.replace('-', "_").to_uppercase()),
        value: value.to_owned(),
        reason: reason.to_owned(),
    }
}

/// `masquerade.enabled` -> `masquerade-enabled`, `clusterCIDRs` -> `cluster-cidrs`.
fn kebab_case(key: &str) -> String {
    let mut kebab = String::new();
    let mut upper_before = false;
    for letter in key.chars() {
        if letter == '.' {
            kebab.push('-');
        } else {
            if letter.is_ascii_uppercase() && !upper_before {
                kebab.push('-');
            }
            kebab.push(letter.to_ascii_lowercase());
        }
        upper_before = letter.is_ascii_uppercase();
    }
    kebab
}

#[cfg(test)]
mod tests;
