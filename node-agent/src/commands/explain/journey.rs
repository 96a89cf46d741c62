//! The walk. Pure: state comes as a `Scene`, the kernel's routes from an `Oracle`. What is on other nodes cannot be seen from
//! here, and is not made up.

use super::ends::Question;
use crate::look::Look;
use crate::ruleset::read::Rules;
use crate::ruleset::{End, Packet, Target, Walk};
use dataplane::route::question::{RouteQuestion, RouteVerdict};
use serde::Serialize;
use std::net::IpAddr;

mod back;
mod hop;
mod start;

pub(super) use hop::{Hop, Outcome};

/// The kernel, asked for the way of one packet.
pub(super) trait Oracle {
    /// Err: no answer at all.
    fn ask(&mut self, question: &RouteQuestion) -> Result<RouteVerdict, String>;
}

/// This node.
pub(super) struct Scene<'a> {
    pub(super) look: &'a Look,
    pub(super) rules: &'a Rules,
    pub(super) forwards_v4: bool,
    pub(super) forwards_v6: bool,
}

/// What becomes of one packet and of its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Journey {
    pub(super) node: String,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) protocol: &'static str,
    pub(super) forth: Vec<Hop>,
    pub(super) outcome: Outcome,
    pub(super) back: Vec<Hop>,
    /// Bytes of the largest packet on what can be seen of the way.
    pub(super) mtu: Option<u32>,
    /// Chains with rules that could decide otherwise, and that are not understood.
    pub(super) unsure: Vec<String>,
    /// What the kernel's trace of a real packet says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) trace: Option<Vec<String>>,
}

/// The way so far.
struct Way<'s, 'o> {
    scene: &'s Scene<'s>,
    oracle: &'o mut dyn Oracle,
    hops: Vec<Hop>,
    walk: Walk<'s>,
    /// Index of the link by which it came; `None`: this node sends it.
    iif: Option<u32>,
}

impl Journey {
    /// Walks both ways.
    pub(super) fn walk(scene: &Scene<'_>, oracle: &mut dyn Oracle, question: &Question) -> Journey {
        let packet = Packet {
            iif: None,
            oif: None,
            from: question.from,
            to: question.to,
            protocol: question.protocol,
            port: question.port,
            mark: 0,
            to_local: false,
            way_back: true,
            dnat: false,
        };
        let mut way = Way {
            scene,
            oracle,
            hops: Vec::new(),
            walk: Walk::new(&scene.rules.ruleset, packet),
            iif: None,
        };
        let outcome = way.go();
        let back = match &outcome {
            Outcome::Ends { .. } => Vec::new(),
            _ => way.come_back(question),
        };
        let Way { hops, walk, .. } = way;
        Journey {
            node: scene.look.node_name.clone(),
            from: scene.name(question.from),
            to: match question.port {
                Some(port) => format!("{} port {port}", scene.name(question.to)),
                None => scene.name(question.to),
            },
            protocol: question.protocol,
            mtu: hops.iter().filter_map(|hop| hop.mtu).min(),
            forth: hops,
            outcome,
            back,
            unsure: walk.unsure,
            trace: None,
        }
    }
}

impl Scene<'_> {
    /// The address, and whose it is where that is known.
    pub(super) fn name(&self, address: IpAddr) -> String {
        if let Some(record) = self.look.find_record(address) {
            return format!(
                "pod {} ({address})",
                crate::commands::words::pod_name(record)
            );
        }
        let nodes = self.look.view.iter().flat_map(|view| &view.nodes);
        for node in nodes {
            if node.addresses.contains(&address) {
                return format!("node {} ({address})", node.name);
            }
            if node.pod_cidrs.iter().any(|cidr| cidr.contains(address)) {
                return format!("a pod of {} ({address})", node.name);
            }
        }
        address.to_string()
    }
}

/// The end, or what the next step needs.
type Step<T> = Result<T, Outcome>;

fn ends(reason: impl Into<String>, cure: impl Into<String>) -> Outcome {
    Outcome::Ends {
        reason: reason.into(),
        cure: cure.into(),
    }
}

fn no_forwarding() -> Outcome {
    ends(
        "this node does not forward (net.ipv4.ip_forward, net.ipv6.conf.all.forwarding)",
        "start the agent, which turns it on, and find who turned it off",
    )
}

impl Way<'_, '_> {
    fn go(&mut self) -> Outcome {
        match self.try_go() {
            Ok(outcome) | Err(outcome) => outcome,
        }
    }

