//! Results on stdout: aligned tables for people.

use service::terminal;
use std::{
    borrow::Cow,
    io::{self, BufWriter, StdoutLock, Write},
    process::ExitCode,
};

/// Writes a line to stdout as people are shown it: escaped, and cut where it is too long. A reader that has seen enough
/// (`| head`) is not an error but the end.
///
/// # Errors
/// As stdout's own, a closed pipe included: see [`unless_closed`].
pub fn line(out: &mut impl Write, text: &str) -> io::Result<()> {
    writeln!(out, "{}", terminal::line(text))
}

/// Writes a line of JSON, whole.
///
/// # Errors
/// As [`line`].
pub fn json(out: &mut impl Write, text: &str) -> io::Result<()> {
    writeln!(out, "{}", terminal::json(text))
}

/// Says something on stdout that may have no reader.
pub fn say(text: impl AsRef<str>) {
    drop(line(&mut io::stdout().lock(), text.as_ref()));
}

/// Complains on stderr.
pub fn complain(text: impl AsRef<str>) {
    drop(line(&mut io::stderr().lock(), text.as_ref()));
}

/// Prints results on stdout, all that there are to print.
///
/// # Errors
/// Those of the work, and stdout's own but for a closed pipe.
pub async fn print(
    work: impl AsyncFnOnce(&mut BufWriter<StdoutLock<'static>>) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    let mut out = BufWriter::new(io::stdout().lock());
    let printed = work(&mut out).await;
    unless_closed(printed.and_then(|exit| {
        out.flush()?;
        Ok(exit)
    }))
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

impl Table {
    /// Returns a table with a heading.
    #[must_use]
    pub fn new(heading: &[&str]) -> Self {
        Self { rows: vec![heading.iter().map(ToString::to_string).collect()] }
    }

    /// Adds a row.
    pub fn push(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| terminal::cell(&cell)).collect());
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

/// Returns a word as a shell takes it; the ledger's `penstock.quoted` does the same.
#[must_use]
pub fn shell_word(word: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_./:=@%+,-".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
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
    fn a_closed_pipe_is_an_ordinary_end() {
        let closed = anyhow::Error::new(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(unless_closed(Err(closed)).expect("an end"), ExitCode::SUCCESS);
        unless_closed(Err(anyhow::anyhow!("other"))).expect_err("an error");
    }
}
