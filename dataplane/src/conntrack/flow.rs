//! One tracked connection: what of it we read, and the two judgements over it. Pure.

use std::net::IpAddr;

use crate::hostport::PortEntry;
use crate::nfnetlink::{HEADER, SUBSYS_CTNETLINK};
use crate::wire::attribute::{Attribute, Attributes, ip_to_bytes, nest, put};
use crate::wire::message::Message;

/// `IPCTNL_MSG_CT_NEW`: an entry.
const CT_NEW: u16 = SUBSYS_CTNETLINK << 8;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

pub(super) const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
pub(super) const CTA_ID: u16 = 12;
pub(super) const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;

const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;

/// `CTA_FILTER_F_*` of nf_internals.h.
const F_IP_SRC: u32 = 1 << 0;
const F_PROTO_NUM: u32 = 1 << 3;
const F_PROTO_SRC_PORT: u32 = 1 << 4;
const F_PROTO_DST_PORT: u32 = 1 << 5;

/// `IPS_DST_NAT`: its destination was translated.
const STATUS_DST_NAT: u32 = 1 << 5;

/// One direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tuple {
    pub(super) src: IpAddr,
    pub(super) dst: IpAddr,
    pub(super) protocol: u8,
    pub(super) src_port: u16,
    pub(super) dst_port: u16,
}

/// A tracked connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Flow {
    pub(super) family: u8,
    /// As the client sent it.
    pub(super) original: Tuple,
    /// As the server answers: its source is where the connection really leads.
    pub(super) reply: Tuple,
    pub(super) status: u32,
    /// As read, to name exactly this entry.
    pub(super) raw_tuple: Vec<u8>,
    pub(super) raw_id: Vec<u8>,
    pub(super) raw_zone: Option<Vec<u8>>,
}

/// To this host port of this node, and not leading to this pod.
pub(super) fn is_stale(flow: &Flow, entry: &PortEntry, local: &[IpAddr]) -> bool {
    to_host_port(flow, entry)
        && is_local(flow.original.dst, local)
        && (flow.reply.src, flow.reply.src_port) != (entry.pod_ip, entry.container_port)
}

/// Translated from this host port to this pod.
pub(super) fn is_released(flow: &Flow, entry: &PortEntry) -> bool {
    to_host_port(flow, entry)
        && flow.status & STATUS_DST_NAT != 0
        && (flow.reply.src, flow.reply.src_port) == (entry.pod_ip, entry.container_port)
}

fn to_host_port(flow: &Flow, entry: &PortEntry) -> bool {
    flow.original.protocol == entry.key.protocol
        && flow.original.dst_port == entry.key.host_port
        && flow.original.dst.is_ipv6() == entry.key.v6
        && entry.key.host_ip.is_none_or(|ip| ip == flow.original.dst)
}

fn is_local(ip: IpAddr, local: &[IpAddr]) -> bool {
    ip.is_loopback() || local.contains(&ip)
}

/// `None` where the message is no entry, or one without ports (ICMP).
pub(super) fn flow_from(message: &Message<'_>) -> Option<Flow> {
    if message.kind != CT_NEW {
        return None;
    }
    let attributes = Attributes::after(message.payload, HEADER);
    let original = attributes.find_kind(CTA_TUPLE_ORIG)?;
    Some(Flow {
        family: *message.payload.first()?,
        original: tuple_from(&original)?,
        reply: tuple_from(&attributes.find_kind(CTA_TUPLE_REPLY)?)?,
        status: attributes
            .find_kind(CTA_STATUS)
            .and_then(|status| status.be32())
            .unwrap_or_default(),
        raw_tuple: original.value.to_vec(),
        raw_id: attributes.find_kind(CTA_ID)?.value.to_vec(),
        raw_zone: attributes
            .find_kind(CTA_ZONE)
            .map(|zone| zone.value.to_vec()),
    })
}

