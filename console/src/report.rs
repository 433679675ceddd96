//! Reports: SQL files of a team's own, and what the comment at the head of each says of it.

mod parameter;
mod table;

pub use parameter::{Asked, Parameter, Value};
pub use table::{Column, Kind, Table};

use serde::Serialize;
use service::{time::duration, words::secs};
use std::{ffi::OsString, fs, io, path::Path, time::Duration};

/// Reports that are read; a directory with more is none of reports.
const MOST_REPORTS: usize = 200;

/// The longest file.
const MOST_BYTES: u64 = 100_000;

/// How long a result is shown before it is read anew, where the header does not say it.
const EVERY: Duration = Duration::from_secs(60);

/// A shorter `every` would keep the server busy, and a longer one is a table's work.
const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(86_400);

/// What a header may say.
const SETTINGS: &str = "a header has `title`, `chart`, `every` and `param`, and ends at an empty line";

/// How a result is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Chart {
    /// Lines over the first column, a time or a number.
    Line,
    /// Bars, named by the first column.
    Bar,
    /// Rows and columns.
    Table,
    /// The numbers of one row.
    Number,
}

/// One report.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// What stands before `.sql`.
    pub name: String,
    /// Its file, for messages.
    pub file: String,
    /// What it shows.
    pub title: String,
    /// How.
    pub chart: Chart,
    /// The line that says so.
    pub chart_line: usize,
    /// How long a result is shown before it is read anew.
    pub every: Duration,
    /// What may be asked of it: `$1` is the first.
    pub parameters: Vec<Parameter>,
    /// The whole file.
    pub sql: String,
    /// The line on which the SQL begins.
    pub begins: usize,
}

impl Report {
    /// Says why its result cannot be drawn, if so.
    #[must_use]
    pub fn undrawable(&self, columns: &[Column]) -> Option<String> {
        let is_place = |kind: Kind| kind.is_number() || kind.is_time();
        let has_numbers = columns.iter().skip(1).any(|column| column.kind.is_number());
        let needs = match self.chart {
            Chart::Line if !has_numbers || !is_place(columns[0].kind) => {
                "`line` needs a time or a number as its first column, and a number behind it"
            }
            Chart::Bar if !has_numbers => "`bar` needs a number behind its first column",
            _ => return None,
        };
        Some(format!("{}:{}: chart: {needs}", self.file, self.chart_line))
    }
}

/// What is wrong with a file, a line each: `reports/orders.sql:2: chart: …`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Wrong(pub Vec<String>);

/// One file of the directory.
#[derive(Debug, Clone)]
pub struct Listed {
    /// What stands before `.sql`.
    pub name: String,
    /// The report, unless its file is none.
    pub report: Result<Report, Wrong>,
}

/// Reads all reports of a directory, sorted by name.
///
/// # Errors
/// When the directory cannot be read.
pub fn list(directory: &str) -> Result<Vec<Listed>, Wrong> {
    let failed = |error: io::Error| Wrong(vec![format!("reports.directory: read {directory}: {error}")]);
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        names.extend(stem(entry.map_err(failed)?.file_name()));
    }
    names.sort();
    if names.len() > MOST_REPORTS {
        let n = names.len();
        return Err(Wrong(vec![format!("reports.directory: {directory} has {n} reports, more than {MOST_REPORTS}")]));
    }
    Ok(names.into_iter().map(|name| Listed { report: read(directory, &name), name }).collect())
}

/// Returns what stands before `.sql`; editors leave other files behind, which begin with a dot.
fn stem(file: OsString) -> Option<String> {
    let file = file.to_string_lossy().into_owned();
    file.strip_suffix(".sql").filter(|name| !name.starts_with('.')).map(str::to_owned)
}

fn read(directory: &str, name: &str) -> Result<Report, Wrong> {
    let path = Path::new(directory).join(format!("{name}.sql"));
    let file = path.display().to_string();
    let wrong = |why: String| Wrong(vec![format!("{file}: {why}")]);
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
        return Err(wrong("a report's name has ASCII letters, digits, `_` and `-`".to_owned()));
    }
    // What is behind the name may be anything, a pipe too.
    let about = fs::metadata(&path).map_err(|error| wrong(error.to_string()))?;
    if !about.is_file() || about.len() > MOST_BYTES {
        return Err(wrong(format!("is no file of at most {MOST_BYTES} bytes")));
    }
    let text = fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
    parse(name, &file, text)
}

