//! The runs that are measured, each against a database of its own.

mod aims;
mod console;
mod far;
mod growth;
mod pipelines;
mod queue;

use super::{
    data::{Data, N_OBJECTS},
    measure::{self, Cost},
    report::{C1, Report, in_streams, sorted_copy},
};
use anyhow::{Context as _, Result};
use penstock_tests::{
    aws::{Account, Options, Route, python},
    database::Database,
    postgres::{Postgres, find_binaries},
    process::binary,
    scratch::Scratch,
    telemetry::{COLUMNS, Format, LEAN_COLUMNS, LEAN_TABLE},
};
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// The baseline of small objects: their rows from one prepared file.
const SMALL_BASE: &str = "small objects: psql \\copy of one file with the same rows";

/// The baseline of a version in which all rows changed.
const C3: &str = "C3: psql, all rows changed by UPDATE from a sorted copy";
/// The baseline of a version in which a tenth of the rows changed.
const C4: &str = "C4: psql, 10 % of rows changed by UPDATE from a sorted copy";

/// Tools `tests/peers/peer.py` knows.
const PEERS: [&str; 5] = ["duckdb", "adbc", "psycopg", "dlt", "sling"];

/// A later version of the objects.
#[derive(Debug, Clone, Copy)]
pub enum Change {
    /// So many of a hundred rows have other values; the bytes are others in any case.
    Rows(u64),
}

/// Returns what was aimed at beside what was found; nothing where nothing of it was measured.
pub fn aims(report: &Report) -> String {
    let rows = aims::rows(report) + &far::aims(report) + &pipelines::aims(report);
    if rows.is_empty() { rows } else { format!("| | aim | found |\n|---|---|---|\n{rows}") }
}

fn first_load(extension: &str, workers: u32) -> String {
    format!("{extension}: first load, {workers} at once")
}

fn new_version(extension: &str, percent: u64) -> String {
    match percent {
        0 => format!("{extension}: a new version, no row changed"),
        percent => format!("{extension}: a new version, {percent} % of rows changed"),
    }
}

/// What runs need.
pub struct Bench {
    postgres: Arc<Postgres>,
    data: Data,
    only: Vec<String>,
    scratch: Scratch,
    psql: PathBuf,
    /// The database of the run before, dropped when the next one begins.
    previous: Mutex<Option<String>>,
}

impl Bench {
    /// Prepares the binary files of the baseline.
    ///
    /// # Errors
    /// When the importer cannot load what it is made from.
    pub async fn new(postgres: Arc<Postgres>, data: Data, only: Vec<String>) -> Result<Self> {
        let scratch = Scratch::traversable("bench-runs")?;
        let bench =
            Self { postgres, data, only, scratch, psql: find_binaries()?.join("psql"), previous: Mutex::default() };
        bench.prepare().await?;
        Ok(bench)
    }

