//! Progress, while it happens.

use crate::{Stage, pool::Pool, report};
use anyhow::Result;
use sqlx::Row as _;
use std::{
    io::{IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

/// How often a sample is taken.
const INTERVAL: Duration = Duration::from_millis(500);

/// Samples between two lines where there is no terminal.
const SAMPLES_A_LINE: usize = 10;

/// What the ledger and the workers say at one moment.
const PROGRESS: &str = "SELECT
    (SELECT count(*) FROM penstock.object_status WHERE state NOT IN ('importing', 'retrying')),
    (SELECT coalesce(sum(rows_written), 0)::bigint FROM penstock.object_status WHERE state = 'imported'),
    (SELECT count(*) FROM penstock.workers)";

/// One moment of the run.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Since the watch began, in seconds.
    pub at_secs: f64,
    /// Objects whose messages were sent so far.
    pub sent: u64,
    /// Messages waiting or in flight.
    pub depth: u64,
    /// Importers alive.
    pub workers: u64,
}

/// A line that changes on a terminal, and one every few seconds elsewhere.
pub struct Progress {
    on_terminal: bool,
    n_shown: usize,
    last: String,
}

impl Progress {
    /// Returns one that has shown nothing.
    pub fn new() -> Self {
        Self { on_terminal: std::io::stdout().is_terminal(), n_shown: 0, last: String::new() }
    }

    /// Shows how things are, once an interval.
    pub fn show(&mut self, line: String) -> Result<()> {
        if self.on_terminal {
            print!("\r\x1b[K{line}");
            std::io::stdout().flush()?;
        } else if self.n_shown.is_multiple_of(SAMPLES_A_LINE) {
            println!("{line}");
        }
        self.n_shown += 1;
        self.last = line;
        Ok(())
    }

    /// Leaves the last line where it stands.
    pub fn end(self) {
        println!("{}{}", if self.on_terminal { "\r" } else { "" }, self.last);
    }
}

/// Watches until every object is settled and no importer is left; returns the samples.
pub async fn until_drained(stage: &Stage, pool: &Pool, sent: &dyn Fn() -> u64, n_objects: u64) -> Result<Vec<Sample>> {
    let mut progress = Progress::new();
    let began = Instant::now();
    let mut connection = stage.database.connect().await?;
    let mut samples = Vec::new();
    loop {
        tokio::time::sleep(INTERVAL).await;
        pool.check()?;
        let depth = stage.pipeline.depth().await?;
        // The scaler makes the schema; until then there is nothing to see.
        let Ok(row) = sqlx::query(PROGRESS).fetch_one(&mut connection).await else { continue };
        let (objects, rows, workers): (i64, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let sample = Sample {
            at_secs: began.elapsed().as_secs_f64(),
            sent: sent(),
            depth: depth.visible + depth.in_flight,
            workers: workers.unsigned_abs(),
        };
        samples.push(sample);
        progress.show(format!(
            "  {:5.1} s  queue {:4} waiting {:3} in flight  workers {workers:2}  objects {objects}/{n_objects}  rows {}",
            sample.at_secs,
            depth.visible,
            depth.in_flight,
            report::thousands(rows.unsigned_abs()),
        ))?;
        if objects.unsigned_abs() >= n_objects && workers == 0 && sample.depth == 0 {
            progress.end();
            return Ok(samples);
        }
    }
}
