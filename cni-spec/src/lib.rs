//! The CNI protocol as a pure library: versions, requests, results, error documents, runtimeConfig, conflists.
//!
//! It takes bytes and environment and gives values, or values and gives documents; it opens no file, speaks to no kernel and
//! knows no clock. So everything that can be refused without touching the system is refused here, before anything happens.
//! Called by `slash32` and `slash32-ipam` (every invocation) and by the agent, which renders the conflist.
//!
//! The rules cited as G5, A11, X2 ... are the numbered CNI requirements; where the specification's text and libcni differ,
//! libcni decides, since it is what container runtimes run.

pub mod address;
pub mod conflist;
pub mod error;
pub mod json;
pub mod request;
pub mod result;
pub mod runtime_config;
pub mod version;
