//! CNI_ARGS: `K=V;K2=V2`, in any order (A11).
//!
//! Kubernetes runtimes put the pod's name there. All of it is text from elsewhere: nothing is keyed by it.

use crate::{
    address::{parse_ip_or_cidr, parse_mac},
    error::{CniError, ErrorCode},
    json::quote,
};
use std::net::IpAddr;

/// CNI_ARGS, parsed (A11). Empty values are absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CniArgs {
    /// `IP`: requested addresses, comma-separated as multus writes them; prefix lengths are dropped.
    pub ip: Vec<IpAddr>,
    /// `MAC`: the requested MAC address, valid (see `address::parse_mac`), as it was written.
    pub mac: Option<String>,
    /// `K8S_POD_NAMESPACE`.
    pub pod_namespace: Option<String>,
    /// `K8S_POD_NAME`.
    pub pod_name: Option<String>,
    /// `K8S_POD_UID`; for a static pod a hash.
    pub pod_uid: Option<String>,
}

/// Parses CNI_ARGS. A pair without exactly one '=' is an error; so is an unknown key, unless IgnoreUnknown is 1 or true,
/// wherever it stands.
pub(super) fn parse_args(text: &str) -> Result<CniArgs, CniError> {
    let mut args = CniArgs::default();
    let mut unknown = Vec::new();
    let mut ignore_unknown = false;
    for pair in text.split(';') {
        let malformed = || {
            bad_args(
                format!("bad pair in CNI_ARGS: {}", quote(pair)),
                "wanted KEY=VALUE pairs joined by ';'",
            )
        };
        let (key, value) = pair
            .split_once('=')
            .filter(|(_, value)| !value.contains('='))
            .ok_or_else(malformed)?;
        let owned = || Some(value.to_owned()).filter(|value| !value.is_empty());
        match key {
            "IgnoreUnknown" => ignore_unknown = parse_bool(value)?,
            "IP" => args.ip = parse_ips(value)?,
            "MAC" => args.mac = checked_mac(value)?,
            "K8S_POD_NAMESPACE" => args.pod_namespace = owned(),
            "K8S_POD_NAME" => args.pod_name = owned(),
            "K8S_POD_UID" => args.pod_uid = owned(),
            // The containerID once more.
            "K8S_POD_INFRA_CONTAINER_ID" => {}
            _ => unknown.push(pair),
        }
    }
    if unknown.is_empty() || ignore_unknown {
        return Ok(args);
    }
    Err(bad_args(
        format!("unknown keys in CNI_ARGS: {}", quote(&unknown.join(";"))),
        "set IgnoreUnknown=1 to have them ignored",
    ))
}

fn parse_bool(value: &str) -> Result<bool, CniError> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(bad_args(
            format!("bad value of IgnoreUnknown in CNI_ARGS: {}", quote(value)),
            "wanted 1, true, 0 or false",
        )),
    }
}

fn parse_ips(value: &str) -> Result<Vec<IpAddr>, CniError> {
    let bad = |text| {
        bad_args(
            format!("bad value of IP in CNI_ARGS: {}", quote(text)),
            "wanted IP addresses joined by ','",
        )
    };
    let texts = value
        .split(',')
        .map(str::trim)
        .filter(|text| !text.is_empty());
    texts
        .map(|text| {
            parse_ip_or_cidr(text)
                .map(|net| net.ip())
                .ok_or_else(|| bad(text))
        })
        .collect()
}

fn checked_mac(value: &str) -> Result<Option<String>, CniError> {
    if value.is_empty() {
        return Ok(None);
    }
    let bad = || {
        bad_args(
            format!("bad value of MAC in CNI_ARGS: {}", quote(value)),
            "wanted a unicast MAC address of six bytes",
        )
    };
    parse_mac(value)
        .map(|_| Some(value.to_owned()))
        .ok_or_else(bad)
}

fn bad_args(msg: String, wanted: &str) -> CniError {
    CniError::new(ErrorCode::InvalidEnvironment, msg).with_details(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a11_what_kubernetes_sends_is_understood_in_any_order() {
        let expected = CniArgs {
            pod_namespace: Some("default".to_owned()),
            pod_name: Some("web-0".to_owned()),
            pod_uid: Some("7f".to_owned()),
            ..CniArgs::default()
        };
        let pairs = [
            "IgnoreUnknown=1",
            "K8S_POD_NAMESPACE=default",
            "K8S_POD_NAME=web-0",
            "K8S_POD_INFRA_CONTAINER_ID=c1",
            "K8S_POD_UID=7f",
            "X=y",
        ];
        for rotation in 0..pairs.len() {
            let mut rotated = pairs;
            rotated.rotate_left(rotation);
            assert_eq!(
                parse_args(&rotated.join(";")),
                Ok(expected.clone()),
                "{rotated:?}"
            );
        }
    }

    #[test]
    fn a11_malformed_pairs_are_refused() {
        for text in [
            "",
            "A",
            "IgnoreUnknown=1;A",
            "IgnoreUnknown=1;A=b=c",
            "IgnoreUnknown=1;",
            "IgnoreUnknown=maybe",
        ] {
            let error = parse_args(text).expect_err(text);
            assert_eq!(error.code, ErrorCode::InvalidEnvironment);
            assert!(error.msg.contains("CNI_ARGS"), "{error}");
        }
    }

    #[test]
    fn a11_unknown_keys_are_refused_and_named_unless_told_to_ignore_them() {
        for text in [
            "A=b;C=d",
            "A=b;C=d;IgnoreUnknown=0",
            "IgnoreUnknown=false;A=b;C=d",
        ] {
            let error = parse_args(text).expect_err(text);
            assert!(error.msg.contains("\"A=b;C=d\""), "{error}");
        }
        for truth in ["1", "true", "TRUE"] {
            assert_eq!(
                parse_args(&format!("A=b;IgnoreUnknown={truth}")),
                Ok(CniArgs::default())
            );
        }
    }

    #[test]
    fn i7_addresses_come_as_a_list_with_or_without_prefix_length() {
        let args = parse_args("IP=10.1.2.3/24,fd00::3;MAC=c2:b0:57:49:47:f1").expect("valid");
        assert_eq!(
            args.ip,
            ["10.1.2.3", "fd00::3"].map(|text| text.parse::<IpAddr>().expect("an address"))
        );
        assert_eq!(args.mac.as_deref(), Some("c2:b0:57:49:47:f1"));
        assert_eq!(parse_args("IP=;MAC="), Ok(CniArgs::default()));
        assert!(parse_args("IP=10.1.2").is_err() && parse_args("MAC=01:00:5e:00:00:01").is_err());
    }
}
