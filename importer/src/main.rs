//! The `importer` binary: reads the command line and the configuration, then runs one command.

use clap::Parser;
use importer::{
    cli::{Cli, Command},
    commands,
    config::ConfigError,
    database::TransactionPooler,
    logging, memory,
};
use service::terminal;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if matches!(cli.command, Command::Run(_) | Command::Load(_)) {
        memory::give_large_blocks_back();
    }
    logging::init(cli.global.log_format);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("importer: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(command(cli));
    // A decoder still running on a blocking thread must not keep the process: its work was rolled back.
    runtime.shutdown_background();
    result.unwrap_or_else(|error| {
        // Only a mistake in the configuration is shown on lines of its own.
        let shown = if error.is::<ConfigError>() { terminal::lines } else { terminal::line };
        eprintln!("importer: {}", shown(&format!("{error:#}")));
        if error.is::<ConfigError>() || error.is::<TransactionPooler>() {
            ExitCode::from(commands::EXIT_WRONG)
        } else {
            ExitCode::FAILURE
        }
    })
}

async fn command(cli: Cli) -> anyhow::Result<ExitCode> {
    // Not every command has one: describe is for who is about to write it.
    let config = || commands::read_config(&cli.global, cli.command.needs());
    let file_name = cli.global.config.display().to_string();
    match &cli.command {
        Command::Run(options) => commands::run::run(config()?, options).await,
        Command::Load(options) => commands::load::load(config()?, options).await,
        Command::Status(options) => commands::status::run(&config()?, options).await,
        Command::Rejects(options) if !options.replay => commands::rejects::run(&config()?, options).await,
        Command::Check => commands::check::run(&config()?, &file_name).await,
        Command::Migrate => commands::migrate::run(&config()?).await,
        Command::Redrive { reason } => commands::redrive::run(&config()?, reason.as_deref()).await,
        Command::Reconcile(options) => commands::reconcile::run(&config()?, options).await,
        Command::Replay(options) => commands::replay::run(&config()?, options).await,
        Command::Prune(options) => commands::prune::run(&config()?, options).await,
        Command::Rejects(options) => commands::replay_rejects::run(&config()?, options).await,
        Command::Describe(options) => commands::describe::run(options).await,
        Command::Completions { shell } => commands::manual::completions(*shell).await,
        Command::Man { directory } => commands::manual::man_pages(directory),
    }
}
