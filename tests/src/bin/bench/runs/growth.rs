//! How cost grows: with the table, with the ledger, with the number of datasets and with that of fields.

use super::Bench;
use crate::measure;
use anyhow::Result;
use penstock_tests::{
    database::Database,
    telemetry::{self, Format, LEAN_TABLE, Load},
};
use std::{
    fmt::Write as _,
    fs::File,
    io::{BufWriter, Write as _},
    path::PathBuf,
    process::Command,
};

/// Objects that the table grows by.
const N_STEPS: u64 = 20;
/// Parts of the largest ledger, the largest number of datasets and of fields.
const PARTS: [u64; 4] = [100, 10, 3, 1];
const N_DATASETS: u64 = 500;
const N_FIELDS: u64 = 1_000;
/// Values of a file, whatever their number in a row.
const N_VALUES: u64 = 8_000_000;
/// Of the generator.
const SEED: u64 = 20_260_301;
/// Characters of the longest bar.
const BAR: f64 = 40.0;

/// Entries of the ledger, in one dataset; without what triggers would do for each.
const ENTRIES: &str = "
    SET session_replication_role = replica;
    INSERT INTO penstock.head (id, dataset, bucket, key, object_id) OVERRIDING SYSTEM VALUE
    SELECT i, 'telemetry', 'landing', 'part-' || i % 97 || '/' || i || '.parquet', i FROM generate_series(1, :n) i;
    INSERT INTO penstock.object (id, head_id, version_id, etag, size, state, attempts, queue_url, rows_read, rows_written,
        rows_merged, rows_filtered, rows_rejected, bytes, first_seen_at, started_at, imported_at, finished_at,
        duration_seconds, technique, recipe) OVERRIDING SYSTEM VALUE
    SELECT i, i, 'v' || i, md5(i::text), 1000000, 'imported', 1, 'queue', 1000, 1000, 0, 0, 0, 1000000, at, at, at, at, 1.5,
        'direct', '0123456789abcdef'
    FROM generate_series(1, :n) i CROSS JOIN LATERAL (SELECT now() - interval '90 days' * (1 - i::float8 / :n) AS at) t;
    SELECT setval(pg_get_serial_sequence('penstock.head', 'id'), :n);
    SELECT setval(pg_get_serial_sequence('penstock.object', 'id'), :n)";

impl Bench {
    /// Measures loads into a table that grows to `n_rows`, beside a ledger of `n_entries`, with many datasets and many
    /// fields; returns a chart of each.
    ///
    /// # Errors
    /// When a run fails.
    pub async fn growth(&self, n_rows: u64, n_entries: u64) -> Result<Option<String>> {
        let charts = [
            self.with_the_table(n_rows).await?,
            self.with_the_ledger(n_entries).await?,
            self.with_datasets().await?,
            self.with_fields().await?,
        ];
        let charts: Vec<String> = charts.into_iter().flatten().collect();
        Ok((!charts.is_empty()).then(|| charts.join("\n")))
    }

    async fn with_the_table(&self, n_rows: u64) -> Result<Option<String>> {
        if self.skips("growth: table") {
            return Ok(None);
        }
        let beside = ["plain", "step"].map(|name| format!("; CREATE TABLE {name} (LIKE telemetry INCLUDING ALL)"));
        let database = self.fresh_with(&(LEAN_TABLE.to_owned() + &beside.concat())).await?;
        let datasets = ["telemetry", "step"].map(|table| dataset(table, "**", table, "event_id"));
        let config = self.configured(&database, &datasets.concat())?;
        let sorted = self.scratch.path().join("grown.sorted");
        let load = Load::new(SEED, n_rows);
        let (mut points, mut plain_points) = (Vec::new(), Vec::new());
        for step in 0..N_STEPS {
            let rows = load.object(step, N_STEPS);
            let path = self.scratch.path().join(format!("grown-{step}.parquet"));
            telemetry::write_lean(Format::Parquet, 1, load.events(rows.clone()), BufWriter::new(File::create(&path)?))?;
            let load_into = |table: &str| -> Result<Command> {
                let mut command = self.importer(&config)?;
                command.arg("load").arg(&path).args(["--dataset", table]);
                Ok(command)
            };
            // The same rows by `psql`, sorted, come out of a table that has no others.
            let out = format!("\\copy (SELECT * FROM step ORDER BY event_id) TO '{}' BINARY", sorted.display());
            measure::run(vec![load_into("step")?])?;
            measure::run(vec![self.psql(&database, &out)])?;
            database.execute("TRUNCATE step").await?;
            let n = (rows.end - rows.start) as f64;
            let cost = self.measured(&database, vec![load_into("telemetry")?]).await?;
            Self::found(&mut points, "rows in the table", rows.start, n / cost.secs);
            let copy = format!("\\copy plain FROM '{}' BINARY", sorted.display());
            let cost = self.measured(&database, vec![self.psql(&database, &copy)]).await?;
            Self::found(&mut plain_points, "rows in the table, psql", rows.start, n / cost.secs);
            std::fs::remove_file(&path)?;
        }
        self.check(&database, n_rows).await?;
        let plain = chart("rows in the table", "rows/s by `psql \\copy`, each object sorted", &plain_points);
        Ok(Some(chart("rows in the table", "rows/s", &points) + "\n" + &plain))
    }

