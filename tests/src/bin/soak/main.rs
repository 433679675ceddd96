//! `soak --hours 1.5`: importers at a steady rate for a long time with every fault of the torture test on,
//! after a ledger of 100,000 entries was there already. Prints what grew, and writes a chart.
//!
//! Worker 0 is never killed: what a process that runs for weeks would gather shows in it.

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use fastrand::Rng;
use penstock_tests::{
    aws::Depth,
    torture::{
        content::{Content, Format, Frame, PLAIN},
        faults::{Fault, Injected, KINDS},
        model,
        stand::Stand,
    },
    wait,
};
use service::chart::{Line, Panel, svg};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::time::{interval, sleep};

/// Soaks the built importer.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long objects are put.
    #[arg(long, default_value_t = 1.5)]
    hours: f64,
    /// Objects put in a second.
    #[arg(long, default_value_t = 3.0)]
    rate: f64,
    /// Seconds between two faults.
    #[arg(long, default_value_t = 15.0)]
    fault_secs: f64,
    /// Entries the ledger has before the first object.
    #[arg(long, default_value_t = 100_000)]
    ledger: u64,
    /// What objects and faults are drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the chart is written.
    #[arg(long, default_value = "target/soak.svg")]
    chart: PathBuf,
}

/// Time between two looks.
const LOOK: Duration = Duration::from_secs(15);
/// How long the last objects may take once no fault happens any more.
const CALM_LIMIT: Duration = Duration::from_secs(300);

/// What was seen at one look.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at_secs: f64,
    /// Of the worker that is never killed.
    resident_mib: f64,
    descriptors: f64,
    /// Postgres sessions of all workers.
    sessions: f64,
    /// Temporary tables of all sessions.
    staging_tables: f64,
    /// Of the imports since the look before, in milliseconds.
    p95_ms: f64,
    /// Messages in the queue, in flight included.
    depth: f64,
}

/// A figure's name and how to read it.
type Figure = (&'static str, fn(&Sample) -> f64);

static FIGURES: [Figure; 6] = [
    ("resident memory, MiB", |s| s.resident_mib),
    ("descriptors", |s| s.descriptors),
    ("Postgres sessions", |s| s.sessions),
    ("staging tables", |s| s.staging_tables),
    ("p95 of an import, ms", |s| s.p95_ms),
    ("messages in the queue", |s| s.depth),
];

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let stand = Stand::start(true, &PLAIN, "auto").await?;
    fill_ledger(&stand, arguments.ledger).await?;
    let end = Instant::now() + Duration::from_secs_f64(arguments.hours * 3600.0);
    let faults = Arc::new(Mutex::new([0; KINDS.len()]));
    let samples = Arc::new(Mutex::new(Vec::new()));
    let injecting =
        tokio::spawn(inject(Arc::clone(&stand), arguments.seed, arguments.fault_secs, end, Arc::clone(&faults)));
    let looking = tokio::spawn(look(Arc::clone(&stand), end, Arc::clone(&samples)));
    let expected = feed(&stand, &arguments, end).await?;
    injecting.await??;
    looking.await??;
    wait::until("the queue to be empty", CALM_LIMIT, || async {
        sleep(Duration::from_millis(500)).await;
        Ok((stand.pipeline.depth().await? == Depth::default()).then_some(()))
    })
    .await
    .context(stand.last_words().await)?;
    stand.stop_workers().await?;

    let samples = samples.lock().expect("no panic").clone();
    std::fs::write(&arguments.chart, chart(&samples))
        .with_context(|| format!("write {}", arguments.chart.display()))?;
    print_report(&arguments, &samples, &faults.lock().expect("no panic")[..], &expected);
    judge(&stand, &expected).await
}

/// Returns a chart with a panel a figure.
fn chart(samples: &[Sample]) -> String {
    let panel = |(label, value): &'static Figure| Panel { label, lines: vec![Line::new("", "#1f77b4", value)] };
    let panels: Vec<_> = FIGURES.iter().map(panel).collect();
    svg("a worker that is never killed", samples, |sample| sample.at_secs, &panels, 90.0)
}

