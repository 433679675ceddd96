//! The console over a ledger of years, beside a running load: how long each page takes, and what ten open ones cost.

use super::{Bench, measure};
use anyhow::{Context as _, Result, ensure};
use penstock_tests::{
    database::Database,
    http,
    process::{Process, Program},
    scratch::Scratch,
    telemetry::Format,
};
use serde_json::Value;
use std::{
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::sleep,
};

/// Longest time for the console to start.
const LIMIT: Duration = Duration::from_secs(60);

/// Rounds in each of which every page is asked for once, and the time between them: what the console keeps for a few
/// seconds is old then.
const ROUNDS: usize = 40;
const PAUSE: Duration = Duration::from_secs(5);

/// Pages that are open at once, and how long.
const OPEN_PAGES: usize = 10;
const OPEN: Duration = Duration::from_secs(60);

/// What is aimed at: milliseconds of a page at the 95th percentile, and of the load's processor time.
const AIM_MS: f64 = 300.0;
const AIM_SHARE: f64 = 0.02;

/// A ledger as years of use leave it: a hundred rejects for a thousand objects, and a decision for a hundred.
const LEDGER: &str = include_str!("console.sql");

/// Every page, each time of another object, key and dataset.
fn pages(round: usize, n_objects: u64) -> Vec<(&'static str, String)> {
    let id = 1 + (round as u64 * 7_919_993) % n_objects;
    let dataset = round % 20;
    vec![
        ("now", "/".to_owned()),
        ("now, 30 days", "/?span=30d".to_owned()),
        ("an object", format!("/objects/{id}")),
        ("the last objects", "/objects".to_owned()),
        ("objects by key", format!("/objects?prefix=s3://landing/dataset_{dataset}/part-{}", id % 97)),
        ("objects that failed", format!("/objects?state=failed&dataset=dataset_{dataset}")),
        ("objects of an hour", format!("/objects?since={}h&until={}h", round + 2, round + 1)),
        ("objects in vain", "/objects?dataset=dataset_1&reason=none".to_owned()),
        ("a dataset", format!("/datasets/dataset_{dataset}")),
        ("a dataset, 30 days", format!("/datasets/dataset_{dataset}?span=30d")),
        ("rejects", "/rejects".to_owned()),
        ("rejects of a kind", format!("/rejects?dataset=dataset_{dataset}&class=type&column=amount")),
        ("a pool", "/pools/pool_1".to_owned()),
        ("a pool, 30 days", "/pools/pool_1?span=30d".to_owned()),
        ("due", "/due".to_owned()),
    ]
}

