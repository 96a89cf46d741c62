//! Traffic-control messages: tbf, ingress, a u32 filter that redirects (linux/pkt_sched.h, pkt_cls.h, tc_act/tc_mirred.h).
//!
//! Written by hand: `netlink-packet-route` has no tbf. u32 and not matchall, as in the reference plugin: every kernel that has
//! classifiers at all has it.

use super::bucket::Bucket;
use crate::wire::attribute::{Attributes, nest, put, put_string};
use crate::wire::message::Message;

pub(super) const RTM_NEWQDISC: u16 = 36;
pub(super) const RTM_DELQDISC: u16 = 37;
pub(super) const RTM_GETQDISC: u16 = 38;
pub(super) const RTM_NEWTFILTER: u16 = 44;
pub(super) const RTM_GETTFILTER: u16 = 46;

/// Bytes of `struct tcmsg`: family u8, pad, index i32, handle u32, parent u32, info u32.
const HEADER: usize = 20;
const TC_H_ROOT: u32 = 0xffff_ffff;
const TC_H_INGRESS: u32 = 0xffff_fff1;
const INGRESS_HANDLE: u32 = 0xffff_0000;
const ETH_P_ALL: u16 = 3;

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
const TCA_U32_SEL: u16 = 5;
const TCA_U32_ACT: u16 = 7;
const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_MIRRED_PARMS: u16 = 2;

const TC_U32_TERMINAL: u8 = 1;
const TC_ACT_STOLEN: u32 = 4;
const TCA_EGRESS_REDIR: u32 = 1;
/// Offset of `ifindex` in `struct tc_mirred`.
const MIRRED_IFINDEX: usize = 24;
/// Offsets in `struct tc_tbf_qopt`: `rate.rate` and `limit`.
const TBF_RATE: usize = 8;
const TBF_LIMIT: usize = 24;

fn put_header(out: &mut Vec<u8>, index: u32, handle: u32, parent: u32, info: u32) {
    out.extend_from_slice(&[0; 4]);
    for word in [index, handle, parent, info] {
        out.extend_from_slice(&word.to_ne_bytes());
    }
}

/// A tbf at the root of this link.
pub(super) fn put_bucket(out: &mut Vec<u8>, index: u32, bucket: &Bucket) {
    put_header(out, index, 0x1_0000, TC_H_ROOT, 0);
    put_string(out, TCA_KIND, "tbf");
    nest(out, TCA_OPTIONS, |out| {
        put(out, TCA_TBF_PARMS, &tbf_parameters(bucket));
        // In bytes, exact; without it the kernel takes the burst as a time in 32 bits.
        put(out, TCA_TBF_BURST, &bucket.burst.to_ne_bytes());
        if bucket.rate > u64::from(u32::MAX) {
            put(out, TCA_TBF_RATE64, &bucket.rate.to_ne_bytes());
        }
    });
}

/// `struct tc_tbf_qopt`: rate and peakrate (`struct tc_ratespec`, 12 bytes, its rate last), limit, buffer, mtu.
fn tbf_parameters(bucket: &Bucket) -> [u8; 36] {
    let mut parameters = [0; 36];
    let rate = u32::try_from(bucket.rate).unwrap_or(u32::MAX);
    parameters[1] = 1; // TC_LINKLAYER_ETHERNET
    parameters[TBF_RATE..TBF_RATE + 4].copy_from_slice(&rate.to_ne_bytes());
    parameters[TBF_LIMIT..TBF_LIMIT + 4].copy_from_slice(&bucket.limit().to_ne_bytes());
    parameters
}

/// Asks for the root queue of this link.
pub(super) fn put_root(out: &mut Vec<u8>, index: u32) {
    put_header(out, index, 0, TC_H_ROOT, 0);
}

/// The ingress queue of this link.
pub(super) fn put_ingress(out: &mut Vec<u8>, index: u32) {
    put_header(out, index, INGRESS_HANDLE, TC_H_INGRESS, 0);
    put_string(out, TCA_KIND, "ingress");
}