    /// Writes the rows as Postgres's own binary files: per object in file order and sorted, and the small ones as one.
    async fn prepare(&self) -> Result<()> {
        let database = self.postgres.create_database().await?;
        database.execute(&LEAN_TABLE.replace(" PRIMARY KEY", "")).await?;
        database.execute("ALTER TABLE telemetry ADD penstock_object bigint, ADD penstock_row bigint").await?;
        let columns = COLUMNS[..LEAN_COLUMNS].join(", ");
        let config = self.config(&database, "append", 1)?;
        for format in [Format::Parquet, Format::Ndjson, Format::Csv] {
            let Ok(place) = self.data.put(format, "v1") else { continue };
            measure::run(vec![self.load(&config, &place)?]).context("load what the baseline is made from")?;
            for index in 0..N_OBJECTS {
                let rows = format!(
                    "SELECT {columns} FROM telemetry JOIN penstock.object_status s ON s.id = penstock_object \
                     WHERE s.key LIKE '%part-{index:05}%' ORDER BY"
                );
                for (name, order) in [("file", "penstock_row"), ("sorted", "event_id")] {
                    let to = self.data.prepared(&format!("{name}-{index}"));
                    measure::run(vec![
                        self.psql(&database, &format!("\\copy ({rows} {order}) TO '{}' BINARY", to.display())),
                    ])?;
                }
                // The same rows under a uuid, in an order of its own.
                let uuid = "md5(event_id::text)::uuid";
                let rows = rows.replacen("event_id", &format!("{uuid} AS event_id"), 1);
                std::fs::create_dir_all(self.data.uuids())?;
                let csv = self.data.uuids().join(format!("part-{index:05}.csv"));
                for (to, order, form) in [
                    (self.data.prepared(&format!("uuid-file-{index}")), "penstock_row", "BINARY"),
                    (self.data.prepared(&format!("uuid-sorted-{index}")), uuid, "BINARY"),
                    (csv, "penstock_row", "CSV HEADER"),
                ] {
                    let copy = format!("\\copy ({rows} {order}) TO '{}' {form}", to.display());
                    measure::run(vec![self.psql(&database, &copy)])?;
                }
            }
            break;
        }
        database.execute("TRUNCATE telemetry").await?;
        measure::run(vec![self.load(&config, &self.data.small())?]).context("load the small objects")?;
        let to = self.data.prepared("small");
        let rows = format!("SELECT {columns} FROM telemetry ORDER BY penstock_object, penstock_row");
        measure::run(vec![self.psql(&database, &format!("\\copy ({rows}) TO '{}' BINARY", to.display()))])?;
        Ok(())
    }

    /// Measures `psql \copy` of prepared files, in file order and sorted.
    ///
    /// # Errors
    /// When a run fails.
    pub async fn baseline(&self, report: &mut Report, streams: u64) -> Result<()> {
        let in_file_order = format!("C1: psql \\copy in file order, {}", in_streams(streams));
        for (prepared, name) in [("file", in_file_order), ("sorted", sorted_copy(streams))] {
            let database = self.fresh().await?;
            let commands = (0..streams)
                .map(|stream| {
                    let indexes = (0..N_OBJECTS).filter(|index| index % streams == stream);
                    self.copies(&database, prepared, indexes)
                })
                .collect();
            let cost = self.measured(&database, commands).await?;
            report.add(&name, C1, self.data.n_rows, N_OBJECTS, cost);
        }
        Ok(())
    }

    /// Measures first loads into tables that are more work: with secondary indexes, and with a uuid for a key.
    ///
    /// # Errors
    /// When a run fails.
    pub async fn other_tables(&self, report: &mut Report, format: Format) -> Result<()> {
        let indexed =
            format!("{LEAN_TABLE}; CREATE INDEX ON telemetry (sender_domain); CREATE INDEX ON telemetry (observed_at)");
        let uuid = LEAN_TABLE.replace("bigint PRIMARY KEY", "uuid PRIMARY KEY");
        let cases = [
            ("two secondary indexes", &indexed, "", self.data.put(format, "v1")?),
            ("a uuid key", &uuid, "uuid-", self.data.uuids()),
        ];
        for (what, table, prefix, place) in cases {
            let base = format!("{what}: psql \\copy in file order");
            if self.skips(&base) {
                continue;
            }
            for (prepared, name) in [("file", base.clone()), ("sorted", format!("{what}: psql \\copy, sorted"))] {
                let database = self.fresh_with(table).await?;
                let command = self.copies(&database, &format!("{prefix}{prepared}"), 0..N_OBJECTS);
                let cost = self.measured(&database, vec![command]).await?;
                report.add(&name, &base, self.data.n_rows, N_OBJECTS, cost);
            }
            let database = self.fresh_with(table).await?;
            let config = self.config(&database, "upsert", 1)?;
            let cost = self.measured(&database, vec![self.load(&config, &place)?]).await?;
            let extension = if prefix.is_empty() { format.extension() } else { "csv" };
            report.add(
                &format!("{what}: {extension}, first load, 1 at once"),
                &base,
                self.data.n_rows,
                N_OBJECTS,
                cost,
            );
            self.check(&database, self.data.n_rows).await?;
        }
        Ok(())
    }

