//! The settings of tunnels between nodes: whether, when, and by which device.

use super::SettingError;
use super::raw::RawSettings;
use super::values::{error, one_of};
use dataplane::names::{ADDRESS_LABEL, IPIP_LINK, VXLAN_LINK};

/// IANA's port of VXLAN.
const DEFAULT_PORT: u16 = 4789;
/// Nobody's default: flannel has 1, Calico 4096, Cilium 2, Antrea 0.
const DEFAULT_VNI: u32 = 3232;
/// Bytes of a link's name, less those of the label that our address on it carries.
const LONGEST_DEVICE: usize = 15 - ADDRESS_LABEL.len();

/// How peers are reached that no link of this node reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Not at all.
    None,
    /// IPv4 in IPv4.
    Ipip,
    /// Ethernet in UDP.
    Vxlan,
}

/// Which peers are reached through the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// All.
    Always,
    /// Those that are not on a link of this node.
    CrossSubnet,
}

/// The family of VXLAN's outer packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Underlay {
    /// IPv4 where a Node has an IPv4 address, IPv6 otherwise.
    Auto,
    Ipv4,
    Ipv6,
}

/// Transmit checksum offload of the VXLAN device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChecksumOffload {
    /// Off on kernels before 5.7, on otherwise.
    Auto,
    On,
    Off,
}

/// Everything about tunnels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Encapsulation {
    pub(crate) mode: Mode,
    pub(crate) when: When,
    pub(crate) ipip_device: String,
    pub(crate) vxlan_port: u16,
    pub(crate) vxlan_vni: u32,
    pub(crate) vxlan_underlay: Underlay,
    pub(crate) vxlan_checksum_offload: ChecksumOffload,
}

impl Encapsulation {
    pub(super) fn from_raw(raw: &RawSettings) -> Result<Encapsulation, SettingError> {
        let text =
            |value: &Option<String>, default: &str| value.clone().unwrap_or(default.to_owned());
        Ok(Encapsulation {
            mode: one_of(
                "encapsulation",
                text(&raw.encapsulation, "none"),
                &[
                    ("none", Mode::None),
                    ("ipip", Mode::Ipip),
                    ("vxlan", Mode::Vxlan),
                ],
            )?,
            when: one_of(
                "encapsulationWhen",
                text(&raw.encapsulation_when, "cross-subnet"),
                &[
                    ("always", When::Always),
                    ("cross-subnet", When::CrossSubnet),
                ],
            )?,
            ipip_device: parse_device(text(&raw.ipip_device, IPIP_LINK))?,
            vxlan_port: parse_number(
                "vxlanPort",
                text(&raw.vxlan_port, &DEFAULT_PORT.to_string()),
                1,
                u16::MAX,
            )?,
            vxlan_vni: parse_number(
                "vxlanVNI",
                text(&raw.vxlan_vni, &DEFAULT_VNI.to_string()),
                1,
                (1 << 24) - 1,
            )?,
            vxlan_underlay: one_of(
                "vxlanUnderlay",
                text(&raw.vxlan_underlay, "auto"),
                &[
                    ("auto", Underlay::Auto),
                    ("ipv4", Underlay::Ipv4),
                    ("ipv6", Underlay::Ipv6),
                ],
            )?,
            vxlan_checksum_offload: one_of(
                "vxlanChecksumOffload",
                text(&raw.vxlan_checksum_offload, "auto"),
                &[
                    ("auto", ChecksumOffload::Auto),
                    ("on", ChecksumOffload::On),
                    ("off", ChecksumOffload::Off),
                ],
            )?,
        })
    }

    /// For the log at start.
    pub(super) fn effective(&self) -> Vec<(&'static str, String)> {
        let word = |text: &str| text.to_owned();
        vec![
            (
                "encapsulation",
                word(match self.mode {
                    Mode::None => "none",
                    Mode::Ipip => "ipip",
                    Mode::Vxlan => "vxlan",
                }),
            ),
            (
                "encapsulationWhen",
                word(match self.when {
                    When::Always => "always",
                    When::CrossSubnet => "cross-subnet",
                }),
            ),
            ("ipipDevice", self.ipip_device.clone()),
            ("vxlanPort", self.vxlan_port.to_string()),
            ("vxlanVNI", self.vxlan_vni.to_string()),
            (
                "vxlanUnderlay",
                format!("{:?}", self.vxlan_underlay).to_lowercase(),
            ),
            (
                "vxlanChecksumOffload",
                format!("{:?}", self.vxlan_checksum_offload).to_lowercase(),
            ),
        ]
    }
}

/// A name that a link can have, and that is nobody else's of us.
fn parse_device(name: String) -> Result<String, SettingError> {
    let usable = !name.is_empty()
        && name.len() <= LONGEST_DEVICE
        && name
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"/:%".contains(&byte))
        && ![".", "..", "all", "default", "lo", VXLAN_LINK].contains(&name.as_str())
        && !dataplane::names::is_pod_link(&name);
    if usable {
        return Ok(name);
    }
    Err(error(
        "ipipDevice",
        &name,
        &format!(
            "a link's name of 1 to {LONGEST_DEVICE} printable characters without '/', ':' and '%', not beginning with s32"
        ),
    ))
}

fn parse_number<T>(key: &'static str, value: String, least: T, most: T) -> Result<T, SettingError>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    match value.parse::<T>() {
        Ok(number) if number >= least && number <= most => Ok(number),
        _ => Err(error(
            key,
            &value,
            &format!("allowed: a whole number from {least} to {most}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_a_default_and_a_range() {
        let read = |change: fn(&mut RawSettings)| {
            let mut raw = RawSettings::default();
            change(&mut raw);
            Encapsulation::from_raw(&raw)
        };
        let default = read(|_| {}).unwrap();
        assert_eq!(
            (default.mode, default.when),
            (Mode::None, When::CrossSubnet)
        );
        assert_eq!((default.vxlan_port, default.vxlan_vni), (4789, 3232));
        assert_eq!(default.ipip_device, "tunl0");
        type Change = fn(&mut RawSettings);
        let refused: [(Change, &str); 6] = [
            (
                |raw| raw.encapsulation = Some("gre".into()),
                "encapsulation",
            ),
            (
                |raw| raw.encapsulation_when = Some("never".into()),
                "encapsulationWhen",
            ),
            (|raw| raw.vxlan_port = Some("0".into()), "vxlanPort"),
            (|raw| raw.vxlan_vni = Some("16777216".into()), "vxlanVNI"),
            (
                |raw| raw.ipip_device = Some("s32tunnel".into()),
                "ipipDevice",
            ),
            (
                |raw| raw.ipip_device = Some("twelve-bytes".into()),
                "ipipDevice",
            ),
        ];
        for (change, key) in refused {
            assert!(read(change).unwrap_err().to_string().contains(key), "{key}");
        }
    }
}
