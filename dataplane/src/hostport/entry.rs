//! Host ports in our own types, and what can be wrong with them.

use std::net::IpAddr;

use crate::error::KernelError;

/// What a host port is reached by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortKey {
    /// `None`: any local address of the family.
    pub host_ip: Option<IpAddr>,
    /// `IPPROTO_TCP` 6, UDP 17, SCTP 132.
    pub protocol: u8,
    /// 1 to 65535.
    pub host_port: u16,
    /// The family; that of `host_ip` where there is one.
    pub v6: bool,
}

/// A host port and where it leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortEntry {
    /// What it is reached by.
    pub key: PortKey,
    /// Of the key's family.
    pub pod_ip: IpAddr,
    /// 1 to 65535.
    pub container_port: u16,
}

/// Why host ports were not added or read.
#[derive(Debug, thiserror::Error)]
pub enum HostPortError {
    /// No table, or none with our maps. CNI code 11: try again later.
    #[error("table inet slash32 is not there: the agent has not run since boot")]
    NoTable,
    /// Another pod has one of the ports; nothing was added.
    #[error("{} is taken{}", describe(&entry.key), holder.map(|(ip, port)| format!(": it leads to {ip} port {port}")).unwrap_or_default())]
    Taken {
        /// The entry that could not be added.
        entry: PortEntry,
        /// Where the port leads in the kernel now; `None`: it has been freed since.
        holder: Option<(IpAddr, u16)>,
    },
    /// Anything else.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

pub(super) fn mixed_families(entry: &PortEntry) -> KernelError {
    KernelError::new(
        format!(
            "map {} to {}: not of one address family",
            describe(&entry.key),
            entry.pod_ip
        ),
        libc::EINVAL,
    )
}

pub(super) fn describe(key: &PortKey) -> String {
    let protocol = match key.protocol {
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        132 => "sctp".to_owned(),
        other => format!("protocol {other}"),
    };
    let address = match (key.host_ip, key.v6) {
        (Some(ip), _) => ip.to_string(),
        (None, false) => "any ipv4 address".to_owned(),
        (None, true) => "any ipv6 address".to_owned(),
    };
    format!("host port {protocol} {} of {address}", key.host_port)
}

/// The first few are enough for an error.
pub(super) fn describe_all(entries: &[PortEntry]) -> String {
    let shown: Vec<String> = entries
        .iter()
        .take(3)
        .map(|entry| describe(&entry.key))
        .collect();
    let more = if entries.len() > 3 {
        format!(" and {} more", entries.len() - 3)
    } else {
        String::new()
    };
    shown.join(", ") + &more
}
