//! Applying route steps: batched, one result per step.

use std::collections::{BTreeMap, BTreeSet};

use netlink_packet_route::route::RouteMessage;

use super::{RouteKey, RouteOp, RouteSpec, encode};
use crate::error::{KernelError, Refusal, Result};
use crate::names::ROUTE_PROTOCOL;
use crate::netlink::{Netlink, RTM_DELROUTE, RTM_NEWROUTE};
use crate::wire::batch::{Batch, F_CREATE, F_EXCL, F_REPLACE};

/// Messages of one `send`. Were all of them refused, their answers would still fit the socket's default buffer.
const CHUNK: usize = 200;
/// Steps from which on the kernel's search for nexthops is felt: see [`encode::new_message_of_many`].
const MANY: usize = 512;

impl Netlink {
    /// Applies the steps in order, batched; the kernel goes on after one that fails. One result per step, in order.
    pub fn apply_routes(&mut self, ops: &[RouteOp]) -> Vec<Result<()>> {
        let mut own = match self.own_keys(ops) {
            Ok(own) => own,
            Err(error) => return ops.iter().map(|_| Err(error.clone())).collect(),
        };
        let encode_new = if ops.len() > MANY {
            encode::new_message_of_many
        } else {
            encode::new_message
        };
        let mut results = Vec::with_capacity(ops.len());
        for chunk in ops.chunks(CHUNK) {
            let mut batch = Batch::new();
            for op in chunk {
                push(&mut batch, op, &mut own, encode_new);
            }
            results.extend(self.send_chunk(chunk, &mut batch));
        }
        results
    }

    fn send_chunk(&mut self, chunk: &[RouteOp], batch: &mut Batch) -> Vec<Result<()>> {
        let refused = match self.channel.exchange(batch, &mut |_, _| {}) {
            Ok(refused) => refused,
            Err(refusal) => {
                return chunk
                    .iter()
                    .map(|op| Err(refusal.clone().during(describe(op))))
                    .collect();
            }
        };
        let mut refused: BTreeMap<usize, Refusal> = refused.into_iter().collect();
        let result = |(i, op)| match refused.remove(&i) {
            Some(refusal) if matches!(op, &RouteOp::Remove(_)) && is_absent(&refusal) => Ok(()),
            Some(refusal) => Err(refusal.during(describe(op))),
            None => Ok(()),
        };
        chunk.iter().enumerate().map(result).collect()
    }

    /// The keys that are ours now, of the tables in which something is to be replaced: an IPv4 replace takes whatever has the
    /// key, so it may only be sent where we have just seen that it is ours.
    fn own_keys(&mut self, ops: &[RouteOp]) -> Result<BTreeSet<RouteKey>> {
        let tables: BTreeSet<u32> = ops.iter().filter_map(replaced_table).collect();
        let mut own = BTreeSet::new();
        for table in tables {
            own.extend(
                self.dump_routes(table, Some(ROUTE_PROTOCOL))?
                    .into_iter()
                    .map(|route| route.spec.key),
            );
        }
        Ok(own)
    }

    /// Says in the error what has the key. Only ever called after EEXIST: it reads the whole table.
    pub(crate) fn name_the_route_in_the_way(
        &mut self,
        mut error: KernelError,
        wanted: &RouteKey,
    ) -> KernelError {
        let routes = self.list_routes(wanted.table).unwrap_or_default();
        if let Some(route) = routes.iter().find(|route| route.spec.key == *wanted) {
            let link = route
                .spec
                .dev
                .and_then(|dev| self.find_link_by_index(dev).ok().flatten());
            let link = link
                .map(|link| format!(" ({})", link.name))
                .unwrap_or_default();
            error.message = format!(
                "in the way is the route {}{link} of protocol {}",
                route.spec, route.protocol
            );
        }
        error
    }
}

type EncodeNew = fn(&RouteSpec) -> RouteMessage;

fn push(batch: &mut Batch, op: &RouteOp, own: &mut BTreeSet<RouteKey>, encode_new: EncodeNew) {
    match op {
        RouteOp::Add(spec) => push_new(batch, &encode_new(spec), F_EXCL),
        RouteOp::Replace(spec) if own.contains(&spec.key) => {
            push_new(batch, &encode_new(spec), F_REPLACE)
        }
        RouteOp::Replace(spec) => push_new(batch, &encode_new(spec), F_EXCL),
        RouteOp::Remove(spec) => {
            own.remove(&spec.key);
            batch.push(RTM_DELROUTE, 0, &encode::remove_message(&spec.key));
        }
    }
}

fn push_new(batch: &mut Batch, message: &RouteMessage, how: u16) {
    batch.push(RTM_NEWROUTE, F_CREATE | how, message);
}

fn replaced_table(op: &RouteOp) -> Option<u32> {
    match op {
        RouteOp::Replace(spec) => Some(spec.key.table),
        RouteOp::Add(_) | RouteOp::Remove(_) => None,
    }
}

/// ESRCH: no such route; ENOENT: no such table.
fn is_absent(refusal: &Refusal) -> bool {
    [libc::ESRCH, libc::ENOENT].contains(&refusal.errno)
}

fn describe(op: &RouteOp) -> String {
    match op {
        RouteOp::Add(spec) => format!("add route {spec}"),
        RouteOp::Replace(spec) => format!("replace route {spec}"),
        RouteOp::Remove(spec) => format!("remove route {spec}"),
    }
}
