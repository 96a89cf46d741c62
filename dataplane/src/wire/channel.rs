//! One blocking netlink socket: sends a batch, reads the answers, checks that they are answers to it.
//!
//! It is connected to the kernel, so that no process can slip it a forged answer, and strict: the kernel refuses or honours a
//! dump's filter instead of ignoring it. A receive timeout bounds every wait. Who calls: `netlink` and `hostport`.

use std::io;
use std::time::Duration;

use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::attribute::Attributes;
use super::batch::{Batch, MESSAGE_HEADER};
use crate::error::Refusal;

/// The kernel builds no answer that is longer, however large the buffer (`netlink_recvmsg` caps a dump's skb at 32 KiB).
const RECEIVE_BUFFER: usize = 32 * 1024;
/// Below the default send buffer (`net.core.wmem_default`, 208 KiB, of which some is overhead).
const SEND_BUFFER: usize = 160 * 1024;
/// The kernel answers before `send` returns; only a dump goes on afterwards. So this is never waited for in health.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// A dump that was interrupted by a change is read again so often.
const DUMP_ATTEMPTS: u32 = 20;

const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const F_DUMP_INTR: u16 = 0x10;
const F_ACK_TLVS: u16 = 0x200;
const F_CAPPED: u16 = 0x100;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// One message of the kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) payload: &'a [u8],
}

/// A blocking, connected netlink socket.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Channel {
    /// Opens a socket of this netlink protocol in the calling thread's namespace.
    pub(crate) fn open(protocol: isize) -> io::Result<Channel> {
        let socket = Socket::new(protocol)?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        socket.set_netlink_get_strict_chk(true)?;
        let channel = Channel {
            socket,
            sequence: 1,
            buffer: Vec::with_capacity(RECEIVE_BUFFER),
        };
        let timeout = TimeVal::new(RECEIVE_TIMEOUT.as_secs().try_into().unwrap_or(10), 0);
        setsockopt(&channel.socket_fd(), sockopt::ReceiveTimeout, &timeout)?;
        Ok(channel)
    }

    /// Sends the batch and reads until its last request is answered. `Ok`: the requests that failed, by position; the others
    /// went well. Objects that the kernel sends along (an echo, an answer to a get) go to `sink` with their position.
    pub(crate) fn exchange(
        &mut self,
        batch: &mut Batch,
        sink: &mut dyn FnMut(usize, Message<'_>),
    ) -> Result<Vec<(usize, Refusal)>, Refusal> {
        let Some(last) = batch.answered() else {
            return Ok(Vec::new());
        };
        let first = self.send(batch)?;
        let mut refused = Vec::new();
        loop {
            let datagram = match self.receive(0) {
                Ok(datagram) => datagram,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    self.drain(first, &mut refused);
                    return Ok(with_unknown(refused, batch.len()));
                }
                Err(error) => return Err(Refusal::from_io(&error)),
            };
            for message in messages(datagram) {
                let position = message.sequence.wrapping_sub(first) as usize;
                if position > last {
                    continue; // an answer to an exchange that timed out
                }
                match message.kind {
                    NLMSG_ERROR => {
                        let refusal = refusal(&message);
                        // A transaction that fails as a whole is refused at its first message, and only there.
                        let whole = batch.is_transaction() && position == 0 && refusal.is_some();
                        refused.extend(refusal.map(|refusal| (position, refusal)));
                        if position == last || whole {
                            return Ok(refused);
                        }
                    }
                    NLMSG_NOOP => {}
                    _ => sink(position, message),
                }
            }
        }
    }

    /// Sends one dump request and gathers what `parse` makes of each object; read again while the kernel says that it changed
    /// underway.
    pub(crate) fn dump<T>(
        &mut self,
        mut request: impl FnMut(&mut Batch),
        mut parse: impl FnMut(Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, Refusal> {
        for _ in 0..DUMP_ATTEMPTS {
            let mut batch = Batch::new();
            request(&mut batch);
            let mut found = Vec::new();
            if self.dump_once(&mut batch, &mut |message| found.extend(parse(message)))? {
                return Ok(found);
            }
        }
        Err(Refusal {
            errno: libc::EINTR,
            text: Some(format!(
                "it changed while it was read, {DUMP_ATTEMPTS} times"
            )),
        })
    }

    /// False when the dump was interrupted by a change.
    fn dump_once(
        &mut self,
        batch: &mut Batch,
        sink: &mut dyn FnMut(Message<'_>),
    ) -> Result<bool, Refusal> {
        let sequence = self.send(batch)?;
        let mut consistent = true;
        loop {
            let datagram = self.receive(0).map_err(|e| Refusal::from_io(&e))?;
            for message in messages(datagram) {
                if message.sequence != sequence {
                    continue;
                }
                consistent &= message.flags & F_DUMP_INTR == 0;
                match message.kind {
                    // The end of a dump carries an errno as an error does.
                    NLMSG_DONE | NLMSG_ERROR => {
                        return match refusal(&message) {
                            Some(refusal) if refusal.errno == libc::EINTR => Ok(false),
                            Some(refusal) => Err(refusal),
                            None => Ok(consistent),
                        };
                    }
                    NLMSG_NOOP => {}
                    _ => sink(message),
                }
            }
        }
    }

    /// Numbers and sends; returns the first number.
    fn send(&mut self, batch: &mut Batch) -> Result<u32, Refusal> {
        let first = self.sequence;
        self.sequence = first.wrapping_add(batch.len() as u32);
        let bytes = batch.number(first);
        if bytes.len() > SEND_BUFFER {
            self.widen_send_buffer(bytes.len())?;
        }
        loop {
            return match self.socket.send(bytes, 0) {
                Ok(sent) if sent == bytes.len() => Ok(first),
                Ok(_) => Err(Refusal::new(libc::EMSGSIZE)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(Refusal::from_io(&error)),
            };
        }
    }

    /// The kernel takes no message that is longer than the socket's send buffer.
    fn widen_send_buffer(&self, length: usize) -> Result<(), Refusal> {
        setsockopt(&self.socket_fd(), sockopt::SndBufForce, &length)
            .map_err(|errno| Refusal::new(errno as i32))
    }

    fn socket_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor belongs to `self.socket`, which outlives this borrow.
        unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) }
    }

    fn receive(&mut self, flags: libc::c_int) -> io::Result<&[u8]> {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, flags | libc::MSG_TRUNC) {
                Ok(length) if length > self.buffer.len() => {
                    return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
                }
                Ok(_) => return Ok(&self.buffer),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
        }
    }

    /// After an overrun: what is still in the queue.
    fn drain(&mut self, first: u32, refused: &mut Vec<(usize, Refusal)>) {
        while let Ok(datagram) = self.receive(libc::MSG_DONTWAIT) {
            for message in messages(datagram).filter(|message| message.kind == NLMSG_ERROR) {
                let position = message.sequence.wrapping_sub(first) as usize;
                refused.extend(refusal(&message).map(|refusal| (position, refusal)));
            }
        }
    }
}

