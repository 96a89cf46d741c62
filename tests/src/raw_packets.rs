//! Packets that no socket of the kernel would send: forged sources, encapsulated ones, forged ARP. What a pod that is root
//! in its own namespace can put on its link (CAP_NET_RAW, which Kubernetes grants by default).

use crate::machine::Machine;
use anyhow::{Context, Result};
use std::net::{Ipv4Addr, Ipv6Addr};

/// IP protocols, as IANA numbers them.
pub const ICMP: u8 = 1;
/// IPv4 in IPv4.
pub const IPIP: u8 = 4;
/// UDP.
pub const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// An IPv4 packet with a good header checksum.
pub fn ipv4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).unwrap_or(u16::MAX);
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    packet
}

/// A UDP datagram without checksum, which IPv4 allows.
pub fn udp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap_or(u16::MAX);
    let mut datagram = Vec::from(source.to_be_bytes());
    datagram.extend(destination.to_be_bytes());
    datagram.extend(length.to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    datagram
}

/// RFC 7348: the VNI, then an Ethernet frame around the packet.
pub fn vxlan(vni: u32, mac: [u8; 6], packet: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x08, 0, 0, 0];
    bytes.extend((vni << 8).to_be_bytes());
    bytes.extend(ethernet(mac, [2, 0, 0, 0, 0, 9], 0x0800, packet));
    bytes
}

/// An ICMP redirect (RFC 792): "the way to what `about` asked for is `gateway`".
pub fn icmp_redirect(gateway: Ipv4Addr, about: &[u8]) -> Vec<u8> {
    let mut message = vec![5, 1, 0, 0];
    message.extend(gateway.octets());
    message.extend(&about[..about.len().min(28)]);
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// An ARP frame (RFC 826) to everybody: operation 1 asks, 2 answers.
pub fn arp(operation: u16, mac: [u8; 6], claims: Ipv4Addr, about: Ipv4Addr) -> Vec<u8> {
    let mut body = vec![0, 1, 8, 0, 6, 4];
    body.extend(operation.to_be_bytes());
    body.extend(mac);
    body.extend(claims.octets());
    body.extend([0; 6]);
    body.extend(about.octets());
    ethernet([0xff; 6], mac, 0x0806, &body)
}

/// A neighbour solicitation (RFC 4861, 4.3) for `about`, from `source` with its hardware address, as a whole frame.
pub fn solicitation(mac: [u8; 6], source: Ipv6Addr, about: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend(about.octets());
    message.extend([1, 1]);
    message.extend(mac);
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let mut pseudo = Vec::from(source.octets());
    pseudo.extend(about.octets());
    pseudo.extend([0, 0]);
    pseudo.extend(length.to_be_bytes());
    pseudo.extend([0, 0, 0, ICMPV6]);
    pseudo.extend(&message);
    let sum = checksum(&pseudo);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([ICMPV6, 255]);
    packet.extend(source.octets());
    packet.extend(about.octets());
    packet.extend(message);
    ethernet([0xee; 6], mac, 0x86dd, &packet)
}

/// A frame.
pub fn ethernet(to: [u8; 6], from: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::from(to);
    frame.extend(from);
    frame.extend(kind.to_be_bytes());
    frame.extend(payload);
    frame
}

fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

/// Puts frames on a link of a machine, each as it is.
pub fn send_frames(from: &Machine, link: &str, frames: Vec<Vec<u8>>) -> Result<usize> {
    let link = std::ffi::CString::new(link)?;
    from.inside(move || -> Result<usize> {
        // SAFETY: plain system calls on values that live until they return; the descriptor is closed by its owner.
        unsafe {
            let number = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
            if number < 0 {
                return Err(std::io::Error::last_os_error()).context("open a packet socket");
            }
            let socket = <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(number);
            let mut to: libc::sockaddr_ll = std::mem::zeroed();
            to.sll_family = libc::AF_PACKET.cast_unsigned().try_into()?;
            to.sll_ifindex = libc::if_nametoindex(link.as_ptr()).cast_signed();
            to.sll_halen = 6;
            let mut count = 0;
            for frame in &frames {
                let sent = libc::sendto(
                    std::os::fd::AsRawFd::as_raw_fd(&socket),
                    frame.as_ptr().cast(),
                    frame.len(),
                    0,
                    (&raw const to).cast(),
                    size_of_val(&to).try_into()?,
                );
                if sent < 0 {
                    let error = std::io::Error::last_os_error();
                    if error.raw_os_error() == Some(libc::ENOBUFS) {
                        continue;
                    }
                    return Err(error).context("send a frame");
                }
                count += 1;
            }
            Ok(count)
        }
    })?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_sums_up_to_nothing() {
        let packet = ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), UDP, b"abc");
        assert_eq!(checksum(&packet[..20]), 0);
        assert_eq!(packet.len(), 23);
    }
}
