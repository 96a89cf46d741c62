//! Bandwidth of a pod: a token bucket (tbf) in each direction.
//!
//! Towards the pod the bucket sits on the host's side. What the pod sends arrives there, where nothing can be queued; so it is
//! redirected (ingress, u32, mirred) to an ifb device of its own with a bucket, and comes back behind it. The arithmetic is
//! that of the reference plugin `bandwidth`. Who calls: the plugin's ADD and CHECK; DEL removes the ifb by `remove_link`, the
//! rest goes with the pod's link.

use netlink_packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo as LinkKind, LinkMessage,
};

use crate::error::{KernelError, Result};
use crate::netlink::{Netlink, RTM_NEWLINK};
use crate::wire::batch::{Batch, F_CREATE, F_DUMP, F_ECHO, F_EXCL, F_REPLACE};

mod bucket;
mod message;

use bucket::Bucket;
use message::{
    RTM_DELQDISC, RTM_GETQDISC, RTM_GETTFILTER, RTM_NEWQDISC, RTM_NEWTFILTER, bucket_from,
    put_bucket, put_ingress, put_redirect, put_root, redirect_target_from,
};

/// Bits per second and bits (X4). A rate of 0 is unlimited. Ingress is towards the pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shaping {
    /// Towards the pod, bits per second.
    pub ingress_rate: u64,
    /// Towards the pod, bits.
    pub ingress_burst: u64,
    /// From the pod, bits per second.
    pub egress_rate: u64,
    /// From the pod, bits.
    pub egress_burst: u64,
}

impl Shaping {
    /// What the kernel will hold for this, and [`Netlink::find_shaping`] find: whole bytes, and a burst that lets at least one
    /// packet of `mtu` through (tbf drops what is longer than its bucket). CHECK compares with this.
    pub fn effective(&self, mtu: u32) -> Shaping {
        let mut effective = Shaping::default();
        if let Some(bucket) = Bucket::new(self.ingress_rate, self.ingress_burst, mtu) {
            (effective.ingress_rate, effective.ingress_burst) = bucket.bits();
        }
        if let Some(bucket) = Bucket::new(self.egress_rate, self.egress_burst, mtu) {
            (effective.egress_rate, effective.egress_burst) = bucket.bits();
        }
        effective
    }
}

impl Netlink {
    /// Limits a pod's bandwidth, on a socket of the host. `mtu` is that of the pod's link, in bytes. `shaper_link` is made
    /// where something limits what the pod sends; after an error the caller removes it along with the pod's link.
    pub fn apply_shaping(
        &mut self,
        host_index: u32,
        shaper_link: &str,
        mtu: u32,
        shaping: &Shaping,
    ) -> Result<()> {
        if let Some(bucket) = Bucket::new(shaping.ingress_rate, shaping.ingress_burst, mtu) {
            let what =
                || format!("limit traffic towards the pod on link #{host_index} to {bucket}");
            self.set_root_bucket(host_index, &bucket, what)?;
        }
        if let Some(bucket) = Bucket::new(shaping.egress_rate, shaping.egress_burst, mtu) {
            let what = || {
                format!(
                    "limit traffic from the pod on link #{host_index} by {shaper_link} to {bucket}"
                )
            };
            let shaper = self.ensure_shaper(shaper_link, mtu)?;
            self.set_root_bucket(shaper, &bucket, what)?;
            self.redirect(host_index, shaper, what)?;
        }
        Ok(())
    }

    /// What limits the pod now. A rate is 0 where nothing does: no bucket, no ifb, or nothing redirected to it.
    pub fn find_shaping(&mut self, host_index: u32, shaper_link: &str) -> Result<Shaping> {
        let mut shaping = Shaping::default();
        if let Some(bucket) = self.find_root_bucket(host_index)? {
            (shaping.ingress_rate, shaping.ingress_burst) = bucket.bits();
        }
        let Some(shaper) = self.find_link(shaper_link)?.filter(|link| link.up) else {
            return Ok(shaping);
        };
        if self.list_redirects(host_index)?.contains(&shaper.index)
            && let Some(bucket) = self.find_root_bucket(shaper.index)?
        {
            (shaping.egress_rate, shaping.egress_burst) = bucket.bits();
        }
        Ok(shaping)
    }

