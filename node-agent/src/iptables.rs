//! The rules of table inet slash32 as iptables has them, for nodes without nftables: `render` turns the same model into
//! scripts of iptables-restore, `saved` reads what iptables-save prints, `rules` lays them and keeps them.

pub(crate) mod render;
pub(crate) mod rules;
pub(crate) mod saved;
