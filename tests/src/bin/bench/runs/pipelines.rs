//! What stands between an object's rows and their table: SQL, and a program.

use super::{Bench, N_OBJECTS, Report};
use anyhow::{Context as _, Result};
use penstock_tests::telemetry::{Format, LEAN_TABLE};

const DIRECT: &str = "pipeline: a first load without any";
const PASSED: &str = "pipeline: where, which all rows pass";
const CALLED: &str = "pipeline: where with a function, which all rows pass";
const DROPPED: &str = "pipeline: where, which nine of ten rows do not pass";
const STAGED: &str = "pipeline: a staged load without any";
const JOINED: &str = "pipeline: a join with 100,000 rows and two casts";
const COPIED: &str = "pipeline: a command that copies its input";

/// What is joined with.
const SITE: &str = "CREATE TABLE site AS SELECT id, 'site ' || id AS name FROM generate_series(0, 99999) id;
    ALTER TABLE site ADD PRIMARY KEY (id); ANALYZE site";

const JOIN: &str = r#"
join = "LEFT JOIN public.site ON site.id = input.event_id % 100000"
set = { disposition = "coalesce(site.name, input.disposition)", message_count = "input.message_count::int", score = "input.score::float8" }
input = { message_count = "text", score = "text" }
"#;

impl Bench {
    /// Measures first loads through SQL and through a program, beside the same loads without.
    ///
    /// # Errors
    /// When a run fails.
    pub async fn pipelines(&self, report: &mut Report, format: Format) -> Result<()> {
        if self.skips("pipeline: ") {
            return Ok(());
        }
        let n_rows = self.data.n_rows;
        let n_dropped = n_rows / 10 * 9;
        for (name, base, settings, n_left) in [
            (DIRECT, DIRECT, String::new(), n_rows),
            (PASSED, DIRECT, "where = \"input.event_id > 0\"".to_owned(), n_rows),
            (CALLED, DIRECT, "where = \"lower(input.spf) <> 'nothing'\"".to_owned(), n_rows),
            (DROPPED, DIRECT, format!("where = \"input.event_id > {n_dropped}\""), n_rows - n_dropped),
            (STAGED, STAGED, "technique = \"staged\"".to_owned(), n_rows),
            (JOINED, STAGED, JOIN.to_owned(), n_rows),
            (COPIED, DIRECT, "command = [\"cat\"]".to_owned(), n_rows),
        ] {
            let database = self.fresh_with(&format!("{LEAN_TABLE}; {SITE}")).await?;
            let config = self.config_with(&database, "upsert", 1, &settings)?;
            let place = self.data.put(format, "v1")?;
            let cost = self.measured(&database, vec![self.load(&config, &place)?]).await?;
            report.add(name, base, n_rows, N_OBJECTS, cost);
            self.check(&database, n_left).await.with_context(|| name)?;
        }
        Ok(())
    }
}

/// Returns a row for each aim; none where they were not measured.
pub fn aims(report: &Report) -> String {
    let rate = |name| report.median(name, DIRECT, |cost, base| base.secs / cost.secs);
    let rows = |name| report.rows_per_sec(name).unwrap_or(f64::NAN);
    let Some(processor) = report.median(JOINED, STAGED, |cost, base| cost.server_cpu_secs / base.server_cpu_secs)
    else {
        return String::new();
    };
    let rate = |name| rate(name).unwrap_or(f64::NAN);
    format!(
        "| where, which all rows pass: rows/s of the load without it | 0.9 | {:.2} |\n\
         | where with a function, the same | 0.9 | {:.2} |\n\
         | where, which nine of ten rows do not pass: rows/s of the load of all | 3 | {:.2} |\n\
         | a join with 100,000 rows and two casts: processor time of the server of the staged load | at most 1.6 | {processor:.2} |\n\
         | a command that copies its input, rows/s | 100,000 | {:.0} |\n",
        rate(PASSED),
        rate(CALLED),
        rate(DROPPED),
        rows(COPIED),
    )
}
