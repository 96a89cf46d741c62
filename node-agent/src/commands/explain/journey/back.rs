//! The answer's way: conntrack undoes what was translated, and the routes back decide.

use super::super::ends::Question;
use super::Way;
use super::hop::Hop;
use dataplane::route::question::{RouteQuestion, RouteVerdict};

impl Way<'_, '_> {
    pub(super) fn come_back(&mut self, question: &Question) -> Vec<Hop> {
        let packet = self.walk.packet.clone();
        let mut hops = Vec::new();
        let oif = packet.oif.as_deref();
        let came_by = oif.and_then(|name| self.scene.look.facts.find_link(name));
        hops.push(match oif {
            Some(link) => Hop::new(
                "link",
                format!(
                    "the answer of {} comes in by {link}, to {}",
                    packet.to, packet.from
                ),
                vec!["as far as the other side answers by the same way".into()],
            ),
            None => Hop::new(
                "node",
                format!("this node answers as {}", packet.to),
                Vec::new(),
            ),
        });
        if packet.dnat || packet.from != question.from {
            hops.push(Hop::new(
                "conntrack",
                format!(
                    "undoes the translation: from {} to {}",
                    question.to, question.from
                ),
                vec!["every packet of the connection follows its first one".into()],
            ));
        }
        // The routing decision sees the address that conntrack has put back, and the answer's real source.
        let back = RouteQuestion {
            to: question.from,
            from: Some(packet.to),
            iif: came_by,
            mark: 0,
        };
        let last = match self.oracle.ask(&back) {
            Ok(RouteVerdict::Goes(lookup, _)) if lookup.local => {
                Hop::new("node", "it is for this node itself", Vec::new())
            }
            Ok(RouteVerdict::Goes(lookup, _)) => Hop::new(
                "route",
                format!(
                    "to {} by {}",
                    question.from,
                    self.scene.look.link_name(lookup.dev)
                ),
                Vec::new(),
            ),
            Ok(RouteVerdict::WrongLink) => Hop::new(
                "route",
                "DROPPED: reverse-path filtering does not expect the answer by this link",
                vec!["sysctl -w net.ipv4.conf.all.rp_filter=2".into()],
            ),
            Ok(RouteVerdict::NoWay(reason)) => Hop::new(
                "route",
                format!("NO WAY back to {}: {reason}", question.from),
                Vec::new(),
            ),
            Err(error) => Hop::new("route", error, Vec::new()),
        };
        hops.push(last);
        hops
    }
}
