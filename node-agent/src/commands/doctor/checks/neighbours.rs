//! Other programs on this node: managers of links, and CNI plugins that were here before.

use super::Verdict;
use crate::commands::doctor::finding::Finding;
use crate::commands::doctor::sight::Sight;
use crate::facts::is_pod_link;
use std::collections::BTreeMap;

pub(super) fn check_managers(sight: &Sight) -> Verdict {
    let mut findings = Vec::new();
    for (index, manager) in &sight.host.managed {
        let name = sight.look.link_name(*index);
        if !(is_pod_link(&name) || name == "s32vxlan" || name == "tunl0") {
            continue;
        }
        let cure = match *manager {
            "NetworkManager" => {
                "write /etc/NetworkManager/conf.d/slash32.conf with [keyfile] unmanaged-devices=interface-name:s32*;interface-name:b32*;interface-name:tunl0, then systemctl reload NetworkManager"
            }
            _ => {
                "write /etc/systemd/network/00-slash32.network with [Match] Name=s32* b32* tunl0 and [Link] Unmanaged=yes, and ManageForeignRoutes=no in /etc/systemd/networkd.conf; then systemctl restart systemd-networkd"
            }
        };
        findings.push(Finding::warning(
            format!("{manager} manages our link {name}: it may take addresses and routes from it"),
            cure,
        ));
    }
    Ok(findings)
}

/// Names of links that other plugins make, and whose they are.
const LINKS: [(&str, &str); 14] = [
    ("cni0", "flannel or bridge"),
    ("flannel.", "flannel"),
    ("flannel-v6.", "flannel"),
    ("cali", "Calico"),
    ("vxlan.calico", "Calico"),
    ("vxlan-v6.calico", "Calico"),
    ("kube-bridge", "kube-router"),
    ("cilium_", "Cilium"),
    ("lxc", "Cilium"),
    ("weave", "Weave"),
    ("vethwe", "Weave"),
    ("antrea-gw", "Antrea"),
    ("ovn-k8s-", "OVN-Kubernetes"),
    ("cbr0", "kubenet"),
];

/// Beginnings of chains' names.
const CHAINS: [(&str, &str); 6] = [
    ("cali-", "Calico"),
    ("FLANNEL-", "flannel"),
    ("KUBE-ROUTER-", "kube-router"),
    ("CILIUM_", "Cilium"),
    ("WEAVE", "Weave"),
    ("CNI-", "the portmap plugin"),
];

/// Route protocols: 80 is Felix's, 12 BIRD's, 17 (ZSTATIC) kube-router's.
const PROTOCOLS: [(u8, &str); 2] = [(80, "Calico"), (12, "BIRD (Calico)")];

pub(super) fn check_old_cni(sight: &Sight) -> Verdict {
    let mut left: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut note = |owner: &'static str, what: String| left.entry(owner).or_default().push(what);
    for link in &sight.look.links {
        if let Some((_, owner)) = LINKS
            .iter()
            .find(|(prefix, _)| link.name.starts_with(prefix))
        {
            note(owner, format!("link {}", link.name));
        }
    }
    for route in &sight.look.routes {
        if let Some((_, owner)) = PROTOCOLS
            .iter()
            .find(|(number, _)| *number == route.protocol)
        {
            note(owner, format!("route {}", route.spec.key.dst));
        }
    }
    if let Ok(rules) = &sight.rules {
        for (prefix, owner) in CHAINS {
            if let Some((name, _)) = rules.ruleset.chains_like(prefix).next() {
                note(
                    owner,
                    format!("chains {prefix}* in table {} {}", name.0, name.1),
                );
            }
        }
    }
    Ok(left
        .into_iter()
        .map(|(owner, what)| {
            let shown = what.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
            let more = match what.len() {
                6.. => format!(" and {} more", what.len() - 5),
                _ => String::new(),
            };
            Finding::warning(
                format!("left by {owner}: {shown}{more}"),
                format!("once no pod of {owner} runs here any more, remove what it left (ip link del, its own uninstall), or reboot the node"),
            )
        })
        .collect())
}
