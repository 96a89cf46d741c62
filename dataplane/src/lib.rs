//! The only crate of Slash32 that speaks to the kernel.
//!
//! Everything here is blocking and runs on the calling thread: the CNI plugin is one thread without an async runtime, and
//! the agent calls from a plain thread of its own. [`netlink::Netlink`] is one route-netlink socket, bound for good to the
//! namespace in which it was opened; the verbs on it live in one module per noun ([`link`], [`pod_side`], [`route`], ...).
//! [`hostport::Nfnetlink`] changes elements of the nftables table that the agent lays as text ([`nft`]); on a node without nftables
//! the same rules are those of the [`iptables`] programs.
//!
//! Requests are encoded by `netlink-packet-route` where it has the type; answers are read by our own small attribute
//! reader, which takes the few attributes that we want and cannot fail on one that a newer kernel added.
//!
//! By which names, numbers and addresses a fresh process recognises what is ours: [`names`].

pub mod address;
pub mod clock;
pub mod conntrack;
pub mod error;
pub mod events;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod hostport;
pub mod iptables;
pub mod link;
pub mod names;
pub mod neighbour;
pub mod netlink;
pub mod netns;
mod nfnetlink;
pub mod nft;
pub mod packet;
pub mod pod_side;
pub mod probe;
mod program;
pub mod route;
pub mod rule;
pub mod shaping;
pub mod sysctl;
pub mod tunnel;
mod wire;
