//! The program: reads the command line and the configuration, then runs one command.

use crate::{
    cli::{Cli, Command},
    commands, load, memory,
};
use clap::Parser;
use service::{logging, program};
use std::{
    ffi::OsString,
    io::{self, Write},
    process::ExitCode,
};

/// Does what the command line says, which begins with the program's name.
#[must_use]
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let cli = Cli::parse_from(arguments);
    if matches!(cli.command, Command::Run(_) | Command::Load(_)) {
        memory::give_large_blocks_back();
    }
    logging::start(cli.global.log_format);
    let ended = program::block_on(command(cli));
    // Threads that look after them are not waited for.
    load::command::end_all();
    ended.unwrap_or_else(|error| program::failed("importer", &error))
}

async fn command(cli: Cli) -> anyhow::Result<ExitCode> {
    // Not every command has one: `describe` helps to write it.
    let config = || commands::read_config(&cli.global, cli.command.needs(), cli.command.queue());
    let file_name = cli.global.config.display().to_string();
    match &cli.command {
        Command::Run(options) => commands::run::run(config()?, options).await,
        Command::Load(options) => commands::load::load(config()?, options).await,
        Command::Try(options) => commands::rehearse::run(&config()?, options).await,
        Command::Test { dataset } => commands::rehearse::test(&config()?, dataset.as_deref()).await,
        Command::Status(options) => commands::status::run(&config()?, options).await,
        Command::Rejects(options) if !options.replay => commands::rejects::run(&config()?, options).await,
        Command::Check { offline, .. } => commands::check::run(&config()?, &file_name, *offline).await,
        Command::Due => commands::due::run(&config()?).await,
        Command::Migrate { forget } => commands::migrate::run(&config()?, forget).await,
        Command::Redrive { reason, .. } => commands::redrive::run(&config()?, reason.as_deref()).await,
        Command::Reconcile(options) => commands::reconcile::run(&config()?, options).await,
        Command::Replay(options) => commands::replay::run(&config()?, options).await,
        Command::Prune(options) => commands::prune::run(&config()?, options).await,
        Command::Rejects(options) => commands::replay_rejects::run(&config()?, options).await,
        Command::Describe(options) => commands::describe::run(options).await,
        Command::Completions { shell } => {
            // A reader that went away is no failure.
            drop(io::stdout().lock().write_all(program::completions::<Cli>(*shell).as_bytes()));
            Ok(ExitCode::SUCCESS)
        }
        Command::Man { directory } => program::man_pages::<Cli>(directory).map(|()| ExitCode::SUCCESS),
    }
}
