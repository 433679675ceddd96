//! How a program runs and ends.

use crate::{config::ConfigError, terminal};
use anyhow::Context;
use std::process::ExitCode;

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
    let is_wrong = error.is::<ConfigError>();
    let shown = if is_wrong { terminal::lines } else { terminal::line };
    eprintln!("{program}: {}", shown(&format!("{error:#}")));
    if is_wrong { ExitCode::from(EXIT_WRONG) } else { ExitCode::FAILURE }
}
