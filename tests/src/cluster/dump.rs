//! All that there is to read when a test failed, in one folder.

use crate::cluster::Cluster;
use crate::cluster::host::Host;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a node's network looks like.
const LOOK: &str = "ip -d addr; ip rule; ip route show table all; ip -6 route show table all; ip neigh; bridge fdb; nft list ruleset; sysctl net.ipv4.ip_forward net.ipv4.conf.all.rp_filter; ls -lR /run/slash32 /etc/cni /opt/cni; cat /etc/cni/net.d/*; cat /run/slash32/operations.jsonl; ps axf; mount";

impl Cluster {
    /// Writes it and answers where. What cannot be had is left out: the failure that led here matters more.
    pub fn dump(&self, what: &str) -> String {
        let name: String = what
            .chars()
            .map(|letter| {
                if letter.is_alphanumeric() {
                    letter
                } else {
                    '-'
                }
            })
            .collect();
        let folder = self.run.cache.join("failures").join(name);
        let _ = std::fs::remove_dir_all(&folder);
        if std::fs::create_dir_all(&folder).is_ok() {
            self.dump_api(&folder);
            for host in &self.hosts {
                dump_host(host, &folder.join(&host.name));
            }
        }
        folder.display().to_string()
    }

    fn dump_api(&self, folder: &Path) {
        for (file, arguments) in [
            (
                "objects.txt",
                &[
                    "get",
                    "nodes,pods,svc,endpointslices,ds,deploy",
                    "-A",
                    "-o",
                    "wide",
                ][..],
            ),
            (
                "events.txt",
                &["get", "events", "-A", "--sort-by=.lastTimestamp"],
            ),
            ("nodes.txt", &["describe", "nodes"]),
            ("pods.txt", &["describe", "pods", "-A"]),
        ] {
            let request = [&["--request-timeout=5s"], arguments].concat();
            let text = match self.try_kubectl(&request, "") {
                Ok(outcome) => outcome.stdout + &outcome.stderr,
                Err(error) => format!("{error:#}"),
            };
            let _ = std::fs::write(folder.join(file), text);
        }
    }
}

fn dump_host(host: &Host, folder: &PathBuf) {
    let _ = std::fs::create_dir_all(folder);
    if let Ok(outcome) = host.try_run(&["sh", "-c", LOOK]) {
        let _ = std::fs::write(folder.join("network.txt"), outcome.stdout + &outcome.stderr);
    }
    // -L: kubelet's logs of containers are links to its logs of pods.
    let _ = Command::new("cp")
        .args(["-rL", "--no-preserve=mode"])
        .arg(host.log_folder())
        .arg(folder)
        .output();
}
