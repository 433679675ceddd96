//! The numbers of runs, as a Markdown table.

use super::faults::KINDS;
use std::time::Duration;

/// The numbers of one run.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// What it was drawn from.
    pub seed: u64,
    /// Whether the bucket kept versions.
    pub versioned: bool,
    /// Objects put, overwritten ones counted each.
    pub objects: usize,
    /// Keys they were put under.
    pub keys: usize,
    /// Objects deleted.
    pub deletes: usize,
    /// Messages sent, copies counted.
    pub messages: usize,
    /// Versions imported.
    pub imported: usize,
    /// Rows in the tables at the end.
    pub rows: usize,
    /// Bad rows kept.
    pub rejects: usize,
    /// Messages in the dead-letter queue at the end.
    pub dead_letters: usize,
    /// Objects that waited in vain, and gave up.
    pub waited: usize,
    /// Faults that happened, by kind.
    pub faults: [usize; KINDS.len()],
    /// From the first put to an empty queue.
    pub duration: Duration,
}

impl Report {
    /// Returns the head of the table.
    #[must_use]
    pub fn header() -> String {
        let kinds = KINDS.join(" | ");
        let columns = COLUMNS.len() + KINDS.len();
        format!("| {} | {kinds} |\n|{}", COLUMNS.join(" | "), "---|".repeat(columns))
    }

    /// Returns the run's line.
    #[must_use]
    pub fn line(&self) -> String {
        let Self { objects, keys, deletes, messages, imported, rows, rejects, dead_letters, waited, .. } = self;
        let numbers = [objects, keys, deletes, messages, imported, rows, rejects, dead_letters, waited];
        let numbers = numbers.into_iter().chain(&self.faults).map(usize::to_string).collect::<Vec<_>>();
        let bucket = if self.versioned { "versioned" } else { "plain" };
        format!("| {} | {bucket} | {:.0} s | {} |", self.seed, self.duration.as_secs_f64(), numbers.join(" | "))
    }

    /// Returns the sum of several runs as two columns, which is easier to read than a line.
    #[must_use]
    pub fn sum(reports: &[Self]) -> String {
        let sum = |number: fn(&Self) -> usize| reports.iter().map(number).sum::<usize>();
        let mut lines = vec![
            ("runs".to_owned(), reports.len()),
            ("objects put".to_owned(), sum(|r| r.objects)),
            ("keys".to_owned(), sum(|r| r.keys)),
            ("objects deleted".to_owned(), sum(|r| r.deletes)),
            ("messages sent".to_owned(), sum(|r| r.messages)),
            ("versions imported".to_owned(), sum(|r| r.imported)),
            ("rows in the tables".to_owned(), sum(|r| r.rows)),
            ("rejects".to_owned(), sum(|r| r.rejects)),
            ("dead letters".to_owned(), sum(|r| r.dead_letters)),
            ("objects that waited in vain".to_owned(), sum(|r| r.waited)),
        ];
        for (kind, name) in KINDS.iter().enumerate() {
            lines.push(((*name).to_owned(), reports.iter().map(|report| report.faults[kind]).sum()));
        }
        let seconds = reports.iter().map(|report| report.duration.as_secs()).sum::<u64>();
        lines.push(("duration, s".to_owned(), usize::try_from(seconds).unwrap_or(usize::MAX)));
        let rows: Vec<String> = lines.into_iter().map(|(name, number)| format!("| {name} | {number} |")).collect();
        format!("| what | number |\n|---|--:|\n{}", rows.join("\n"))
    }
}

const COLUMNS: [&str; 12] = [
    "seed",
    "bucket",
    "duration",
    "objects",
    "keys",
    "deletes",
    "messages",
    "imported",
    "rows",
    "rejects",
    "dead letters",
    "waited in vain",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_as_many_cells_as_the_header() {
        let cells = |line: &str| line.matches('|').count();
        let header = Report::header();
        let lines: Vec<&str> = header.lines().collect();
        assert_eq!(cells(lines[0]), cells(lines[1]));
        assert_eq!(cells(lines[0]), cells(&Report::default().line()));
    }
}