/// Puts entries into the ledger as months of use leave them.
async fn fill_ledger(stand: &Stand, n: u64) -> Result<()> {
    let statements = format!(
        "INSERT INTO penstock.head (dataset, bucket, key)
         SELECT 'own', 'earlier', 'own/part-' || i || '.ndjson' FROM generate_series(1, {n}) i;
         INSERT INTO penstock.object (head_id, etag, size, state, attempts, rows_read, rows_written, rows_merged, rows_filtered,
             rows_rejected, first_seen_at, imported_at, finished_at, duration_seconds)
         SELECT id, md5(key), 1000, 'imported', 1, 10, 10, 0, 0, 0, now() - interval '9 days', now() - interval '9 days',
             now() - interval '9 days', 0.1 FROM penstock.head WHERE bucket = 'earlier';
         UPDATE penstock.head h SET object_id = o.id FROM penstock.object o WHERE o.head_id = h.id AND h.bucket = 'earlier';"
    );
    stand.database.execute(&statements).await.context("fill the ledger")?;
    stand.database.execute("ANALYZE").await
}

/// Puts objects and sends pointers to them; returns the good rows of each dataset.
async fn feed(stand: &Stand, arguments: &Arguments, end: Instant) -> Result<BTreeMap<&'static str, u64>> {
    let mut rng = Rng::with_seed(arguments.seed);
    let mut ticks = interval(Duration::from_secs_f64(1.0 / arguments.rate));
    let mut expected = BTreeMap::new();
    for number in 0usize.. {
        ticks.tick().await;
        if Instant::now() >= end {
            break;
        }
        let dataset = PLAIN[rng.usize(..PLAIN.len())];
        let format = Format::draw(&mut rng);
        let n_rows = if rng.u32(..50) == 0 { rng.usize(1000..3000) } else { rng.usize(5..60) };
        let first = i64::try_from(number * 10_000).context("too many objects")?;
        let ids: Vec<i64> = (first..).take(n_rows).collect();
        let frame = Frame { dataset, put: number, ids: &ids, sites: &[], format, spoiled: None };
        let content = Content::draw(&mut rng, frame);
        let good = if dataset.is_keyed() {
            model::by_id(dataset, &content).len()
        } else {
            model::rows(dataset, &content, &model::Sites::new()).len()
        };
        *expected.entry(dataset.name()).or_insert(0) += good as u64;
        let key = format!("{}/{number:07}.{}", dataset.name(), format.extension());
        stand.pipeline.put(&key, content.bytes()?).await?;
        let body = format!(r#"{{"bucket":"{}","key":"{key}"}}"#, stand.pipeline.bucket);
        // Sometimes twice, as SQS delivers.
        let copies = 1 + usize::from(rng.u32(..10) == 0);
        stand.pipeline.send_all(&vec![body; copies]).await?;
    }
    Ok(expected)
}

/// Lets a fault happen now and then, whichever kind.
async fn inject(
    stand: Arc<Stand>,
    seed: u64,
    every_secs: f64,
    end: Instant,
    counts: Arc<Mutex<[usize; KINDS.len()]>>,
) -> Result<()> {
    let mut rng = Rng::with_seed(seed ^ 0xfa17);
    let mut ticks = interval(Duration::from_secs_f64(every_secs));
    loop {
        ticks.tick().await;
        if Instant::now() + Duration::from_secs(60) >= end {
            return Ok(());
        }
        // All but the last, for which nothing follows a commit.
        let kind = rng.usize(..KINDS.len() - 1);
        let fault = match Fault::draw(&mut rng, kind) {
            Fault::Kill(number, pause) => Fault::Kill(1 + number % 2, pause),
            fault => fault,
        };
        let injected = fault.happen(&stand).await?;
        if let Injected::InWait(trigger) | Injected::Silent(trigger) = &injected {
            let _ = trigger.fired(1, Duration::from_secs(20)).await;
        }
        counts.lock().expect("no panic")[kind] += injected.finish();
    }
}

