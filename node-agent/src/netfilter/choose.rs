//! Which back-end this node uses. `auto` is nftables where kernel and program have it. Of the two flavours of iptables the
//! one that kubelet and kube-proxy use: they leave chains that tell (KEP-3178 and kubernetes-sigs/iptables-wrappers), and
//! without those the flavour with more rules is the one that is in use.

use crate::settings::Settings;
use dataplane::error::{KernelError, Result};
use dataplane::hostport::Nfnetlink;
use dataplane::iptables::{Flavour, has_legacy_tables, is_installed, save};

/// Chains that kubelet makes in table mangle: the first for this very purpose, the second to notice a flush.
const KUBELET_CHAINS: [&str; 2] = [":KUBE-IPTABLES-HINT ", ":KUBE-KUBELET-CANARY "];

/// The setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NetfilterSetting {
    /// nftables where it is to be had.
    Auto,
    /// nftables.
    Nftables,
    /// iptables, of the flavour that is in use.
    Iptables,
    /// iptables of this flavour.
    Flavour(Flavour),
}

impl std::fmt::Display for NetfilterSetting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Nftables => "nftables",
            Self::Iptables => "iptables",
            Self::Flavour(flavour) => flavour.as_str(),
        })
    }
}

/// What it came to on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    /// Table inet slash32.
    Nftables,
    /// Chains SLASH32-*.
    Iptables(Flavour),
}

impl std::fmt::Display for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nftables => f.write_str("nftables"),
            Self::Iptables(flavour) => flavour.fmt(f),
        }
    }
}

/// What a flavour holds that tells who uses it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Hints {
    kubelet: bool,
    /// Rules that are not ours.
    rules: usize,
}

pub(crate) fn choose_backend(settings: &Settings, nfnetlink: &mut Nfnetlink) -> Result<Backend> {
    match settings.netfilter {
        NetfilterSetting::Nftables => Ok(Backend::Nftables),
        NetfilterSetting::Flavour(flavour) => Ok(Backend::Iptables(flavour)),
        NetfilterSetting::Iptables => choose_flavour().map(Backend::Iptables),
        NetfilterSetting::Auto => match nftables_works(settings, nfnetlink) {
            Ok(()) => Ok(Backend::Nftables),
            // The error of nftables is the one to be told where there is neither.
            Err(error) => choose_flavour().map(Backend::Iptables).map_err(|_| error),
        },
    }
}

fn nftables_works(settings: &Settings, nfnetlink: &mut Nfnetlink) -> Result<()> {
    nfnetlink.ruleset_generation()?;
    dataplane::nft::version(&settings.nft_program).map(drop)
}

fn choose_flavour() -> Result<Flavour> {
    let hints = |flavour| {
        if is_installed(flavour) {
            read_hints(flavour).ok()
        } else {
            None
        }
    };
    prefer(hints(Flavour::Legacy), hints(Flavour::Nft)).ok_or_else(|| {
        KernelError::other(
            "choose a flavour of iptables",
            "neither iptables-legacy nor iptables-nft works here; install iptables (apt install iptables)",
        )
    })
}

/// A table is not named: the legacy kernel would make it.
fn read_hints(flavour: Flavour) -> Result<Hints> {
    let mut all = Hints::default();
    for v6 in [false, true] {
        if flavour == Flavour::Legacy && !has_legacy_tables(v6) {
            continue;
        }
        match save(flavour, v6, None) {
            Ok(text) => all = add_hints(all, &text),
            // A node without IPv6.
            Err(_) if v6 => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

// ===== choosing (pure) =====

fn add_hints(before: Hints, saved: &str) -> Hints {
    let kubelet = saved
        .lines()
        .any(|line| KUBELET_CHAINS.iter().any(|chain| line.starts_with(chain)));
    let foreign = saved
        .lines()
        .filter(|line| line.starts_with("-A ") && !line.contains(dataplane::names::XTABLES_PREFIX));
    Hints {
        kubelet: before.kubelet || kubelet,
        rules: before.rules + foreign.count(),
    }
}

/// `None` for a flavour that does not work here.
fn prefer(legacy: Option<Hints>, nft: Option<Hints>) -> Option<Flavour> {
    match (legacy, nft) {
        (None, None) => None,
        (Some(_), None) => Some(Flavour::Legacy),
        (None, Some(_)) => Some(Flavour::Nft),
        (_, Some(nft)) if nft.kubelet => Some(Flavour::Nft),
        (Some(legacy), Some(nft)) if legacy.kubelet || legacy.rules > nft.rules => {
            Some(Flavour::Legacy)
        }
        _ => Some(Flavour::Nft),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hints(kubelet: bool, rules: usize) -> Option<Hints> {
        Some(Hints { kubelet, rules })
    }

    #[test]
    fn kubelets_chains_decide_then_the_number_of_rules_then_nft() {
        assert_eq!(prefer(None, None), None);
        assert_eq!(prefer(hints(false, 0), None), Some(Flavour::Legacy));
        assert_eq!(prefer(None, hints(false, 0)), Some(Flavour::Nft));
        assert_eq!(prefer(hints(false, 0), hints(false, 0)), Some(Flavour::Nft));
        assert_eq!(
            prefer(hints(false, 3), hints(false, 2)),
            Some(Flavour::Legacy)
        );
        assert_eq!(prefer(hints(false, 9), hints(true, 0)), Some(Flavour::Nft));
        assert_eq!(
            prefer(hints(true, 0), hints(false, 9)),
            Some(Flavour::Legacy)
        );
    }

    #[test]
    fn our_own_rules_are_no_hint() {
        let text = "*mangle\n:KUBE-KUBELET-CANARY - [0:0]\nCOMMIT\n*nat\n:SLASH32-HAIRPIN - [0:0]\n\
            -A POSTROUTING -j SLASH32-POSTROUTING\n-A POSTROUTING -j KUBE-POSTROUTING\nCOMMIT\n";
        let before = Hints::default();
        assert_eq!(
            add_hints(before, text),
            Hints {
                kubelet: true,
                rules: 1
            }
        );
        assert_eq!(add_hints(before, "# nothing\n"), before);
    }
}
