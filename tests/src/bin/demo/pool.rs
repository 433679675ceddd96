//! The scaler and its pool of importer processes.

use anyhow::{Context as _, Result, bail};
use penstock_tests::{
    aws::Pipeline,
    process::{self, Process, Program},
};
use std::{path::Path, time::Duration};

/// How long a stopping scaler may take to drain its importers.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// A running scaler; dropping it ends it, and with it the importers it started.
pub struct Pool {
    scaler: Process,
}

impl Pool {
    /// Starts the scaler.
    pub fn start(config: &Path, pipeline: &Pipeline) -> Result<Self> {
        let scaler = Program::new("scaler")
            .args(["run", "--log-format", "json", "--config"])
            .arg(config)
            .envs(pipeline.account.variables())
            .start()?;
        Ok(Self { scaler })
    }

    /// Returns an error with the scaler's last words when it has ended.
    pub fn check(&self) -> Result<()> {
        if self.scaler.is_running()? {
            return Ok(());
        }
        bail!("the scaler ended:\n{}", self.scaler.stderr())
    }

    /// Stops the scaler.
    pub async fn stop(self) -> Result<()> {
        self.scaler.terminate(STOP_LIMIT).await.context("stop the scaler")
    }
}

/// Returns `scaler.toml` for importers on this machine.
pub fn config(database_url: &str, queue_url: &str, importer_config: &Path, logs: &Path) -> Result<String> {
    let importer = process::binary("importer")?;
    Ok(format!(
        r#"[database]
url = "{database_url}"

[http]
listen = "127.0.0.1:0"

[[pool]]
name = "importers"
queue_urls = ["{queue_url}"]
min = 0
max = 4
interval_secs = 2
drain_within = "90s"
slots_per_worker = 2
start_up = "3s"
job = "10s"
shrink_window = "10s"

[pool.workers]
kind = "processes"
command = ["{importer}", "run", "--config", "{importer_config}"]
log_directory = "{logs}"
"#,
        importer = importer.display(),
        importer_config = importer_config.display(),
        logs = logs.display(),
    ))
}
