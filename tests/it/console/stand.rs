//! A console over a database of its own.

use anyhow::{Context as _, Result};
use penstock_tests::{
    database::Database,
    http::{self, Answer},
    postgres::Postgres,
    process::{Process, Program},
    scratch::Scratch,
};
use serde_json::Value;
use std::{fs, path::Path, time::Duration};

pub const LIMIT: Duration = Duration::from_secs(30);

/// A ledger, and the console that shows it.
pub struct Stand {
    pub database: Database,
    pub scratch: Scratch,
    pub console: Process,
    pub url: String,
}

impl Stand {
    /// Sets it up with these statements run first, and settings beyond the database's.
    pub async fn new(seed: &str, settings: &str) -> Result<Self> {
        let database = Postgres::shared()?.create_database_with_ledger().await?;
        if !seed.is_empty() {
            database.execute(seed).await?;
        }
        let url = database.url();
        Self::on(database, &url, settings).await
    }

    /// Sets it up with an empty ledger, under this name.
    pub async fn named(host: &str) -> Result<Self> {
        let database = Postgres::shared()?.create_database_with_ledger().await?;
        let url = database.url();
        Self::with(database, &url, "", &format!("hosts = [\"{host}\"]")).await
    }

    /// Sets it up with the console connected by this URL.
    pub async fn on(database: Database, database_url: &str, settings: &str) -> Result<Self> {
        Self::with(database, database_url, settings, "").await
    }

    async fn with(database: Database, database_url: &str, settings: &str, http: &str) -> Result<Self> {
        let scratch = Scratch::new("console")?;
        let (console, url) = console(scratch.path(), database_url, settings, http).await?;
        Ok(Self { database, scratch, url, console })
    }

    /// Returns a page, which has to be there.
    pub async fn page(&self, path: &str) -> Result<String> {
        let answer = self.ask(path, &[]).await?;
        anyhow::ensure!(answer.status == 200, "{path} is answered with {}: {}", answer.status, answer.body);
        Ok(answer.body)
    }

    /// Returns the same as JSON.
    pub async fn json(&self, path: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.page(path).await?)?)
    }

    /// Asks with headers of one's own.
    pub async fn ask(&self, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
        http::request("GET", &format!("{}{path}", self.url), headers, "").await
    }
}

/// Starts a console that is configured in this directory, with settings beyond the database's and of `[http]`; returns its
/// URL, too.
pub async fn console(directory: &Path, database_url: &str, settings: &str, http: &str) -> Result<(Process, String)> {
    fs::write(directory.join("console.toml"), format!("{settings}\n[http]\nlisten = \"127.0.0.1:0\"\n{http}\n"))?;
    let console = Program::new("console").args(["run", "--log-format", "json"]).env("DATABASE_URL", database_url);
    let console = console.in_directory(directory).start()?;
    let line: Value = serde_json::from_str(&console.wait_for_line("serving health and metrics", LIMIT).await?)?;
    let url = format!("http://{}", line["listen"].as_str().context("an address")?);
    Ok((console, url))
}

/// Returns what a reader sees of a page: its text, with one space for each gap.
pub fn seen(html: &str) -> String {
    let mut text = String::new();
    for part in html.split('<') {
        let shown = part.split_once('>').map_or(part, |(_, shown)| shown);
        text.push_str(shown);
        text.push(' ');
    }
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A pool whose scaler has just decided, with these inputs.
pub fn decided(pool: &str, desired: u32, reason: &str, inputs: &str) -> String {
    format!(
        "INSERT INTO penstock.pool_state VALUES ('{pool}', '{{}}', 'host 1', now()) ON CONFLICT DO NOTHING; \
         INSERT INTO penstock.decisions (pool, at, desired, reason, explain, inputs, applied) \
         VALUES ('{pool}', now(), {desired}, '{reason}', 'Because of {reason}.', '{inputs}', true);"
    )
}

/// An object of dataset `d` in this state.
pub fn object(key: &str, state: &str, reason: &str, error: &str) -> String {
    format!(
        "WITH h AS (INSERT INTO penstock.head (dataset, bucket, key) VALUES ('d', 'landing', $key${key}$key$) RETURNING id) \
         INSERT INTO penstock.object (head_id, etag, size, state, reason, error, attempts, queue_url, event_time, sent_at, \
             first_received_at, started_at, finished_at, rows_read, rows_written, rows_merged, rows_filtered, rows_rejected, \
             imported_at) \
         SELECT id, 'e1', 10, '{state}', nullif('{reason}', ''), nullif($err${error}$err$, ''), 1, 'q', now() - interval '9 s', \
             now() - interval '8 s', now() - interval '7 s', now() - interval '5 s', now(), 3, 2, 0, 0, 1, \
             CASE WHEN '{state}' = 'imported' THEN now() END \
         FROM h;"
    )
}
