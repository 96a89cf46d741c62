//! What desired has to know of this node: links, addresses, and the kernel's way to each peer. Values only; `observe`
//! reads them.

use dataplane::link::LinkInfo;
use dataplane::names;
use dataplane::route::RouteLookup;
use dataplane::tunnel::TunnelInfo;
use ipnetwork::IpNetwork;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

/// One link, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LinkFact {
    pub(crate) name: Box<str>,
    pub(crate) mtu: u32,
    /// What it is made of, where it is a tunnel.
    pub(crate) tunnel: Option<TunnelInfo>,
}

/// How the kernel would reach an address, or why it cannot.
pub(crate) type Way = Result<RouteLookup, String>;

/// This node at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// By index; links of pods included.
    pub(crate) links: BTreeMap<u32, LinkFact>,
    /// Links of pods, shapers too, that are administratively down: somebody else's doing, since the plugin makes them up.
    pub(crate) down: BTreeSet<u32>,
    /// (link, address with its prefix), those of pods' links left out: they carry link-locals only.
    pub(crate) addresses: Vec<(u32, IpNetwork)>,
    /// Per address of a peer.
    pub(crate) ways: HashMap<IpAddr, Way>,
}

impl Facts {
    /// Without ways.
    pub(crate) fn new(
        links: Vec<LinkInfo>,
        addresses: impl IntoIterator<Item = (u32, IpNetwork)>,
    ) -> Facts {
        let down = links
            .iter()
            .filter(|link| !link.up && (is_pod_link(&link.name) || is_shaper(&link.name)))
            .map(|link| link.index)
            .collect();
        let links: BTreeMap<u32, LinkFact> = links
            .into_iter()
            .map(|link| {
                (
                    link.index,
                    LinkFact {
                        name: link.name.into(),
                        mtu: link.mtu,
                        tunnel: link.tunnel,
                    },
                )
            })
            .collect();
        // Those of our tunnel are this node's addresses once more, and say nothing of it.
        let of_ours = |index: &u32| {
            links
                .get(index)
                .is_some_and(|link| is_pod_link(&link.name) || *link.name == *names::VXLAN_LINK)
        };
        let addresses = addresses
            .into_iter()
            .filter(|(index, _)| !of_ours(index))
            .collect();
        Facts {
            links,
            down,
            addresses,
            ways: HashMap::new(),
        }
    }

    /// The link that holds exactly this address.
    pub(crate) fn find_holder(&self, address: IpAddr) -> Option<(u32, &LinkFact)> {
        let (index, _) = self
            .addresses
            .iter()
            .find(|(_, network)| network.ip() == address)?;
        self.links.get(index).map(|link| (*index, link))
    }

    /// Index of the link of this name.
    pub(crate) fn find_link(&self, name: &str) -> Option<u32> {
        self.links
            .iter()
            .find(|(_, link)| link.name.as_ref() == name)
            .map(|(index, _)| *index)
    }

    /// A network of this node's own links that shares addresses with `cidr`.
    pub(crate) fn find_own_network(&self, cidr: &IpNetwork) -> Option<(IpNetwork, &str)> {
        let (index, network) = self
            .addresses
            .iter()
            .find(|(_, network)| crate::cidr::overlap(&crate::cidr::canonical(*network), cidr))?;
        Some((
            *network,
            self.links.get(index).map_or("?", |link| link.name.as_ref()),
        ))
    }

    /// The smallest MTU of the links through which peers are reached.
    pub(crate) fn ways_mtu(&self) -> Option<u32> {
        let links = self
            .ways
            .values()
            .flatten()
            .filter_map(|way| self.links.get(&way.dev));
        links.map(|link| link.mtu).min()
    }

    /// True for the host's side of a pod.
    pub(crate) fn is_pod_link(&self, index: u32) -> bool {
        self.links
            .get(&index)
            .is_some_and(|link| is_pod_link(&link.name))
    }

    /// What decides about ways, besides routes: if this is the same, the last answers are good for a while.
    pub(crate) fn same_underlay(&self, other: &Facts) -> bool {
        let underlay = |facts: &Facts| -> Vec<(u32, LinkFact)> {
            let links = facts
                .links
                .iter()
                .filter(|(_, link)| !is_pod_link(&link.name));
            links.map(|(index, link)| (*index, link.clone())).collect()
        };
        self.addresses == other.addresses && underlay(self) == underlay(other)
    }
}

/// By the prefix that is reserved for us (docs/ARCHITECTURE.md section 2).
pub(crate) fn is_pod_link(name: &str) -> bool {
    names::is_pod_link(name)
}

fn is_shaper(name: &str) -> bool {
    name.starts_with(names::SHAPER_LINK_PREFIX)
}
