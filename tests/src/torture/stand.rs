//! Where a run takes place: a Postgres of its own, a bucket and queues, proxies before all of them,
//! and the workers.

use super::faults::VISIBILITY_SECS;
use crate::{
    aws::{Account, Options, Pipeline, Route},
    database::Database,
    http,
    postgres::{self, Postgres},
    process::{Process, Program},
    proxy::Proxy,
    scratch::Scratch,
};
use anyhow::{Context as _, Result, ensure};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::Mutex;

/// Workers at any time, but for the pauses after a kill.
pub const N_WORKERS: usize = 3;

/// How long a worker may take to end when told to.
const STOP_LIMIT: Duration = Duration::from_secs(120);

const TABLES: &str = "
    CREATE TABLE newest (id bigint PRIMARY KEY, version bigint, value text, amount int CHECK (amount >= 0), penstock_object bigint);
    CREATE TABLE own (LIKE newest INCLUDING ALL);
    CREATE TABLE whole (id bigint, version bigint, value text, amount int CHECK (amount >= 0), penstock_object bigint);
    CREATE INDEX ON whole (penstock_object);
    CREATE TABLE log (LIKE whole INCLUDING ALL);
";

const DATASETS: &str = r#"
[[dataset]]
name = "newest"
match = "s3://*/newest/**"
table = "public.newest"
key = ["id"]
newer = "version"
max_rejects = "30%"

[[dataset]]
name = "own"
match = "s3://*/own/**"
table = "public.own"
key = ["id"]
max_rejects = "30%"

[[dataset]]
name = "whole"
match = "s3://*/whole/**"
table = "public.whole"
mode = "replace"
on_delete = "remove"
max_rejects = "30%"

[[dataset]]
name = "log"
match = "s3://*/log/**"
table = "public.log"
mode = "append"
max_rejects = "30%"
"#;

/// See the module.
#[derive(Debug)]
pub struct Stand {
    /// The tables and the ledger.
    pub database: Database,
    /// Bucket and queues.
    pub pipeline: Pipeline,
    /// Between workers and Postgres.
    pub postgres_proxy: Proxy,
    /// Between workers and S3.
    pub s3_proxy: Proxy,
    /// Between workers and SQS.
    pub sqs_proxy: Proxy,
    workers: Vec<Mutex<Arc<Process>>>,
    restarting: Mutex<()>,
    program: Program,
    _scratch: Scratch,
}

