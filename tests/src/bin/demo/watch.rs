//! Progress, while it happens.

use crate::{Stage, report};
use anyhow::Result;
use sqlx::Row as _;
use std::{
    io::{IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

/// How often the line on a terminal is written anew.
const ON_TERMINAL: Duration = Duration::from_millis(500);

/// How often a line is printed elsewhere.
const IN_LOG: Duration = Duration::from_secs(5);

/// What the ledger and the workers say at one moment.
const PROGRESS: &str = "SELECT
    (SELECT count(*) FROM penstock.object_status WHERE state = 'imported'),
    (SELECT coalesce(sum(rows_written), 0)::bigint FROM penstock.object_status WHERE state = 'imported'),
    (SELECT count(*) FROM penstock.workers)";

/// Prints queue, workers and ledger until it is dropped.
pub async fn print_progress(stage: &Stage, n_objects: u64) -> Result<()> {
    let on_terminal = std::io::stdout().is_terminal();
    let began = Instant::now();
    let mut connection = stage.database.connect().await?;
    loop {
        tokio::time::sleep(if on_terminal { ON_TERMINAL } else { IN_LOG }).await;
        // The first importer makes the ledger; until then there is nothing to see.
        let Ok(row) = sqlx::query(PROGRESS).fetch_one(&mut connection).await else { continue };
        let (objects, rows, workers): (i64, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let depth = stage.pipeline.depth().await?;
        let line = format!(
            "  {:5.1} s  queue {:4} waiting {:3} in flight  workers {workers:2}  objects {objects}/{n_objects}  rows {}",
            began.elapsed().as_secs_f64(),
            depth.visible,
            depth.in_flight,
            report::thousands(rows.unsigned_abs()),
        );
        if on_terminal {
            print!("\r\x1b[K{line}");
            std::io::stdout().flush()?;
        } else {
            println!("{line}");
        }
    }
}
