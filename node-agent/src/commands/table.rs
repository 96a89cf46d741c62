//! Columns of text, as wide as their widest cell. Colour is put on after the width was measured.

use super::paint::Paint;

/// How a cell is painted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Good,
    Bad,
    Dim,
}

/// One cell.
#[derive(Debug, Clone)]
pub(crate) struct Cell(String, Tone);

impl Cell {
    pub(crate) fn toned(text: impl Into<String>, tone: Tone) -> Cell {
        Cell(one_line(text.into()), tone)
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell(one_line(text.into()), Tone::Plain)
    }
}

/// Errors of other programs have several lines, and may hold what a terminal would obey.
fn one_line(text: String) -> String {
    text.replace(|c: char| c.is_control(), " ")
}

/// A table with a heading.
#[derive(Debug)]
pub(crate) struct Table {
    title: String,
    columns: &'static [&'static str],
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn new(title: impl Into<String>, columns: &'static [&'static str]) -> Table {
        Table {
            title: title.into(),
            columns,
            rows: Vec::new(),
        }
    }

    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// `instead` where there is no row.
    pub(crate) fn render(&self, paint: Paint, instead: &str) -> String {
        let mut text = format!("{}\n", paint.bold(&self.title));
        if self.rows.is_empty() {
            return text + "  " + instead + "\n";
        }
        let heads: Vec<Cell> = self
            .columns
            .iter()
            .map(|name| Cell::toned(*name, Tone::Dim))
            .collect();
        let lines = || std::iter::once(&heads).chain(&self.rows);
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|column| {
                lines()
                    .filter_map(|row| row.get(column))
                    .map(|cell| cell.0.chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        for row in lines() {
            let mut line = String::new();
            let last = row.len().saturating_sub(1);
            for (at, (Cell(words, tone), width)) in row.iter().zip(&widths).enumerate() {
                let gap = width.saturating_sub(words.chars().count());
                line.push_str("  ");
                line.push_str(&toned(paint, *tone, words));
                if at < last {
                    line.push_str(&" ".repeat(gap));
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

fn toned(paint: Paint, tone: Tone, text: &str) -> String {
    match tone {
        Tone::Plain => text.to_owned(),
        Tone::Good => paint.good(text),
        Tone::Bad => paint.bad(text),
        Tone::Dim => paint.dim(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_no_line_ends_in_blanks() {
        let mut table = Table::new("PEERS", &["NODE", "ADDRESS"]);
        table.row(vec!["a-long-name".into(), "192.0.2.1".into()]);
        table.row(vec!["b\n\x1b".into(), "".into()]);
        assert_eq!(
            table.render(Paint::PLAIN, "none"),
            "PEERS\n  NODE         ADDRESS\n  a-long-name  192.0.2.1\n  b\n"
        );
    }

    #[test]
    fn an_empty_table_says_so() {
        assert_eq!(
            Table::new("PODS", &["POD"]).render(Paint::PLAIN, "none on this node"),
            "PODS\n  none on this node\n"
        );
    }
}
