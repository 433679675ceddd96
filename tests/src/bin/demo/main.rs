//! The whole pipeline on this machine: producers put objects into a bucket, importers bring their rows into Postgres.
//!
//! A private Postgres and an emulated AWS; everything else is what runs in production.

mod console;
mod own_files;
mod pipeline;
mod plan;
mod pool;
mod report;
mod watch;

use anyhow::{Context as _, Result};
use clap::Parser;
use console::Console;
use penstock_tests::{
    aws::{Account, Emulator, Kind, Options, Pipeline},
    database::Database,
    postgres::{self, Postgres},
    scratch::Scratch,
};
use plan::Plan;
use pool::Pool;
use service::chart::{Line, Panel, svg};
use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use watch::Sample;

/// Runs Penstock on this machine and shows what it does.
#[derive(Debug, Parser)]
struct Arguments {
    /// A file or a directory of your own, instead of generated telemetry
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// The chain of steps in examples/pipeline, instead of one dataset
    #[arg(long, conflicts_with_all = ["data", "rows", "objects", "chart"])]
    pipeline: bool,
    /// Rows of generated telemetry
    #[arg(long, default_value_t = 600_000)]
    rows: u64,
    /// Objects to spread them over, in three formats
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    objects: u64,
    /// Leave everything up afterwards, until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// Where the chart goes
    #[arg(long, default_value = "demo.svg", value_name = "FILE")]
    chart: PathBuf,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    // Leaving early drops what was started, and each handle ends its server by process id.
    tokio::select! {
        ended = demo(&arguments) => ended,
        _ = tokio::signal::ctrl_c() => Ok(interrupted()),
        _ = terminate.recv() => Ok(interrupted()),
    }
}

fn interrupted() -> ExitCode {
    eprintln!("\nstopped; the servers are ended and their files removed");
    ExitCode::from(130)
}

/// Where everything runs.
struct Stage {
    scratch: Scratch,
    database: Database,
    pipeline: Pipeline,
}

async fn demo(arguments: &Arguments) -> Result<ExitCode> {
    report::step("starting a private Postgres and an emulated AWS");
    let stage = Stage::set().await?;
    println!("  postgres  {} (durable settings)", stage.database.postgres().host_and_port());
    println!("  aws       {}", stage.pipeline.account.emulator().endpoint());
    println!("  queue     {} ← SNS ← s3://{}", stage.pipeline.queue_url, stage.pipeline.bucket);
    let (is_fine, console, _pool) = if arguments.pipeline {
        let console = Console::start(&stage, false).await?;
        println!("  console   {}", console.url);
        (pipeline::demo(&stage).await?, console, None)
    } else {
        one_dataset(arguments, &stage).await?
    };
    if arguments.keep {
        report::step(&format!("everything is left up: {} until Ctrl-C", console.url));
        println!("  psql {}", stage.database.url());
        std::future::pending::<()>().await;
    }
    Ok(if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Loads one dataset; returns whether all of it was imported, and what may be left up.
async fn one_dataset(arguments: &Arguments, stage: &Stage) -> Result<(bool, Console, Option<Pool>)> {
    let plan = match &arguments.data {
        Some(path) => own_files::plan(path, stage).await?,
        None => Plan::telemetry(arguments.rows, arguments.objects),
    };
    stage.database.execute(&plan.create_table).await.context("create the table")?;
    let console = Console::start(stage, arguments.data.is_none()).await?;
    println!("  console   {}", console.url);
    let config = plan.importer_config(stage)?;
    report::step("the table and the dataset");
    report::indented(&plan.create_table);
    report::indented(&plan.dataset.replace("{bucket}", &stage.pipeline.bucket));

    let scaler_config = stage.scratch.write(
        "scaler.toml",
        pool::config(&stage.database.url(), &stage.pipeline.queue_url, &config, stage.scratch.path())?,
    )?;
    report::step("starting the scaler: the queue is empty, so there is no importer at all");
    let pool = Pool::start(&scaler_config, &stage.pipeline)?;
    println!("  One or two messages wake a sleeping pool at a second look only, here after 2 s; more of them at once");
    println!("  (docs/concepts/scaling.md#what-wakes-a-sleeping-pool).");

    report::step(&format!(
        "uploading {} objects to s3://{}; the pool goes 0 → N → 0, which takes about a minute and a half",
        plan.n_objects(),
        stage.pipeline.bucket
    ));
    let sent = AtomicU64::new(0);
    let upload = plan.upload(&stage.pipeline, &sent);
    let so_far = || sent.load(Ordering::Relaxed);
    let watch = watch::until_drained(stage, &pool, &so_far, plan.n_objects());
    let (uploaded_bytes, samples) = tokio::try_join!(upload, watch)?;
    let pool = if arguments.keep {
        Some(pool)
    } else {
        pool.stop().await?;
        None
    };

    report::decisions(stage).await?;
    let all_imported = report::summary(stage, &plan, uploaded_bytes, &samples).await?;
    std::fs::write(&arguments.chart, chart(&samples)).context("write the chart")?;
    println!("  chart         {}", arguments.chart.display());
    Ok((all_imported, console, pool))
}

/// Returns the chart of a run: messages above, workers below.
fn chart(samples: &[Sample]) -> String {
    let (sent, depth) = (|sample: &Sample| sample.sent as f64, |sample: &Sample| sample.depth as f64);
    let workers = |sample: &Sample| sample.workers as f64;
    let panels = [
        Panel {
            label: "messages",
            lines: vec![Line::new("sent", "#999999", &sent).dashed(), Line::new("in the queue", "#1f77b4", &depth)],
        },
        Panel { label: "workers", lines: vec![Line::new("running", "#2ca02c", &workers)] },
    ];
    svg("a queue, and as many workers as it is deep", samples, |sample| sample.at_secs, &panels, 170.0)
}

impl Stage {
    async fn set() -> Result<Self> {
        let options = postgres::Options {
            durable: true,
            settings: [("shared_buffers", "512MB"), ("max_wal_size", "8GB")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec(),
            ..postgres::Options::default()
        };
        let postgres = tokio::task::spawn_blocking(move || Postgres::start(options)).await??;
        let database = Arc::new(postgres).create_database().await?;
        let emulator = tokio::task::spawn_blocking(|| Emulator::start(Kind::Queues)).await??;
        let pipeline = Account::on(Arc::new(emulator)).pipeline(Options::default()).await?;
        Ok(Self { scratch: Scratch::new("demo")?, database, pipeline })
    }
}