    /// Returns `psql` copying prepared files one after another.
    fn copies(&self, database: &Database, prepared: &str, indexes: impl Iterator<Item = u64>) -> Command {
        let mut command = self.psql_bare(database);
        for index in indexes {
            let from = self.data.prepared(&format!("{prepared}-{index}"));
            command.arg("-c").arg(format!("\\copy telemetry FROM '{}' BINARY", from.display()));
        }
        command
    }

    /// Measures a first load with so many objects at once.
    ///
    /// # Errors
    /// When a run fails.
    pub async fn first_load(&self, report: &mut Report, format: Format, workers: u32) -> Result<()> {
        let name = first_load(format.extension(), workers);
        if self.skips(&name) {
            return Ok(());
        }
        let database = self.fresh().await?;
        let config = self.config(&database, "upsert", workers)?;
        let place = self.data.put(format, "v1")?;
        let cost = self.measured(&database, vec![self.load(&config, &place)?]).await?;
        report.add(&name, C1, self.data.n_rows, N_OBJECTS, cost);
        self.check(&database, self.data.n_rows).await
    }

    /// Measures a first load, the same objects again, and later versions of them, one object at a time.
    ///
    /// # Errors
    /// When a run fails.
    pub async fn versions(&self, report: &mut Report, format: Format, changes: &[Change]) -> Result<()> {
        let extension = format.extension();
        let mut cases = vec![
            ("v1".to_owned(), first_load(extension, 1)),
            ("v1".to_owned(), format!("{extension}: the same objects again")),
        ];
        let versions =
            changes.iter().map(|Change::Rows(percent)| (format!("v2-{percent}"), new_version(extension, *percent)));
        cases.extend(versions);
        // What is asked for, and what has to be there before.
        cases.truncate(cases.iter().rposition(|(_, name)| !self.skips(name)).map_or(0, |last| last + 1));
        if cases.is_empty() {
            return Ok(());
        }
        let database = self.fresh().await?;
        let config = self.config(&database, "upsert", 1)?;
        for (version, name) in cases {
            let place = self.data.put(format, &version)?;
            let cost = self.measured(&database, vec![self.load(&config, &place)?]).await?;
            report.add(&name, C1, self.data.n_rows, N_OBJECTS, cost);
        }
        self.check(&database, self.data.n_rows).await
    }

    /// Measures the plain SQL for versions in which all rows or a tenth of them changed: a sorted `\copy` into a temporary
    /// table, and an UPDATE.
    ///
    /// # Errors
    /// When a run fails.
    pub async fn plain_updates(&self, report: &mut Report) -> Result<()> {
        // Where few rows change the key's index finds them in half the time of the hash join that the planner prefers.
        let by_index = "SET enable_hashjoin = off; SET enable_mergejoin = off";
        let changed = "CASE WHEN s.event_id % 10 = 0 THEN s.spend + 1 ELSE s.spend END";
        let list = |prefix: &str, spend: &str| {
            let value = |column: &&str| if *column == "spend" { spend.to_owned() } else { format!("{prefix}{column}") };
            format!("({})", COLUMNS[1..LEAN_COLUMNS].iter().map(value).collect::<Vec<_>>().join(", "))
        };
        let differs = format!("AND {} IS DISTINCT FROM {}", list("telemetry.", "telemetry.spend"), list("s.", changed));
        for (name, plan, spend, differs) in [(C3, "", "s.spend + 1", ""), (C4, by_index, changed, differs.as_str())] {
            if self.skips(name) {
                continue;
            }
            let database = self.fresh().await?;
            measure::run(vec![self.copies(&database, "file", 0..N_OBJECTS)])?;
            let mut command = self.psql_bare(&database);
            for index in 0..N_OBJECTS {
                let from = self.data.prepared(&format!("sorted-{index}"));
                for sql in [
                    plan,
                    "BEGIN",
                    "CREATE TEMPORARY TABLE staged (LIKE telemetry) ON COMMIT DROP",
                    &format!("\\copy staged FROM '{}' BINARY", from.display()),
                    "ANALYZE staged",
                    &format!(
                        "UPDATE telemetry SET {} = {} FROM staged s WHERE s.event_id = telemetry.event_id {differs}",
                        list("", "spend"),
                        list("s.", spend)
                    ),
                    "COMMIT",
                ] {
                    command.arg("-c").arg(sql);
                }
            }
            let cost = self.measured(&database, vec![command]).await?;
            report.add(name, C1, self.data.n_rows, N_OBJECTS, cost);
            self.check(&database, self.data.n_rows).await?;
        }
        Ok(())
    }

