//! Measures the importer beside `psql \copy`, in one interleaved run on one machine.
//!
//! Figures are ratios to the C1 measured last: `psql \copy` of prepared binary files in file order, one stream.
//! Only ratios are worth comparing between machines.

mod data;
mod measure;
mod report;
mod runs;

use anyhow::Result;
use clap::Parser;
use data::Data;
use penstock_tests::{
    postgres::{Options, Postgres},
    scratch::Scratch,
    telemetry::Format,
};
use report::Report;
use runs::{Bench, Change, aims};
use std::{path::PathBuf, sync::Arc};

/// Measures the importer beside `psql \copy`; prints a Markdown table of medians.
#[derive(Debug, Parser)]
struct Arguments {
    /// A few minutes instead of many: a fifth of the rows, one round.
    #[arg(long)]
    quick: bool,
    /// Rounds; the medians are printed.
    #[arg(long)]
    rounds: Option<u32>,
    /// Rows of the large load, spread over four objects.
    #[arg(long)]
    rows: Option<u64>,
    /// Objects of 200 rows each.
    #[arg(long)]
    small: Option<u64>,
    /// Objects in the ledger that the console shows, and that small objects are loaded beside.
    #[arg(long)]
    ledger: Option<u64>,
    /// Rows that a table grows to.
    #[arg(long)]
    grown: Option<u64>,
    /// Only these formats.
    #[arg(long)]
    format: Vec<Format>,
    /// Only cases whose name contains one of these.
    #[arg(long)]
    only: Vec<String>,
    /// Also tools of the field, on the same files.
    #[arg(long)]
    peers: bool,
    /// The server's buffers; smaller ones stand for a table larger than memory.
    #[arg(long, default_value = "1GB")]
    shared_buffers: String,
    /// Where the figures go as JSON.
    #[arg(long, default_value = "bench.json")]
    json: PathBuf,
}

/// Rows of a small object.
const SMALL_ROWS: u64 = 200;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let rounds = arguments.rounds.unwrap_or(if arguments.quick { 1 } else { 3 });
    let n_rows = arguments.rows.unwrap_or(if arguments.quick { 400_000 } else { 2_000_000 });
    let n_small = arguments.small.unwrap_or(if arguments.quick { 500 } else { 8_000 });
    let n_ledger = arguments.ledger.unwrap_or(if arguments.quick { 1_000_000 } else { 10_000_000 });
    let n_grown = arguments.grown.unwrap_or(if arguments.quick { 2_000_000 } else { 50_000_000 });
    let formats = match arguments.format.as_slice() {
        [] => vec![Format::Parquet, Format::Ndjson, Format::Csv],
        some => some.to_vec(),
    };

    let settings = [
        ("shared_buffers", arguments.shared_buffers.as_str()),
        ("max_wal_size", "8GB"),
        ("checkpoint_timeout", "30min"),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let postgres = Arc::new(Postgres::start(Options { durable: true, settings, ..Options::default() })?);
    let scratch = Scratch::traversable("bench")?;
    eprintln!("writing {n_rows} rows in {} formats, and {n_small} small objects", formats.len());
    let data = Data::write(scratch.path(), n_rows, n_small * SMALL_ROWS, n_small, &formats)?;
    let bench = Bench::new(Arc::clone(&postgres), data, arguments.only).await?;

    let mut report = Report::default();
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        bench.far(&mut report, &formats).await?;
        for format in &formats {
            bench.baseline(&mut report, 1).await?;
            bench.versions(&mut report, *format, &[Change::Rows(0), Change::Rows(10), Change::Rows(100)]).await?;
        }
        bench.baseline(&mut report, 1).await?;
        bench.plain_updates(&mut report).await?;
        bench.baseline(&mut report, 2).await?;
        for format in &formats {
            for workers in [2, 4] {
                bench.first_load(&mut report, *format, workers).await?;
            }
        }
        if arguments.peers {
            for format in &formats {
                bench.peers(&mut report, *format).await?;
            }
        }
        bench.other_tables(&mut report, formats[0]).await?;
        bench.pipelines(&mut report, formats[0]).await?;
        bench.small(&mut report).await?;
        bench.baseline(&mut report, 1).await?;
        bench.through_the_queue(&mut report, formats[0]).await?;
    }
    println!("{}", report.markdown());
    println!("{}", aims(&report));
    if let Some(console) = bench.console(n_ledger, formats[0]).await? {
        println!("{console}");
    }
    if let Some(growth) = bench.growth(n_grown, n_ledger).await? {
        println!("{growth}");
    }
    println!("{}", bench.idle().await?);
    std::fs::write(&arguments.json, report.json())?;
    eprintln!("figures of every round: {}", arguments.json.display());
    Ok(())
}
