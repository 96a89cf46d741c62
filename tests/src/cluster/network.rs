//! The pods' network of a cluster: ours, put in as a user does it, or the reference plugins'.

use crate::cluster::host::Host;
use crate::cluster::images;
use crate::cluster::start::in_parallel;
use crate::cluster::{CLUSTER_CIDR, Cluster, Containerd, Network, Topology};
use crate::programs;
use anyhow::{Context, Result};
use serde_json::json;
use std::path::Path;

impl Cluster {
    /// What a node's distribution brings, and then the network.
    pub(crate) fn install_network(&self) -> Result<()> {
        for host in &self.hosts {
            // containerd 1.6 calls it for every pod; 2.x does without.
            if self.options.containerd == Containerd::V1 {
                give_plugin(host, "loopback")?;
            }
        }
        match self.options.network {
            Network::Slash32 => self.install_slash32(),
            Network::Ptp => self.install_ptp(),
        }
    }

    /// As the README tells users: the image where no registry has it, and one kubectl apply.
    fn install_slash32(&self) -> Result<()> {
        let image = images::slash32(&self.run.cache.join("images"), env!("CARGO_PKG_VERSION"))?;
        in_parallel(&self.hosts, |host| host.import(&image))?;
        self.apply(&self.manifest()?)
    }

    /// The manifest of this kind of cluster.
    pub fn manifest(&self) -> Result<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("manifests");
        match self.options.topology {
            Topology::Flat => {
                let path = folder.join("slash32.yaml");
                std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
            }
            Topology::Split => self.kubectl(&[
                "kustomize",
                &folder.join("overlays/vxlan").to_string_lossy(),
            ]),
        }
    }

    fn install_ptp(&self) -> Result<()> {
        let mut routes = Vec::new();
        for host in &self.hosts {
            let cidr = self
                .pod_cidr(&host.name)?
                .context("a node without podCIDR")?;
            routes.push((host.name.clone(), cidr, host.node.addresses()[0].clone()));
        }
        for host in &self.hosts {
            for plugin in ["ptp", "host-local", "portmap"] {
                give_plugin(host, plugin)?;
            }
            self.wire_ptp(host, &routes)?;
            let cidr = routes.iter().find(|(name, _, _)| *name == host.name);
            let subnet = cidr.map(|(_, cidr, _)| cidr.as_str()).unwrap_or_default();
            let list = json!({
                "cniVersion": "1.0.0",
                "name": "ptp",
                "plugins": [
                    {"type": "ptp", "ipam": {"type": "host-local", "ranges": [[{"subnet": subnet}]], "routes": [{"dst": "0.0.0.0/0"}], "dataDir": "/run/cni-ipam"}},
                    {"type": "portmap", "capabilities": {"portMappings": true}},
                ],
            });
            let folder = host.path("/etc/cni/net.d")?;
            std::fs::create_dir_all(&folder)?;
            // kubelet may look at any time.
            std::fs::write(folder.join(".ptp"), list.to_string())?;
            std::fs::rename(folder.join(".ptp"), folder.join("10-ptp.conflist"))?;
        }
        Ok(())
    }

    /// Routes to the others' pods, and the node's address for what leaves to the internet.
    fn wire_ptp(&self, host: &Host, routes: &[(String, String, String)]) -> Result<()> {
        let machine = &host.node.machine;
        machine.run(&["sysctl", "-qw", "net.ipv4.ip_forward=1"])?;
        for (_, cidr, via) in routes.iter().filter(|(name, _, _)| *name != host.name) {
            let other = self
                .hosts
                .iter()
                .find(|other| other.node.addresses()[0] == *via);
            if other.is_some_and(|other| other.node.link == host.node.link) {
                machine.run(&["ip", "route", "add", cidr, "via", via])?;
            }
        }
        if self.options.topology == Topology::Split && host.name == "cp" {
            for (_, cidr, via) in routes {
                self.lab
                    .router
                    .run(&["ip", "route", "add", cidr, "via", via])?;
            }
        }
        machine
            .nft(&format!(
                "table ip ptp {{
  chain post {{
    type nat hook postrouting priority 100
    ip saddr {CLUSTER_CIDR} ip daddr != {{ {CLUSTER_CIDR}, 192.0.2.0/24, 203.0.113.0/24 }} masquerade
  }}
}}"
            ))
            .map(drop)
    }
}

fn give_plugin(host: &Host, plugin: &str) -> Result<()> {
    let folder = host.path("/opt/cni/bin")?;
    std::fs::create_dir_all(&folder)?;
    let from = programs::reference_plugins().join(plugin);
    std::fs::copy(&from, folder.join(plugin))
        .with_context(|| format!("copy {} into node {}", from.display(), host.name))
        .map(drop)
}
