//! Our nftables table: `render` turns a model into text that any admin can read, `table` lays it and keeps it,
//! `elements` keeps what is in its maps.

mod elements;
pub(crate) mod render;
pub(crate) mod table;
