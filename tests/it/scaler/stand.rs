//! What the scaler's stories play in: a database, a queue, and importers for it to start.

use anyhow::{Context as _, Result};
use penstock_tests::{
    aws::{Account, Options, Pipeline, Route},
    database::Database,
    http,
    postgres::Postgres,
    process::{self, Process, Program},
    scratch::Scratch,
    spawn, wait,
};
use serde_json::Value;
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// How long a story waits for what should take seconds, on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(90);

/// The pool's name in every story.
pub const POOL: &str = "importers";

/// A database, a queue and the two programs' configurations.
pub struct Stand {
    pub database: Database,
    pub pipeline: Pipeline,
    scratch: Scratch,
}

impl Stand {
    /// Sets it up; `pool` is added to the pool's table in `scaler.toml`.
    pub async fn new(pool: &str) -> Result<Self> {
        Self::on(&Postgres::shared()?, pool).await
    }

    /// Sets it up on a server of the story's own.
    pub async fn on(postgres: &Arc<Postgres>, pool: &str) -> Result<Self> {
        let database = postgres.create_database().await?;
        database.execute("CREATE TABLE pairs (id bigint PRIMARY KEY, value text)").await?;
        let options = Options { route: Route::Nowhere, visibility_timeout_secs: 30, ..Options::default() };
        let pipeline = Account::new().await?.pipeline(options).await?;
        let scratch = Scratch::new("scaler")?;
        let stand = Self { database, pipeline, scratch };
        stand.scratch.write(
            "importer.toml",
            format!(
                "[database]\nurl = \"{}\"\n[queue]\nurl = \"{}\"\nwait_secs = 1\nvisibility_timeout_secs = 30\n\
                 [http]\nlisten = \"\"\n[[dataset]]\nname = \"pairs\"\nmatch = \"s3://*/pairs/**\"\n\
                 table = \"public.pairs\"\nkey = [\"id\"]\n",
                stand.database.url(),
                stand.pipeline.queue_url,
            ),
        )?;
        stand.configure(pool)?;
        Ok(stand)
    }

    /// Writes `scaler.toml` with a pool of importer processes.
    pub fn configure(&self, pool: &str) -> Result<()> {
        let importer = process::binary("importer")?;
        let workers = format!(
            "[pool.workers]\nkind = \"processes\"\ncommand = [\"{}\", \"run\", \"--config\", \"importer.toml\", \
             \"--log-format\", \"json\"]\ndirectory = \"{1}\"\nlog_directory = \"{1}/logs\"\n\
             env = {{ DATABASE_URL = \"{2}\", AWS_ENDPOINT_URL_SQS = \"{3}\" }}\n",
            importer.display(),
            self.scratch.path().display(),
            self.database.url(),
            self.pipeline.account.emulator().endpoint(),
        );
        self.configure_with(pool, &workers)
    }

    /// Writes `scaler.toml` with other workers.
    pub fn configure_with(&self, pool: &str, workers: &str) -> Result<()> {
        self.scratch.write(
            "scaler.toml",
            format!(
                "[database]\nurl = \"{}\"\n[http]\nlisten = \"127.0.0.1:0\"\n[[pool]]\nname = \"{POOL}\"\n\
                 queue_urls = [\"{}\"]\ninterval_secs = 1\nshrink_window = \"10s\"\nstart_up = \"2s\"\njob = \"50ms\"\nslots_per_worker = 4\n\
                 {pool}\n{workers}",
                self.database.url(),
                self.pipeline.queue_url,
            ),
        )?;
        Ok(())
    }

    /// Returns the scaler with a subcommand, configured for this stand.
    pub fn scaler(&self, subcommand: &str) -> Program {
        Program::new("scaler")
            .arg(subcommand)
            .arg("--config")
            .arg(self.path("scaler.toml"))
            .args(["--log-format", "json"])
            .envs(self.pipeline.account.variables())
    }

    /// Returns a path in the stand's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Returns what the importers logged, for error messages.
    pub fn worker_logs(&self) -> String {
        let logs = std::fs::read_dir(self.path("logs")).into_iter().flatten().flatten();
        logs.map(|log| spawn::tail(&log.path())).collect()
    }

    /// Puts objects of ten rows into the bucket and sends a pointer to each.
    pub async fn send(&self, objects: std::ops::Range<u32>) -> Result<()> {
        let mut pointers = Vec::new();
        for object in objects {
            let key = format!("pairs/{object:05}.ndjson");
            let rows: String =
                (0..10).map(|row| format!("{{\"id\":{},\"value\":\"v\"}}\n", object * 10 + row)).collect();
            self.pipeline.put(&key, rows).await?;
            pointers.push(format!("{{\"bucket\":\"{}\",\"key\":\"{key}\"}}", self.pipeline.bucket));
        }
        self.pipeline.send_all(&pointers).await
    }

