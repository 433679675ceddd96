//! Measures what one dataset's trouble does to another's latency.

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use penstock_tests::{
    aws::{Account, Options, Pipeline, Route},
    database::Database,
    http,
    postgres::{self, Postgres},
    process::{Process, Program},
    proxy::{Action, Proxy, Rule, http_answer},
    scratch::Scratch,
    wait,
};
use sqlx::Connection as _;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Measures a healthy dataset's latency, from its message's sending to its rows' commit, alone and beside
/// a dataset in trouble, in turns, and prints p50, p95 and the ratio of the p95s.
#[derive(Debug, Parser)]
struct Arguments {
    /// Times each case is measured; the cases take turns, so that what else the machine does falls on all.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Objects of the healthy dataset a round and case.
    #[arg(long, default_value_t = 100)]
    objects: u32,
    /// Milliseconds between them, and between corrupt ones.
    #[arg(long, default_value_t = 200)]
    every_ms: u64,
    /// Measures beside this trouble only; may be given several times.
    #[arg(long, value_enum)]
    only: Vec<Case>,
}

/// How long a round's imports may take to end.
const LIMIT: Duration = Duration::from_secs(300);

/// What the other dataset suffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Case {
    Alone,
    Corrupt,
    Locked,
    Slow,
    Forbidden,
}

const CASES: [(Case, &str, u64); 5] = [
    (Case::Alone, "alone", 0),
    (Case::Corrupt, "beside as many corrupt objects", 0),
    (Case::Locked, "beside a locked table", 1000),
    (Case::Slow, "beside objects of 3 s each", 1000),
    (Case::Forbidden, "beside 1,500 messages of a forbidden bucket", 0),
];

/// Messages of the bucket to which S3 answers 403, all there before the healthy dataset's.
const N_FORBIDDEN: u32 = 1500;

const TABLES: &str = "CREATE TABLE healthy (id bigint PRIMARY KEY);
    CREATE TABLE locked (id bigint PRIMARY KEY);
    CREATE TABLE slow (id bigint PRIMARY KEY);
    CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(3); RETURN NEW; END $$;
    CREATE TRIGGER nap BEFORE INSERT ON slow FOR EACH ROW EXECUTE FUNCTION nap()";

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let settings = vec![("track_commit_timestamp".to_owned(), "on".to_owned())];
    let start = move || Postgres::start(postgres::Options { settings, ..postgres::Options::default() });
    let postgres = Arc::new(tokio::task::spawn_blocking(start).await??);
    let bench = Bench::new(&postgres).await?;
    let mut latencies = vec![Vec::new(); CASES.len()];
    for _ in 0..arguments.rounds {
        for (place, (case, _, other_every_ms)) in CASES.into_iter().enumerate() {
            if case != Case::Alone && !arguments.only.is_empty() && !arguments.only.contains(&case) {
                continue;
            }
            let other_every_ms = if case == Case::Corrupt { arguments.every_ms } else { other_every_ms };
            latencies[place].extend(bench.measure(&arguments, case, other_every_ms).await?);
        }
    }
    println!("| healthy dataset | objects | p50 | p95 | p95 / alone |");
    println!("|---|---|---|---|---|");
    let alone = percentile(&mut latencies[0], 0.95);
    for ((_, name, _), latencies) in CASES.iter().zip(&mut latencies).filter(|(_, measured)| !measured.is_empty()) {
        let (p50, p95) = (percentile(latencies, 0.5), percentile(latencies, 0.95));
        println!("| {name} | {} | {:.0} ms | {:.0} ms | {:.2} |", latencies.len(), p50, p95, p95 / alone);
    }
    Ok(())
}

/// A worker with two datasets, and the next id.
struct Bench {
    database: Database,
    pipeline: Pipeline,
    config: std::path::PathBuf,
    store: Proxy,
    _scratch: Scratch,
}

impl Bench {
    async fn new(postgres: &Arc<Postgres>) -> Result<Self> {
        let database = postgres.create_database().await?;
        database.execute(TABLES).await?;
        let options = Options { route: Route::Nowhere, ..Options::default() };
        let pipeline = Account::new().await?.pipeline(options).await?;
        let mut config = format!(
            "[database]\nurl = \"{}\"\n[queue]\nurl = \"{}\"\nwait_secs = 5\nvisibility_timeout_secs = 30\n[http]\nlisten = \"\"\n",
            database.url(),
            pipeline.queue_url
        );
        for name in ["healthy", "locked", "slow", "corrupt", "forbidden"] {
            let table = if matches!(name, "corrupt" | "forbidden") { "healthy" } else { name };
            config.push_str(&format!(
                "[[dataset]]\nname = \"{name}\"\nmatch = \"s3://*/{name}/**\"\ntable = \"public.{table}\"\nkey = [\"id\"]\n"
            ));
        }
        let scratch = Scratch::new("fairness")?;
        let config = scratch.write("importer.toml", config)?;
        let store = Proxy::start(http::authority(pipeline.account.emulator().endpoint())?).await?;
        let denied = Action::Answer(http_answer(403, "Forbidden"));
        store.add(Rule::when_client_sends(" /forbidden/", denied).always());
        Ok(Self { database, pipeline, config, store, _scratch: scratch })
    }

