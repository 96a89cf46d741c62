//! Does a packet of this size get there? ICMP echoes with the don't-fragment bit, sent to many addresses at once.
//!
//! A path that loses large packets in silence (a black hole) looks healthy to everything small: handshakes, health checks,
//! ping. `IP_PMTUDISC_PROBE` asks the path anew each time instead of trusting what the kernel has learnt. Who calls: the
//! agent's `doctor`.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;

/// One question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Whom to ask.
    pub to: IpAddr,
    /// Length of the IP packet in bytes, headers included; 28 (IPv6: 48) at least.
    pub bytes: u32,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeResult {
    /// The echo came back.
    Answered,
    /// A router, or this node's own link, said that it is too big.
    TooBig,
    /// Nothing came back.
    Lost,
    /// It could not be sent, or somebody answered with another error.
    Failed(String),
}

/// How often an echo that did not come back is sent again.
const ATTEMPTS: u32 = 3;
/// Larger than any packet.
const BUFFER: usize = 65_536;
const ECHO_V4: (u8, u8) = (8, 0);
const ECHO_V6: (u8, u8) = (128, 129);

/// All at once; waits at most `patience` for each of three attempts. Err: no such sockets for us.
pub fn probe_paths(probes: &[Probe], patience: Duration) -> io::Result<Vec<ProbeResult>> {
    let mut underway = Vec::with_capacity(probes.len());
    for (number, probe) in probes.iter().enumerate() {
        underway.push(Underway::open(*probe, number as u16)?);
    }
    for attempt in 0..ATTEMPTS {
        let mut waiting: Vec<&mut Underway> = underway
            .iter_mut()
            .filter(|probe| probe.result.is_none())
            .collect();
        if waiting.is_empty() {
            break;
        }
        waiting
            .iter_mut()
            .for_each(|probe| probe.send(attempt as u16));
        gather(&mut waiting, Instant::now() + patience)?;
    }
    let results = underway.into_iter();
    Ok(results
        .map(|probe| probe.result.unwrap_or(ProbeResult::Lost))
        .collect())
}

/// Reads answers until all have one or the time is up.
fn gather(waiting: &mut [&mut Underway], deadline: Instant) -> io::Result<()> {
    loop {
        let mut open: Vec<&mut &mut Underway> = waiting
            .iter_mut()
            .filter(|probe| probe.result.is_none())
            .collect();
        let left = deadline.saturating_duration_since(Instant::now());
        if open.is_empty() || left.is_zero() {
            return Ok(());
        }
        let ready: Vec<bool> = {
            let mut fds: Vec<PollFd<'_>> = open
                .iter()
                .map(|probe| PollFd::new(probe.socket.as_fd(), PollFlags::POLLIN))
                .collect();
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut fds, timeout) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            fds.iter()
                .map(|fd| fd.revents().is_some_and(|events| !events.is_empty()))
                .collect()
        };
        for (probe, ready) in open.iter_mut().zip(ready) {
            if ready {
                probe.read();
            }
        }
    }
}

/// One probe and its socket, connected, so that errors of the path come back to it.
struct Underway {
    probe: Probe,
    socket: std::fs::File,
    /// A raw socket, which shows the IPv4 header; else one for echoes alone, which needs no capability where
    /// net.ipv4.ping_group_range allows it.
    raw: bool,
    id: u16,
    result: Option<ProbeResult>,
}