    /// The ifb of this name, up; one that a killed ADD left behind will do.
    fn ensure_shaper(&mut self, name: &str, mtu: u32) -> Result<u32> {
        let what = || format!("create ifb {name}");
        let mut batch = Batch::new();
        batch.push(RTM_NEWLINK, F_CREATE | F_EXCL, &shaper_message(name, mtu));
        match self.request(&mut batch, what) {
            Ok(()) => {}
            Err(error) if error.is_exists() => {}
            Err(error) => return Err(error),
        }
        let link = self
            .find_link(name)?
            .ok_or_else(|| KernelError::new(what(), libc::ENODEV))?;
        if link.kind.as_deref() != Some("ifb") {
            let kind = link.kind.unwrap_or_else(|| "device of hardware".into());
            return Err(KernelError {
                message: format!("a {kind} has that name"),
                ..KernelError::new(what(), libc::EEXIST)
            });
        }
        if !link.up {
            self.set_link_up(link.index)?;
        }
        Ok(link.index)
    }

    fn set_root_bucket(
        &mut self,
        index: u32,
        bucket: &Bucket,
        what: impl Fn() -> String,
    ) -> Result<()> {
        let mut batch = Batch::new();
        batch.push_with(RTM_NEWQDISC, F_CREATE | F_REPLACE, |out| {
            put_bucket(out, index, bucket)
        });
        self.request(&mut batch, what)
    }

    /// Everything that comes in by `from` goes out by `to`.
    fn redirect(&mut self, from: u32, to: u32, what: impl Fn() -> String) -> Result<()> {
        let mut batch = Batch::new();
        // A redirect that is left over may point at an ifb that is gone: away with it, if there is one.
        batch.push_with(RTM_DELQDISC, 0, |out| put_ingress(out, from));
        batch.push_with(RTM_NEWQDISC, F_CREATE | F_EXCL, |out| {
            put_ingress(out, from)
        });
        batch.push_with(RTM_NEWTFILTER, F_CREATE | F_EXCL, |out| {
            put_redirect(out, from, to)
        });
        let refused = self
            .channel
            .exchange(&mut batch, &mut |_, _| {})
            .map_err(|refusal| refusal.during(what()))?;
        match refused.into_iter().find(|(position, _)| *position > 0) {
            Some((_, refusal)) => Err(refusal.during(what())),
            None => Ok(()),
        }
    }

    fn find_root_bucket(&mut self, index: u32) -> Result<Option<Bucket>> {
        let mut bucket = None;
        let mut batch = Batch::new();
        // The kernel takes the answer for a notification and sends it to who asked only with ECHO.
        batch.push_with(RTM_GETQDISC, F_ECHO, |out| put_root(out, index));
        let what = || format!("read the queue of link #{index}");
        match self.request_with(
            &mut batch,
            &mut |message| bucket = bucket.take().or_else(|| bucket_from(&message)),
            what,
        ) {
            Ok(()) => Ok(bucket),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The links to which what comes in by this one is redirected.
    fn list_redirects(&mut self, index: u32) -> Result<Vec<u32>> {
        let request = |batch: &mut Batch| {
            batch.push_with(RTM_GETTFILTER, F_DUMP, |out| {
                message::put_filters_of(out, index)
            });
        };
        let what = || format!("list the redirects of link #{index}");
        match self.dump(request, |message| redirect_target_from(&message), what) {
            Ok(found) => Ok(found),
            // No ingress queue at all.
            Err(error) if error.is_not_found() || error.errno == libc::EINVAL => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

fn shaper_message(name: &str, mtu: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message.attributes.push(LinkAttribute::IfName(name.into()));
    message.attributes.push(LinkAttribute::Mtu(mtu));
    message
        .attributes
        .push(LinkAttribute::LinkInfo(vec![LinkKind::Kind(InfoKind::Ifb)]));
    message
}

/// What this module makes of any message.
#[cfg(any(test, fuzzing))]
pub(crate) fn decode_any(message: &crate::wire::message::Message<'_>) {
    let _ = (bucket_from(message), redirect_target_from(message));
}