    /// Returns the latencies of one round, in milliseconds.
    async fn measure(&self, arguments: &Arguments, case: Case, other_every_ms: u64) -> Result<Vec<f64>> {
        self.database.execute("TRUNCATE healthy, locked, slow; DROP SCHEMA IF EXISTS penstock CASCADE; DROP TABLE IF EXISTS _sqlx_migrations").await?;
        self.pipeline.purge().await?;
        let mut other = self.database.connect().await?;
        let mut transaction = other.begin().await?;
        let other_name = match case {
            Case::Alone => "",
            Case::Corrupt => "corrupt",
            Case::Locked => {
                sqlx::query("LOCK TABLE locked IN SHARE MODE").execute(&mut *transaction).await?;
                "locked"
            }
            Case::Slow => "slow",
            Case::Forbidden => "forbidden",
        };
        let span = Duration::from_millis(arguments.every_ms) * arguments.objects;
        let n_other = (span.as_millis() as u64).checked_div(other_every_ms).unwrap_or(0);
        for id in 0..arguments.objects {
            self.pipeline.put(&format!("healthy/{id}"), format!("{{\"id\":{id}}}\n")).await?;
        }
        for id in 0..n_other {
            let body = if case == Case::Corrupt { "PAR1 and no more".to_owned() } else { format!("{{\"id\":{id}}}\n") };
            let extension = if case == Case::Corrupt { ".parquet" } else { "" };
            self.pipeline.put(&format!("{other_name}/{id}{extension}"), body).await?;
        }
        let worker = self.worker()?;
        worker.wait_for_line("worker started", LIMIT).await?;
        if case == Case::Forbidden {
            self.send_forbidden().await?;
        }
        let extension = if case == Case::Corrupt { ".parquet" } else { "" };
        let others = async {
            for id in 0..n_other {
                self.send(&format!("{other_name}/{id}{extension}")).await?;
                tokio::time::sleep(Duration::from_millis(other_every_ms)).await;
            }
            anyhow::Ok(())
        };
        let healthy = async {
            // The other one's trouble is known by then: what is measured is how it goes on.
            tokio::time::sleep(Duration::from_secs(2)).await;
            let mut sent = Vec::new();
            let begun = Instant::now();
            for id in 0..arguments.objects {
                let due = Duration::from_millis(arguments.every_ms) * id;
                tokio::time::sleep(due.saturating_sub(begun.elapsed())).await;
                sent.push(chrono::Utc::now());
                self.send(&format!("healthy/{id}")).await?;
            }
            anyhow::Ok(sent)
        };
        let (sent, ()) = tokio::try_join!(healthy, others)?;
        wait::until("the healthy dataset's imports", LIMIT, || async {
            let count = self.database.value("SELECT count(*) FROM healthy").await?;
            Ok((count == arguments.objects.to_string()).then_some(()))
        })
        .await?;
        let committed: Vec<chrono::DateTime<chrono::Utc>> =
            sqlx::query_scalar("SELECT pg_xact_commit_timestamp(xmin) FROM healthy ORDER BY id")
                .fetch_all(&mut self.database.connect().await?)
                .await?;
        transaction.rollback().await?;
        worker.signal("TERM")?;
        worker.wait_exit(LIMIT).await?;
        let latency = |(sent, committed): (&chrono::DateTime<chrono::Utc>, &chrono::DateTime<chrono::Utc>)| {
            (*committed - *sent).num_microseconds().map(|us| us as f64 / 1000.0).context("a latency beyond measure")
        };
        sent.iter().zip(&committed).map(latency).collect()
    }

    fn worker(&self) -> Result<Process> {
        let program = Program::new("importer").arg("run").arg("--config").arg(&self.config);
        let program = program.args(["--log-format", "json"]).envs(self.pipeline.account.variables());
        program.env("AWS_ENDPOINT_URL_S3", self.store.endpoint()).start()
    }

    /// Sends what the worker cannot read, and waits until it has seen all of it.
    async fn send_forbidden(&self) -> Result<()> {
        let body = |n| format!("{{\"bucket\":\"forbidden\",\"key\":\"forbidden/{}/{n}\"}}", n % 7);
        self.pipeline.send_all(&(0..N_FORBIDDEN).map(body).collect::<Vec<_>>()).await?;
        self.pipeline.wait_for_visible(0, LIMIT).await
    }

    async fn send(&self, key: &str) -> Result<()> {
        self.pipeline.send(format!("{{\"bucket\":\"{}\",\"key\":\"{key}\"}}", self.pipeline.bucket)).await.map(|_| ())
    }
}

fn percentile(sorted: &mut [f64], part: f64) -> f64 {
    sorted.sort_by(f64::total_cmp);
    let place = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(place.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}
