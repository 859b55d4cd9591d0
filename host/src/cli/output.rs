//! Text for people: what goes to stderr, tables, sizes. Names out of files never reach a terminal as they are.

use std::borrow::Cow;
use std::io::{self, Write};

/// A line to the person at the terminal, beside the answer. Where stderr is closed, nobody wants to know.
pub(super) fn tell(text: &str) {
    let _ = writeln!(io::stderr(), "{}", harmless(text));
}

/// The same text without characters that move the cursor or change the terminal's state. A model's or a file's words
/// are not ours.
pub(super) fn harmless(text: &str) -> Cow<'_, str> {
    let harms = |c: char| c.is_control() && c != '\n' && c != '\t';
    if text.contains(harms) {
        return Cow::Owned(text.replace(harms, "\u{fffd}"));
    }
    Cow::Borrowed(text)
}

/// Rows of cells under headings, and under each row lines that explain it.
pub(super) struct Table {
    rows: Vec<(Vec<String>, Vec<String>)>,
}

impl Table {
    pub(super) fn new(headings: &[&str]) -> Self {
        Table { rows: vec![(headings.iter().map(|&heading| heading.to_owned()).collect(), Vec::new())] }
    }

    /// Adds a row with as many cells as there are headings.
    pub(super) fn row(&mut self, cells: Vec<String>, notes: Vec<String>) {
        let one_line = |cell: String| harmless(&cell).replace(['\n', '\t'], " ");
        self.rows.push((cells.into_iter().map(one_line).collect(), notes));
    }

    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|(cells, _)| cells.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let columns = self.rows.first().map_or(0, |(cells, _)| cells.len());
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (cells, notes) in &self.rows {
            let cells: Vec<String> =
                cells.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
            writeln!(out, "{}", cells.join("  ").trim_end())?;
            for note in notes {
                writeln!(out, "    {}", harmless(note).replace('\n', "\n      "))?;
            }
        }
        Ok(())
    }
}

/// `98361344` as `93.8 MiB`.
pub(super) fn bytes(count: u64) -> String {
    scaled(count, 1024.0, &[" B", " KiB", " MiB", " GiB", " TiB"])
}

/// `134515008` as `134.5 M`.
pub(super) fn count(count: u64) -> String {
    scaled(count, 1000.0, &["", " K", " M", " B", " T"])
}

fn scaled(count: u64, base: f64, units: &[&str]) -> String {
    let mut value = count as f64;
    let mut unit = 0;
    // What would be rounded up to the next unit is written in it.
    while value >= base - 0.05 && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    let digits = usize::from(unit > 0);
    format!("{value:.digits$}{}", units[unit])
}

/// The text, or a dash where there is none.
pub(super) fn or_dash(text: Option<&str>) -> String {
    text.unwrap_or("-").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_for_people() {
        for (number, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (98_361_344, "93.8 MiB"),
            (1_048_575, "1.0 MiB"),
        ] {
            assert_eq!(bytes(number), expected);
        }
        for (number, expected) in
            [(7, "7"), (134_515_008, "134.5 M"), (7_241_732_096, "7.2 B"), (999_999, "1.0 M")]
        {
            assert_eq!(count(number), expected);
        }
    }

    #[test]
    fn a_table_has_straight_columns_and_harmless_cells() {
        let mut table = Table::new(&["ID", "STATE"]);
        table.row(vec!["a\u{1b}[2J".to_owned(), "x".to_owned()], vec!["why: one\ntwo".to_owned()]);
        table.row(vec!["a".to_owned(), "long".to_owned()], Vec::new());
        let mut out = Vec::new();
        table.write(&mut out).unwrap();
        let expected = "ID     STATE\na\u{fffd}[2J  x\n    why: one\n      two\na      long\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
