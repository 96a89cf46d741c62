//! Transmit checksum offload of one link: whether the kernel leaves checksums to the device below.
//!
//! On a VXLAN link this decides whether inner TCP and UDP checksums travel unfinished down to the network card. Cards and
//! hypervisors exist that get them wrong for encapsulated packets; off makes the kernel finish them, at a price. By ioctl:
//! the netlink interface of ethtool is generic netlink, a third protocol for one bit. Who calls: the agent.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::error::{KernelError, Result};

const SIOCETHTOOL: libc::c_ulong = 0x8946;
const ETHTOOL_GTXCSUM: u32 = 0x16;
const ETHTOOL_STXCSUM: u32 = 0x17;

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// True where it is on. In the calling thread's namespace.
pub fn tx_checksum(link: &str) -> Result<bool> {
    ask(link, ETHTOOL_GTXCSUM, 0, || {
        format!("read checksum offload of link {link}")
    })
    .map(|data| data != 0)
}

/// Makes it on or off. True where it was changed. In the calling thread's namespace.
pub fn ensure_tx_checksum(link: &str, on: bool) -> Result<bool> {
    if tx_checksum(link)? == on {
        return Ok(false);
    }
    let word = if on { "on" } else { "off" };
    ask(link, ETHTOOL_STXCSUM, u32::from(on), || {
        format!("turn checksum offload of link {link} {word}")
    })?;
    Ok(true)
}

fn ask(link: &str, command: u32, data: u32, what: impl Fn() -> String) -> Result<u32> {
    let fail = || KernelError::from_io(what(), &std::io::Error::last_os_error());
    // SAFETY: no pointers; the descriptor is owned at once below.
    let raw = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if raw < 0 {
        return Err(fail());
    }
    // SAFETY: just opened, and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    let mut value = Value { command, data };
    // SAFETY: an all-zero ifreq is a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let name = link.as_bytes();
    if name.len() >= request.ifr_name.len() {
        return Err(KernelError::new(what(), libc::ENODEV));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        // c_char: signed on x86_64, unsigned on aarch64.
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: `request` and the `value` that it points to live until the call returns.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) };
    if answer < 0 {
        Err(fail())
    } else {
        Ok(value.data)
    }
}