/// After an overrun nothing is known of the requests that were not answered.
fn with_unknown(mut refused: Vec<(usize, Refusal)>, requests: usize) -> Vec<(usize, Refusal)> {
    let known: std::collections::BTreeSet<usize> =
        refused.iter().map(|(position, _)| *position).collect();
    refused.retain(|(position, _)| *position < requests);
    refused.extend(
        (0..requests)
            .filter(|i| !known.contains(i))
            .map(|i| (i, Refusal::new(libc::ENOBUFS))),
    );
    refused
}

/// Cuts a datagram into its messages; ends at a malformed one.
pub(crate) fn messages(datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let header = rest.get(..MESSAGE_HEADER)?;
        let word = |at: usize| {
            u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let half = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let length = word(0) as usize;
        let payload = rest.get(MESSAGE_HEADER..length)?;
        rest = rest.get(super::attribute::align(length)..).unwrap_or(&[]);
        Some(Message {
            kind: half(4),
            flags: half(6),
            sequence: word(8),
            payload,
        })
    })
}

/// What an `NLMSG_ERROR` or `NLMSG_DONE` says; `None`: all well.
fn refusal(message: &Message<'_>) -> Option<Refusal> {
    let code = message
        .payload
        .get(..4)
        .map_or(0, |b| i32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
    if code == 0 {
        return None;
    }
    // Behind the errno of an error stands the header of the request (capped by our NETLINK_CAP_ACK), then attributes.
    let header = if message.kind == NLMSG_ERROR {
        4 + MESSAGE_HEADER
    } else {
        4
    };
    let told = message.flags & F_ACK_TLVS != 0
        && (message.kind == NLMSG_DONE || message.flags & F_CAPPED != 0);
    let text = told
        .then(|| Attributes::after(message.payload, header).find_kind(NLMSGERR_ATTR_MSG))
        .flatten()
        .and_then(|attribute| attribute.string());
    Some(Refusal {
        errno: code.checked_neg().unwrap_or(libc::EIO),
        text,
    })
}

#[cfg(test)]
mod tests;
