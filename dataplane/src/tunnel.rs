//! Tunnel devices between nodes: IPIP and VXLAN links, and the permanent entries that make a VXLAN link know its peers.
//!
//! A device is wanted as a [`TunnelSpec`] and seen as a [`TunnelInfo`]; what cannot be changed on a living device is
//! compared by [`TunnelInfo::fits`]. Who calls: the agent.

use std::net::{IpAddr, Ipv4Addr};

mod decode;
mod encode;
mod entries;
mod link;
mod offload;

pub(crate) use decode::tunnel_from;
pub use entries::{Entry, EntryKey, EntryOp};
pub use offload::{ensure_tx_checksum, tx_checksum};

/// A tunnel device as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelSpec {
    /// Name of the link.
    pub name: Box<str>,
    /// What cannot be changed while it lives.
    pub kind: TunnelKind,
    /// Bytes of an inner IP packet.
    pub mtu: u32,
}

/// Attributes that a device is made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TunnelKind {
    /// IPv4 in IPv4, protocol 4.
    Ipip {
        /// `None`: the module's fallback device, which takes what no other IPIP device of the node takes.
        local: Option<Ipv4Addr>,
    },
    /// Ethernet in UDP; the underlay's family is that of `local`. Outer checksums are on, and nothing is learnt.
    Vxlan {
        /// 24 bits.
        vni: u32,
        /// UDP destination port.
        port: u16,
        /// Source address of outer packets.
        local: IpAddr,
        /// Of the device itself: peers address inner frames to it.
        mac: [u8; 6],
    },
}

impl TunnelKind {
    /// As the kernel spells it (`IFLA_INFO_KIND`).
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Ipip { .. } => "ipip",
            Self::Vxlan { .. } => "vxlan",
        }
    }

    /// Bytes that encapsulation adds to an inner IP packet: an outer IPv4 (20) or IPv6 (40) header, for VXLAN also UDP (8),
    /// VXLAN (8) and the inner Ethernet header (14); RFC 2003 and RFC 7348.
    pub fn overhead(&self) -> u32 {
        match self {
            Self::Ipip { .. } => 20,
            Self::Vxlan {
                local: IpAddr::V4(_),
                ..
            } => 50,
            Self::Vxlan {
                local: IpAddr::V6(_),
                ..
            } => 70,
        }
    }
}

/// A tunnel device as the kernel shows it; whatever is not here is not compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TunnelInfo {
    /// Kind `ipip`.
    Ipip {
        /// `None`: any.
        local: Option<Ipv4Addr>,
        /// `None`: any.
        remote: Option<Ipv4Addr>,
    },
    /// Kind `vxlan`.
    Vxlan {
        /// 24 bits.
        vni: u32,
        /// UDP destination port.
        port: u16,
        /// `None`: the kernel's choice.
        local: Option<IpAddr>,
        /// Whether it learns from what it receives.
        learning: bool,
        /// A group or a single default peer, for what no entry knows.
        has_default_peer: bool,
    },
}

impl TunnelInfo {
    /// True where a device like this is what `wanted` asks for, its MAC and MTU aside, which can be changed.
    pub fn fits(&self, wanted: &TunnelKind) -> bool {
        match (self, wanted) {
            (Self::Ipip { local, remote }, TunnelKind::Ipip { local: want }) => {
                local == want && remote.is_none()
            }
            (
                Self::Vxlan {
                    vni,
                    port,
                    local,
                    learning,
                    has_default_peer,
                },
                TunnelKind::Vxlan {
                    vni: want_vni,
                    port: want_port,
                    local: want_local,
                    ..
                },
            ) => {
                vni == want_vni
                    && port == want_port
                    && *local == Some(*want_local)
                    && !learning
                    && !has_default_peer
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_fits_unless_an_attribute_that_is_fixed_differs() {
        let local: IpAddr = "192.0.2.1".parse().unwrap();
        let wanted = TunnelKind::Vxlan {
            vni: 3232,
            port: 4789,
            local,
            mac: [2; 6],
        };
        let there = |vni, port, local, learning, has_default_peer| TunnelInfo::Vxlan {
            vni,
            port,
            local,
            learning,
            has_default_peer,
        };
        assert!(there(3232, 4789, Some(local), false, false).fits(&wanted));
        for other in [
            there(1, 4789, Some(local), false, false),
            there(3232, 8472, Some(local), false, false),
            there(3232, 4789, None, false, false),
            there(3232, 4789, Some(local), true, false),
            there(3232, 4789, Some(local), false, true),
        ] {
            assert!(!other.fits(&wanted), "{other:?}");
        }
        let ipip = TunnelInfo::Ipip {
            local: None,
            remote: None,
        };
        assert!(!ipip.fits(&wanted));
        assert!(ipip.fits(&TunnelKind::Ipip { local: None }));
        assert!(!ipip.fits(&TunnelKind::Ipip {
            local: Some(Ipv4Addr::new(192, 0, 2, 1))
        }));
    }
}
