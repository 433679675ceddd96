//! The program: reads the command line and the configuration, then runs one command.

use crate::{
    cli::{Cli, Command},
    command,
    config::Config,
};
use clap::Parser;
use service::{
    logging,
    program::{self, EXIT_WRONG, block_on},
};
use std::{
    ffi::OsString,
    io::{self, Write},
    process::ExitCode,
};

/// Does what the command line says, which begins with the program's name.
#[must_use]
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let cli = Cli::parse_from(arguments);
    logging::start(cli.log_format);
    start(&cli).unwrap_or_else(|error| program::failed("scaler", &error))
}

fn start(cli: &Cli) -> anyhow::Result<ExitCode> {
    let config = || Config::load(&cli.config);
    match &cli.command {
        Command::Decide(args) => {
            let policy = config()?.pool(args.pool.as_deref())?.policy();
            let all_read = command::decide::run(&policy, args.stream, io::stdin().lock(), io::stdout().lock())?;
            return Ok(if all_read { ExitCode::SUCCESS } else { ExitCode::from(EXIT_WRONG) });
        }
        Command::Simulate(args) => {
            // Without a configuration the built-in workloads bring their own limits.
            let wanted = !args.bars && (args.pool.is_some() || cli.config.exists());
            let config = if wanted { Some(config()?) } else { None };
            let pool = config.as_ref().map(|config| config.pool(args.pool.as_deref())).transpose()?;
            let report = command::simulate::simulate(args, pool)?;
            print(&report.text);
            return Ok(if report.missed { ExitCode::FAILURE } else { ExitCode::SUCCESS });
        }
        Command::Run => block_on(command::run::run(config()?))?,
        Command::Once => print(&block_on(command::run::once(config()?))?),
        Command::History(args) => print(&block_on(command::history::history(config()?, args))?),
        Command::Pause(args) => print(&block_on(command::pause::pause(&config()?, args))?),
        Command::Resume(args) => print(&block_on(command::pause::resume(&config()?, args))?),
        Command::Completions(args) => print(&program::completions::<Cli>(args.shell)),
        Command::Man(args) => program::man_pages::<Cli>(&args.directory)?,
        Command::Check => {
            let config = config()?;
            let found = block_on(async { Ok(command::check::check(config).await) })?;
            print(&found.lines().map(|line| line + "\n").collect::<String>());
            return Ok(if found.is_wrong() { ExitCode::from(EXIT_WRONG) } else { ExitCode::SUCCESS });
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a result; a reader that went away is no failure.
fn print(text: &str) {
    drop(io::stdout().lock().write_all(text.as_bytes()));
}
