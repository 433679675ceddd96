//! `stack run -- COMMAND…` starts the local stack, runs the command with it, and ends with the command's status.
//!
//! `--postgres DIRECTORY` before that has the servers, also those that the command starts, be of the programs there.
//! The command finds the servers in `PENSTOCK_TEST_DATABASE_URL` and `PENSTOCK_TEST_AWS_ENDPOINT`.
//! Without a command (`stack run`) the stack stays up until Ctrl-C.

use anyhow::{Context as _, Result, bail};
use penstock_tests::{
    aws::{ENDPOINT_VARIABLE, Emulator, Kind},
    postgres::{self, BINARIES_VARIABLE, Postgres, URL_VARIABLE},
    scratch::Scratch,
    spawn,
};
use std::{ffi::OsString, path::PathBuf, process::ExitCode};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<ExitCode> {
    const USAGE: &str = "usage: stack run [--postgres DIRECTORY] [-- COMMAND…]";
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.next().is_none_or(|argument| argument != "run") {
        bail!(USAGE);
    }
    let given = match arguments.next_if(|argument| argument == "--postgres") {
        Some(_) => Some(copy_of(arguments.next().context(USAGE)?.into())?),
        None => None,
    };
    let binaries = given.as_ref().map(|copy| copy.path().join("native/bin"));
    let command: Vec<OsString> = arguments.skip_while(|argument| argument == "--").collect();

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let options = postgres::Options { binaries: binaries.clone(), ..postgres::Options::default() };
    let postgres = tokio::task::spawn_blocking(|| Postgres::start(options)).await??;
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
        .envs(binaries.map(|binaries| (BINARIES_VARIABLE, binaries)))
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

/// Copies a server's programs, with what lies beside them, to where the user that runs servers may read them.
fn copy_of(binaries: PathBuf) -> Result<Scratch> {
    let scratch = Scratch::traversable("servers")?;
    let all = binaries.parent().context("it is the directory bin of an installation")?;
    let target = scratch.path().join("native");
    spawn::run(std::process::Command::new("cp").arg("-R").arg(all).arg(target))?;
    Ok(scratch)
}