    /// Measures many small objects beside one prepared file with their rows.
    ///
    /// # Errors
    /// When a run fails.
    pub async fn small(&self, report: &mut Report) -> Result<()> {
        if self.skips("small objects") {
            return Ok(());
        }
        let (n_rows, n_objects) = (self.data.n_small_rows, self.data.n_small);
        let database = self.fresh().await?;
        let copy = format!("\\copy telemetry FROM '{}' BINARY", self.data.prepared("small").display());
        let cost = self.measured(&database, vec![self.psql(&database, &copy)]).await?;
        report.add(SMALL_BASE, SMALL_BASE, n_rows, 1, cost);

        let database = self.fresh().await?;
        let config = self.config(&database, "upsert", 1)?;
        for name in ["small objects: first load, 1 worker", "small objects: the same again"] {
            let cost = self.measured(&database, vec![self.load(&config, &self.data.small())?]).await?;
            report.add(name, SMALL_BASE, n_rows, n_objects, cost);
        }
        self.check(&database, n_rows).await
    }

    /// Measures a tool of the field on the same files, with the same meaning: upsert by key, a transaction an object.
    ///
    /// # Errors
    /// When the tools cannot be installed.
    pub async fn peers(&self, report: &mut Report, format: Format) -> Result<()> {
        let python = python("peers")?;
        let script = penstock_tests::repository().join("tests/peers/peer.py");
        let extension = format.extension();
        for tool in PEERS {
            let name = aims::peer_load(extension, tool);
            if self.skips(&name) {
                continue;
            }
            let database = self.fresh().await?;
            let mut files: Vec<PathBuf> = std::fs::read_dir(self.data.put(format, "v1")?)?
                .map(|entry| Ok(entry?.path()))
                .collect::<Result<_>>()?;
            files.sort();
            let mut command = Command::new(&python);
            command.arg(&script).args([tool, extension, &database.url()]).args(files);
            command.env("HOME", self.scratch.path()).env("RUNTIME__DLTHUB_TELEMETRY", "false");
            match self.measured(&database, vec![command]).await {
                Ok(cost) => {
                    report.add(&name, C1, self.data.n_rows, N_OBJECTS, cost);
                    self.check(&database, self.data.n_rows).await?;
                }
                // Whatever keeps one of them from working here is said, and does not end the run.
                Err(error) => eprintln!("  {name}: {error:#}"),
            }
        }
        Ok(())
    }

