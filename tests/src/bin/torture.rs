//! `torture --seeds 20`, `torture --objects 10000 --seed 7`: the torture test by hand; prints a Markdown table.

use clap::Parser;
use penstock_tests::torture::{
    self,
    content::{ALL, PLAIN},
    report::Report,
};
use std::process::ExitCode;

/// Tortures the built importer and prints what it withstood.
#[derive(Debug, Parser)]
struct Arguments {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds, one after the other.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Objects put in each run.
    #[arg(long, default_value_t = 300)]
    objects: usize,
    /// What the `technique` of datasets that load rows as they are is set to: auto, staged or direct.
    #[arg(long, default_value = "auto")]
    technique: String,
    /// Without SQL on the way, programs, steps and waiting.
    #[arg(long)]
    plain: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { seed, seeds, objects, technique, plain } = Arguments::parse();
    let datasets = if plain { &PLAIN[..] } else { &ALL[..] };
    println!("{}", Report::header());
    let (mut reports, mut broken) = (Vec::new(), Vec::new());
    for seed in seed..seed.saturating_add(seeds) {
        match torture::run_with(seed, objects, datasets, &technique).await {
            Ok(report) => {
                println!("{}", report.line());
                reports.push(report);
            }
            Err(error) => {
                println!("| {seed} | FAILED |");
                eprintln!("{error:#}");
                broken.push(seed);
            }
        }
    }
    println!("\n{}", Report::sum(&reports));
    if !broken.is_empty() {
        eprintln!("seeds {broken:?} failed; torture --seed N --objects {objects} replays one");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
