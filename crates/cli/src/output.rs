//! What a command prints: aligned tables or lines for people, one JSON object per line for
//! programs. Colours only on a terminal.

use std::io::{self, BufWriter, IsTerminal, Write};

use serde::Serialize;

/// Standard output in the form that was asked for.
pub(crate) struct Output {
    out: BufWriter<io::Stdout>,
    json: bool,
    is_coloured: bool,
}

impl Output {
    /// For people, or for programs when `json`.
    pub(crate) fn new(json: bool) -> Self {
        Self { out: BufWriter::new(io::stdout()), json, is_coloured: wants_colour(&io::stdout()) }
    }

    /// Whether a program reads it.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// A line for people.
    pub(crate) fn line(&mut self, line: &str) -> io::Result<()> {
        self.out.write_all(line.as_bytes())?;
        self.out.write_all(b"\n")
    }

    /// An object for programs.
    pub(crate) fn object(&mut self, object: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, object)?;
        self.out.write_all(b"\n")
    }

    /// The object when a program reads, the line otherwise.
    pub(crate) fn answer(
        &mut self,
        object: &impl Serialize,
        line: impl FnOnce() -> String,
    ) -> io::Result<()> {
        match self.json {
            true => self.object(object),
            false => self.line(&line()),
        }
    }

    /// A table for people, with a bold head on a terminal.
    pub(crate) fn table(&mut self, table: &Table) -> io::Result<()> {
        for (position, line) in table.lines().enumerate() {
            match position == 0 && self.is_coloured {
                true => self.line(&format!("\x1b[1m{line}\x1b[0m"))?,
                false => self.line(&line)?,
            }
        }
        Ok(())
    }

    /// Hands everything to whoever reads.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A remark beside the answer, on stderr, where it is in nobody's way.
pub(crate) fn note(remark: &str) {
    // There is nobody left to tell that stderr is closed.
    let _ = writeln!(io::stderr().lock(), "kiva: {remark}");
}

/// Whether a stream is a terminal whose user does not refuse colours.
pub(crate) fn wants_colour(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Rows of as many cells as there are heads.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these heads.
    pub(crate) fn new(heads: &[&str]) -> Self {
        Self { rows: vec![heads.iter().map(|head| (*head).to_owned()).collect()] }
    }

    /// One more row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Columns two blanks apart, without blanks at the end of a line.
    fn lines(&self) -> impl Iterator<Item = String> + '_ {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column| {
            let cells = self.rows.iter().filter_map(move |row| row.get(column));
            cells.map(|cell: &String| cell.chars().count()).max()
        };
        let widths: Vec<usize> = (0..columns).map(|c| width(c).unwrap_or(0)).collect();
        self.rows.iter().map(move |row| {
            let cells = row.iter().zip(&widths);
            let padded = cells.map(|(cell, &width)| format!("{cell:width$}"));
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
    }
}

/// A number with a comma every three digits.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_end_with_text() {
        let mut table = Table::new(&["id", "address", "state"]);
        table.row(["1".into(), "127.0.0.1:20160".into(), "up".into()]);
        table.row(["12".into(), "ö".into(), String::new()]);
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines, ["id  address          state", "1   127.0.0.1:20160  up", "12  ö",]);
    }

    #[test]
    fn large_numbers_are_grouped() {
        let shown: Vec<_> = [0, 999, 1_000, 1_234_567].map(thousands).into();
        assert_eq!(shown, ["0", "999", "1,000", "1,234,567"]);
    }
}
