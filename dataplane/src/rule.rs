//! Policy rules (`ip rule`): which table is asked for which packet. Read only; we make none.
//!
//! Who calls: the agent's `explain` and `bundle`, since a rule of somebody else's can send packets past every route of ours.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::error::Result;
use crate::names::TABLE_MAIN;
use crate::netlink::Netlink;
use crate::wire::attribute::Attributes;
use crate::wire::batch::{Batch, F_DUMP};
use crate::wire::message::Message;

const RTM_NEWRULE: u16 = 32;
const RTM_GETRULE: u16 = 34;
/// Bytes of `struct fib_rule_hdr`: family, dst_len, src_len, tos, table, two reserved, action (u8 each), flags u32.
const HEADER: usize = 12;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
const FRA_IIFNAME: u16 = 3;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const FRA_OIFNAME: u16 = 17;
const FR_ACT_TO_TBL: u8 = 1;
const TABLE_LOCAL: u32 = 255;
const TABLE_DEFAULT: u32 = 253;

/// One rule, as far as we read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleInfo {
    /// IPv6, else IPv4.
    pub v6: bool,
    /// Lower ones are asked first.
    pub priority: u32,
    /// Sources, where it names any.
    pub from: Option<IpNetwork>,
    /// Destinations.
    pub to: Option<IpNetwork>,
    /// Incoming link.
    pub iif: Option<String>,
    /// Outgoing link, of local packets.
    pub oif: Option<String>,
    /// Mark and mask.
    pub mark: Option<(u32, u32)>,
    /// The table that it asks; `None`: it does something else (unreachable, goto, ...).
    pub table: Option<u32>,
}

impl RuleInfo {
    /// One of the three that every kernel has.
    pub fn is_default(&self) -> bool {
        let open = self.from.is_none()
            && self.to.is_none()
            && self.iif.is_none()
            && self.oif.is_none()
            && self.mark.is_none();
        open && matches!(
            (self.priority, self.table),
            (0, Some(TABLE_LOCAL)) | (32_766, Some(TABLE_MAIN)) | (32_767, Some(TABLE_DEFAULT))
        )
    }
}

impl Netlink {
    /// All policy rules, both families, in the order in which they are asked.
    pub fn list_rules(&mut self) -> Result<Vec<RuleInfo>> {
        let mut rules = Vec::new();
        for family in [AF_INET, AF_INET6] {
            let request = |batch: &mut Batch| {
                batch.push_with(RTM_GETRULE, F_DUMP, |out| {
                    out.extend_from_slice(&[0; HEADER]);
                    let start = out.len() - HEADER;
                    out[start] = family;
                });
            };
            let parse = |message: Message<'_>| {
                rule_from(message).filter(|rule| rule.v6 == (family == AF_INET6))
            };
            match self.dump(request, parse, || "list policy rules".into()) {
                Ok(found) => rules.extend(found),
                Err(error) if [libc::EOPNOTSUPP, libc::EAFNOSUPPORT].contains(&error.errno) => {}
                Err(error) => return Err(error),
            }
        }
        rules.sort_by_key(|rule| (rule.v6, rule.priority));
        Ok(rules)
    }
}

fn rule_from(message: Message<'_>) -> Option<RuleInfo> {
    if message.kind != RTM_NEWRULE {
        return None;
    }
    let header: [u8; HEADER] = message.payload.get(..HEADER)?.try_into().ok()?;
    let attributes = Attributes::after(message.payload, HEADER);
    let number = |kind| attributes.find_kind(kind).and_then(|found| found.u32());
    let network = |kind, length| {
        let ip: IpAddr = attributes.find_kind(kind)?.ip()?;
        IpNetwork::new(ip, length).ok()
    };
    let name = |kind| attributes.find_kind(kind).and_then(|found| found.string());
    let table = number(FRA_TABLE).unwrap_or(u32::from(header[4]));
    Some(RuleInfo {
        v6: header[0] == AF_INET6,
        priority: number(FRA_PRIORITY).unwrap_or_default(),
        from: network(FRA_SRC, header[2]),
        to: network(FRA_DST, header[1]),
        iif: name(FRA_IIFNAME),
        oif: name(FRA_OIFNAME),
        mark: number(FRA_FWMARK).map(|mark| (mark, number(FRA_FWMASK).unwrap_or(u32::MAX))),
        table: (header[7] == FR_ACT_TO_TBL).then_some(table),
    })
}

/// In the words of `ip rule`.
impl fmt::Display for RuleInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = self
            .from
            .map_or_else(|| "all".to_owned(), |from| from.to_string());
        write!(f, "{}: from {from}", self.priority)?;
        if let Some(to) = self.to {
            write!(f, " to {to}")?;
        }
        if let Some((mark, mask)) = self.mark {
            write!(f, " fwmark {mark:#x}/{mask:#x}")?;
        }
        if let Some(iif) = &self.iif {
            write!(f, " iif {iif}")?;
        }
        if let Some(oif) = &self.oif {
            write!(f, " oif {oif}")?;
        }
        match self.table {
            Some(TABLE_MAIN) => f.write_str(" lookup main"),
            Some(TABLE_LOCAL) => f.write_str(" lookup local"),
            Some(TABLE_DEFAULT) => f.write_str(" lookup default"),
            Some(table) => write!(f, " lookup {table}"),
            None => f.write_str(" (not a look-up)"),
        }
    }
}
