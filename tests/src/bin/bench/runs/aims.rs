//! What was aimed at for plain loads, beside what was found.

use super::{C3, C4, PEERS, first_load, new_version};
use crate::{
    measure::Cost,
    report::{C1, Report, sorted_copy},
};
use penstock_tests::telemetry::Format;

const FORMATS: [Format; 3] = [Format::Parquet, Format::Ndjson, Format::Csv];
/// Rows that processor time is aimed at for.
const N_ROWS: f64 = 2_000_000.0;

/// Returns a row for each aim that was measured, a figure of each format.
pub fn rows(report: &Report) -> String {
    let rate = |cost: &Cost, base: &Cost| base.secs / cost.secs;
    let of = |name: fn(&str) -> String, base: &str| each(|format| report.median(&name(format), base, rate));
    let processor = each(|format| {
        let name = first_load(format, 1);
        let secs = report.median(&name, &name, |cost, _| cost.client_cpu_secs)?;
        Some(secs * N_ROWS / report.rows(&name)?)
    });
    let peer = each(|format| {
        let peers = PEERS.iter().filter_map(|tool| report.rows_per_sec(&peer_load(format, tool)));
        Some(report.rows_per_sec(&first_load(format, 1))? / peers.max_by(f64::total_cmp)?)
    });
    let found = [
        ("first load of C2, one worker", "0.95 / 0.90 / 0.90", of(|format| first_load(format, 1), &sorted_copy(1))),
        ("two workers, of two C2 streams", "0.90 / 0.82 / 0.82", of(|format| first_load(format, 2), &sorted_copy(2))),
        ("importer's processor time for 2,000,000 rows, s", "at most 1.4 / 3.0 / 2.3", processor),
        ("all rows changed, of C3", "1.0", of(|format| new_version(format, 100), C3)),
        ("a new version, 10 % of rows changed, of C1", "1.3", of(|format| new_version(format, 10), C1)),
        ("the same, of C4", "not set", of(|format| new_version(format, 10), C4)),
        ("first load of the best peer", "4", peer),
    ];
    let mut rows: String = found
        .into_iter()
        .filter_map(|(what, aim, found)| Some(format!("| {what}: Parquet / NDJSON / CSV | {aim} | {} |\n", found?)))
        .collect();
    if let Some(peak) = report.peak_mib(&first_load("", 1)) {
        rows += &format!("| peak memory of a first load, MiB | at most 168 | {peak:.0} |\n");
    }
    rows
}

/// Returns the name of a peer's first load.
pub fn peer_load(extension: &str, tool: &str) -> String {
    format!("{extension}: first load, {tool}")
}

/// Returns the figures of all formats; none where none was measured.
fn each(of: impl Fn(&str) -> Option<f64>) -> Option<String> {
    let found = FORMATS.map(|format| of(format.extension()));
    let figure = |found: &Option<f64>| found.map_or("not measured".to_owned(), |found| format!("{found:.2}"));
    found.iter().any(Option::is_some).then(|| found.iter().map(figure).collect::<Vec<_>>().join(" / "))
}
