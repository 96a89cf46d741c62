//! What wakes the agent: changes of routes, links, addresses, our nftables table, and those tables of others where rules of
//! ours may be.
//!
//! An event carries nothing that is trusted; the agent reads whole state afterwards. So what arrives together is told once per
//! kind, and a lost event is no loss but an [`Event::Overrun`]. Who calls: one thread of the agent that does nothing else.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};

use crate::error::{KernelError, Result};
use crate::names::NFT_TABLE;
use crate::netlink::{
    RTM_DELADDR, RTM_DELLINK, RTM_DELNEIGH, RTM_DELROUTE, RTM_NEWADDR, RTM_NEWLINK, RTM_NEWNEIGH,
    RTM_NEWROUTE,
};
use crate::nfnetlink::{
    HEADER as NF_HEADER, NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6, SUBSYS_NFTABLES,
};
use crate::wire::attribute::Attributes;
use crate::wire::message::{Message, messages};

/// Link, neighbour, IPv4 address, IPv4 route, IPv4 rule, IPv6 address, IPv6 route, IPv6 rule (`RTNLGRP_*`).
const ROUTE_GROUPS: [u32; 8] = [1, 3, 5, 7, 8, 9, 11, 19];
const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
/// `NFNLGRP_NFTABLES`.
const NFT_GROUP: u32 = 7;
const NFT_MSG_NEWGEN: u16 = SUBSYS_NFTABLES << 8 | 15;
const NAME_OF_TABLE: u16 = 1;
/// The default of 208 KiB holds some 250 changes of routes.
const RECEIVE_BUFFER: usize = 8 << 20;
const DATAGRAM: usize = 64 * 1024;
/// Datagrams that are read at most before what they say is told: a storm must not keep the agent asleep.
const BURST: usize = 256;

/// What woke us. The agent reads whole state afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Event {
    /// A route came, changed or went.
    Route,
    /// A link came, changed or went.
    Link,
    /// An address came or went.
    Address,
    /// A neighbour or forwarding entry of this link. On a busy node these come by the second: most are nobody's business.
    Neighbour(u32),
    /// Our nftables table, or anything in it, elements included.
    NftTable,
    /// Tables of iptables-nft that we may have rules in, or firewalld's.
    SharedTable,
    /// The first event, from which on nothing goes unseen: what was before is unknown, so read all.
    Subscribed,
    /// Events were lost: anything may have happened, so read all.
    Overrun,
}

/// Tells `sink` what happens in the calling thread's namespace, until it returns false. Blocks between events.
pub fn watch(sink: impl FnMut(Event) -> bool) -> Result<()> {
    run(None, sink)
}

/// As [`watch`], and until `stop` becomes readable (a pipe's end whose other end was closed).
pub fn watch_until(stop: BorrowedFd<'_>, sink: impl FnMut(Event) -> bool) -> Result<()> {
    run(Some(stop), sink)
}

fn run(stop: Option<BorrowedFd<'_>>, mut sink: impl FnMut(Event) -> bool) -> Result<()> {
    let route = subscribe(NETLINK_ROUTE, &ROUTE_GROUPS, "routes, links and addresses")?;
    let nft = subscribe(NETLINK_NETFILTER, &[NFT_GROUP], "nftables")?;
    let mut buffer = Vec::with_capacity(DATAGRAM);
    let mut events = vec![Event::Subscribed];
    loop {
        // Sorted and deduplicated: each kind once.
        events.sort();
        events.dedup();
        if !events.drain(..).all(&mut sink) {
            return Ok(());
        }
        let fds = [
            route.as_raw_fd(),
            nft.as_raw_fd(),
            stop.map_or(-1, |stop| stop.as_raw_fd()),
        ];
        let [route_ready, nft_ready, stopped] = wait(fds)?;
        if stopped {
            return Ok(());
        }
        if route_ready {
            drain(&route, &mut buffer, &mut events, route_event)?;
        }
        if nft_ready {
            drain(&nft, &mut buffer, &mut events, nft_event)?;
        }
    }
}

fn subscribe(protocol: isize, groups: &[u32], of: &str) -> Result<Socket> {
    let open = || -> io::Result<Socket> {
        let mut socket = Socket::new(protocol)?;
        socket.set_non_blocking(true)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        // SAFETY: the descriptor belongs to `socket`, which outlives this borrow.
        let fd = unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) };
        // Without CAP_NET_ADMIN over the machine the limit of rmem_max holds; an overrun is then more likely, not fatal.
        if setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            setsockopt(&fd, sockopt::RcvBuf, &RECEIVE_BUFFER)?;
        }
        groups
            .iter()
            .try_for_each(|group| socket.add_membership(*group))?;
        Ok(socket)
    };
    open().map_err(|e| KernelError::from_io(format!("subscribe to changes of {of}"), &e))
}

/// Waits until one of them can be read, or has failed, which reading will tell. A negative one is ignored.
fn wait(fds: [RawFd; 3]) -> Result<[bool; 3]> {
    let mut polled = fds.map(|fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    });
    loop {
        // SAFETY: `polled` is an array of its length, alive and exclusively ours during the call.
        let ready = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, -1) };
        if ready >= 0 {
            return Ok(polled.map(|one| one.revents != 0));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(KernelError::from_io("wait for changes", &error));
        }
    }
}

/// Reads what is there and gathers what it says.
fn drain(
    socket: &Socket,
    buffer: &mut Vec<u8>,
    events: &mut Vec<Event>,
    event: impl Fn(&Message<'_>) -> Option<Event>,
) -> Result<()> {
    for _ in 0..BURST {
        buffer.clear();
        match socket.recv(buffer, libc::MSG_TRUNC) {
            Ok(length) if length > buffer.len() => events.push(Event::Overrun),
            Ok(_) => events.extend(messages(buffer).filter_map(|message| event(&message))),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                events.push(Event::Overrun)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(KernelError::from_io("read changes", &error)),
        }
    }
    Ok(())
}

pub(crate) fn route_event(message: &Message<'_>) -> Option<Event> {
    match message.kind {
        // Rules choose among tables of routes.
        RTM_NEWROUTE | RTM_DELROUTE | RTM_NEWRULE | RTM_DELRULE => Some(Event::Route),
        RTM_NEWLINK | RTM_DELLINK => Some(Event::Link),
        RTM_NEWADDR | RTM_DELADDR => Some(Event::Address),
        // struct ndmsg: the link's index stands at 4.
        RTM_NEWNEIGH | RTM_DELNEIGH => message
            .payload
            .get(4..8)
            .and_then(|bytes| Some(u32::from_ne_bytes(bytes.try_into().ok()?)))
            .map(Event::Neighbour),
        _ => None,
    }
}

/// In every message but the generation's, attribute 1 is the table's name.
pub(crate) fn nft_event(message: &Message<'_>) -> Option<Event> {
    let of_nftables = message.kind >> 8 == SUBSYS_NFTABLES && message.kind != NFT_MSG_NEWGEN;
    if !of_nftables {
        return None;
    }
    let table = Attributes::after(message.payload, NF_HEADER)
        .find_kind(NAME_OF_TABLE)?
        .string()?;
    match (*message.payload.first()?, table.as_ref()) {
        (NFPROTO_INET, NFT_TABLE) => Some(Event::NftTable),
        (NFPROTO_INET, "firewalld") => Some(Event::SharedTable),
        (NFPROTO_IPV4 | NFPROTO_IPV6, "raw" | "mangle" | "nat" | "filter") => {
            Some(Event::SharedTable)
        }
        _ => None,
    }
}
