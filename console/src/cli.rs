//! The command line.

use clap::{Args, Parser, Subcommand};
use service::logging::Format;
use std::path::PathBuf;

/// Shows what Penstock did, what is late and what to do, as web pages.
#[derive(Debug, Parser)]
#[command(name = "console", version = VERSION, arg_required_else_help = true)]
pub struct Cli {
    /// Configuration file
    #[arg(long, global = true, env = "CONSOLE_CONFIG", default_value = "console.toml", value_name = "FILE")]
    pub config: PathBuf,
    /// Format of log lines on stderr
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub log_format: Format,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The package's version and the commit it was built from.
pub const VERSION: &str = env!("PENSTOCK_VERSION");

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the pages; reads Postgres and changes nothing
    Run,
    /// Check the configuration, who may read the pages, and what the database lets this role see
    Check,
    /// Read a password from stdin and print its line for `auth.password_file`
    Password(Password),
    /// Print a completion script for a shell
    Completions(Completions),
    /// Write a man page for each command
    Man(Man),
}

/// Arguments of `password`.
#[derive(Args, Debug)]
pub struct Password {
    /// Who signs in with it
    pub name: String,
}

/// Arguments of `completions`.
#[derive(Args, Debug)]
pub struct Completions {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// Arguments of `man`.
#[derive(Args, Debug)]
pub struct Man {
    /// Output directory; created if missing
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
