//! What the commands do.

pub mod check;
pub mod decide;
pub mod history;
pub mod manual;
pub mod run;
pub mod simulate;

use crate::config::ConfigError;

/// Why a command ended without having done what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line or the configuration is wrong: exit 2.
    #[error(transparent)]
    Usage(#[from] ConfigError),
    /// An argument is wrong: exit 2.
    #[error("{0}")]
    Argument(String),
    /// Something failed on the way: exit 1.
    #[error(transparent)]
    Fatal(#[from] anyhow::Error),
}

impl Failure {
    /// Returns the exit status.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Argument(_) => 2,
            Self::Fatal(_) => 1,
        }
    }
}

/// Returns a failure with all its causes in one line.
pub fn chain(failure: &Failure) -> String {
    match failure {
        Failure::Fatal(error) => format!("{error:#}"),
        other => other.to_string(),
    }
}
