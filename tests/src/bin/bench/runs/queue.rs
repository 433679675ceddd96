//! Loads through the queue.

use super::{Bench, C1, Cost, N_OBJECTS, Report};
use anyhow::Result;
use penstock_tests::{
    aws::{Account, Options, Route},
    database::Database,
    telemetry::Format,
};
use std::{
    path::Path,
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

impl Bench {
    /// Measures loads through the queue: objects in an emulated bucket, their events, `importer run`.
    ///
    /// # Errors
    /// When the emulator cannot be started or a run fails.
    pub async fn through_the_queue(&self, report: &mut Report, format: Format) -> Result<()> {
        let extension = format.extension();
        for workers in [1, 2] {
            let name = format!("{extension}: first load through the queue, {workers} at once");
            if !self.skips(&name) {
                self.queued(report, &name, &self.data.put(format, "v1")?, workers).await?;
            }
        }
        Ok(())
    }

    async fn queued(&self, report: &mut Report, name: &str, place: &Path, concurrency: u32) -> Result<()> {
        let database = self.fresh().await?;
        let pipeline = Account::new().await?.pipeline(Options { route: Route::Direct, ..Options::default() }).await?;
        // What S3 sends when notifications are set up.
        pipeline.purge().await?;
        for entry in std::fs::read_dir(place)? {
            let entry = entry?;
            pipeline.put_file(&entry.file_name().to_string_lossy(), &entry.path()).await?;
        }
        pipeline.wait_for_visible(N_OBJECTS, Duration::from_secs(120)).await?;
        let config = self.config(&database, "upsert", concurrency)?;
        let mut command = self.importer(&config)?;
        command.env("QUEUE_URL", &pipeline.queue_url).envs(pipeline.account.variables());
        let cost = self.emptied(&database, command).await?;
        report.add(name, C1, self.data.n_rows, N_OBJECTS, cost);
        self.check(&database, self.data.n_rows).await
    }

    /// Lets an importer run until its queue is empty; the time is that of the last commit.
    pub(super) async fn emptied(&self, database: &Database, mut importer: Command) -> Result<Cost> {
        importer.args(["run", "--until-empty"]);
        let begun = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
        let mut cost = self.measured(database, vec![importer]).await?;
        // What comes after the last commit is waiting for an empty queue to stay empty.
        let last = "SELECT extract(epoch FROM max(imported_at)) FROM penstock.object_status";
        cost.secs = database.value(last).await?.parse::<f64>()? - begun;
        Ok(cost)
    }
}
