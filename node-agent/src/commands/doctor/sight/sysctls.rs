//! The kernel's settings that decide about forwarding, by name; absent ones are absent.

use crate::facts::is_pod_link;
use crate::look::Look;
use dataplane::sysctl::{PROC_SYS, read_sysctl};
use std::collections::BTreeMap;
use std::path::Path;

/// Values under their names below /proc/sys, as `net/ipv4/ip_forward`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::commands::doctor) struct Sysctls(
    pub(in crate::commands::doctor) BTreeMap<String, String>,
);

const NET: [&str; 5] = [
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/forwarding",
    "net/ipv4/conf/all/rp_filter",
    "net/netfilter/nf_conntrack_count",
    "net/netfilter/nf_conntrack_max",
];

impl Sysctls {
    /// `root`: where the host's are seen. Those that are no network's are this process's own anyway.
    pub(super) fn read(root: &Path, look: &Look) -> Sysctls {
        let mut values = BTreeMap::new();
        let mut take = |root: &Path, key: String| {
            if let Ok(value) = read_sysctl(root, &key) {
                values.insert(key, value);
            }
        };
        NET.iter().for_each(|key| take(root, (*key).to_owned()));
        for link in look.links.iter().filter(|link| !is_pod_link(&link.name)) {
            take(root, format!("net/ipv4/conf/{}/rp_filter", link.name));
            take(root, format!("net/ipv6/conf/{}/accept_ra", link.name));
        }
        take(Path::new(PROC_SYS), "fs/file-nr".to_owned());
        Sysctls(values)
    }

    /// Its text.
    pub(in crate::commands::doctor) fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Its number.
    pub(in crate::commands::doctor) fn number(&self, key: &str) -> Option<u64> {
        self.get(key)?.parse().ok()
    }

    /// What the kernel applies to a link: the larger of its own and that of all (Documentation/networking/ip-sysctl).
    pub(in crate::commands::doctor) fn rp_filter(&self, link: &str) -> u64 {
        let of = |name: &str| self.number(&format!("net/ipv4/conf/{name}/rp_filter"));
        of("all").max(of(link)).unwrap_or(0)
    }
}
