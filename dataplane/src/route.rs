//! Routes: ours by protocol 32, everybody else's for looking at only.
//!
//! An Add is exclusive, so a foreign route in the way is an error and never replaced; a Replace goes only to a key that was
//! just seen to be ours; a Remove names our protocol, so the kernel itself refuses to take a foreign one. Who calls: the
//! agent (peers), the plugin (CHECK), `pod_side` (a pod's own routes).

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::error::Result;
use crate::names::{PRIORITY_DEFAULT_V6, ROUTE_PROTOCOL, TABLE_MAIN};
use crate::netlink::{Netlink, RTM_GETROUTE};
use crate::wire::batch::{Batch, F_DUMP};

mod apply;
mod decode;
pub(crate) mod encode;
pub mod question;

use decode::{lookup_from, route_from};

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RouteKind {
    /// It goes on, through a link.
    Unicast,
    /// It is refused with an ICMP error.
    Unreachable,
    /// It is dropped in silence.
    Blackhole,
}

/// The kernel's own key of a route.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteKey {
    /// Destination; host bits are zero.
    pub dst: IpNetwork,
    /// Number of the table; 254 is main.
    pub table: u32,
    /// Metric. For IPv6 the kernel turns 0 into 1024, and shows 1024: see [`RouteKey::main`].
    pub priority: u32,
}

impl RouteKey {
    /// In table main with the kernel's default priority of the family, as the kernel will show it: 0 for IPv4, 1024 for IPv6.
    pub fn main(dst: IpNetwork) -> RouteKey {
        RouteKey {
            dst,
            table: TABLE_MAIN,
            priority: if dst.is_ipv4() {
                0
            } else {
                PRIORITY_DEFAULT_V6
            },
        }
    }
}

/// A route as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteSpec {
    /// The kernel's key.
    pub key: RouteKey,
    /// What becomes of a packet.
    pub kind: RouteKind,
    /// Next hop; `None`: the destination is on the link.
    pub via: Option<IpAddr>,
    /// Index of the link; `None` for a route that is not unicast or has several next hops.
    pub dev: Option<u32>,
    /// The next hop is on the link whatever the kernel thinks.
    pub onlink: bool,
    /// Path MTU in bytes.
    pub mtu: Option<u32>,
    /// Source address that the node itself prefers.
    pub src: Option<IpAddr>,
}

/// A route as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteInfo {
    /// The values that we can set.
    pub spec: RouteSpec,
    /// Who made it: 32 is us, 2 the kernel, 3 boot, 4 static.
    pub protocol: u8,
    /// 0 universe, 253 link.
    pub scope: u8,
    /// Neither dead nor on a link without carrier.
    pub usable: bool,
}

/// How the kernel would reach an address now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteLookup {
    /// Index of the outgoing link.
    pub dev: u32,
    /// Next hop; `None`: the address is on the link.
    pub via: Option<IpAddr>,
    /// Source address that the kernel would choose.
    pub src: Option<IpAddr>,
    /// The address is one of this node's own.
    pub local: bool,
    /// Path MTU of the route, where it has one.
    pub mtu: Option<u32>,
}

/// One step of a reconcile pass. At most one per key in a call of [`Netlink::apply_routes`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteOp {
    /// Nobody has the key; EEXIST when somebody does.
    Add(RouteSpec),
    /// Ours is there with this key, with other values. EEXIST when it turns out to be somebody else's.
    Replace(RouteSpec),
    /// Ours with this key goes, whatever its values. Absent, or somebody else's, is done.
    Remove(RouteSpec),
}

impl Netlink {
    /// Routes of our protocol in table main, both families. The kernel filters.
    pub fn list_own_routes(&mut self) -> Result<Vec<RouteInfo>> {
        self.dump_routes(TABLE_MAIN, Some(ROUTE_PROTOCOL))
    }

    /// Unicast, unreachable and blackhole routes of one table, whoever made them, both families.
    pub fn list_routes(&mut self, table: u32) -> Result<Vec<RouteInfo>> {
        self.dump_routes(table, None)
    }

