//! `slash32-agent explain`: the life of a packet, hop by hop, from live state. `ends` finds who is meant, `journey` walks
//! (pure: it asks an `Oracle` for the kernel's routes), `show` and `picture` render, `trace` confirms with a real packet.

use super::format::{self, Tell};
use super::paint::Paint;
use crate::cli::{ExplainArgs, ExplainFormat};
use crate::look::Look;
use crate::ruleset::read;
use crate::settings::Settings;
use anyhow::{Context, anyhow};
use dataplane::netlink::Netlink;
use dataplane::route::question::{RouteQuestion, RouteVerdict};
use dataplane::sysctl::read_sysctl;
use std::process::ExitCode;

mod ends;
mod journey;
mod picture;
mod show;
mod trace;

use journey::{Journey, Oracle, Outcome, Scene};

/// The kernel's own answers.
struct Kernel(Netlink);

impl Oracle for Kernel {
    fn ask(&mut self, question: &RouteQuestion) -> Result<RouteVerdict, String> {
        self.0
            .ask_route(question)
            .map_err(|error| error.to_string())
    }
}

/// Exit code 0: it arrives, or goes on to another node; 1: it ends here.
pub(crate) fn run(settings: &Settings, args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let look = Look::take(settings)?;
    let rules = read::read(&settings.nft_program)
        .map_err(|reason| anyhow!("read the packet filters' rules: {reason}"))?;
    let question = ends::find(&look, &rules.ruleset, args).map_err(|reason| anyhow!(reason))?;
    let forwards = |key| read_sysctl(&settings.proc_sys, key).is_ok_and(|value| value != "0");
    let scene = Scene {
        look: &look,
        rules: &rules,
        forwards_v4: forwards("net/ipv4/ip_forward"),
        forwards_v6: forwards("net/ipv6/conf/all/forwarding"),
    };
    let mut oracle = Kernel(Netlink::open()?);
    let mut journey = Journey::walk(&scene, &mut oracle, &question);
    if args.trace {
        journey.trace =
            Some(trace::trace(settings, &look, &question).context("trace a real packet")?);
    }
    let paint = Paint::of_stdout();
    let text = match args.output {
        ExplainFormat::Table => journey.render_table(paint),
        ExplainFormat::Json => format::render(&journey, format::Format::Json, paint)?,
        ExplainFormat::Yaml => format::render(&journey, format::Format::Yaml, paint)?,
        ExplainFormat::Mermaid => picture::render_mermaid(&journey),
        ExplainFormat::Svg => picture::render_svg(&journey),
    };
    format::print(&text)?;
    Ok(match journey.outcome {
        Outcome::Arrives { .. } | Outcome::GoesOn { .. } => ExitCode::SUCCESS,
        Outcome::Ends { .. } => ExitCode::FAILURE,
    })
}
