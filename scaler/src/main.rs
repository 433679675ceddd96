//! The `scaler` program.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use scaler::cli::{Cli, Command};
use scaler::command::{self, Failure};
use scaler::config::Config;

fn main() -> ExitCode {
    let cli = Cli::parse();
    scaler::logging::start(cli.log_format);
    match start(&cli) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("scaler: {}", command::chain(&failure));
            ExitCode::from(failure.exit_code())
        }
    }
}

fn start(cli: &Cli) -> Result<ExitCode, Failure> {
    match &cli.command {
        Command::Decide(args) => {
            let config = Config::load(&cli.config)?;
            let policy = config.pool(args.pool.as_deref())?.policy();
            let all_read = command::decide::run(&policy, args.stream, io::stdin().lock(), io::stdout().lock())?;
            Ok(if all_read { ExitCode::SUCCESS } else { ExitCode::from(2) })
        }
        Command::Simulate(args) => {
            // Without a configuration the built-in workloads bring their own limits.
            let config =
                if cli.config.exists() || args.pool.is_some() { Some(Config::load(&cli.config)?) } else { None };
            let pool = config.as_ref().map(|config| config.pool(args.pool.as_deref())).transpose()?;
            let report = command::simulate::simulate(args, pool)?;
            print(&report.text);
            Ok(if report.missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        }
        _ => Err(Failure::Argument("not yet".to_owned())),
    }
}

/// Prints a result; a reader that went away is no failure.
fn print(text: &str) {
    drop(io::stdout().lock().write_all(text.as_bytes()));
}
