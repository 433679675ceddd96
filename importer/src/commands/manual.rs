//! What a shell and `man` know of the command line, made from the parser itself.

use super::output;
use crate::cli::Cli;
use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;
use std::{io::Write, path::Path, process::ExitCode};

/// Prints a completion script.
///
/// # Errors
/// When standard output cannot be written.
pub async fn completions(shell: Shell) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "importer", &mut script);
    output::print(async |out| {
        out.write_all(&script)?;
        Ok(ExitCode::SUCCESS)
    })
    .await
}

/// Writes `importer.1`, and `importer-….1` for each command, into a directory.
///
/// # Errors
/// When it cannot be written.
pub fn man_pages(directory: &Path) -> anyhow::Result<ExitCode> {
    let write = || {
        std::fs::create_dir_all(directory)?;
        clap_mangen::generate_to(Cli::command(), directory)
    };
    write().with_context(|| format!("write man pages to {}", directory.display()))?;
    Ok(ExitCode::SUCCESS)
}
