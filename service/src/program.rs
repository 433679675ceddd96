//! How a program runs and ends.

use crate::{config::ConfigError, http::Health, postgres::TransactionPooler, terminal, words::chain};
use anyhow::Context;
use clap::CommandFactory;
use std::{path::Path, process::ExitCode, time::Duration};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Exit status: the command line, the configuration or what it names is wrong.
pub const EXIT_WRONG: u8 = 2;

/// Does the work on a runtime of its own.
///
/// # Errors
/// When there can be no runtime, or of the work.
pub fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Runtime::new().context("start the runtime")?;
    let done = runtime.block_on(work);
    // A thread that waits for a name or a disk, or decodes what was rolled back, must not keep the process.
    runtime.shutdown_background();
    done
}

/// Says why a program failed and returns its exit status.
#[must_use]
pub fn failed(program: &str, error: &anyhow::Error) -> ExitCode {
    // Only a mistake in the configuration is shown on lines of its own.
    let shown = if error.is::<ConfigError>() { terminal::lines } else { terminal::line };
    eprintln!("{program}: {}", shown(&chain(error)));
    let is_wrong = error.is::<ConfigError>() || error.is::<TransactionPooler>();
    if is_wrong { ExitCode::from(EXIT_WRONG) } else { ExitCode::FAILURE }
}

/// Cancels `stop` on SIGTERM or SIGINT and logs `saying`; a second signal ends the process at once.
///
/// # Errors
/// When the signals cannot be listened for.
pub fn stop_on_signals(stop: CancellationToken, saying: &'static str) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    tokio::spawn(async move {
        for first in [true, false] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if first {
                info!("{saying}");
                stop.cancel();
            }
        }
        warn!("ended by a second signal");
        std::process::exit(1);
    });
    Ok(())
}

/// How long to wait between two attempts to reach a service.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Attempts something until it succeeds or fails with an error for which waiting does not help. The first failure is
/// logged, and `health` shows meanwhile why its part is missing.
///
/// # Errors
/// Those that are final.
pub async fn wait_for<T>(
    part: &'static str,
    health: &Health,
    mut attempt: impl AsyncFnMut() -> anyhow::Result<T>,
    is_final: impl Fn(&anyhow::Error) -> bool,
) -> anyhow::Result<T> {
    let mut is_waiting = false;
    loop {
        match attempt().await {
            Ok(reached) => {
                health.note(part, Ok(()));
                return Ok(reached);
            }
            Err(error) if is_final(&error) => return Err(error),
            Err(error) => {
                health.note(part, Err(chain(&error)));
                if !std::mem::replace(&mut is_waiting, true) {
                    warn!(error = chain(&error), "cannot reach {part}; retrying");
                }
                sleep(RETRY_PAUSE).await;
            }
        }
    }
}

/// Returns a shell's completion script for a program, made from its parser.
#[must_use]
pub fn completions<C: CommandFactory>(shell: clap_complete::Shell) -> String {
    let mut script = Vec::new();
    let mut command = C::command();
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, name, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Writes a man page of the program and one of each of its commands into a directory, which is made where it is
/// missing.
///
/// # Errors
/// When the directory cannot be made or written to.
pub fn man_pages<C: CommandFactory>(directory: &Path) -> anyhow::Result<()> {
    let write = || {
        std::fs::create_dir_all(directory)?;
        clap_mangen::generate_to(C::command(), directory)
    };
    write().with_context(|| format!("write man pages to {}", directory.display()))
}
