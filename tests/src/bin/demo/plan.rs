//! What the demo loads: a table, a dataset, objects.

use crate::Stage;
use anyhow::{Context as _, Result};
use penstock_tests::{
    aws::Pipeline,
    telemetry::{self, Format, Load},
};
use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};

/// Objects of one dataset, and where their rows go.
pub struct Plan {
    /// The table's SQL.
    pub create_table: String,
    /// The table's name, as SQL has it.
    pub table: String,
    /// The `[[dataset]]` of the importer's config; `{bucket}` stands for the bucket.
    pub dataset: String,
    /// A query worth looking at, with a sentence.
    pub sample: (&'static str, String),
    source: Source,
}

enum Source {
    /// Generated telemetry in so many objects.
    Telemetry(Load, u64),
    /// Files, with the keys they get.
    Files(Vec<(String, PathBuf)>),
}

impl Plan {
    /// Returns the plan that loads generated telemetry.
    pub fn telemetry(n_rows: u64, n_objects: u64) -> Self {
        Self {
            create_table: telemetry::TABLE.to_owned(),
            table: "telemetry".to_owned(),
            dataset: r#"[[dataset]]
name = "telemetry"
match = "s3://{bucket}/telemetry/**"
table = "public.telemetry"
key = ["event_id"]
"#
            .to_owned(),
            sample: (
                "who fails DMARC most",
                "SELECT sender_domain, count(*) AS events, sum(message_count) AS mails, \
                 count(*) FILTER (WHERE disposition = 'reject') AS rejected \
                 FROM telemetry WHERE dmarc = 'fail' GROUP BY 1 ORDER BY mails DESC LIMIT 5"
                    .to_owned(),
            ),
            source: Source::Telemetry(Load::new(1, n_rows), n_objects),
        }
    }

    /// Returns the plan that loads the user's files into a table that `describe` proposed.
    pub fn files(create_table: String, table: String, dataset: String, files: Vec<(String, PathBuf)>) -> Self {
        let sample = ("the first rows", format!("SELECT * FROM {table} LIMIT 5"));
        Self { create_table, table, dataset, sample, source: Source::Files(files) }
    }

    /// Returns how many objects there are.
    pub fn n_objects(&self) -> u64 {
        match &self.source {
            Source::Telemetry(_, n_objects) => *n_objects,
            Source::Files(files) => files.len() as u64,
        }
    }

    /// Writes the importer's config.
    pub fn importer_config(&self, stage: &Stage) -> Result<PathBuf> {
        let dataset = self.dataset.replace("{bucket}", &stage.pipeline.bucket);
        let config = format!(
            "[database]\nurl = \"{}\"\n\n[queue]\nurl = \"{}\"\nwait_secs = 1\n\n[worker]\nconcurrency = 2\n\n[http]\nlisten = \"\"\n\n{dataset}",
            stage.database.url(),
            stage.pipeline.queue_url
        );
        stage.scratch.write("importer.toml", config)
    }

    /// Puts the objects into the bucket, counting them in `sent`; returns how many bytes they have.
    pub async fn upload(&self, pipeline: &Pipeline, sent: &AtomicU64) -> Result<u64> {
        match &self.source {
            Source::Telemetry(load, n_objects) => {
                // Made first, so that they arrive in a burst, as a Spark job leaves them.
                let mut bodies = Vec::new();
                for index in 0..*n_objects {
                    // Three formats by turns: what they are is found out from their content.
                    let format = [Format::Parquet, Format::Ndjson, Format::Csv][(index % 3) as usize];
                    let events = load.object(index, *n_objects);
                    let load = load.clone();
                    let body = tokio::task::spawn_blocking(move || {
                        let mut body = Vec::new();
                        telemetry::write(format, load.events(events), &mut body).map(|_| body)
                    });
                    bodies.push((format!("telemetry/part-{index:05}.{}", format.extension()), body.await??));
                }
                let mut n_bytes = 0;
                for (key, body) in bodies {
                    n_bytes += body.len() as u64;
                    pipeline.put(&key, body).await?;
                    sent.fetch_add(1, Ordering::Relaxed);
                }
                Ok(n_bytes)
            }
            Source::Files(files) => {
                let mut n_bytes = 0;
                for (key, path) in files {
                    n_bytes += fs::metadata(path)?.len();
                    pipeline.put_file(key, path).await.with_context(|| format!("upload {}", path.display()))?;
                    sent.fetch_add(1, Ordering::Relaxed);
                }
                Ok(n_bytes)
            }
        }
    }
}
