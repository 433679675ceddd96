//! What a shell and `man` know of the command line, made from the parser itself.

use crate::cli::Cli;
use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;
use std::path::Path;

/// Returns a completion script.
pub fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "scaler", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Writes `scaler.1`, and `scaler-….1` for each command, into a directory.
///
/// # Errors
/// When the directory cannot be made or written to.
pub fn man_pages(directory: &Path) -> anyhow::Result<()> {
    let write = || {
        std::fs::create_dir_all(directory)?;
        clap_mangen::generate_to(Cli::command(), directory)
    };
    write().with_context(|| format!("write man pages to {}", directory.display()))
}
