//! `stack run -- COMMAND…` starts the local stack, runs the command with it, and ends with the command's status.
//!
//! The command finds the servers in `PENSTOCK_TEST_DATABASE_URL` and `PENSTOCK_TEST_AWS_ENDPOINT`.
//! Without a command (`stack run`) the stack stays up until Ctrl-C.

use anyhow::{Context as _, Result, bail};
use penstock_tests::{
    aws::{ENDPOINT_VARIABLE, Emulator, Kind},
    postgres::{self, Postgres, URL_VARIABLE},
};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_none_or(|argument| argument != "run") {
        bail!("usage: stack run [-- COMMAND…]");
    }
    let command: Vec<_> = arguments.skip_while(|argument| argument == "--").collect();

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let postgres = tokio::task::spawn_blocking(|| Postgres::start(postgres::Options::default())).await??;
    let emulator = tokio::task::spawn_blocking(|| Emulator::start(Kind::Queues)).await??;
    let url = postgres.url("postgres");

    let Some((program, arguments)) = command.split_first() else {
        println!("export {URL_VARIABLE}={url}");
        println!("export {ENDPOINT_VARIABLE}={}", emulator.endpoint());
        tokio::select! { _ = interrupt.recv() => {} _ = terminate.recv() => {} }
        return Ok(ExitCode::SUCCESS);
    };
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .env(URL_VARIABLE, url)
        .env(ENDPOINT_VARIABLE, emulator.endpoint())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("start {}", program.display()))?;
    let status = tokio::select! {
        status = child.wait() => status?,
        // A terminal sends Ctrl-C to the command as well, which ends in its own time.
        _ = interrupt.recv() => child.wait().await?,
        _ = terminate.recv() => bail!("ended by SIGTERM"),
    };
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}