/// A filter that sends whatever comes in by `from` out by `to`.
pub(super) fn put_redirect(out: &mut Vec<u8>, from: u32, to: u32) {
    let info = 1 << 16 | u32::from(ETH_P_ALL.to_be());
    put_header(out, from, 0, INGRESS_HANDLE, info);
    put_string(out, TCA_KIND, "u32");
    nest(out, TCA_OPTIONS, |out| {
        put(out, TCA_U32_SEL, &match_all());
        nest(out, TCA_U32_ACT, |out| {
            nest(out, 1, |out| {
                put_string(out, TCA_ACT_KIND, "mirred");
                nest(out, TCA_ACT_OPTIONS, |out| {
                    put(out, TCA_MIRRED_PARMS, &mirred_parameters(to))
                });
            });
        });
    });
}

/// `struct tc_u32_sel` with one key that compares nothing.
fn match_all() -> [u8; 32] {
    let mut selector = [0; 32];
    selector[0] = TC_U32_TERMINAL;
    selector[2] = 1; // one key: mask, value, offset, offset mask, all 0
    selector
}

/// `struct tc_mirred`: index, capab, action, refcnt, bindcnt, eaction, ifindex.
fn mirred_parameters(to: u32) -> [u8; 28] {
    let mut parameters = [0; 28];
    parameters[8..12].copy_from_slice(&TC_ACT_STOLEN.to_ne_bytes());
    parameters[20..24].copy_from_slice(&TCA_EGRESS_REDIR.to_ne_bytes());
    parameters[MIRRED_IFINDEX..].copy_from_slice(&to.to_ne_bytes());
    parameters
}

/// Asks for the filters at the ingress of this link.
pub(super) fn put_filters_of(out: &mut Vec<u8>, index: u32) {
    put_header(out, index, 0, INGRESS_HANDLE, 0);
}

/// `None` where the message is no tbf.
pub(super) fn bucket_from(message: &Message<'_>) -> Option<Bucket> {
    let options = options_of(message, RTM_NEWQDISC, "tbf")?;
    let parameters = options.find_kind(TCA_TBF_PARMS)?.value;
    let word = |at: usize| {
        Some(u32::from_ne_bytes(
            parameters.get(at..at + 4)?.try_into().ok()?,
        ))
    };
    let rate64 = options
        .find_kind(TCA_TBF_RATE64)
        .and_then(|rate| Some(u64::from_ne_bytes(rate.value.try_into().ok()?)));
    let rate = rate64.unwrap_or(u64::from(word(TBF_RATE)?));
    Some(Bucket::from_limit(rate, word(TBF_LIMIT)?))
}

/// The link to which a u32 filter redirects; `None` for anything else.
pub(super) fn redirect_target_from(message: &Message<'_>) -> Option<u32> {
    let actions = options_of(message, RTM_NEWTFILTER, "u32")?
        .find_kind(TCA_U32_ACT)?
        .nested();
    let target = |options: Attributes<'_>| {
        let parameters = options.find_kind(TCA_MIRRED_PARMS)?.value;
        Some(u32::from_ne_bytes(
            parameters
                .get(MIRRED_IFINDEX..MIRRED_IFINDEX + 4)?
                .try_into()
                .ok()?,
        ))
    };
    actions
        .map(|action| action.nested())
        .filter(|action| {
            action
                .find_kind(TCA_ACT_KIND)
                .and_then(|kind| kind.string())
                .as_deref()
                == Some("mirred")
        })
        .find_map(|action| target(action.find_kind(TCA_ACT_OPTIONS)?.nested()))
}

fn options_of<'a>(message: &Message<'a>, kind: u16, name: &str) -> Option<Attributes<'a>> {
    let attributes = Attributes::after(message.payload, HEADER);
    let named = attributes.find_kind(TCA_KIND)?.string()? == name;
    (message.kind == kind && named).then(|| Some(attributes.find_kind(TCA_OPTIONS)?.nested()))?
}
