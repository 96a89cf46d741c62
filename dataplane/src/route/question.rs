//! What the kernel would do with one given packet: asked in full, with source, incoming link and mark, as the packet itself
//! would ask. Policy rules and reverse-path filters answer too. Who calls: the agent's `doctor` and `explain`.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteAttribute, RouteFlags, RouteMessage};

use super::RouteLookup;
use super::decode::{lookup_from, matched_from};
use crate::error::{KernelError, Result};
use crate::netlink::{Netlink, RTM_GETROUTE};
use crate::wire::batch::Batch;

/// `RTM_F_FIB_MATCH`: answer with the route that matched, not with what became of it; `RTM_F_LOOKUP_TABLE`: and its table.
const FIB_MATCH: u32 = 0x2000 | 0x1000;

/// A packet, as far as routing looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteQuestion {
    /// Destination.
    pub to: IpAddr,
    /// Source; without one the kernel chooses, as for a packet of this node's own.
    pub from: Option<IpAddr>,
    /// Index of the link by which it comes in; `None`: this node itself sends it.
    pub iif: Option<u32>,
    /// Mark (`fwmark`), 0 for none.
    pub mark: u32,
}

/// The route that decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatchedRoute {
    /// Its destination.
    pub dst: IpNetwork,
    /// Number of its table; 254 is main, 255 local.
    pub table: u32,
    /// Who made it: 32 is us.
    pub protocol: u8,
    /// Metric.
    pub priority: u32,
}

/// What the kernel says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteVerdict {
    /// It goes this way; the route that said so, where the kernel tells it.
    Goes(RouteLookup, Option<MatchedRoute>),
    /// A reverse-path filter drops it: this node would not answer by that link (EXDEV).
    WrongLink,
    /// There is no way, or a route that forbids it: unreachable, blackhole, prohibit; the errno's words.
    NoWay(String),
}

impl Netlink {
    /// Asks; only what is no answer at all is an error.
    pub fn ask_route(&mut self, question: &RouteQuestion) -> Result<RouteVerdict> {
        let mut found = None;
        let asked = self.ask(question, 0, &mut |message| {
            found = found.take().or_else(|| lookup_from(message));
        });
        match asked {
            Ok(()) => {}
            Err(error) if error.errno == libc::EXDEV => return Ok(RouteVerdict::WrongLink),
            // Since 6.12 the kernel says EINVAL of every packet that it would not let in.
            Err(error) if error.errno == libc::EINVAL && self.is_wrong_link(question)? => {
                return Ok(RouteVerdict::WrongLink);
            }
            Err(error) if is_refusal(error.errno) => return Ok(RouteVerdict::NoWay(error.message)),
            Err(error) => return Err(error),
        }
        let lookup = found.ok_or_else(|| {
            KernelError::other(describe(question), "the kernel's answer holds no route")
        })?;
        let mut matched = None;
        // A kernel before 4.13 does not know the flag: the way is known all the same.
        let _ = self.ask(question, FIB_MATCH, &mut |message| {
            matched = matched.take().or_else(|| matched_from(message));
        });
        Ok(RouteVerdict::Goes(lookup, matched))
    }

    /// The destination can be reached, and the way back to the source is by another link.
    fn is_wrong_link(&mut self, question: &RouteQuestion) -> Result<bool> {
        let (Some(iif), Some(from)) = (question.iif, question.from) else {
            return Ok(false);
        };
        let mut links = [None; 2];
        for (link, to) in links.iter_mut().zip([question.to, from]) {
            match self.lookup_route(to) {
                Ok(way) => *link = Some(way.dev),
                Err(error) if is_refusal(error.errno) => {}
                Err(error) => return Err(error),
            }
        }
        let [there, back] = links;
        Ok(there.is_some() && back != Some(iif))
    }

    fn ask(
        &mut self,
        question: &RouteQuestion,
        flags: u32,
        sink: &mut dyn FnMut(crate::wire::message::Message<'_>),
    ) -> Result<()> {
        let mut batch = Batch::new();
        batch.push(RTM_GETROUTE, 0, &message(question, flags));
        self.request_with(&mut batch, sink, || describe(question))
    }
}

/// What a route that forbids, or none at all, is answered with.
fn is_refusal(errno: i32) -> bool {
    [
        libc::ENETUNREACH,
        libc::EHOSTUNREACH,
        libc::EACCES,
        libc::EINVAL,
        libc::ENODEV,
    ]
    .contains(&errno)
}

fn describe(question: &RouteQuestion) -> String {
    let from = question
        .from
        .map_or_else(String::new, |from| format!(" from {from}"));
    let iif = question
        .iif
        .map_or_else(String::new, |index| format!(" that came by link #{index}"));
    format!("look up the route to {}{from}{iif}", question.to)
}

fn message(question: &RouteQuestion, flags: u32) -> RouteMessage {
    let length = if question.to.is_ipv6() { 128 } else { 32 };
    let mut message = RouteMessage::default();
    message.header.address_family = if question.to.is_ipv6() {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    };
    message.header.destination_prefix_length = length;
    message.header.flags = RouteFlags::from_bits_retain(flags);
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Destination(question.to.into()));
    if let Some(from) = question.from {
        attributes.push(RouteAttribute::Source(from.into()));
        message.header.source_prefix_length = length;
    }
    attributes.extend(question.iif.map(RouteAttribute::Iif));
    if question.mark != 0 {
        attributes.push(RouteAttribute::Mark(question.mark));
    }
    message
}
