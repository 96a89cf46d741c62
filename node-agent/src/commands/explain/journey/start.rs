//! Where the packet comes from: a pod of this node, this node itself, or outside.

use super::hop::Hop;
use super::{Step, Way, ends};
use dataplane::names::{GATEWAY_V4, GATEWAY_V6};
use dataplane::route::question::{RouteQuestion, RouteVerdict};
use std::net::IpAddr;

impl Way<'_, '_> {
    pub(super) fn begin(&mut self) -> Step<()> {
        let (from, to) = (self.walk.packet.from, self.walk.packet.to);
        self.walk.packet.to_local = self.is_local(to);
        let looked = self.scene.look.find_record(from);
        if let Some(record) = looked {
            return self.begin_in_pod(record);
        }
        if self.is_local(from) {
            self.hops.push(Hop::new(
                "node",
                format!("this node sends it, as {from}"),
                Vec::new(),
            ));
            return Ok(());
        }
        let desired = self.scene.look.desired();
        if desired.is_some_and(|desired| desired.pod_cidrs.iter().any(|cidr| cidr.contains(from))) {
            return Err(ends(
                format!("no pod of this node has the address {from}"),
                "'slash32-agent status' lists the pods of this node",
            ));
        }
        self.begin_outside(from)
    }

    fn begin_in_pod(&mut self, record: &node_state::record::AttachmentRecord) -> Step<()> {
        let pod = crate::commands::words::pod_name(record);
        let gateway: IpAddr = if self.walk.packet.from.is_ipv6() {
            GATEWAY_V6.into()
        } else {
            GATEWAY_V4.into()
        };
        let name = &record.host_link;
        self.hops.push(
            Hop::new(
                "pod",
                format!(
                    "{pod} sends it by {}, to its gateway {gateway}",
                    record.key.ifname
                ),
                vec!["the pod has one way out, and a permanent neighbour entry for it".into()],
            )
            .with_mtu(record.mtu),
        );
        let Some(link) = self.scene.look.find_link(name) else {
            return Err(ends(
                format!("the link {name} of pod {pod} is gone"),
                "make the pod anew; 'slash32-agent status' shows what the plugin last did for it",
            ));
        };
        if !link.up {
            return Err(ends(
                format!("the link {name} of pod {pod} is down"),
                format!("ip link set {name} up"),
            ));
        }
        self.hops.push(
            Hop::new("link", format!("{name} on this node"), Vec::new()).with_mtu(Some(link.mtu)),
        );
        self.iif = Some(link.index);
        self.walk.packet.iif = Some(name.clone());
        // What `fib saddr . iif oif` asks: is the way back to the source by the very same link?
        let back = self.ask_way(self.walk.packet.from);
        self.walk.packet.way_back = matches!(back, Some((dev, _)) if dev == link.index);
        Ok(())
    }

    fn begin_outside(&mut self, from: IpAddr) -> Step<()> {
        let Some((dev, _)) = self.ask_way(from) else {
            return Err(ends(
                format!("this node has no way to {from}, and could not answer it"),
                "add a route to it",
            ));
        };
        let link = self.scene.look.link_name(dev);
        let mtu = self.scene.look.facts.links.get(&dev).map(|link| link.mtu);
        self.hops.push(
            Hop::new(
                "node",
                format!("it comes in by {link}, from {}", self.scene.name(from)),
                vec!["taken from the way back to it; it may come by another link".into()],
            )
            .with_mtu(mtu),
        );
        self.iif = Some(dev);
        self.walk.packet.iif = Some(link);
        Ok(())
    }

    /// The link towards an address, and whether it is this node's own.
    pub(super) fn ask_way(&mut self, to: IpAddr) -> Option<(u32, bool)> {
        let question = RouteQuestion {
            to,
            from: None,
            iif: None,
            mark: 0,
        };
        match self.oracle.ask(&question) {
            Ok(RouteVerdict::Goes(lookup, _)) => Some((lookup.dev, lookup.local)),
            _ => None,
        }
    }

    fn is_local(&mut self, address: IpAddr) -> bool {
        self.ask_way(address).is_some_and(|(_, local)| local)
    }
}
