//! Who runs the importers.

use anyhow::{Context as _, Result, ensure};
use penstock_tests::{
    aws::Pipeline,
    process::{Process, Program},
};
use std::{path::Path, time::Duration};

/// How often the importers are looked at.
const INTERVAL: Duration = Duration::from_millis(100);

/// Runs so many importers until the queue is empty.
pub async fn drain(n_importers: u32, config: &Path, pipeline: &Pipeline) -> Result<()> {
    let start = || {
        Program::new("importer")
            .args(["run", "--until-empty", "--log-format", "json", "--config"])
            .arg(config)
            .envs(pipeline.account.variables())
            .start()
    };
    let mut importers: Vec<Process> = (0..n_importers).map(|_| start()).collect::<Result<_>>()?;
    while let Some(importer) = importers.pop() {
        let status = importer.wait_exit_forever(INTERVAL).await.context("wait for an importer")?;
        ensure!(status.success(), "an importer ended with {status}:\n{}", importer.stderr());
    }
    Ok(())
}