    fn try_go(&mut self) -> Step<Outcome> {
        self.begin()?;
        self.before_routing()?;
        let (dev, via, local, mtu) = self.route()?;
        if local {
            return self.enter_node();
        }
        self.after_routing(dev)?;
        Ok(self.out(dev, via, mtu))
    }

    fn filter(&mut self, hook: &str) -> Step<()> {
        match self.walk.hook(hook) {
            End::Passed => Ok(()),
            End::Dropped(by) => Err(ends(
                format!("it is dropped in the {hook} hook by {by}"),
                "nft list ruleset (iptables-save) shows the rule; 'slash32-agent doctor' knows the usual ones",
            )),
        }
    }

    /// prerouting (output): filters, and translations of the destination.
    fn before_routing(&mut self) -> Step<()> {
        let hook = if self.iif.is_some() {
            "prerouting"
        } else {
            "output"
        };
        let before = self.walk.packet.to;
        self.filter(hook)?;
        let ours = self
            .walk
            .through
            .iter()
            .any(|place| place.contains("inet slash32"));
        let mut why = vec![if ours {
            "our table was passed: the source is this pod's own".to_owned()
        } else {
            format!("nothing in the {hook} hook stops it")
        }];
        if self
            .iif
            .is_none_or(|index| !self.scene.look.facts.is_pod_link(index))
        {
            why = vec![format!("nothing in the {hook} hook stops it")];
        }
        let Some((target, by)) = self.walk.dnat.clone() else {
            self.hops.push(Hop::new(
                "rules",
                format!("{hook}: passes, {before} stays the destination"),
                why,
            ));
            return Ok(());
        };
        let choices = &mut self.walk.choices;
        choices.sort_by_key(|choice| (choice.address, choice.port));
        choices.dedup();
        let mut all: Vec<Target> = choices.clone();
        if !all.contains(&target) {
            all.push(target);
        }
        if all.len() > 1 {
            let told: Vec<String> = all.iter().map(Target::to_string).collect();
            why.push(format!("by lot, one of {}: {}; this walk goes on with {target} (write another one as --to to follow it)", all.len(), told.join(", ")));
        }
        why.push(format!("by {by}"));
        self.hops.push(Hop::new(
            "rules",
            format!("{hook}: the destination becomes {target}"),
            why,
        ));
        Ok(())
    }

    fn route(&mut self) -> Step<(u32, Option<IpAddr>, bool, Option<u32>)> {
        let packet = &self.walk.packet;
        let question = RouteQuestion {
            to: packet.to,
            from: Some(packet.from),
            iif: self.iif,
            mark: u32::try_from(packet.mark).unwrap_or(0),
        };
        let (to, v6) = (packet.to, packet.to.is_ipv6());
        let verdict = self
            .oracle
            .ask(&question)
            .map_err(|error| ends(error, "run as root on the node"))?;
        let (lookup, matched) = match verdict {
            RouteVerdict::Goes(lookup, matched) => (lookup, matched),
            RouteVerdict::WrongLink => {
                return Err(ends(
                    format!(
                        "reverse-path filtering drops it: this node would not answer to {} by the link it came from",
                        question.from.unwrap_or(to)
                    ),
                    "sysctl -w net.ipv4.conf.all.rp_filter=2, or put the way back right (ip route get)",
                ));
            }
            // The kernel refuses what it may not forward with the words for no route.
            RouteVerdict::NoWay(_) if self.iif.is_some() && !self.forwards(v6) => {
                return Err(no_forwarding());
            }
            RouteVerdict::NoWay(reason) => return Err(self.no_way(to, &reason)),
        };
        if self.iif.is_some() && !lookup.local && !self.forwards(v6) {
            return Err(no_forwarding());
        }
        let link = self.scene.look.link_name(lookup.dev);
        let via = lookup
            .via
            .map_or_else(String::new, |via| format!(" via {via}"));
        let why = matched.map(|route| {
            let owner = match route.protocol {
                32 => " (ours: protocol 32)".to_owned(),
                2 => " (the kernel's)".to_owned(),
                other => format!(" (protocol {other})"),
            };
            let table = match route.table {
                254 => "main".to_owned(),
                255 => "local".to_owned(),
                other => other.to_string(),
            };
            format!("because of the route {} in table {table}{owner}", route.dst)
        });
        let what = if lookup.local {
            format!("{to} is an address of this node")
        } else {
            format!("to {to}{via} by {link}")
        };
        self.hops
            .push(Hop::new("route", what, why.into_iter().collect()));
        let mtu = lookup.mtu.or(self
            .scene
            .look
            .facts
            .links
            .get(&lookup.dev)
            .map(|link| link.mtu));
        Ok((lookup.dev, lookup.via, lookup.local, mtu))
    }