    async fn with_the_ledger(&self, n_entries: u64) -> Result<Option<String>> {
        if self.skips("growth: ledger") {
            return Ok(None);
        }
        let mut points = vec![];
        for n in PARTS.map(|part| n_entries / part) {
            let database = self.fresh().await?;
            database.execute(&ENTRIES.replace(":n", &n.to_string())).await?;
            database.execute("VACUUM ANALYZE").await?;
            let config = self.config(&database, "upsert", 4)?;
            Self::found(&mut points, "objects in the ledger", n, self.small_objects(&database, &config).await?);
        }
        Ok(Some(chart("objects in the ledger", "small objects/s", &points)))
    }

    async fn with_datasets(&self) -> Result<Option<String>> {
        if self.skips("growth: datasets") {
            return Ok(None);
        }
        let mut points = vec![];
        for n in PARTS.map(|part| N_DATASETS / part) {
            let database = self.fresh().await?;
            let other = |i: u64| dataset(&format!("other_{i}"), &format!("**/other-{i}/**"), "telemetry", "event_id");
            let all: String = (1..n).map(other).collect();
            let config = self.configured(&database, &(all + &dataset("telemetry", "**", "telemetry", "event_id")))?;
            Self::found(&mut points, "datasets", n, self.small_objects(&database, &config).await?);
        }
        Ok(Some(chart("datasets", "small objects/s", &points)))
    }

    async fn with_fields(&self) -> Result<Option<String>> {
        if self.skips("growth: fields") {
            return Ok(None);
        }
        let mut points = vec![];
        for n in PARTS.map(|part| N_FIELDS / part) {
            let names: Vec<String> = (0..n).map(|i| format!("f{i}")).collect();
            let path = self.scratch.path().join("wide.csv");
            let mut file = BufWriter::new(File::create(&path)?);
            writeln!(file, "{}", names.join(","))?;
            let n_rows = N_VALUES / n;
            let mut random = fastrand::Rng::with_seed(SEED);
            for row in 0..n_rows {
                write!(file, "{row}")?;
                (1..n).try_for_each(|_| write!(file, ",{}", random.u32(..1_000_000)))?;
                writeln!(file)?;
            }
            file.into_inner()?.sync_all()?;
            let columns: String = names[1..].iter().map(|name| format!(", {name} integer")).collect();
            let table = format!("{LEAN_TABLE}; CREATE TABLE wide (f0 bigint PRIMARY KEY{columns})");
            let database = self.fresh_with(&table).await?;
            let config = self.configured(&database, &dataset("telemetry", "**", "wide", "f0"))?;
            let cost = self.measured(&database, vec![self.load(&config, &path)?]).await?;
            let found: u64 = database.value("SELECT count(*) FROM wide").await?.parse()?;
            anyhow::ensure!(found == n_rows, "{found} rows instead of {n_rows}");
            Self::found(&mut points, "fields", n, N_VALUES as f64 / cost.secs);
        }
        Ok(Some(chart("fields of a row", "values/s", &points)))
    }

    /// Notes a point of a chart.
    fn found(points: &mut Vec<(u64, f64)>, what: &str, size: u64, rate: f64) {
        eprintln!("  growth: {size} {what}: {rate:.0}/s");
        points.push((size, rate));
    }

    /// Returns small objects a second, loaded for the first time.
    async fn small_objects(&self, database: &Database, config: &std::path::Path) -> Result<f64> {
        let cost = self.measured(database, vec![self.load(config, &self.data.small())?]).await?;
        self.check(database, self.data.n_small_rows).await?;
        Ok(self.data.n_small as f64 / cost.secs)
    }

    fn configured(&self, database: &Database, datasets: &str) -> Result<PathBuf> {
        let queue = "[queue]\nurl = \"http://127.0.0.1:1/none\"\nwait_secs = 1\n";
        self.scratch.write("importer.toml", format!("[database]\nurl = \"{}\"\n{queue}{datasets}", database.url()))
    }
}

fn dataset(name: &str, pattern: &str, table: &str, key: &str) -> String {
    format!("[[dataset]]\nname = \"{name}\"\nmatch = \"{pattern}\"\ntable = \"public.{table}\"\nkey = [\"{key}\"]\n")
}

/// Returns a Markdown table whose last column is a bar.
fn chart(what: &str, unit: &str, points: &[(u64, f64)]) -> String {
    let most = points.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
    let mut table = format!("| {what} | {unit} | |\n|--:|--:|---|\n");
    for (size, rate) in points {
        let bar = "▬".repeat((rate / most * BAR).round() as usize);
        let _ = writeln!(table, "| {size} | {rate:.0} | {bar} |");
    }
    table
}
