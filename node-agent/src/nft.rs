//! Our nftables table: `render` turns a model into text that any admin can read, `table` lays it and keeps it.

pub(crate) mod render;
pub(crate) mod table;
