//! A journey as numbered steps.

use super::journey::{Hop, Journey, Outcome};
use crate::commands::format::Tell;
use crate::commands::paint::Paint;
use std::fmt::Write;

impl Tell for Journey {
    fn render_table(&self, paint: Paint) -> String {
        let mut text = format!(
            "{} from {} to {}, seen from node {}\n",
            self.protocol, self.from, self.to, self.node
        );
        steps(&mut text, paint, &self.forth);
        let _ = match &self.outcome {
            Outcome::Arrives { at } => writeln!(text, "  {} at {at}", paint.good("ARRIVES")),
            Outcome::GoesOn { to, then } => {
                writeln!(text, "  {} to {to}\n     {then}", paint.good("GOES ON"))
            }
            Outcome::Ends { reason, cure } => {
                writeln!(
                    text,
                    "  {}: {reason}\n     {} {cure}",
                    paint.bad("ENDS HERE"),
                    paint.dim("cure:")
                )
            }
        };
        if !self.back.is_empty() {
            let _ = writeln!(text, "\n{}", paint.bold("the answer"));
            steps(&mut text, paint, &self.back);
        }
        if let Some(mtu) = self.mtu {
            let _ = writeln!(
                text,
                "\nlargest packet on what can be seen of the way: {mtu} bytes"
            );
        }
        for place in &self.unsure {
            let _ = writeln!(
                text,
                "{} rules of {place} that could decide otherwise are not understood",
                paint.warn("not sure:")
            );
        }
        if let Some(trace) = &self.trace {
            let _ = writeln!(text, "\n{}", paint.bold("trace of a real packet"));
            for line in trace {
                let _ = writeln!(text, "  {line}");
            }
        }
        text
    }
}

fn steps(text: &mut String, paint: Paint, hops: &[Hop]) {
    for (number, hop) in (1..).zip(hops) {
        let mtu = hop
            .mtu
            .map_or_else(String::new, |mtu| format!(" (MTU {mtu})"));
        let _ = writeln!(
            text,
            "  {number}. {} {}{mtu}",
            paint.bold(hop.place),
            hop.what
        );
        for why in &hop.why {
            let _ = writeln!(text, "     {}", paint.dim(why));
        }
    }
}