    /// How the kernel would reach `to` now. ENETUNREACH and EHOSTUNREACH: it would not.
    pub fn lookup_route(&mut self, to: IpAddr) -> Result<RouteLookup> {
        let what = || format!("look up the route to {to}");
        let mut found = None;
        let mut batch = Batch::new();
        batch.push(RTM_GETROUTE, 0, &encode::lookup_message(to));
        self.request_with(
            &mut batch,
            &mut |message| found = found.take().or_else(|| lookup_from(message)),
            what,
        )?;
        found.ok_or_else(|| {
            crate::error::KernelError::other(what(), "the kernel's answer holds no route")
        })
    }

    pub(super) fn dump_routes(
        &mut self,
        table: u32,
        protocol: Option<u8>,
    ) -> Result<Vec<RouteInfo>> {
        let what = || format!("list routes of table {table}");
        let mut routes = Vec::new();
        for v6 in [false, true] {
            let request = |batch: &mut Batch| {
                batch.push(
                    RTM_GETROUTE,
                    F_DUMP,
                    &encode::dump_message(v6, table, protocol),
                );
            };
            // The family is looked at again: a kernel without IPv6 answers its dump with all families that it has.
            let parse = |message: crate::wire::message::Message<'_>| {
                let route =
                    route_from(message).filter(|route| route.spec.key.dst.is_ipv6() == v6)?;
                let wanted =
                    route.spec.key.table == table && protocol.is_none_or(|p| p == route.protocol);
                wanted.then_some(route)
            };
            match self.dump(request, parse, what) {
                Ok(found) => routes.extend(found),
                // The table has not been used since boot, or the kernel runs without IPv6.
                Err(error) if error.errno == libc::ENOENT => {}
                Err(error)
                    if v6 && [libc::EOPNOTSUPP, libc::EAFNOSUPPORT].contains(&error.errno) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(routes)
    }
}

/// In the words of `ip route`.
impl RouteSpec {
    /// A destination that is reached on the link itself, without a gateway.
    pub fn on_link(key: RouteKey, index: u32) -> RouteSpec {
        RouteSpec {
            key,
            kind: RouteKind::Unicast,
            via: None,
            dev: Some(index),
            onlink: false,
            mtu: None,
            src: None,
        }
    }
}

impl fmt::Display for RouteSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            RouteKind::Unicast => {}
            RouteKind::Unreachable => f.write_str("unreachable ")?,
            RouteKind::Blackhole => f.write_str("blackhole ")?,
        }
        write!(f, "{}", self.key.dst)?;
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        if let Some(dev) = self.dev {
            write!(f, " dev #{dev}")?;
        }
        if self.onlink {
            f.write_str(" onlink")?;
        }
        if self.key.table != TABLE_MAIN {
            write!(f, " table {}", self.key.table)?;
        }
        if self.key.priority != 0 {
            write!(f, " metric {}", self.key.priority)?;
        }
        if let Some(mtu) = self.mtu {
            write!(f, " mtu {mtu}")?;
        }
        if let Some(src) = self.src {
            write!(f, " src {src}")?;
        }
        Ok(())
    }
}

/// What this module makes of any message.
#[cfg(any(test, fuzzing))]
pub(crate) fn decode_any(message: crate::wire::message::Message<'_>) {
    if let Some(route) = decode::route_from(message) {
        let _ = route.spec.to_string();
    }
    let _ = decode::lookup_from(message);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_reads_like_ip_route() {
        let spec = RouteSpec {
            key: RouteKey {
                priority: 7,
                ..RouteKey::main("10.1.2.0/24".parse().unwrap())
            },
            kind: RouteKind::Unicast,
            via: Some("10.0.0.2".parse().unwrap()),
            dev: Some(3),
            onlink: true,
            mtu: Some(1480),
            src: None,
        };
        assert_eq!(
            spec.to_string(),
            "10.1.2.0/24 via 10.0.0.2 dev #3 onlink metric 7 mtu 1480"
        );
    }

    #[test]
    fn the_default_key_is_what_the_kernel_will_show() {
        assert_eq!(RouteKey::main("10.0.0.0/8".parse().unwrap()).priority, 0);
        assert_eq!(RouteKey::main("fd00::/64".parse().unwrap()).priority, 1024);
    }
}
