//! The lab: nodes, routers, hosts and pods as network namespaces, in a few lines each.
//!
//! Demo, suites and benches all stand on it. A program enters private namespaces first
//! ([`enter::enter`]); everything that it makes then vanishes with it, also when it is killed, and the
//! machine's own namespace is never touched.
//!
//! ```no_run
//! # use slash32_tests::{enter, lab::Lab};
//! enter::enter().unwrap();
//! let lab = Lab::flat("demo", 3).unwrap();
//! let agents = lab.start_agents().unwrap();
//! let pod = lab.nodes[0].add_pod("web").unwrap();
//! pod.machine.run(&["ping", "-c1", "198.51.100.10"]).unwrap();
//! # drop(agents);
//! ```

pub mod api_server;
pub mod bytewise;
pub mod certificates;
pub mod cluster;
pub mod cpu;
pub mod crowd;
pub mod enter;
pub mod fault_sweep;
pub mod http;
pub mod judge;
pub mod kill;
pub mod lab;
pub mod libcni;
pub mod machine;
pub mod netfilter;
pub mod node;
pub mod nodes_file;
pub mod pod;
pub mod programs;
pub mod random;
pub mod raw_packets;
pub mod reboot;
pub mod site;
pub mod strace;
pub mod suite;
pub mod traffic;
pub mod tunnels;
pub mod wait;
