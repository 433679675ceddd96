//! The simulator's results as Markdown tables.

use super::{Outcome, bars::Row, optimum::Optimum, rules::Kind, workload::Load};
use crate::policy::words;
use std::fmt::Write;

/// One rule's run of one load.
pub struct Entry<'a> {
    /// What was sent.
    pub load: &'a Load,
    /// The rule.
    pub kind: Kind,
    /// What came of it.
    pub outcome: Outcome,
    /// What a clairvoyant schedule needs.
    pub optimum: Optimum,
}

/// Returns one line per run.
pub fn runs(entries: &[Entry<'_>]) -> String {
    let mut rows = vec![vec![
        "workload".to_owned(),
        "rule".to_owned(),
        "messages".to_owned(),
        "late".to_owned(),
        "p50".to_owned(),
        "p99".to_owned(),
        "max".to_owned(),
        "worker-hours".to_owned(),
        "× optimum".to_owned(),
        "peak".to_owned(),
        "turns/h".to_owned(),
        "cut short".to_owned(),
        "false wakes".to_owned(),
    ]];
    for entry in entries {
        let outcome = &entry.outcome;
        let cost = match entry.optimum.worker_secs {
            0.0 => "–".to_owned(),
            best => format!("{:.2}", outcome.worker_secs / best),
        };
        let mut late = format!("{:.2} %", outcome.miss_share() * 100.0);
        if entry.optimum.misses > 0 {
            let _ =
                write!(late, " ({:.2} % unavoidable)", entry.optimum.misses as f64 * 100.0 / outcome.messages as f64);
        }
        rows.push(vec![
            entry.load.workload.name.clone(),
            entry.kind.to_string(),
            outcome.messages.to_string(),
            late,
            words::secs(outcome.latency(0.5)),
            words::secs(outcome.latency(0.99)),
            words::secs(outcome.latency(1.0)),
            format!("{:.2}", outcome.worker_secs / 3600.0),
            cost,
            outcome.peak.to_string(),
            format!("{:.1}", outcome.turns_per_hour),
            outcome.busy_kills.to_string(),
            outcome.false_wakes.to_string(),
        ]);
    }
    markdown(&rows)
}

/// Returns one line per workload, with the worst of its seeds and the bars it misses.
pub fn bars(rows: &[Row]) -> String {
    let mut lines = vec![vec![
        "workload".to_owned(),
        "late".to_owned(),
        "p99 / promise".to_owned(),
        "× optimum, mean".to_owned(),
        "worst".to_owned(),
        "peak".to_owned(),
        "turns/h".to_owned(),
        "cut short".to_owned(),
        "false wakes/day".to_owned(),
        "sink used".to_owned(),
        "by foresight: p99, hours".to_owned(),
        "bars missed".to_owned(),
    ]];
    for row in rows {
        let missed = row.missed();
        lines.push(vec![
            row.name.clone(),
            format!("{:.2} %", row.miss_share * 100.0),
            format!("{:.2}", row.p99_share),
            format!("{:.2}", row.cost),
            format!("{:.2}", row.cost_worst),
            row.peak.to_string(),
            format!("{:.1}", row.turns_per_hour),
            row.busy_kills.to_string(),
            format!("{:.0}", row.false_wakes),
            row.sink_share.map_or("–".to_owned(), |share| format!("{:.0} %", share * 100.0)),
            row.foresight.map_or("–".to_owned(), |seen| format!("{:.2}, {:.2}", seen.p99, seen.cost)),
            if missed.is_empty() { "none".to_owned() } else { missed.join("; ") },
        ]);
    }
    markdown(&lines)
}

/// Returns rows as a Markdown table with even columns; the first row is the head.
pub fn markdown(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).max(3);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (i, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(&widths) {
            let pad = width - cell.chars().count();
            let _ = write!(text, "| {cell}{} ", " ".repeat(pad));
        }
        text.push_str("|\n");
        if i == 0 {
            for width in &widths {
                let _ = write!(text, "|{}", "-".repeat(width + 2));
            }
            text.push_str("|\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_even() {
        let table = markdown(&[vec!["a".into(), "load".into()], vec!["× 2".into(), "b".into()]]);
        assert_eq!(table, "| a   | load |\n|-----|------|\n| × 2 | b    |\n");
    }
}
