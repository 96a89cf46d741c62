//! Single values of the settings: from text to type and range. Every refusal names the key in its three spellings, the
//! value, and what is allowed. Pure.

use super::{MtuSetting, SettingError, Surroundings};
use crate::cidr;
use axum::http::Uri;
use axum::http::uri::Scheme;
use ipnetwork::IpNetwork;
use std::path::PathBuf;
use std::time::Duration;

pub(super) fn parse_node_name(
    given: Option<String>,
    around: &Surroundings,
) -> Result<String, SettingError> {
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

pub(super) fn parse_conf_name(name: String) -> Result<String, SettingError> {
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
pub(super) fn parse_network_name(name: String) -> Result<String, SettingError> {
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

pub(super) fn parse_cidrs(
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

pub(super) fn parse_bool(
    key: &'static str,
    given: Option<String>,
    default: bool,
) -> Result<bool, SettingError> {
    given.map_or(Ok(default), |value| {
        one_of(key, value, &[("true", true), ("false", false)])
    })
}

/// 576 is what every IPv4 host must take (RFC 791); 65535 is the largest IP packet.
pub(super) fn parse_mtu(value: String) -> Result<MtuSetting, SettingError> {
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

pub(super) fn parse_duration(
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

pub(super) fn absolute(
    key: &'static str,
    value: impl Into<String>,
) -> Result<PathBuf, SettingError> {
    let value = value.into();
    let path = PathBuf::from(&value);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(error(key, &value, "write an absolute path"))
    }
}

/// A path in front of /api is allowed, as kubeconfigs have it for proxies.
pub(super) fn parse_api_server(value: String) -> Result<Uri, SettingError> {
    let usable = |uri: &Uri| {
        let scheme = uri.scheme();
        uri.host().is_some_and(|host| !host.is_empty())
            && uri.query().is_none()
            && (scheme == Some(&Scheme::HTTPS) || scheme == Some(&Scheme::HTTP))
    };
    value.parse::<Uri>().ok().filter(usable).ok_or_else(|| {
        error(
            "apiServer",
            &value,
            "write a URL with host and port, such as https://192.0.2.1:6443 or https://[2001:db8::1]:6443",
        )
    })
}

pub(super) fn non_empty(key: &'static str, value: String) -> Result<String, SettingError> {
    if value.is_empty() {
        Err(error(key, "", "write the program's name or path"))
    } else {
        Ok(value)
    }
}

pub(super) fn one_of<T: Clone>(
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

pub(super) fn error(key: &'static str, value: &str, reason: &str) -> SettingError {
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
pub(super) fn kebab_case(key: &str) -> String {
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
