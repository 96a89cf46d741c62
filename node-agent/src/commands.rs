//! The commands that look and tell: none of them changes what another command or the agent relies on. Each takes one
//! `Look`, computes a plain value from it, and renders that as a table, JSON or YAML. `run` and `uninstall` are elsewhere.

pub(crate) mod bundle;
pub(crate) mod capture;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod format;
pub(crate) mod manual;
mod paint;
pub(crate) mod status;
mod table;
mod words;
