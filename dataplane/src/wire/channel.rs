//! One blocking netlink socket: sends a batch, reads the answers, checks that they are answers to it.
//!
//! It is connected to the kernel, so that no process can slip it a forged answer, and strict: the kernel refuses or honours a
//! dump's filter instead of ignoring it. A receive timeout bounds every wait. Who calls: `netlink` and `hostport`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

use super::batch::Batch;
use super::message::{
    F_DUMP_INTR, Message, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, messages, refusal,
};
use crate::error::Refusal;

/// The kernel builds no answer that is longer, however large the buffer (`netlink_recvmsg` caps a dump's skb at 32 KiB).
const RECEIVE_BUFFER: usize = 32 * 1024;
/// Below the default send buffer (`net.core.wmem_default`, 208 KiB, of which some is overhead).
const SEND_BUFFER: usize = 160 * 1024;
/// The kernel answers before `send` returns; only a dump goes on afterwards. So this is never waited for in health.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// A dump that was interrupted by a change is read again so often.
const DUMP_ATTEMPTS: u64 = 20;

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
        for attempt in 0..DUMP_ATTEMPTS {
            // Longer each time, 190 ms in all: a storm of changes has gaps.
            if attempt > 0 {
                std::thread::sleep(Duration::from_millis(attempt));
            }
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

    /// The kernel takes no message that is longer than the socket's send buffer. As root of a user namespace only the limit of
    /// `net.core.wmem_max` can be had; a message beyond it is then refused with EMSGSIZE.
    fn widen_send_buffer(&self, length: usize) -> Result<(), Refusal> {
        let fd = self.socket_fd();
        let forced = setsockopt(&fd, sockopt::SndBufForce, &length);
        forced
            .or_else(|_| setsockopt(&fd, sockopt::SndBuf, &length))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_an_overrun_what_was_not_answered_is_unknown() {
        let known = vec![(1, Refusal::new(libc::EEXIST))];
        let all = with_unknown(known, 3);
        let errnos: std::collections::BTreeMap<_, _> =
            all.into_iter().map(|(i, r)| (i, r.errno)).collect();
        assert_eq!(
            errnos,
            [(0, libc::ENOBUFS), (1, libc::EEXIST), (2, libc::ENOBUFS)].into()
        );
    }
}
