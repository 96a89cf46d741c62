//! Connections that the kernel still tracks to a former owner of a host port.
//!
//! A tracked connection keeps the way it was given, whatever the maps say since: a UDP client of the old pod would go into the
//! void for as long as it sends. So ADD deletes what does not lead to the new pod, DEL what led to the old one. An entry is
//! only ever deleted one by one, by the very tuple and id that were read, after our own judgement in userland: the kernel's
//! filter (since 5.8) merely spares us reading the rest, and its filtered flush (6.9) cannot tell a connection to this node's
//! port 443 from one that a pod opened to somebody else's. Who calls: the plugin.

use std::net::IpAddr;

use crate::error::{KernelError, Refusal, Result};
use crate::hostport::PortEntry;
use crate::nfnetlink::{SUBSYS_CTNETLINK, push};
use crate::wire::attribute::{nest, put};
use crate::wire::batch::{Batch, F_DUMP};
use crate::wire::channel::Channel;

mod flow;
use flow::{Filter, Flow, flow_from, is_released, is_stale};

const CT_GET: u16 = SUBSYS_CTNETLINK << 8 | 1;
const CT_DELETE: u16 = SUBSYS_CTNETLINK << 8 | 2;
/// More ports than this are looked for in one unfiltered reading of the table: each filtered one walks the whole of it too.
const MAX_FILTERED: usize = 4;
/// Deletions of one send.
const CHUNK: usize = 200;

/// Deletes entries to this node's own addresses (`local`; 127.0.0.0/8 and ::1 are always in it) and one of these host ports
/// that do not lead to its pod: for ADD, after the elements were added (X3). How many there were.
pub fn flush_stale(entries: &[PortEntry], local: &[IpAddr]) -> Result<u32> {
    let filter = |entry: &PortEntry| Filter::to_host_port(entry);
    flush(entries, filter, |flow| {
        entries.iter().any(|entry| is_stale(flow, entry, local))
    })
}

/// Deletes entries that were translated from one of these host ports to its pod: for DEL, after the elements were removed.
/// How many there were.
pub fn flush_released(entries: &[PortEntry]) -> Result<u32> {
    flush(entries, Filter::from_pod, |flow| {
        entries.iter().any(|entry| is_released(flow, entry))
    })
}

fn flush(
    entries: &[PortEntry],
    filter: impl Fn(&PortEntry) -> Filter,
    doomed: impl Fn(&Flow) -> bool,
) -> Result<u32> {
    if entries.is_empty() {
        return Ok(0);
    }
    let what = || format!("delete tracked connections of {} host ports", entries.len());
    let mut channel = crate::nfnetlink::open().map_err(|e| KernelError::from_io(what(), &e))?;
    let mut flows = Vec::new();
    for filter in filters(entries, filter) {
        flows.extend(
            dump(&mut channel, &filter, &doomed).map_err(|refusal| refusal.during(what()))?,
        );
    }
    flows.sort();
    flows.dedup();
    let mut deleted = 0;
    for chunk in flows.chunks(CHUNK) {
        deleted += delete(&mut channel, chunk).map_err(|refusal| refusal.during(what()))?;
    }
    Ok(deleted)
}

/// What to read: the flows of each port, or of everything in the families.
fn filters(entries: &[PortEntry], filter: impl Fn(&PortEntry) -> Filter) -> Vec<Filter> {
    let mut filters: Vec<Filter> = entries.iter().map(&filter).collect();
    if filters.len() > MAX_FILTERED {
        filters = entries
            .iter()
            .map(|entry| Filter::family(entry.key.v6))
            .collect();
    }
    filters.sort();
    filters.dedup();
    filters
}

fn dump(
    channel: &mut Channel,
    filter: &Filter,
    doomed: &impl Fn(&Flow) -> bool,
) -> std::result::Result<Vec<Flow>, Refusal> {
    let mut read = |filter: &Filter| {
        let request = |batch: &mut Batch| {
            push(batch, CT_GET, F_DUMP, filter.family_number(), |out| {
                filter.put(out)
            })
        };
        channel.dump(request, |message| flow_from(&message).filter(doomed))
    };
    match read(filter) {
        // A kernel that does not know this filter.
        Err(refusal) if [libc::EINVAL, libc::EOPNOTSUPP].contains(&refusal.errno) => {
            read(&filter.without_ports())
        }
        result => result,
    }
}

/// By tuple and id: were the connection gone and a like one there by now, the kernel would say ENOENT.
fn delete(channel: &mut Channel, flows: &[Flow]) -> std::result::Result<u32, Refusal> {
    let mut batch = Batch::new();
    for flow in flows {
        push(&mut batch, CT_DELETE, 0, flow.family, |out| {
            nest(out, flow::CTA_TUPLE_ORIG, |out| {
                out.extend_from_slice(&flow.raw_tuple)
            });
            put(out, flow::CTA_ID, &flow.raw_id);
            if let Some(zone) = &flow.raw_zone {
                put(out, flow::CTA_ZONE, zone);
            }
        });
    }
    let refused = channel.exchange(&mut batch, &mut |_, _| {})?;
    match refused
        .iter()
        .find(|(_, refusal)| refusal.errno != libc::ENOENT)
    {
        Some((_, refusal)) => Err(refusal.clone()),
        None => Ok((flows.len() - refused.len()) as u32),
    }
}

/// What this module makes of any message.
#[cfg(any(test, fuzzing))]
pub(crate) fn decode_any(message: &crate::wire::message::Message<'_>) {
    let _ = flow::flow_from(message);
}
