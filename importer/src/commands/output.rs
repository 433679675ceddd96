//! Results on stdout: aligned tables for people.

use std::{
    io::{self, Write},
    process::ExitCode,
};

/// Writes a line to stdout. A reader that has seen enough (`| head`) is not an error but the end.
///
/// # Errors
/// As stdout's own, a closed pipe included: see [`unless_closed`].
pub fn line(out: &mut impl Write, text: &str) -> io::Result<()> {
    writeln!(out, "{text}")
}

/// Turns a closed pipe into an ordinary end.
///
/// # Errors
/// Every other error.
pub fn unless_closed(result: anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
    match result {
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) => {
            Ok(ExitCode::SUCCESS)
        }
        other => other,
    }
}

/// Rows that are written with their columns aligned.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

/// A cell's text longer than this is cut in tables; `--json` has all of it.
const MAX_CELL_CHARS: usize = 120;

impl Table {
    /// Returns a table with a heading.
    #[must_use]
    pub fn new(heading: &[&str]) -> Self {
        Self { rows: vec![heading.iter().map(ToString::to_string).collect()] }
    }

    /// Adds a row.
    pub fn push(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| printable(&cell)).collect());
    }

    /// Returns whether there are rows beyond the heading.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.len() <= 1
    }

    /// Writes the table, each line behind an indent.
    ///
    /// # Errors
    /// As the writer's own.
    pub fn write(&self, out: &mut impl Write, indent: &str) -> io::Result<()> {
        let n_columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width =
            |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..n_columns).map(|column| width(column).unwrap_or(0)).collect();
        for row in &self.rows {
            let mut text = String::from(indent);
            for (cell, width) in row.iter().zip(&widths) {
                text.push_str(cell);
                text.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
            }
            line(out, text.trim_end())?;
        }
        Ok(())
    }
}

/// Returns a text without control characters, which a terminal would act on, and no longer than a table bears.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut shown = String::new();
    for (index, c) in text.chars().enumerate() {
        if index == MAX_CELL_CHARS {
            shown.push('…');
            break;
        }
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// Returns a JSON value as a table shows it: NULL as `-`.
#[must_use]
pub fn shown(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => "-".into(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_characters() {
        let mut table = Table::new(&["state", "n"]);
        table.push(["importé".to_owned(), "1".to_owned()]);
        table.push(["x".to_owned(), "200".to_owned()]);
        let mut out = Vec::new();
        table.write(&mut out, " ").expect("a Vec takes all");
        assert_eq!(String::from_utf8(out).expect("text"), " state    n\n importé  1\n x        200\n");
    }

    #[test]
    fn terminals_are_not_sent_control_characters() {
        assert_eq!(printable("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb\\nc");
        assert_eq!(printable(&"x".repeat(500)).chars().count(), MAX_CELL_CHARS + 1);
    }

    #[test]
    fn a_closed_pipe_is_an_ordinary_end() {
        let closed = anyhow::Error::new(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(unless_closed(Err(closed)).expect("an end"), ExitCode::SUCCESS);
        unless_closed(Err(anyhow::anyhow!("other"))).expect_err("an error");
    }
}