impl Stand {
    /// Sets everything up and starts the workers.
    ///
    /// # Errors
    /// When a part does not start.
    pub async fn start(versioned: bool, technique: &str) -> Result<Arc<Self>> {
        // What was committed must outlive the crash of the server; it need not outlive one of the machine.
        let settings = vec![("synchronous_commit".to_owned(), "on".to_owned())];
        let options = postgres::Options { settings, ..postgres::Options::default() };
        let postgres = tokio::task::spawn_blocking(|| Postgres::start(options)).await??;
        let database = Arc::new(postgres).create_database().await?;
        database.execute(TABLES).await?;
        let options = Options {
            route: Route::Nowhere,
            versioned,
            visibility_timeout_secs: u32::try_from(VISIBILITY_SECS)?,
            // Kills and stops cost receives, and what SQS itself gives up on is not what is tested here.
            max_receive_count: Some(1000),
        };
        let pipeline = Account::new().await?.pipeline(options).await?;
        let emulator = http::authority(pipeline.account.emulator().endpoint())?.to_owned();
        let postgres_proxy = Proxy::start(database.postgres().host_and_port()).await?;
        let (s3_proxy, sqs_proxy) = (Proxy::start(&emulator).await?, Proxy::start(&emulator).await?);
        let scratch = Scratch::new("torture")?;
        let config = config(&database, &pipeline, &postgres_proxy, technique);
        let config = scratch.write("importer.toml", config)?;
        let program = program(&config, &pipeline)
            .env("AWS_ENDPOINT_URL_S3", s3_proxy.endpoint())
            .env("AWS_ENDPOINT_URL_SQS", sqs_proxy.endpoint());
        let migrated = program.clone().arg("migrate").run(STOP_LIMIT).await?;
        ensure!(migrated.status.success(), "migrate: {}", migrated.stderr);
        let program = program.arg("run");
        let start = || Ok(Mutex::new(Arc::new(program.clone().start()?)));
        let workers = (0..N_WORKERS).map(|_| start()).collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(Self {
            database,
            pipeline,
            postgres_proxy,
            s3_proxy,
            sqs_proxy,
            workers,
            restarting: Mutex::default(),
            program,
            _scratch: scratch,
        }))
    }

    /// Returns the process id of a worker as it is now.
    pub async fn worker_pid(&self, number: usize) -> u32 {
        self.workers[number % N_WORKERS].lock().await.pid()
    }

    /// Kills a worker and, after a pause, starts another in its place.
    pub(super) async fn replace_worker(&self, number: usize, pause: Duration) -> Result<()> {
        let mut worker = self.workers[number % N_WORKERS].lock().await;
        no_panic(&worker)?;
        worker.kill()?;
        tokio::time::sleep(pause).await;
        *worker = Arc::new(self.program.clone().start()?);
        Ok(())
    }

    /// Stops a worker for so long; false when it was killed before it could be.
    pub(super) async fn freeze_worker(&self, number: usize, pause: Duration) -> Result<bool> {
        let worker = Arc::clone(&*self.workers[number % N_WORKERS].lock().await);
        if worker.freeze().is_err() {
            return Ok(false);
        }
        tokio::time::sleep(pause).await;
        // It may have been killed meanwhile; that is no reason to fail.
        let _ = worker.thaw();
        Ok(true)
    }

    /// Ends Postgres in immediate mode and starts it again.
    pub(super) async fn crash_postgres(&self) -> Result<()> {
        let _one_at_a_time = self.restarting.lock().await;
        let postgres = Arc::clone(self.database.postgres());
        tokio::task::spawn_blocking(move || postgres.crash_and_restart()).await?
    }

    /// Asks the workers to end and judges how they did.
    ///
    /// # Errors
    /// When one does not end with status 0, or has panicked.
    pub async fn stop_workers(&self) -> Result<()> {
        for worker in &self.workers {
            let worker = worker.lock().await;
            worker.signal("TERM")?;
            let status = worker.wait_exit(STOP_LIMIT).await?;
            ensure!(status.success(), "a worker ended with {status}:\n{}", worker.stderr());
            no_panic(&worker)?;
        }
        Ok(())
    }

    /// Returns the last lines of each worker's log, for a run that hangs.
    pub async fn last_words(&self) -> String {
        let mut text = String::new();
        for worker in &self.workers {
            let worker = worker.lock().await;
            let log = worker.stderr();
            let lines: Vec<&str> = log.lines().collect();
            text.push_str(&format!(
                "worker {}:\n{}\n",
                worker.pid(),
                lines[lines.len().saturating_sub(15)..].join("\n")
            ));
        }
        text
    }
}

fn config(database: &Database, pipeline: &Pipeline, postgres_proxy: &Proxy, technique: &str) -> String {
    let datasets = DATASETS.replace("[[dataset]]", &format!("[[dataset]]\ntechnique = \"{technique}\""));
    format!(
        "[database]\nurl = \"{}\"\n\n[queue]\nurl = \"{}\"\nwait_secs = 1\nvisibility_timeout_secs = {VISIBILITY_SECS}\n\n\
         [worker]\nbrake_secs = 2\n\n[http]\nlisten = \"\"\n{datasets}",
        database.url_through(postgres_proxy.address()),
        pipeline.queue_url,
    )
}

fn program(config: &PathBuf, pipeline: &Pipeline) -> Program {
    Program::new("importer")
        .arg("--config")
        .arg(config)
        .args(["--log-format", "json"])
        .envs(pipeline.account.variables())
}

/// Outages make warnings and errors; nothing makes a panic.
fn no_panic(worker: &Process) -> Result<()> {
    let log = worker.stderr();
    let panic = log.lines().find(|line| line.contains("panicked"));
    panic.map_or(Ok(()), |line| Err(anyhow::anyhow!("{line}"))).context("a worker panicked")
}