async fn look(stand: Arc<Stand>, end: Instant, samples: Arc<Mutex<Vec<Sample>>>) -> Result<()> {
    let begun = Instant::now();
    let mut ticks = interval(LOOK);
    let pid = stand.worker_pid(0).await;
    loop {
        ticks.tick().await;
        if Instant::now() >= end {
            return Ok(());
        }
        // Postgres may be down for the sake of a fault; then there is no sample.
        let Ok(seen) = look_once(&stand, pid, begun).await else { continue };
        println!("{seen:?}");
        samples.lock().expect("no panic").push(seen);
    }
}

async fn look_once(stand: &Stand, pid: u32, begun: Instant) -> Result<Sample> {
    let query = format!(
        "SELECT (SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'penstock importer%')::text
             || ' ' || (SELECT count(*) FROM pg_class WHERE relname LIKE 'penstock_staging%' AND relkind = 'r')
             || ' ' || coalesce((SELECT percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_seconds) * 1000
                 FROM penstock.object WHERE imported_at > now() - interval '{} seconds'), 0)",
        LOOK.as_secs()
    );
    let text = stand.database.value(&query).await?;
    let numbers: Vec<f64> = text.split(' ').filter_map(|number| number.parse().ok()).collect();
    ensure!(numbers.len() == 3, "three numbers expected: {text}");
    let depth = stand.pipeline.depth().await?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("worker 0 is gone")?;
    let resident_kib: f64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok())
        .context("its resident memory is not told")?;
    Ok(Sample {
        at_secs: begun.elapsed().as_secs_f64(),
        resident_mib: resident_kib / 1024.0,
        descriptors: std::fs::read_dir(format!("/proc/{pid}/fd"))?.count() as f64,
        sessions: numbers[0],
        staging_tables: numbers[1],
        p95_ms: numbers[2],
        depth: (depth.visible + depth.in_flight) as f64,
    })
}

fn print_report(arguments: &Arguments, samples: &[Sample], faults: &[usize], expected: &BTreeMap<&str, u64>) {
    println!(
        "\n{} hours at {} objects a second, a fault every {} s, {} ledger entries before; {} good rows.\n",
        arguments.hours,
        arguments.rate,
        arguments.fault_secs,
        arguments.ledger,
        expected.values().sum::<u64>()
    );
    println!("| median of | first third | second | last |\n|---|--:|--:|--:|");
    for (name, value) in FIGURES {
        let third = samples.len() / 3;
        let median = |from: usize| {
            let mut values: Vec<f64> = samples.iter().skip(from).take(third.max(1)).map(value).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or(0.0)
        };
        println!("| {name} | {:.0} | {:.0} | {:.0} |", median(0), median(third), median(2 * third));
    }
    println!("\n| fault | times |\n|---|--:|");
    for (kind, count) in KINDS.iter().zip(faults) {
        println!("| {kind} | {count} |");
    }
}

/// Every good row stands once, and nothing is left in work or in the dead-letter queue.
async fn judge(stand: &Stand, expected: &BTreeMap<&str, u64>) -> Result<()> {
    for (table, n) in expected {
        let counted = stand.database.value(&format!("SELECT count(*)::text FROM {table}")).await?;
        ensure!(counted == n.to_string(), "{table} has {counted} rows, not {n}");
    }
    let query = "SELECT count(*)::text FROM penstock.object WHERE state <> 'imported'";
    let unsettled = stand.database.value(query).await?;
    ensure!(unsettled == "0", "{unsettled} ledger entries are not imported");
    let dead = stand.pipeline.take_dead_letters().await?;
    ensure!(dead.is_empty(), "{} dead letters", dead.len());
    println!("\nEvery good row stands once; no dead letter; nothing is left in work.");
    Ok(())
}
