//! The console over the demo's database.

use crate::Stage;
use anyhow::{Context as _, Result};
use penstock_tests::{
    process::{Process, Program},
    repository,
};
use std::time::Duration;

/// Who runs the reports: it may read the telemetry and nothing else.
const REPORTER: &str = "CREATE ROLE reports LOGIN PASSWORD 'reports'; GRANT SELECT ON telemetry TO reports";

/// A running console; dropping it ends it.
pub struct Console {
    /// The pages' address.
    pub url: String,
    _process: Process,
}

impl Console {
    /// Starts it; the reports of `examples/reports` are about generated telemetry.
    pub async fn start(stage: &Stage, is_telemetry: bool) -> Result<Self> {
        let mut config = format!("[database]\nurl = \"{}\"\n", stage.database.url());
        if is_telemetry {
            stage.database.execute(REPORTER).await.context("create the reports' login")?;
            let (place, name) = (stage.database.postgres().host_and_port(), stage.database.name());
            config += &format!(
                "\n[reports]\ndirectory = \"{}\"\ndatabase_url = \"postgres://reports:reports@{place}/{name}\"\n",
                repository().join("examples/reports").display()
            );
        }
        let config = stage.scratch.write("console.toml", config)?;
        let program = Program::new("console").args(["run", "--log-format", "json", "--config"]).arg(config);
        let process = program.start()?;
        let line = process.wait_for_line("the pages are at ", Duration::from_secs(30)).await?;
        let url = line.split("the pages are at ").nth(1).and_then(|rest| rest.split('"').next());
        Ok(Self { url: url.context("the pages' address")?.to_owned(), _process: process })
    }
}
