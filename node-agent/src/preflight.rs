//! What the agent cannot do without, looked at before it starts, so that the error is about the cause: the capability to
//! change the network, and the programs of the packet filter.

use crate::netfilter::choose::NetfilterSetting;
use crate::settings::Settings;
use anyhow::{Context, bail};
use dataplane::iptables::{Flavour, is_installed};

/// CAP_NET_ADMIN, linux/capability.h.
const CAP_NET_ADMIN: u32 = 12;

/// Err with a sentence that says what to do.
pub(crate) fn check(settings: &Settings) -> anyhow::Result<()> {
    let status = std::fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    if !has_capability(&status, CAP_NET_ADMIN) {
        bail!(
            "not allowed to change the network: run as root, or grant CAP_NET_ADMIN (securityContext.capabilities in a pod)"
        );
    }
    match dataplane::nft::version(&settings.nft_program) {
        Ok(version) => tracing::debug!(version, "found the nft program"),
        Err(error) if !can_do_without_nft(settings.netfilter) => return Err(error.into()),
        Err(error) => tracing::debug!("{error}"),
    }
    Ok(())
}

/// The programs of iptables, where they are to be used instead.
fn can_do_without_nft(setting: NetfilterSetting) -> bool {
    let any = || Flavour::ALL.into_iter().any(is_installed);
    match setting {
        NetfilterSetting::Nftables => false,
        NetfilterSetting::Auto | NetfilterSetting::Iptables => any(),
        NetfilterSetting::Flavour(flavour) => is_installed(flavour),
    }
}

fn has_capability(status: &str, number: u32) -> bool {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    bits.is_some_and(|bits| bits >> number & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capability_is_read_from_the_effective_set() {
        assert!(has_capability(
            "Name:\tx\nCapPrm:\t0\nCapEff:\t0000000000001000\n",
            CAP_NET_ADMIN
        ));
        assert!(has_capability("CapEff:\t000001ffffffffff\n", CAP_NET_ADMIN));
        assert!(!has_capability(
            "CapPrm:\t0000000000001000\nCapEff:\t0000000000000000\n",
            CAP_NET_ADMIN
        ));
        assert!(!has_capability("", CAP_NET_ADMIN));
    }
}