/// Reads a report's text.
fn parse(name: &str, file: &str, text: String) -> Result<Report, Wrong> {
    let mut wrong = Vec::new();
    let (mut title, mut chart, mut every) = (None, None, None);
    let mut parameters: Vec<Parameter> = Vec::new();
    let is_comment = |line: &&str| line.starts_with("--");
    for (index, line) in text.lines().take_while(is_comment).enumerate() {
        let line = line.trim_start_matches('-').trim();
        let new = if let Some(declared) = line.strip_prefix("param ") {
            Parameter::parse(declared).map(|new| {
                let is_new = parameters.iter().all(|known| known.name != new.name);
                parameters.push(new);
                is_new
            })
        } else {
            match setting(line) {
                None if line.is_empty() => continue,
                None => Err(format!("is no setting; {SETTINGS}")),
                Some(("title", "")) => Err("title: is empty".to_owned()),
                Some(("title", value)) => Ok(title.replace(value.to_owned()).is_none()),
                Some(("chart", value)) => chart_of(value).map(|named| chart.replace((named, index + 1)).is_none()),
                Some(("every", value)) => length(value).map(|length| every.replace(length).is_none()),
                Some((word, _)) => Err(format!("`{word}` is unknown; {SETTINGS}")),
            }
        };
        let why = match new {
            Ok(true) => continue,
            Ok(false) => format!("`{line}` says again what a line above it says"),
            Err(why) => why,
        };
        wrong.push(format!("{file}:{}: {why}", index + 1));
    }
    let is_sql = |line: &str| !line.trim().is_empty() && !line.trim().starts_with("--");
    let begins = text.lines().position(is_sql).map(|index| index + 1);
    if begins.is_none() {
        wrong.push(format!("{file}:{}: there is no SQL below the header", text.lines().count().max(1)));
    }
    let (Some(begins), true) = (begins, wrong.is_empty()) else { return Err(Wrong(wrong)) };
    let (chart, chart_line) = chart.unwrap_or((Chart::Table, 1));
    let title = title.unwrap_or_else(|| name.to_owned());
    let (name, file, every) = (name.to_owned(), file.to_owned(), every.unwrap_or(EVERY));
    Ok(Report { name, file, title, chart, chart_line, every, parameters, sql: text, begins })
}

/// Returns the word before the first `:` or `=`, and what follows it.
fn setting(line: &str) -> Option<(&str, &str)> {
    let (word, value) = line.split_once([':', '='])?;
    let word = word.trim();
    let is_word = !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_word.then(|| (word, value.trim()))
}

fn chart_of(word: &str) -> Result<Chart, String> {
    Ok(match word {
        "line" => Chart::Line,
        "bar" => Chart::Bar,
        "table" => Chart::Table,
        "number" => Chart::Number,
        _ => return Err(format!("chart: `{word}` is none of `line`, `bar`, `table` and `number`")),
    })
}

fn length(text: &str) -> Result<Duration, String> {
    let length = duration(text).map_err(|why| format!("every: {why}"))?;
    if (SHORTEST..=LONGEST).contains(&length) {
        return Ok(length);
    }
    let [shortest, longest] = [SHORTEST, LONGEST].map(|length| secs(length.as_secs_f64()));
    Err(format!("every: must be from {shortest} to {longest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn wrong(text: &str, expected: &[&str]) {
        let found = parse("a", "r/a.sql", text.to_owned()).map_or_else(|Wrong(found)| found, |_| Vec::new());
        assert_eq!(found.len(), expected.len(), "{text}: {found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}");
        }
    }

    #[test]
    fn a_header_says_what_is_shown_and_what_may_be_asked() {
        let text = "-- title: Orders: a day\n--chart = line\n-- every: 5m\n-- param days: integer = 7\n--\nSELECT $1";
        let report = parse("orders", "r/orders.sql", text.to_owned()).expect("a report");
        assert_eq!((report.title.as_str(), report.chart, report.chart_line), ("Orders: a day", Chart::Line, 2));
        assert_eq!((report.every, report.begins, report.sql.as_str()), (Duration::from_secs(300), 6, text));
        assert_eq!(report.parameters[0].name, "days");
        let report = parse("orders", "", "SELECT 1 -- title: x".to_owned()).expect("a report");
        assert_eq!((report.title.as_str(), report.chart, report.every), ("orders", Chart::Table, EVERY));
    }

    #[test]
    fn what_is_wrong_in_a_header_is_said_with_its_line() {
        wrong(
            "-- chart: pie\n-- cahrt: bar\n-- title:\nSELECT 1",
            &[
                "r/a.sql:1: chart: `pie` is none of `line`",
                "r/a.sql:2: `cahrt` is unknown; a header has",
                "r/a.sql:3: title: is empty",
            ],
        );
        wrong(
            "-- every: soon\n-- every: 1s\nSELECT 1",
            &["r/a.sql:1: every: \"soon\" is not", "r/a.sql:2: every: must be"],
        );
        wrong("-- title: a\n-- title: b\nSELECT 1", &["r/a.sql:2: `title: b` says again"]);
        wrong("-- what it shows\nSELECT 1", &["r/a.sql:1: is no setting; a header has"]);
        wrong(
            "-- param a: integer = 1\n-- param a: text = x\nSELECT 1",
            &["r/a.sql:2: `param a: text = x` says again"],
        );
        wrong("-- param a: integer = x\nSELECT 1", &["r/a.sql:1: param a: "]);
        wrong("-- title: a\n\n-- nothing\n", &["r/a.sql:3: there is no SQL"]);
    }
}