    fn forwards(&self, v6: bool) -> bool {
        if v6 {
            self.scene.forwards_v6
        } else {
            self.scene.forwards_v4
        }
    }

    /// The kernel only says that there is none; our unreachable route for free addresses is the usual reason.
    fn no_way(&self, to: IpAddr, reason: &str) -> Outcome {
        let desired = self.scene.look.desired();
        let own =
            desired.is_some_and(|desired| desired.pod_cidrs.iter().any(|cidr| cidr.contains(to)));
        if own && self.scene.look.find_record(to).is_none() {
            return ends(
                format!(
                    "no pod of this node has {to}: the address is of this node's podCIDR, and free"
                ),
                "is the pod gone? a client may still use its old address",
            );
        }
        ends(
            format!("there is no way to {to}: {reason}"),
            "'slash32-agent status' shows whether a route is missing, 'doctor' who stands in the way",
        )
    }

    fn enter_node(&mut self) -> Step<Outcome> {
        self.filter("input")?;
        Ok(Outcome::Arrives {
            at: format!("this node itself ({})", self.walk.packet.to),
        })
    }

    /// forward, and postrouting with translations of the source.
    fn after_routing(&mut self, dev: u32) -> Step<()> {
        self.walk.packet.oif = Some(self.scene.look.link_name(dev));
        if self.iif.is_some() {
            self.filter("forward")?;
        }
        self.filter("postrouting")?;
        let from = self.walk.packet.from;
        let Some((address, by)) = self.walk.snat.clone() else {
            self.hops.push(Hop::new(
                "rules",
                format!("forward and postrouting: passes, the source stays {from}"),
                vec!["the other side sees the sender's own address".into()],
            ));
            return Ok(());
        };
        let address = address.or_else(|| self.source_by(dev));
        let told = address.map_or_else(
            || "the address of that link".to_owned(),
            |address| address.to_string(),
        );
        if let Some(address) = address {
            self.walk.packet.from = address;
        }
        self.hops.push(Hop::new(
            "rules",
            format!("postrouting: the source {from} becomes {told}"),
            vec![format!("masqueraded by {by}")],
        ));
        Ok(())
    }

    /// What masquerading chooses: the source that the kernel itself would use on that link.
    fn source_by(&mut self, dev: u32) -> Option<IpAddr> {
        let question = RouteQuestion {
            to: self.walk.packet.to,
            from: None,
            iif: None,
            mark: 0,
        };
        match self.oracle.ask(&question) {
            Ok(RouteVerdict::Goes(lookup, _)) if lookup.dev == dev => lookup.src,
            _ => None,
        }
    }

    fn out(&mut self, dev: u32, via: Option<IpAddr>, mtu: Option<u32>) -> Outcome {
        let look = self.scene.look;
        let (link, to) = (look.link_name(dev), self.walk.packet.to);
        if let Some(record) = look.records.iter().find(|record| record.host_link == link) {
            let pod = crate::commands::words::pod_name(record);
            let down = look.find_link(&link).is_some_and(|link| !link.up);
            if down {
                return ends(
                    format!("the link {link} of pod {pod} is down"),
                    format!("ip link set {link} up"),
                );
            }
            let why = "a permanent neighbour entry: nobody asks for the pod's MAC".to_owned();
            self.hops
                .push(Hop::new("link", format!("{link} into pod {pod}"), vec![why]).with_mtu(mtu));
            return Outcome::Arrives {
                at: format!("pod {pod} ({to})"),
            };
        }
        let kind = look.find_link(&link).and_then(|link| link.kind.clone());
        let how = match kind.as_deref() {
            Some("ipip") => "in IPIP",
            Some("vxlan") => "in VXLAN",
            _ => "direct",
        };
        let next = self.scene.name(via.unwrap_or(to));
        self.hops.push(
            Hop::new(
                "link",
                format!("out by {link}, {how}, to {next}"),
                Vec::new(),
            )
            .with_mtu(mtu),
        );
        Outcome::GoesOn {
            to: next,
            then: format!(
                "what becomes of it there, only that machine can tell; on a node: slash32-agent explain --from {} --to {}",
                self.walk.packet.from,
                match self.walk.packet.port {
                    Some(port) => std::net::SocketAddr::new(to, port).to_string(),
                    None => to.to_string(),
                }
            ),
        }
    }
}