    /// Returns the process ids of the pool's importers that are alive.
    pub fn importers(&self) -> Result<Vec<i32>> {
        let mark = format!("PENSTOCK_POOL={POOL} {}", self.pipeline.queue_url);
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
            let Ok(environment) = std::fs::read(entry.path().join("environ")) else { continue };
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let is_alive = !stat.contains(") Z ");
            if is_alive && environment.split(|byte| *byte == 0).any(|part| part == mark.as_bytes()) {
                found.push(pid);
            }
        }
        Ok(found)
    }

    /// Waits until so many importers are alive; fails when there are ever more than `most`.
    pub async fn wait_for_importers(&self, n: usize, most: usize, limit: Duration) -> Result<()> {
        wait::until(&format!("{n} importers"), limit, || async {
            let alive = self.importers()?.len();
            anyhow::ensure!(alive <= most, "{alive} importers are alive, more than {most}");
            Ok((alive == n).then_some(()))
        })
        .await
    }

    /// Waits until every importer that is alive receives: SIGTERM does not drain one that is still starting.
    pub async fn wait_until_receiving(&self) -> Result<()> {
        wait::until("every importer to receive", LIMIT, || async {
            let receiving = "SELECT pid FROM penstock.workers WHERE state IN ('idle', 'busy')";
            let receiving = self.database.rows(receiving).await.unwrap_or_default();
            Ok(self.importers()?.iter().all(|pid| receiving.contains(&pid.to_string())).then_some(()))
        })
        .await
    }

    /// Waits until so many objects are imported.
    pub async fn wait_for_imports(&self, n: u32, limit: Duration) -> Result<()> {
        wait::until(&format!("{n} imported objects"), limit, || async {
            Ok((self.imported().await? == n).then_some(()))
        })
        .await
    }

    /// Returns how many objects are imported; none while there is no ledger.
    pub async fn imported(&self) -> Result<u32> {
        let exists = self.database.value("SELECT to_regclass('penstock.object_status') IS NOT NULL").await?;
        if exists != "true" {
            return Ok(0);
        }
        let n = self.database.value("SELECT count(*) FROM penstock.object_status WHERE state = 'imported'").await?;
        Ok(n.parse()?)
    }

    /// Fails unless every object was imported at its first attempt: nobody was ended while busy.
    pub async fn check_nobody_was_ended_busy(&self, n: u32) -> Result<()> {
        let found = self.database.rows("SELECT state, attempts, count(*) FROM penstock.object GROUP BY 1, 2").await?;
        anyhow::ensure!(found == [format!("imported | 1 | {n}")], "the ledger says {found:?}");
        Ok(())
    }

    /// Returns the kept decisions, oldest first.
    pub async fn history(&self, arguments: &[&str]) -> Result<Vec<Value>> {
        let ended = self.scaler("history").arg("--json").args(arguments).run(LIMIT).await?;
        anyhow::ensure!(ended.status.success(), "history ended with {}: {}", ended.status, ended.stderr);
        ended.stdout.lines().map(|line| serde_json::from_str(line).context("read a line of the history")).collect()
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        // Importers outlive a scaler that was killed; no story may leave one behind.
        for pid in self.importers().unwrap_or_default() {
            let _ = spawn::signal(u32::try_from(pid).unwrap_or(0), "KILL");
        }
    }
}

/// Watches how many importers are alive at most, until dropped.
pub struct Peak {
    most: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Peak {
    /// Starts watching.
    pub fn watch(stand: &Arc<Stand>) -> Self {
        let most = Arc::new(AtomicUsize::new(0));
        let (seen, stand) = (Arc::clone(&most), Arc::clone(stand));
        let task = tokio::spawn(async move {
            loop {
                let alive = stand.importers().map_or(0, |alive| alive.len());
                seen.fetch_max(alive, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        Self { most, task }
    }

    /// Returns the most so far.
    pub fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }
}

impl Drop for Peak {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Returns how long something took.
pub async fn timed<T>(work: impl Future<Output = Result<T>>) -> Result<(T, Duration)> {
    let begun = Instant::now();
    let done = work.await?;
    Ok((done, begun.elapsed()))
}

/// Ticks after which what a scaler has not done it will not do.
const SOME_TICKS: u64 = 3;

/// Waits until a running scaler has done some more ticks, for what must not have come about by then.
pub async fn wait_for_ticks(scaler: &Process) -> Result<()> {
    let address = http_address(scaler).await?;
    let url = format!("http://{address}/metrics");
    let prefix = format!("scaler_tick_duration_seconds_count{{pool=\"{POOL}\"}} ");
    let ticks = || async {
        let metrics = http::get(&url).await?.body;
        let n = metrics.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or("0");
        n.parse::<u64>().with_context(|| format!("read the number of ticks {n:?}"))
    };
    let before = ticks().await?;
    // The one that was under way when they were counted does not count.
    wait::until("some more ticks", LIMIT, || async { Ok((ticks().await? > before + SOME_TICKS).then_some(())) }).await
}

/// Returns where a running scaler serves health and metrics.
pub async fn http_address(scaler: &Process) -> Result<String> {
    let served = scaler.wait_for_line("serving health and metrics", LIMIT).await?;
    let line: Value = serde_json::from_str(&served)?;
    Ok(line["listen"].as_str().context("the address is not in the line")?.to_owned())
}

/// Waits until a running scaler says that it leads the pool.
pub async fn wait_until_leading(scaler: &Process, limit: Duration) -> Result<()> {
    scaler.wait_for_line("leading the pool", limit).await.map(|_| ())
}
