//! Golden texts: what a person sees, on a node that is well and on one that is not.

use crate::commands::format::{Format, render};
use crate::commands::paint::Paint;
use crate::commands::status::report::compute_status;
use crate::look::agent::AgentLook;
use crate::look::{Look, NodesSource, sample};
use crate::problem::{Problem, ProblemKind};
use crate::report::Repairs;

fn told(look: &Look, format: Format) -> String {
    render(&compute_status(look, 10), format, Paint::PLAIN).unwrap()
}

/// Named without the crate, so that a move of the code is no new text.
fn golden(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

fn broken() -> Look {
    let mut look = sample::look();
    look.routes.clear();
    look.links.retain(|link| link.name != sample::POD_LINK);
    look.agent = AgentLook::Silent("no answer from 127.0.0.1:9532: Connection refused".into());
    look.table = Some(false);
    look.usage[0].free = 0;
    let text = "node node3 (192.0.2.3) is not on a link of this node";
    look.wish
        .as_mut()
        .and_then(|wish| wish.as_mut().ok())
        .unwrap()
        .problems
        .push(Problem::new(ProblemKind::OffLink, text));
    let error = "no address is free in 10.244.1.1-10.244.1.254";
    look.operations
        .push(sample::operation("ADD", 5000, 11, error));
    look.blind.push("read /run/x: Permission denied".into());
    look
}

#[test]
fn a_healthy_node() {
    let mut look = sample::look();
    if let AgentLook::Running(report) = &mut look.agent {
        report.repairs = Repairs {
            routes: 2,
            table: 1,
            host_ports: 0,
            overruns: 0,
        };
    }
    golden("a_healthy_node", &told(&look, Format::Table));
}

#[test]
fn a_broken_node() {
    golden("a_broken_node", &told(&broken(), Format::Table));
}

#[test]
fn without_nodes_the_kernels_routes_tell_of_peers() {
    let mut look = sample::look();
    (look.view, look.wish, look.nodes_source) = (None, None, NodesSource::Kernel);
    golden(
        "without_nodes_the_kernels_routes_tell_of_peers",
        &told(&look, Format::Table),
    );
}

#[test]
fn as_json() {
    golden("as_json", &told(&broken(), Format::Json));
}

#[test]
fn as_yaml() {
    golden("as_yaml", &told(&sample::look(), Format::Yaml));
}
