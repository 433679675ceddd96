//! What a story plays in: a database, a bucket wired to a queue, and importers configured for them.

use anyhow::{Context as _, Result};
use penstock_tests::{
    aws::{Account, Options, Pipeline},
    database::Database,
    http,
    postgres::Postgres,
    process::{Process, Program},
    proxy::{Action, Proxy, Rule, Trigger},
    scratch::Scratch,
    telemetry::{self, Event, Format, Load},
};
use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// How long a story waits for what should take seconds, on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(180);

/// The dataset of generated telemetry.
pub const TELEMETRY: &str = r#"
[[dataset]]
name = "telemetry"
match = "s3://*/telemetry/**"
table = "public.telemetry"
key = ["event_id"]
"#;

/// A table of two columns and its dataset, for stories in which the rows do not matter.
pub const PAIRS_TABLE: &str = "CREATE TABLE pairs (id bigint PRIMARY KEY, value text)";

/// See [`PAIRS_TABLE`].
pub const PAIRS: &str = r#"
[[dataset]]
name = "pairs"
match = "s3://*/pairs/**"
table = "public.pairs"
key = ["id"]
"#;

/// A database, a pipeline, a config.
pub struct World {
    pub database: Database,
    pub pipeline: Pipeline,
    config: PathBuf,
    _scratch: Scratch,
}

impl World {
    /// Sets it up with tables and datasets.
    pub async fn new(options: Options, tables: &str, datasets: &str) -> Result<Self> {
        Self::with(Postgres::shared()?.create_database_with_ledger().await?, options, tables, datasets).await
    }

    /// Sets it up on a server of the story's own, where the importer is to make its schema.
    pub async fn on(postgres: &Arc<Postgres>, options: Options, tables: &str, datasets: &str) -> Result<Self> {
        Self::with(postgres.create_database().await?, options, tables, datasets).await
    }

    async fn with(database: Database, options: Options, tables: &str, datasets: &str) -> Result<Self> {
        let visibility_timeout_secs = options.visibility_timeout_secs;
        database.execute(tables).await?;
        let pipeline = Account::new().await?.pipeline(options).await?;
        // The test event that S3 sends is a story of its own.
        pipeline.purge().await?;
        let scratch = Scratch::new("world")?;
        let config = format!(
            "[database]\nurl = \"{}\"\n\n[queue]\nurl = \"{}\"\nwait_secs = 1\n\
             visibility_timeout_secs = {visibility_timeout_secs}\n\n[http]\nlisten = \"127.0.0.1:0\"\n{datasets}",
            database.url(),
            pipeline.queue_url,
        );
        let config = scratch.write("importer.toml", config)?;
        Ok(Self { database, pipeline, config, _scratch: scratch })
    }

    /// Returns the importer with a subcommand, configured for this world.
    pub fn command(&self, subcommand: &str) -> Program {
        Program::new("importer")
            .arg(subcommand)
            .arg("--config")
            .arg(&self.config)
            .args(["--log-format", "json"])
            .envs(self.pipeline.account.variables())
    }

    /// Returns the path of the configuration.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Returns a worker that runs until it is stopped.
    pub fn worker(&self) -> Program {
        self.command("run")
    }

    /// Returns a worker that ends when the queue is empty.
    pub fn drainer(&self) -> Program {
        self.command("run").arg("--until-empty")
    }

    /// Runs so many workers until the queue is empty, and judges their logs.
    pub async fn drain(&self, n_workers: usize) -> Result<()> {
        let workers = (0..n_workers).map(|_| self.drainer().start()).collect::<Result<Vec<Process>>>()?;
        for worker in workers {
            worker.finish(LIMIT).await?;
        }
        Ok(())
    }

    /// Puts a proxy before Postgres; a program uses it with [`Self::through_postgres`].
    pub async fn postgres_proxy(&self) -> Result<Proxy> {
        Proxy::start(self.database.postgres().host_and_port()).await
    }

    /// Puts a proxy before the emulated AWS.
    pub async fn aws_proxy(&self) -> Result<Proxy> {
        Proxy::start(http::authority(self.pipeline.account.emulator().endpoint())?).await
    }

