//! Writes generated email-authentication telemetry to files: the load of the demo and the benchmarks.

use anyhow::{Context as _, Result};
use clap::Parser;
use penstock_tests::telemetry::{self, Format, Load};
use std::{fs, io::BufWriter, path::PathBuf};

/// Writes generated email-authentication telemetry; the same arguments write the same bytes.
#[derive(Debug, Parser)]
struct Arguments {
    /// Directory for the files part-00000.…, made if it is not there.
    directory: PathBuf,
    /// Rows in all.
    #[arg(long, default_value_t = 100_000)]
    rows: u64,
    /// Files to spread them over.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    objects: u64,
    /// Of the files.
    #[arg(long, default_value_t = Format::Ndjson)]
    format: Format,
    /// Another seed gives other rows.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A later version, in which so many of a hundred rows have changed.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=100))]
    changed: u64,
    /// Prints the table's CREATE TABLE first.
    #[arg(long)]
    table: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if arguments.table {
        println!("{};", telemetry::TABLE);
    }
    let load = Load::new(arguments.seed, arguments.rows).changed(arguments.changed);
    fs::create_dir_all(&arguments.directory)?;
    for index in 0..arguments.objects {
        let path = arguments.directory.join(format!("part-{index:05}.{}", arguments.format.extension()));
        let file = BufWriter::new(fs::File::create(&path).with_context(|| format!("create {}", path.display()))?);
        telemetry::write(arguments.format, load.events(load.object(index, arguments.objects)), file)?;
        println!("{}", path.display());
    }
    Ok(())
}
