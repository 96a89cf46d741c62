//! Packets of one link, as they pass (AF_PACKET). Who calls: the agent's `capture`.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, SystemTime};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeVal;

use crate::error::{KernelError, Result};

/// Larger than any frame, segmentation offload included.
const BUFFER: usize = 256 * 1024;
/// `ETH_P_ALL`: both directions, every protocol.
const ETH_P_ALL: u16 = 3;
/// What the kernel holds for us while we write; the default holds some hundred packets.
const RECEIVE_BUFFER: usize = 8 << 20;

/// A socket that sees every frame of one link.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

impl PacketSocket {
    /// On the link with this index, in the calling thread's namespace. `timeout`: how long one `receive` waits.
    pub fn open(index: u32, timeout: Duration) -> Result<PacketSocket> {
        let what = || format!("listen on the link with index {index}");
        let refused = |error: io::Error| {
            let mut error = KernelError::from_io(what(), &error);
            if error.is_permission() {
                error.message = "this needs CAP_NET_RAW (run as root on the node)".into();
            }
            error
        };
        // Protocol 0: nothing comes in before it is bound to its one link.
        // SAFETY: plain numbers in, a descriptor or -1 out.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(refused(io::Error::last_os_error()));
        }
        // SAFETY: it was just opened and belongs to nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let errno = |errno: nix::errno::Errno| refused(errno.into());
        setsockopt(&fd, sockopt::ReceiveTimestampns, &true).map_err(errno)?;
        let timeout = TimeVal::new(
            timeout.as_secs().try_into().unwrap_or(1),
            timeout.subsec_micros().into(),
        );
        setsockopt(&fd, sockopt::ReceiveTimeout, &timeout).map_err(errno)?;
        // More than the administrator's limit is a wish; less loses packets, which `dropped` tells.
        let _ = setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_BUFFER)
            .or_else(|_| setsockopt(&fd, sockopt::RcvBuf, &RECEIVE_BUFFER));
        bind(&fd, index).map_err(refused)?;
        Ok(PacketSocket {
            fd,
            buffer: vec![0; BUFFER],
        })
    }

    /// The next frame and when it passed; `None` when none came within the timeout.
    pub fn receive(&mut self) -> Result<Option<(&[u8], SystemTime)>> {
        let mut space = nix::cmsg_space!(nix::sys::time::TimeSpec);
        let mut parts = [io::IoSliceMut::new(&mut self.buffer)];
        let received = recvmsg::<()>(
            self.fd.as_raw_fd(),
            &mut parts,
            Some(&mut space),
            MsgFlags::empty(),
        );
        let (length, time) = match received {
            Ok(message) => {
                let stamp = message.cmsgs().ok().and_then(|mut all| {
                    all.find_map(|one| match one {
                        ControlMessageOwned::ScmTimestampns(time) => Some(Duration::from(time)),
                        _ => None,
                    })
                });
                let time = stamp.map(|since| SystemTime::UNIX_EPOCH + since);
                (message.bytes, time.unwrap_or_else(SystemTime::now))
            }
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => return Ok(None),
            Err(errno) => return Err(KernelError::from_io("receive a frame", &errno.into())),
        };
        Ok(Some((&self.buffer[..length], time)))
    }

    /// Frames that the kernel could not hold for us since the last call.
    pub fn dropped(&self) -> u32 {
        let mut stats = [0_u32; 2];
        let mut size = size_of_val(&stats) as libc::socklen_t;
        // SAFETY: struct tpacket_stats is two 32-bit numbers (packets, drops); both pointers outlive the call.
        let done = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                stats.as_mut_ptr().cast(),
                &raw mut size,
            )
        };
        if done == 0 { stats[1] } else { 0 }
    }
}

fn bind(fd: &OwnedFd, index: u32) -> io::Result<()> {
    // SAFETY: an all-zero sockaddr_ll is valid.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = ETH_P_ALL.to_be();
    address.sll_ifindex = index.cast_signed();
    // SAFETY: the pointer is to a sockaddr_ll of that size, which outlives the call.
    let done = unsafe {
        libc::bind(
            fd.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