impl Underway {
    fn open(probe: Probe, number: u16) -> io::Result<Underway> {
        let (socket, raw) = match open_socket(probe.to, libc::SOCK_RAW) {
            Ok(socket) => (socket, true),
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                let again = open_socket(probe.to, libc::SOCK_DGRAM);
                (again.map_err(|_| error)?, false)
            }
            Err(error) => return Err(error),
        };
        let mut underway = Underway {
            probe,
            socket: socket.into(),
            raw,
            id: (std::process::id() as u16).wrapping_add(number.wrapping_mul(97)),
            result: None,
        };
        underway.prepare();
        Ok(underway)
    }

    fn prepare(&mut self) {
        let connected = set_probing(&self.socket, self.probe.to.is_ipv6())
            .and_then(|()| connect(&self.socket, self.probe.to));
        if let Err(error) = connected {
            self.result = Some(ProbeResult::Failed(error.to_string()));
        }
    }

    fn send(&mut self, sequence: u16) {
        let packet = echo(self.probe, self.id, sequence);
        // A datagram: all of it or nothing.
        if let Err(error) = self.socket.write_all(&packet) {
            self.take_error(&error);
        }
    }

    fn read(&mut self) {
        let mut buffer = vec![0; BUFFER];
        match self.socket.read(&mut buffer) {
            Ok(length) => {
                if is_answer(
                    &buffer[..length],
                    self.probe.to,
                    self.raw.then_some(self.id),
                ) {
                    self.result = Some(ProbeResult::Answered);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => self.take_error(&error),
        }
    }

    fn take_error(&mut self, error: &io::Error) {
        self.result = match error.raw_os_error() {
            Some(libc::EMSGSIZE) => Some(ProbeResult::TooBig),
            Some(libc::EINTR | libc::EAGAIN | libc::ENOBUFS) => None,
            _ => Some(ProbeResult::Failed(error.to_string())),
        };
    }
}

// ===== packets =====

fn headers(to: IpAddr) -> u32 {
    if to.is_ipv6() { 48 } else { 28 }
}

/// An ICMP echo request whose IP packet has the probe's length. The kernel fills in the checksum of ICMPv6.
fn echo(probe: Probe, id: u16, sequence: u16) -> Vec<u8> {
    let payload = probe.bytes.saturating_sub(headers(probe.to)) as usize;
    let mut packet = vec![0x32; 8 + payload];
    let (request, _) = if probe.to.is_ipv6() { ECHO_V6 } else { ECHO_V4 };
    packet[..4].copy_from_slice(&[request, 0, 0, 0]);
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    packet[6..8].copy_from_slice(&sequence.to_be_bytes());
    let sum = checksum(&packet);
    packet[2..4].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// `raw_id`: the socket is raw and sees the answers to everybody's echoes, and in IPv4 the IP header.
fn is_answer(packet: &[u8], from: IpAddr, raw_id: Option<u16>) -> bool {
    let header = match (raw_id, from) {
        (Some(_), IpAddr::V4(_)) => usize::from(packet.first().copied().unwrap_or(0) & 0xf) * 4,
        _ => 0,
    };
    let Some(icmp) = packet.get(header..header + 8) else {
        return false;
    };
    let (_, reply) = if from.is_ipv6() { ECHO_V6 } else { ECHO_V4 };
    let id = u16::from_be_bytes([icmp[4], icmp[5]]);
    icmp[0] == reply && raw_id.is_none_or(|wanted| wanted == id)
}

// ===== sockets =====

fn open_socket(to: IpAddr, kind: libc::c_int) -> io::Result<OwnedFd> {
    let (family, protocol) = match to {
        IpAddr::V4(_) => (libc::AF_INET, libc::IPPROTO_ICMP),
        IpAddr::V6(_) => (libc::AF_INET6, libc::IPPROTO_ICMPV6),
    };
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: plain numbers in, a descriptor or -1 out.
    let fd = unsafe { libc::socket(family, kind | flags, protocol) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was just opened and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Don't fragment, and don't trust what was learnt of the path; errors of the path come back.
fn set_probing(socket: &std::fs::File, v6: bool) -> io::Result<()> {
    let options = if v6 {
        [
            (
                libc::IPPROTO_IPV6,
                libc::IPV6_MTU_DISCOVER,
                libc::IPV6_PMTUDISC_PROBE,
            ),
            (libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1),
        ]
    } else {
        [
            (
                libc::IPPROTO_IP,
                libc::IP_MTU_DISCOVER,
                libc::IP_PMTUDISC_PROBE,
            ),
            (libc::IPPROTO_IP, libc::IP_RECVERR, 1),
        ]
    };
    for (level, name, value) in options {
        set_option(socket, level, name, value)?;
    }
    Ok(())
}

fn set_option(
    socket: &std::fs::File,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the option is an int, and both pointers are to one that outlives the call.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(&value).cast(),
            size,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn connect(socket: &std::fs::File, to: IpAddr) -> io::Result<()> {
    let address = nix::sys::socket::SockaddrStorage::from(SocketAddr::new(to, 0));
    Ok(nix::sys::socket::connect(socket.as_raw_fd(), &address)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_has_the_length_that_was_asked_for_and_a_true_checksum() {
        let probe = Probe {
            to: "192.0.2.1".parse().unwrap(),
            bytes: 1500,
        };
        let packet = echo(probe, 7, 1);
        assert_eq!(packet.len(), 1480);
        assert_eq!(checksum(&packet), 0, "over all of it, itself included");
    }

    #[test]
    fn only_the_answer_to_the_own_echo_counts() {
        let v4: IpAddr = "192.0.2.1".parse().unwrap();
        let mut packet = vec![0x45; 20];
        packet.extend([0, 0, 0, 0, 0, 7, 0, 1]);
        assert!(is_answer(&packet, v4, Some(7)));
        assert!(!is_answer(&packet, v4, Some(8)), "another process's");
        packet[20] = 8;
        assert!(!is_answer(&packet, v4, Some(7)), "a request");
        assert!(!is_answer(&packet[..24], v4, Some(7)), "cut off");
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        assert!(is_answer(&[129, 0, 0, 0, 0, 7, 0, 1], v6, Some(7)));
    }
}
