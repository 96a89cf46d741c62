//! The sockets of the reconcile thread, opened when they are needed and opened anew after an error: a socket that failed
//! in the middle of an answer is out of step for good.

use dataplane::error::Result;
use dataplane::hostport::Nfnetlink;
use dataplane::netlink::Netlink;

/// Route netlink and nfnetlink of this node's namespace.
#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) netlink: Netlink,
    pub(super) netfilter: Nfnetlink,
}

impl Kernel {
    pub(super) fn open() -> Result<Kernel> {
        Ok(Kernel {
            netlink: Netlink::open()?,
            netfilter: Nfnetlink::open()?,
        })
    }
}
