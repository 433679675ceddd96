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
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

/// Does what the command line says, which begins with the program's name.
#[must_use]
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let cli = Cli::parse_from(arguments);
    logging::start(cli.log_format);
    start(&cli).unwrap_or_else(|error| program::failed("console", &error))
}

fn start(cli: &Cli) -> anyhow::Result<ExitCode> {
    match &cli.command {
        Command::Run => block_on(command::run(Config::load(&cli.config)?))?,
        Command::Check => {
            let findings = block_on(async { Ok(command::check::check(&Config::load(&cli.config)?).await) })?;
            print(&findings.lines().map(|line| line + "\n").collect::<String>());
            return Ok(if findings.is_wrong() { ExitCode::from(EXIT_WRONG) } else { ExitCode::SUCCESS });
        }
        Command::Password(args) => {
            if io::stdin().is_terminal() {
                eprint!("password for {}, seen as it is typed: ", args.name);
            }
            print(&command::password::line(&args.name, io::stdin().lock())?);
        }
        Command::Completions(args) => print(&program::completions::<Cli>(args.shell)),
        Command::Man(args) => program::man_pages::<Cli>(&args.directory)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a result; a reader that went away is no failure.
fn print(text: &str) {
    drop(io::stdout().lock().write_all(text.as_bytes()));
}
