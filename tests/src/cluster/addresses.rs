//! What a node's Slash32 holds, beside what the API says of its pods: nothing may be missing, nothing may be left.

use crate::cluster::Cluster;
use crate::cluster::host::Host;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::time::Duration;

/// Our claims, attachments, pod links and pod routes on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Claimed addresses.
    pub claims: BTreeSet<String>,
    /// Addresses with a route to a pod's link.
    pub routes: BTreeSet<String>,
    /// How many attachment records there are.
    pub records: usize,
    /// How many pod links there are.
    pub links: usize,
}

impl Cluster {
    /// As it is on a node now.
    pub fn held(&self, host: &Host) -> Result<Held> {
        let names = |folder: &str| -> Result<BTreeSet<String>> {
            let entries = std::fs::read_dir(host.path(folder)?)
                .into_iter()
                .flatten()
                .flatten();
            Ok(entries
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .filter(|name| !name.starts_with('.') && !name.ends_with("lock"))
                .collect())
        };
        let routes = host.read(&["ip", "route", "show", "proto", "32"])?;
        let links = host.read(&["ip", "-o", "link", "show", "type", "veth"])?;
        Ok(Held {
            claims: names("/run/slash32/ipam/slash32/addresses")?,
            records: names("/run/slash32/attachments")?.len(),
            routes: routes
                .lines()
                .filter(|line| line.contains("dev s32") && !line.contains("via"))
                .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
                .collect(),
            links: links.lines().filter(|line| line.contains(": s32")).count(),
        })
    }

    /// Addresses of a node's pods that are not on the host's network, as the API tells them; those that have ended have
    /// given theirs back.
    pub fn addresses_of_pods(&self, node: &str) -> Result<BTreeSet<String>> {
        let list = self.get(&format!(
            "/api/v1/pods?fieldSelector=spec.nodeName%3D{node}"
        ))?;
        let pods = list["items"].as_array().context("no list of pods")?;
        Ok(pods
            .iter()
            .filter(|pod| pod["spec"]["hostNetwork"] != true)
            .filter(|pod| {
                !matches!(
                    pod["status"]["phase"].as_str(),
                    Some("Succeeded" | "Failed")
                )
            })
            .filter_map(|pod| pod["status"]["podIP"].as_str().map(str::to_owned))
            .collect())
    }

    /// Until a node holds exactly what its pods need.
    pub fn expect_no_leak(&self, host: &Host) -> Result<()> {
        let mut last = String::new();
        let what = format!("{} holds exactly its pods' addresses", host.name);
        let waited = self.wait_for(&what, Duration::from_secs(60), |cluster| {
            let (held, pods) = (cluster.held(host)?, cluster.addresses_of_pods(&host.name)?);
            let count = pods.len();
            last = format!("pods {pods:?}, held {held:?}");
            Ok(held.claims == pods
                && held.routes == pods
                && held.records == count
                && held.links == count)
        });
        waited.context(last)
    }

    /// An error where a node holds anything at all.
    pub fn expect_nothing_held(&self, host: &Host) -> Result<()> {
        let held = self.held(host)?;
        ensure!(
            held.claims.is_empty()
                && held.routes.is_empty()
                && held.records == 0
                && held.links == 0,
            "left on {}: {held:?}",
            host.name
        );
        Ok(())
    }
}