impl Bench {
    /// Measures every page, and ten open ones, beside loads that never end; returns the tables.
    ///
    /// # Errors
    /// When a program fails, or a page is not answered with 200.
    pub async fn console(&self, n_objects: u64, format: Format) -> Result<Option<String>> {
        if self.skips("console: ") {
            return Ok(None);
        }
        let database = self.fresh().await?;
        eprintln!("  writing a ledger of {n_objects} objects");
        database.execute(&LEDGER.replace(":n_objects", &n_objects.to_string())).await?;
        database.execute("VACUUM ANALYZE").await?;

        let loads = Loads::begin(self, &database, format)?;
        let scratch = Scratch::new("bench-console")?;
        scratch.write("console.toml", "[http]\nlisten = \"127.0.0.1:0\"\n")?;
        let program = Program::new("console").args(["run", "--log-format", "json"]).env("DATABASE_URL", database.url());
        let console = program.in_directory(scratch.path()).start()?;
        let line: Value = serde_json::from_str(&console.wait_for_line("serving health and metrics", LIMIT).await?)?;
        let address = line["listen"].as_str().context("an address")?.to_owned();

        let mut table = String::from("| page | p50, ms | p95, ms | slowest, ms |\n|---|--:|--:|--:|\n");
        let mut taken: Vec<(&'static str, Vec<f64>)> = Vec::new();
        for round in 0..ROUNDS {
            for (place, (name, path)) in pages(round, n_objects).into_iter().enumerate() {
                let begun = Instant::now();
                let answer = http::get(&format!("http://{address}{path}")).await?;
                ensure!(
                    answer.status == 200 && !answer.body.contains("class=\"trouble\""),
                    "{path}: {} {}",
                    answer.status,
                    answer.body
                );
                let ms = begun.elapsed().as_secs_f64() * 1000.0;
                match taken.get_mut(place) {
                    Some((_, times)) => times.push(ms),
                    None => taken.push((name, vec![ms])),
                }
            }
            sleep(PAUSE).await;
        }
        for (name, times) in &mut taken {
            times.sort_by(f64::total_cmp);
            let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
            table += &format!("| {name} | {:.0} | {:.0} | {:.0} |\n", at(0.5), at(0.95), at(1.0));
        }
        let slowest = taken.iter().map(|(_, times)| times[((times.len() - 1) as f64 * 0.95).round() as usize]);
        let slowest = slowest.fold(0.0, f64::max);

        let cost = self.open_pages(&database, &console, &address, &loads).await?;
        loads.end()?;
        table += &format!(
            "\n| | aim | found |\n|---|---|---|\n\
             | p95 of the slowest page, {n_objects} objects in the ledger | {AIM_MS:.0} ms | {slowest:.0} ms |\n\
             | {OPEN_PAGES} open pages: processor time of the console and its backends, of that of the load | {:.0} % | {:.1} % |\n\
             | resident memory of the console | 40 MiB | {:.0} MiB |\n",
            AIM_SHARE * 100.0,
            cost.share * 100.0,
            cost.resident_mib,
        );
        Ok(Some(table))
    }

    /// Opens pages and keeps them open for a while.
    async fn open_pages(&self, database: &Database, console: &Process, address: &str, loads: &Loads) -> Result<Open> {
        let open: Vec<_> = (0..OPEN_PAGES).map(|_| tokio::spawn(look(address.to_owned()))).collect();
        // Their first answers are not what being open costs.
        sleep(PAUSE).await;
        let postmaster = self.postgres.pid().context("the server is not ours")?;
        let used = async || -> Result<(f64, f64)> {
            let backends =
                "SELECT string_agg(pid::text, ' ') FROM pg_stat_activity WHERE application_name = 'penstock console'";
            let pids = database.value(backends).await?;
            let pids = pids.split_whitespace().filter_map(|pid| pid.parse().ok());
            let of_backends: f64 = pids.filter_map(measure::process_now).map(|(secs, _)| secs).sum();
            let (of_console, _) = measure::process_now(console.pid()).context("the console runs")?;
            Ok((of_backends + of_console, measure::server_cpu_secs(postmaster) - of_backends))
        };
        let ((before, server_before), client_before) = (used().await?, loads.cpu_secs());
        sleep(OPEN).await;
        let ((after, server_after), client_after) = (used().await?, loads.cpu_secs());
        let (_, kib) = measure::process_now(console.pid()).context("the console runs")?;
        for page in open {
            page.abort();
        }
        let load = (server_after - server_before) + (client_after - client_before);
        Ok(Open { share: (after - before) / load, resident_mib: kib as f64 / 1024.0 })
    }
}

/// What open pages cost.
struct Open {
    /// The processor time of the console and its backends, as a share of that of the load.
    share: f64,
    resident_mib: f64,
}

/// Keeps the first page open, as its script does.
async fn look(address: String) -> Result<()> {
    let mut stream = TcpStream::connect(&address).await?;
    stream.write_all(format!("GET /now/stream HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
    let mut buffer = vec![0; 1 << 16];
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}

/// Loads one after another, until it is told to end: two versions in turn, all of whose rows differ.
struct Loads {
    ends: Arc<AtomicBool>,
    current: Arc<AtomicU32>,
    thread: JoinHandle<Result<()>>,
}

impl Loads {
    fn begin(bench: &Bench, database: &Database, format: Format) -> Result<Self> {
        let config = bench.config(database, "upsert", 1)?;
        let places: Vec<PathBuf> =
            ["v1", "v2-100"].iter().map(|version| bench.data.put(format, version)).collect::<Result<_>>()?;
        let mut commands = Vec::new();
        for place in places {
            let mut command = bench.load(&config, &place)?;
            command.arg("--force").stdout(Stdio::null());
            commands.push(command);
        }
        let (ends, current) = (Arc::<AtomicBool>::default(), Arc::<AtomicU32>::default());
        let (told, pid) = (Arc::clone(&ends), Arc::clone(&current));
        let thread = thread::spawn(move || {
            for turn in 0.. {
                if told.load(Ordering::Relaxed) {
                    break;
                }
                let mut child = commands[turn % 2].spawn()?;
                pid.store(child.id(), Ordering::Relaxed);
                let status = child.wait()?;
                ensure!(status.success(), "a load ended with {status}");
            }
            Ok(())
        });
        Ok(Self { ends, current, thread })
    }

    /// Returns the processor time of all of them so far, in seconds.
    fn cpu_secs(&self) -> f64 {
        let current = measure::process_now(self.current.load(Ordering::Relaxed)).map_or(0.0, |(secs, _)| secs);
        measure::ended_children_cpu_secs() + current
    }

    fn end(self) -> Result<()> {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the loads panicked"))?
    }
}
