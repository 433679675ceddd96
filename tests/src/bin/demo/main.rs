//! The whole pipeline on this machine: producers put objects into a bucket, importers bring their rows into Postgres.
//!
//! A private Postgres and an emulated AWS; everything else is what runs in production.

mod own_files;
mod plan;
mod pool;
mod report;
mod watch;

use anyhow::{Context as _, Result};
use clap::Parser;
use penstock_tests::{
    aws::{Account, Emulator, Kind, Options, Pipeline},
    database::Database,
    postgres::{self, Postgres},
    scratch::Scratch,
};
use plan::Plan;
use std::{path::PathBuf, process::ExitCode, sync::Arc};

/// Runs Penstock on this machine and shows what it does.
#[derive(Debug, Parser)]
struct Arguments {
    /// A file or a directory of your own, instead of generated telemetry
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Rows of generated telemetry
    #[arg(long, default_value_t = 1_200_000)]
    rows: u64,
    /// Objects to spread them over, in three formats
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    objects: u64,
    /// Importers at once
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    importers: u32,
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

    let plan = match &arguments.data {
        Some(path) => own_files::plan(path, &stage).await?,
        None => Plan::telemetry(arguments.rows, arguments.objects),
    };
    stage.database.execute(&plan.create_table).await.context("create the table")?;
    let config = plan.importer_config(&stage)?;
    report::step("the table and the dataset");
    report::indented(&plan.create_table);
    report::indented(&plan.dataset.replace("{bucket}", &stage.pipeline.bucket));

    report::step(&format!("uploading {} objects to s3://{}", plan.n_objects(), stage.pipeline.bucket));
    let uploaded_bytes = plan.upload(&stage.pipeline).await?;
    println!("  {}", report::mebibytes(uploaded_bytes));

    report::step(&format!("importing with {} importers", arguments.importers));
    let drained = {
        let pool = pool::drain(arguments.importers, &config, &stage.pipeline);
        let watch = watch::print_progress(&stage, plan.n_objects());
        tokio::select! { drained = pool => drained, failed = watch => failed.and(Ok(())) }
    };
    drained?;

    let all_imported = report::summary(&stage, &plan).await?;
    Ok(if all_imported { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Stage {
    async fn set() -> Result<Self> {
        let options = postgres::Options {
            durable: true,
            settings: [("shared_buffers", "512MB"), ("max_wal_size", "8GB")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec(),
        };
        let postgres = tokio::task::spawn_blocking(move || Postgres::start(options)).await??;
        let database = Arc::new(postgres).create_database().await?;
        let emulator = tokio::task::spawn_blocking(|| Emulator::start(Kind::Queues)).await??;
        let pipeline = Account::on(Arc::new(emulator)).pipeline(Options::default()).await?;
        Ok(Self { scratch: Scratch::new("demo")?, database, pipeline })
    }
}
