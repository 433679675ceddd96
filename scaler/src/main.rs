//! The `scaler` program: reads the command line and the configuration, then runs one command.

use anyhow::Context;
use clap::Parser;
use scaler::{
    cli::{Cli, Command},
    command::{self, Failure},
    config::Config,
};
use service::terminal;
use std::{
    future::Future,
    io::{self, Write},
    process::ExitCode,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    scaler::logging::start(cli.log_format);
    start(&cli).unwrap_or_else(|failure| {
        eprintln!("scaler: {}", terminal::lines(&command::chain(&failure)));
        ExitCode::from(failure.exit_code())
    })
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
            let wanted = !args.bars && (args.pool.is_some() || cli.config.exists());
            let config = if wanted { Some(Config::load(&cli.config)?) } else { None };
            let pool = config.as_ref().map(|config| config.pool(args.pool.as_deref())).transpose()?;
            let report = command::simulate::simulate(args, pool)?;
            print(&report.text);
            Ok(if report.missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        }
        Command::Run => {
            block_on(command::run::run(Config::load(&cli.config)?))??;
            Ok(ExitCode::SUCCESS)
        }
        Command::Once => {
            print(&block_on(command::run::once(Config::load(&cli.config)?))??);
            Ok(ExitCode::SUCCESS)
        }
        Command::History(args) => {
            print(&block_on(command::history::history(Config::load(&cli.config)?, args))??);
            Ok(ExitCode::SUCCESS)
        }
        Command::Completions(args) => {
            print(&command::manual::completions(args.shell));
            Ok(ExitCode::SUCCESS)
        }
        Command::Man(args) => {
            command::manual::man_pages(&args.directory)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Check => {
            let findings = block_on(command::check::check(Config::load(&cli.config)?))?;
            print(&findings.text);
            Ok(if findings.is_wrong { ExitCode::from(2) } else { ExitCode::SUCCESS })
        }
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Runtime::new().context("start the runtime")?;
    let done = runtime.block_on(work);
    // A thread that waits for a name, or for a disk, must not keep the process.
    runtime.shutdown_background();
    Ok(done)
}

/// Prints a result; a reader that went away is no failure.
fn print(text: &str) {
    drop(io::stdout().lock().write_all(text.as_bytes()));
}
