//! Where a run takes place: a Postgres of its own, a bucket and queues, proxies before all of them,
//! and the workers.

use super::{content::Dataset, faults::VISIBILITY_SECS};
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
use std::{iter, path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::Mutex;

/// Workers of the first queue at any time, but for the pauses after a kill.
const N_WORKERS: usize = 3;
/// The same of the queue of [`Dataset::Fan`].
const N_STEP_WORKERS: usize = 2;

/// How long a worker may take to end when told to.
const STOP_LIMIT: Duration = Duration::from_secs(120);

const TABLES: &str = include_str!("stand/tables.sql");
const PLAIN_DATASETS: &str = include_str!("stand/plain.toml");
const STEPS: &str = include_str!("stand/steps.toml");
const PROGRAM_OF_CARD: &str = include_str!("stand/card.py");

/// See the module.
#[derive(Debug)]
pub struct Stand {
    /// The tables and the ledger.
    pub database: Database,
    /// Bucket and the first queue.
    pub pipeline: Pipeline,
    /// The other queues, where there are [`Dataset::Post`] and what comes with it.
    pub more: Option<More>,
    /// Between workers and Postgres.
    pub postgres_proxy: Proxy,
    /// Between workers and S3.
    pub s3_proxy: Proxy,
    /// Between workers and SQS.
    pub sqs_proxy: Proxy,
    workers: Vec<Worker>,
    restarting: Mutex<()>,
    _scratch: Scratch,
}

/// Queues beside the first one.
#[derive(Debug)]
pub struct More {
    /// That of [`Dataset::Fan`].
    pub steps: Pipeline,
    /// Where notices go.
    pub notices: Pipeline,
}

/// A worker, and how another one is started in its place.
#[derive(Debug)]
struct Worker {
    program: Program,
    process: Mutex<Arc<Process>>,
}

impl Worker {
    fn start(program: Program) -> Result<Self> {
        let process = Mutex::new(Arc::new(program.clone().start()?));
        Ok(Self { program, process })
    }
}

impl Stand {
    /// Sets everything up and starts the workers.
    ///
    /// # Errors
    /// When a part does not start.
    pub async fn start(versioned: bool, datasets: &[Dataset], technique: &str) -> Result<Arc<Self>> {
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
        let pipeline = Account::new().await?.pipeline(options.clone()).await?;
        let more = if datasets.contains(&Dataset::Post) {
            let steps = pipeline.another_queue("steps", &options).await?;
            Some(More { steps, notices: pipeline.another_queue("notices", &options).await? })
        } else {
            None
        };
        let emulator = http::authority(pipeline.account.emulator().endpoint())?.to_owned();
        let postgres_proxy = Proxy::start(database.postgres().host_and_port()).await?;
        let (s3_proxy, sqs_proxy) = (Proxy::start(&emulator).await?, Proxy::start(&emulator).await?);
        let scratch = Scratch::new("torture")?;
        let mut config = config(&database, &pipeline, &postgres_proxy, technique);
        if let Some(more) = &more {
            let card = scratch.write("card.py", PROGRAM_OF_CARD)?;
            config += &queue("steps", &more.steps);
            config += &STEPS.replace("{card}", &card.to_string_lossy()).replace("{notices}", &more.notices.queue_url);
        }
        let config = scratch.write("importer.toml", config)?;
        let program = program(&config, &pipeline)
            .env("AWS_ENDPOINT_URL_S3", s3_proxy.endpoint())
            .env("AWS_ENDPOINT_URL_SQS", sqs_proxy.endpoint());
        let migrated = program.clone().arg("migrate").run(STOP_LIMIT).await?;
        ensure!(migrated.status.success(), "migrate: {}", migrated.stderr);
        let program = program.arg("run");
        let of_steps = program.clone().args(["--queue", "steps"]);
        let n_of_steps = if more.is_some() { N_STEP_WORKERS } else { 0 };
        let programs = iter::repeat_n(program, N_WORKERS).chain(iter::repeat_n(of_steps, n_of_steps));
        let workers = programs.map(Worker::start).collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(Self {
            database,
            pipeline,
            more,
            postgres_proxy,
            s3_proxy,
            sqs_proxy,
            workers,
            restarting: Mutex::default(),
            _scratch: scratch,
        }))
    }

    /// Returns how many messages the queues of the workers hold, those in flight included.
    ///
    /// # Errors
    /// When the emulator refuses.
    pub async fn n_waiting(&self) -> Result<u64> {
        let mut n_waiting = 0;
        for queue in [&self.pipeline].into_iter().chain(self.more.as_ref().map(|more| &more.steps)) {
            let depth = queue.depth().await?;
            n_waiting += depth.visible + depth.in_flight + depth.delayed;
        }
        Ok(n_waiting)
    }

    /// Returns the process id of a worker as it is now.
    pub async fn worker_pid(&self, number: usize) -> u32 {
        self.workers[number % self.workers.len()].process.lock().await.pid()
    }

    /// Kills a worker and, after a pause, starts another in its place.
    pub(super) async fn replace_worker(&self, number: usize, pause: Duration) -> Result<()> {
        let Worker { program, process } = &self.workers[number % self.workers.len()];
        let mut process = process.lock().await;
        no_panic(&process)?;
        process.kill()?;
        tokio::time::sleep(pause).await;
        *process = Arc::new(program.clone().start()?);
        Ok(())
    }

    /// Stops a worker for so long; false when it was killed before it could be.
    pub(super) async fn freeze_worker(&self, number: usize, pause: Duration) -> Result<bool> {
        let worker = Arc::clone(&*self.workers[number % self.workers.len()].process.lock().await);
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
            let worker = worker.process.lock().await;
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
            let worker = worker.process.lock().await;
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
    format!(
        "[database]\nurl = \"{}\"\n\n[worker]\nbrake_secs = 2\n\n[http]\nlisten = \"\"\n\n{}{}",
        database.url_through(postgres_proxy.address()),
        queue("first", pipeline),
        PLAIN_DATASETS.replace("{technique}", technique),
    )
}

fn queue(name: &str, pipeline: &Pipeline) -> String {
    let url = &pipeline.queue_url;
    format!(
        "\n[[queue]]\nname = \"{name}\"\nurl = \"{url}\"\nwait_secs = 1\nvisibility_timeout_secs = {VISIBILITY_SECS}\n\n"
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
