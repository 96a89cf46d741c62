//! A blocking route-netlink socket, bound for good to the namespace in which it was opened.
//!
//! The plugin opens one on the host and one inside the pod's namespace ([`Netlink::open_in`]: enter, open, come back) and then
//! uses both from where it stands. The verbs are in the modules of their nouns: `link`, `pod_side`, `route`, `shaping`, ...

use netlink_sys::protocols::NETLINK_ROUTE;

use crate::error::{KernelError, Refusal, Result};
use crate::netns::Netns;
use crate::wire::batch::Batch;
use crate::wire::channel::Channel;
use crate::wire::message::Message;

pub(crate) const RTM_NEWLINK: u16 = 16;
pub(crate) const RTM_DELLINK: u16 = 17;
pub(crate) const RTM_GETLINK: u16 = 18;
pub(crate) const RTM_SETLINK: u16 = 19;
pub(crate) const RTM_NEWADDR: u16 = 20;
pub(crate) const RTM_DELADDR: u16 = 21;
pub(crate) const RTM_GETADDR: u16 = 22;
pub(crate) const RTM_NEWROUTE: u16 = 24;
pub(crate) const RTM_DELROUTE: u16 = 25;
pub(crate) const RTM_GETROUTE: u16 = 26;
pub(crate) const RTM_NEWNEIGH: u16 = 28;
pub(crate) const RTM_DELNEIGH: u16 = 29;
pub(crate) const RTM_GETNEIGH: u16 = 30;

/// A route-netlink socket. Not for sharing: one request or batch is underway at a time.
#[derive(Debug)]
pub struct Netlink {
    pub(crate) channel: Channel,
    /// Where it was opened; `None` in the namespace of the process.
    pub(crate) netns: Option<Netns>,
}

impl Netlink {
    /// Opens a socket in the calling thread's namespace.
    pub fn open() -> Result<Netlink> {
        let channel = Channel::open(NETLINK_ROUTE)
            .map_err(|e| KernelError::from_io("open a route netlink socket", &e))?;
        Ok(Netlink {
            channel,
            netns: None,
        })
    }

    /// Opens a socket inside `netns`; the calling thread is back in its own namespace when this returns.
    pub fn open_in(netns: &Netns) -> Result<Netlink> {
        let opened = netns.run(Netlink::open)??;
        Ok(Netlink {
            netns: Some(netns.try_clone()?),
            ..opened
        })
    }

    /// Sends one request; `what` is only built for an error.
    pub(crate) fn request(&mut self, batch: &mut Batch, what: impl Fn() -> String) -> Result<()> {
        self.request_with(batch, &mut |_| {}, what)
    }

    /// Sends one batch, hands what the kernel sends along to `sink`, and fails with the first refusal.
    pub(crate) fn request_with(
        &mut self,
        batch: &mut Batch,
        sink: &mut dyn FnMut(Message<'_>),
        what: impl Fn() -> String,
    ) -> Result<()> {
        let refused = self
            .channel
            .exchange(batch, &mut |_, message| sink(message))
            .map_err(|r| r.during(what()))?;
        match refused.into_iter().min_by_key(|(position, _)| *position) {
            Some((_, refusal)) => Err(refusal.during(what())),
            None => Ok(()),
        }
    }

    /// Dumps what `request` asks for; `parse` picks.
    pub(crate) fn dump<T>(
        &mut self,
        request: impl FnMut(&mut Batch),
        parse: impl FnMut(Message<'_>) -> Option<T>,
        what: impl Fn() -> String,
    ) -> Result<Vec<T>> {
        self.channel
            .dump(request, parse)
            .map_err(|refusal: Refusal| refusal.during(what()))
    }
}
