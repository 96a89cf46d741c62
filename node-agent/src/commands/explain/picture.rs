//! A journey as a picture: Mermaid for documents that draw it, SVG for everything else. Pure.

use super::journey::{Hop, Journey, Outcome};
use std::fmt::Write;

/// A flowchart, the answer in dotted arrows.
pub(super) fn render_mermaid(journey: &Journey) -> String {
    let mut text = String::from("flowchart TD\n");
    let quote = |words: &str| words.replace('"', "'").replace(['\n', '<', '>'], " ");
    let forth = || journey.forth.iter().enumerate();
    for (number, hop) in forth() {
        let _ = writeln!(text, "  h{number}[\"{}\"]", quote(&label(hop)));
    }
    let end = journey.forth.len();
    let (word, _) = ending(&journey.outcome);
    let _ = writeln!(text, "  h{end}([\"{}\"])", quote(&word));
    for number in 0..end {
        let _ = writeln!(text, "  h{number} --> h{}", number + 1);
    }
    for (number, hop) in journey.back.iter().enumerate() {
        let _ = writeln!(text, "  b{number}[\"{}\"]", quote(&label(hop)));
        let before = match number {
            0 => format!("h{end}"),
            _ => format!("b{}", number - 1),
        };
        let _ = writeln!(text, "  {before} -.-> b{number}");
    }
    text
}

const WIDTH: usize = 760;
const BOX: usize = 46;
const GAP: usize = 22;
const MARGIN: usize = 16;

/// Boxes from top to bottom: the way, its end, the answer.
pub(super) fn render_svg(journey: &Journey) -> String {
    let (word, colour) = ending(&journey.outcome);
    let mut boxes: Vec<(String, &str)> = journey
        .forth
        .iter()
        .map(|hop| (label(hop), "#e8eef7"))
        .collect();
    boxes.push((word, colour));
    boxes.extend(
        journey
            .back
            .iter()
            .map(|hop| (format!("answer: {}", label(hop)), "#f5f0e1")),
    );
    let height = MARGIN * 2 + 30 + boxes.len() * (BOX + GAP);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{height}\" viewBox=\"0 0 {0} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n",
        WIDTH + 2 * MARGIN
    );
    let _ = writeln!(
        text,
        "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>"
    );
    let title = format!(
        "{} from {} to {}, seen from node {}",
        journey.protocol, journey.from, journey.to, journey.node
    );
    let _ = writeln!(
        text,
        "<text x=\"{MARGIN}\" y=\"{}\" font-weight=\"bold\">{}</text>",
        MARGIN + 12,
        escape(&title)
    );
    for (number, (words, colour)) in boxes.iter().enumerate() {
        let y = MARGIN + 30 + number * (BOX + GAP);
        if number > 0 {
            let (x, top) = (MARGIN + WIDTH / 2, y - GAP);
            let _ = writeln!(
                text,
                "<path d=\"M{x} {top} L{x} {0} M{1} {2} L{x} {0} L{3} {2}\" stroke=\"#555\" fill=\"none\"/>",
                y,
                x - 4,
                y - 6,
                x + 4
            );
        }
        let _ = writeln!(
            text,
            "<rect x=\"{MARGIN}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{BOX}\" rx=\"5\" fill=\"{colour}\" stroke=\"#555\"/>"
        );
        for (line, part) in wrap(words).into_iter().take(2).enumerate() {
            let _ = writeln!(
                text,
                "<text x=\"{}\" y=\"{}\">{}</text>",
                MARGIN + 10,
                y + 19 + line * 17,
                escape(&part)
            );
        }
    }
    text.push_str("</svg>\n");
    text
}

fn label(hop: &Hop) -> String {
    let mtu = hop
        .mtu
        .map_or_else(String::new, |mtu| format!(", MTU {mtu}"));
    format!("{}: {}{mtu}", hop.place, hop.what)
}

fn ending(outcome: &Outcome) -> (String, &'static str) {
    match outcome {
        Outcome::Arrives { at } => (format!("arrives at {at}"), "#dcf2dc"),
        Outcome::GoesOn { to, .. } => (format!("goes on to {to}"), "#dcf2dc"),
        Outcome::Ends { reason, .. } => (format!("ENDS HERE: {reason}"), "#f8dada"),
    }
}

/// Lines of about the box's width.
fn wrap(words: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in words.split(' ') {
        let last = lines.last().map_or(0, |line| line.chars().count());
        if last + word.chars().count() > 108 && last > 0 {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