    /// Measures a worker that finds nothing to do: its memory and its share of a processor over 20 s.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn idle(&self) -> Result<String> {
        let database = self.fresh().await?;
        let pipeline = Account::new().await?.pipeline(Options { route: Route::Nowhere, ..Options::default() }).await?;
        let mut command = self.importer(&self.config(&database, "upsert", 4)?)?;
        command.arg("run").env("QUEUE_URL", &pipeline.queue_url).envs(pipeline.account.variables());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let before = measure::process_now(child.id());
        tokio::time::sleep(Duration::from_secs(20)).await;
        let after = measure::process_now(child.id());
        child.kill()?;
        child.wait()?;
        let (Some((cpu_before, _)), Some((cpu_after, kib))) = (before, after) else {
            anyhow::bail!("the idle worker ended");
        };
        Ok(format!(
            "An idle worker: {:.0} MiB resident, {:.2} s of processor time in 20 s.",
            kib as f64 / 1024.0,
            cpu_after - cpu_before
        ))
    }

    fn skips(&self, name: &str) -> bool {
        !self.only.is_empty() && !self.only.iter().any(|only| name.contains(only))
    }

    async fn fresh(&self) -> Result<Database> {
        self.fresh_with(LEAN_TABLE).await
    }

    async fn fresh_with(&self, table: &str) -> Result<Database> {
        let database = self.postgres.create_database().await?;
        let previous = self.previous.lock().unwrap_or_else(PoisonError::into_inner).replace(database.name().to_owned());
        if let Some(previous) = previous {
            database.execute(&format!("DROP DATABASE {previous} WITH (FORCE)")).await?;
        }
        database.execute(table).await?;
        let config = self.config(&database, "upsert", 1)?;
        let mut migrate = Command::new(binary("importer")?);
        migrate.arg("--config").arg(config).arg("migrate");
        measure::run(vec![migrate])?;
        Ok(database)
    }

    async fn measured(&self, database: &Database, commands: Vec<Command>) -> Result<Cost> {
        database.execute("CHECKPOINT").await?;
        let lsn = "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint";
        let wal_before: u64 = database.value(lsn).await?.parse()?;
        let postmaster = self.postgres.pid().context("the server is not ours")?;
        let cpu_before = measure::server_cpu_secs(postmaster);
        let mut cost = tokio::task::spawn_blocking(|| measure::run(commands)).await??;
        cost.server_cpu_secs = measure::server_cpu_secs(postmaster) - cpu_before;
        let wal_after: u64 = database.value(lsn).await?.parse()?;
        cost.wal_bytes = wal_after - wal_before;
        Ok(cost)
    }

    /// A benchmark of a load that did not happen would be fast.
    async fn check(&self, database: &Database, n_rows: u64) -> Result<()> {
        let found: u64 = database.value("SELECT count(*) FROM telemetry").await?.parse()?;
        anyhow::ensure!(found == n_rows, "{found} rows instead of {n_rows}");
        Ok(())
    }

    fn config(&self, database: &Database, mode: &str, concurrency: u32) -> Result<PathBuf> {
        self.config_with(database, mode, concurrency, "")
    }

    fn config_with(
        &self,
        database: &Database,
        mode: &str,
        concurrency: impl Into<Option<u32>>,
        settings: &str,
    ) -> Result<PathBuf> {
        let concurrency = concurrency.into().map(|concurrency| format!("concurrency = {concurrency}"));
        self.scratch.write(
            "importer.toml",
            format!(
                "[database]\nurl = \"{}\"\n\n[queue]\nurl = \"http://127.0.0.1:1/none\"\nwait_secs = 1\n\n\
                 [worker]\n{}\n\n\
                 [[dataset]]\nname = \"telemetry\"\nmatch = \"**\"\ntable = \"public.telemetry\"\n\
                 mode = \"{mode}\"\nkey = [\"event_id\"]\n{settings}\n",
                database.url(),
                concurrency.unwrap_or_default(),
            ),
        )
    }

    fn load(&self, config: &Path, place: &Path) -> Result<Command> {
        let mut command = self.importer(config)?;
        command.arg("load").arg(place).args(["--dataset", "telemetry"]);
        Ok(command)
    }

    fn importer(&self, config: &Path) -> Result<Command> {
        let mut command = Command::new(binary("importer")?);
        command.arg("--config").arg(config).env("RUST_LOG", "warn");
        Ok(command)
    }

    fn psql_bare(&self, database: &Database) -> Command {
        let mut command = Command::new(&self.psql);
        command.args(["--no-psqlrc", "--quiet", "-v", "ON_ERROR_STOP=1"]).arg(database.url());
        command
    }

    fn psql(&self, database: &Database, statement: &str) -> Command {
        let mut command = self.psql_bare(database);
        command.arg("-c").arg(statement);
        command
    }
}