fn tuple_from(attribute: &Attribute<'_>) -> Option<Tuple> {
    let ip = attribute.nested().find_kind(CTA_TUPLE_IP)?.nested();
    let proto = attribute.nested().find_kind(CTA_TUPLE_PROTO)?.nested();
    let either = |v4, v6| ip.find_kind(v4).or(ip.find_kind(v6))?.ip();
    Some(Tuple {
        src: either(CTA_IP_V4_SRC, CTA_IP_V6_SRC)?,
        dst: either(CTA_IP_V4_DST, CTA_IP_V6_DST)?,
        protocol: proto.find_kind(CTA_PROTO_NUM)?.u8()?,
        src_port: proto.find_kind(CTA_PROTO_SRC_PORT)?.be16()?,
        dst_port: proto.find_kind(CTA_PROTO_DST_PORT)?.be16()?,
    })
}

/// What the kernel shall leave out of a reading.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Filter {
    v6: bool,
    ports: Option<Ports>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Ports {
    /// Destination of the original direction.
    Original { protocol: u8, dst_port: u16 },
    /// Source of the reply.
    Reply {
        protocol: u8,
        src: IpAddr,
        src_port: u16,
    },
}

impl Filter {
    pub(super) fn to_host_port(entry: &PortEntry) -> Filter {
        let ports = Ports::Original {
            protocol: entry.key.protocol,
            dst_port: entry.key.host_port,
        };
        Filter {
            v6: entry.key.v6,
            ports: Some(ports),
        }
    }

    pub(super) fn from_pod(entry: &PortEntry) -> Filter {
        let (src, src_port) = (entry.pod_ip, entry.container_port);
        let ports = Ports::Reply {
            protocol: entry.key.protocol,
            src,
            src_port,
        };
        Filter {
            v6: entry.key.v6,
            ports: Some(ports),
        }
    }

    pub(super) fn family(v6: bool) -> Filter {
        Filter { v6, ports: None }
    }

    pub(super) fn without_ports(&self) -> Filter {
        Filter::family(self.v6)
    }

    pub(super) fn family_number(&self) -> u8 {
        if self.v6 { AF_INET6 } else { AF_INET }
    }

    /// A tuple and the flags that say which of its fields count (`CTA_FILTER`).
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let (tuple, orig, reply) = match &self.ports {
            None => return,
            Some(Ports::Original { .. }) => (CTA_TUPLE_ORIG, F_PROTO_NUM | F_PROTO_DST_PORT, 0),
            Some(Ports::Reply { .. }) => (
                CTA_TUPLE_REPLY,
                0,
                F_IP_SRC | F_PROTO_NUM | F_PROTO_SRC_PORT,
            ),
        };
        nest(out, tuple, |out| self.put_tuple(out));
        nest(out, CTA_FILTER, |out| {
            put(out, CTA_FILTER_ORIG_FLAGS, &u32::to_ne_bytes(orig));
            put(out, CTA_FILTER_REPLY_FLAGS, &u32::to_ne_bytes(reply));
        });
    }

    fn put_tuple(&self, out: &mut Vec<u8>) {
        let (protocol, kind, port) = match &self.ports {
            None => return,
            Some(Ports::Original { protocol, dst_port }) => {
                (*protocol, CTA_PROTO_DST_PORT, *dst_port)
            }
            Some(Ports::Reply {
                protocol,
                src,
                src_port,
            }) => {
                let kind = if self.v6 {
                    CTA_IP_V6_SRC
                } else {
                    CTA_IP_V4_SRC
                };
                nest(out, CTA_TUPLE_IP, |out| put(out, kind, &ip_to_bytes(*src)));
                (*protocol, CTA_PROTO_SRC_PORT, *src_port)
            }
        };
        nest(out, CTA_TUPLE_PROTO, |out| {
            put(out, CTA_PROTO_NUM, &[protocol]);
            put(out, kind, &port.to_be_bytes());
        });
    }
}

#[cfg(test)]
mod tests;
