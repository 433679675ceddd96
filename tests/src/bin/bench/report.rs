//! Medians, as a table and as JSON.

use super::measure::Cost;
use serde_json::json;

/// The case every other one is compared with.
pub const C1: &str = "C1: psql \\copy in file order, 1 stream";

/// What was measured, in the order of the first round.
#[derive(Debug, Default)]
pub struct Report {
    cases: Vec<Case>,
}

#[derive(Debug)]
struct Case {
    name: String,
    rows: u64,
    objects: u64,
    base: String,
    costs: Vec<Cost>,
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
        match self.cases.iter_mut().find(|case| case.name == name) {
            Some(case) => {
                case.costs.push(cost);
                case.ratios.push(ratio);
            }
            None => {
                let (name, base) = (name.to_owned(), base.to_owned());
                self.cases.push(Case { name, rows, objects, base, costs: vec![cost], ratios: vec![ratio] });
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

    /// Returns the median over the rounds of what two cases cost in the same round; None where one was not measured.
    pub fn median(&self, name: &str, base: &str, of: fn(&Cost, &Cost) -> f64) -> Option<f64> {
        let costs = |name: &str| Some(&self.cases.iter().find(|case| case.name == name)?.costs);
        Some(median(costs(name)?.iter().zip(costs(base)?).map(|(cost, base)| of(cost, base)).collect()))
    }

    /// Returns the rows a second of a case.
    pub fn rows_per_sec(&self, name: &str) -> Option<f64> {
        let case = self.cases.iter().find(|case| case.name == name)?;
        Some(median(case.costs.iter().map(|cost| case.rows as f64 / cost.secs).collect()))
    }

    /// Returns the objects a second of a case.
    pub fn objects_per_sec(&self, name: &str) -> Option<f64> {
        let case = self.cases.iter().find(|case| case.name == name)?;
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