    /// Sends a program's database connections through a proxy.
    pub fn through_postgres(&self, program: Program, proxy: &Proxy) -> Program {
        program.env("DATABASE_URL", self.database.url_through(proxy.address()))
    }

    /// Sends a program's requests to one AWS service (as `SQS`) through a proxy.
    pub fn through_aws(&self, program: Program, service: &str, proxy: &Proxy) -> Program {
        program.env(&format!("AWS_ENDPOINT_URL_{service}"), proxy.endpoint())
    }

    /// Puts a part of a load of telemetry into the bucket.
    pub async fn put_telemetry(&self, load: &Load, part: u64, n_parts: u64, format: Format) -> Result<String> {
        let mut body = Vec::new();
        telemetry::write(format, load.events(load.object(part, n_parts)), &mut body)?;
        let key = format!("telemetry/part-{part:05}.{}", format.extension());
        self.pipeline.put(&key, body).await?;
        Ok(key)
    }

    /// Fails unless the table holds exactly these events; Postgres reads and compares them.
    pub async fn check_telemetry(&self, events: impl Iterator<Item = Event>) -> Result<()> {
        let model =
            format!("CREATE TEMP TABLE model AS TABLE telemetry WITH NO DATA; {}", telemetry::insert("model", events));
        let mut connection = self.database.connect().await?;
        sqlx::raw_sql(&model).execute(&mut connection).await.context("insert the model's rows")?;
        let differing = "SELECT format('%s %s', side, row) FROM (
                (SELECT 'not in the table' AS side, m.* FROM model m EXCEPT ALL SELECT 'not in the table', t.* FROM telemetry t)
                UNION ALL
                (SELECT 'not in the model', t.* FROM telemetry t EXCEPT ALL SELECT 'not in the model', m.* FROM model m)
            ) row ORDER BY 1 LIMIT 5";
        let differing: Vec<String> = sqlx::query_scalar(differing).fetch_all(&mut connection).await?;
        anyhow::ensure!(
            differing.is_empty(),
            "the table differs from the model, among others:\n{}",
            differing.join("\n")
        );
        Ok(())
    }

    /// Returns the ledger in a readable form, in order of keys.
    pub async fn ledger(&self) -> Result<Vec<String>> {
        self.database
            .rows(
                "SELECT key, state, coalesce(reason, '-') AS reason, coalesce(rows_written, 0) AS rows \
                 FROM penstock.object_status ORDER BY key COLLATE \"C\", id",
            )
            .await
    }

    /// Returns each object's state and rows, without the reason, which also says what the last delivery met.
    pub async fn states(&self) -> Result<Vec<String>> {
        self.database
            .rows(
                "SELECT key, state, coalesce(rows_written, 0) AS rows \
                 FROM penstock.object_status ORDER BY key COLLATE \"C\", id",
            )
            .await
    }

    /// Returns every row of a table with where and by which transaction it was written.
    pub async fn versions_of_rows(&self, table: &str) -> Result<Vec<String>> {
        self.database.rows(&format!("SELECT xmin, ctid, t.* FROM {table} t ORDER BY ctid")).await
    }

    /// Returns the table of [`PAIRS_TABLE`] as `id=value`.
    pub async fn pairs(&self) -> Result<Vec<String>> {
        self.database.rows("SELECT id || '=' || coalesce(value, '∅') AS pair FROM pairs ORDER BY id").await
    }
}

/// Returns, when the first object's rows are about to be committed, the trigger of what then happens.
///
/// The ledger commits notes of its own before; only the transaction that copied rows is meant.
pub fn at_commit_of_rows(proxy: &Proxy, action: Action) -> impl Future<Output = Result<Trigger>> {
    let copying = proxy.add(Rule::when_client_sends("PGCOPY\n", Action::HoldRequest));
    async move {
        copying.fired(1, LIMIT).await?;
        let commit = proxy.add(Rule::when_client_sends("COMMIT\0", action));
        copying.release();
        commit.fired(1, LIMIT).await?;
        Ok(commit)
    }
}

/// Lines of JSON for [`PAIRS_TABLE`].
pub fn pairs(pairs: &[(i64, &str)]) -> String {
    pairs.iter().map(|(id, value)| format!("{{\"id\":{id},\"value\":\"{value}\"}}\n")).collect()
}
