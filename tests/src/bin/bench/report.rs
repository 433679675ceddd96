//! Medians, as a table and as JSON.

use super::measure::Cost;
use serde_json::json;

/// The case every other one is compared with.
pub const C1: &str = "C1: psql \\copy in file order, 1 stream";

/// Returns the name of the case of sorted rows in so many streams at once: the ceiling of a first load.
pub fn sorted_copy(streams: u64) -> String {
    format!("C2: psql \\copy, sorted, {}", in_streams(streams))
}

/// Returns how many streams there are, in words.
pub fn in_streams(streams: u64) -> String {
    format!("{streams} stream{}", if streams == 1 { "" } else { "s" })
}

/// What was measured, in the order of the first round.
#[derive(Debug, Default)]
pub struct Report {
    cases: Vec<Case>,
    n_runs: usize,
}

#[derive(Debug)]
struct Case {
    name: String,
    rows: u64,
    objects: u64,
    base: String,
    costs: Vec<Cost>,
    /// The place of each run among all.
    places: Vec<usize>,
    /// Rate by rate of the base's run before it: what a shared machine is capable of changes within a round.
    ratios: Vec<f64>,
}

impl Report {
    /// Adds a run; `base` names the case its ratio is to, of which there was a run before it.
    pub fn add(&mut self, name: &str, base: &str, rows: u64, objects: u64, cost: Cost) {
        eprintln!("  {name}: {:.2} s, {:.0} rows/s", cost.secs, rows as f64 / cost.secs);
        let rate = |rows: u64, cost: &Cost| rows as f64 / cost.secs;
        let before = self.cases.iter().find(|case| case.name == base && name != base);
        let before = before.and_then(|case| Some(rate(case.rows, case.costs.last()?)));
        let ratio = rate(rows, &cost) / before.unwrap_or_else(|| rate(rows, &cost));
        let place = self.n_runs;
        self.n_runs += 1;
        match self.cases.iter_mut().find(|case| case.name == name) {
            Some(case) => {
                case.costs.push(cost);
                case.places.push(place);
                case.ratios.push(ratio);
            }
            None => {
                let (name, base) = (name.to_owned(), base.to_owned());
                let (costs, places, ratios) = (vec![cost], vec![place], vec![ratio]);
                self.cases.push(Case { name, rows, objects, base, costs, places, ratios });
            }
        }
    }

    /// Returns the medians as a Markdown table.
    pub fn markdown(&self) -> String {
        let mut table = String::from(
            "| case | ratio | rows/s | objects/s | s | CPU client, s | CPU server, s | WAL, MB | peak, MiB |\n\
             |---|---|---|---|---|---|---|---|---|\n",
        );
        for case in &self.cases {
            let median = |of: fn(&Cost) -> f64| median(case.costs.iter().map(of).collect());
            let secs = median(|cost| cost.secs);
            table.push_str(&format!(
                "| {} | {} | {:.0} | {:.0} | {:.2} | {:.2} | {:.2} | {:.0} | {:.0} |\n",
                case.name,
                format_args!("{:.2}", median_of(&case.ratios)),
                case.rows as f64 / secs,
                case.objects as f64 / secs,
                secs,
                median(|cost| cost.client_cpu_secs),
                median(|cost| cost.server_cpu_secs),
                median(|cost| cost.wal_bytes as f64) / 1e6,
                median(|cost| cost.peak_kib as f64) / 1024.0,
            ));
        }
        table
    }

    /// Returns the median of what each run of a case cost beside the other case's run that is nearest to it; None where
    /// one was not measured.
    pub fn median(&self, name: &str, base: &str, of: fn(&Cost, &Cost) -> f64) -> Option<f64> {
        let (case, base) = (self.case(name)?, self.case(base)?);
        let runs = case.costs.iter().zip(&case.places);
        let beside = runs.filter_map(|(cost, place)| {
            let (base, _) = base.costs.iter().zip(&base.places).min_by_key(|(_, of_base)| of_base.abs_diff(*place))?;
            Some(of(cost, base))
        });
        Some(median(beside.collect()))
    }

    /// Returns how many rows a case loads.
    pub fn rows(&self, name: &str) -> Option<f64> {
        Some(self.case(name)?.rows as f64)
    }

    /// Returns the largest of the medians of peak memory, of all cases whose name ends so.
    pub fn peak_mib(&self, end: &str) -> Option<f64> {
        let cases = self.cases.iter().filter(|case| case.name.ends_with(end));
        let peaks = cases.map(|case| median(case.costs.iter().map(|cost| cost.peak_kib as f64 / 1024.0).collect()));
        peaks.max_by(f64::total_cmp)
    }

    fn case(&self, name: &str) -> Option<&Case> {
        self.cases.iter().find(|case| case.name == name)
    }

    /// Returns the rows a second of a case.
    pub fn rows_per_sec(&self, name: &str) -> Option<f64> {
        let case = self.case(name)?;
        Some(median(case.costs.iter().map(|cost| case.rows as f64 / cost.secs).collect()))
    }

    /// Returns the objects a second of a case.
    pub fn objects_per_sec(&self, name: &str) -> Option<f64> {
        let case = self.case(name)?;
        Some(self.rows_per_sec(name)? / case.rows as f64 * case.objects as f64)
    }

    /// Returns everything, every round, as JSON.
    pub fn json(&self) -> String {
        let cases: Vec<_> = self
            .cases
            .iter()
            .map(|case| {
                json!({
                    "name": case.name, "rows": case.rows, "objects": case.objects, "base": case.base,
                    "ratio": median_of(&case.ratios),
                    "rounds": case.costs.iter().zip(&case.ratios).map(|(cost, ratio)| json!({
                        "ratio": ratio, "secs": cost.secs, "client_cpu_secs": cost.client_cpu_secs,
                        "server_cpu_secs": cost.server_cpu_secs, "wal_bytes": cost.wal_bytes, "peak_kib": cost.peak_kib,
                    })).collect::<Vec<_>>(),
                })
            })
            .collect();
        format!("{:#}\n", json!({ "cases": cases }))
    }
}

fn median_of(values: &[f64]) -> f64 {
    median(values.to_vec())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}
