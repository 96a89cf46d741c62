//! How the commands say things: spans of time, pods, ports. Pure.

use node_state::record::{AttachmentKey, AttachmentRecord, HostPort, PortProtocol};

/// `3s`, `4m12s`, `5h3m`, `12d4h`: two units at most.
pub(crate) fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, _, _) => format!("{hours}h{}m", minutes % 60),
        _ => format!("{days}d{}h", hours % 24),
    }
}

/// From `then_ms` to `now_ms`, milliseconds since the epoch; `in the future` where the clock went back.
pub(crate) fn age(now_ms: u64, then_ms: u64) -> String {
    match now_ms.checked_sub(then_ms) {
        Some(since) => span(since / 1000),
        None => "in the future".to_owned(),
    }
}

/// `namespace/name`, else the container's id.
pub(crate) fn pod_name(record: &AttachmentRecord) -> String {
    match &record.pod {
        Some(pod) => format!("{}/{}", pod.namespace, pod.name),
        None => short_id(&record.key),
    }
}

/// Containers are called by the first 13 characters of their id, as crictl does.
pub(crate) fn short_id(key: &AttachmentKey) -> String {
    key.container_id.chars().take(13).collect()
}

/// `8080/tcp -> 80`, with the host address where one was asked for.
pub(crate) fn host_port(port: &HostPort) -> String {
    let host = match port.host_ip {
        Some(ip) if ip.is_ipv6() => format!("[{ip}]:"),
        Some(ip) => format!("{ip}:"),
        None => String::new(),
    };
    format!(
        "{host}{}/{} -> {}",
        port.host_port,
        protocol(port.protocol),
        port.container_port
    )
}

/// In lower case, as nftables spells it.
pub(crate) fn protocol(protocol: PortProtocol) -> &'static str {
    match protocol {
        PortProtocol::Tcp => "tcp",
        PortProtocol::Udp => "udp",
        PortProtocol::Sctp => "sctp",
    }
}

/// `1 route`, `2 routes`.
pub(crate) fn count(number: u64, one: &str) -> String {
    let ending = if number == 1 {
        ""
    } else if one.ends_with("ss") {
        "es"
    } else {
        "s"
    };
    format!("{number} {one}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_units_at_most() {
        let told = [0, 59, 252, 3600, 18_180, 1_051_200].map(span);
        assert_eq!(told, ["0s", "59s", "4m12s", "1h0m", "5h3m", "12d4h"]);
    }

    #[test]
    fn a_clock_that_went_back_is_told() {
        assert_eq!(age(10_000, 4_000), "6s");
        assert_eq!(age(4_000, 10_000), "in the future");
    }

    #[test]
    fn one_is_not_many() {
        let told = [count(1, "route"), count(0, "route"), count(2, "address")];
        assert_eq!(told, ["1 route", "0 routes", "2 addresses"]);
    }
}
