//! What `penstock.object_status` says of a version.

use clap::ValueEnum;

/// A state of `penstock.object_status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum State {
    /// A worker is at it
    Importing,
    /// Its rows were committed
    Imported,
    /// It failed for a reason that may pass
    Retrying,
    /// There was nothing to load
    Skipped,
    /// A newer version stands
    Superseded,
    /// It was deleted before it was read
    Gone,
    /// It cannot be imported
    Failed,
}

impl State {
    /// Returns the state as the ledger spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Importing => "importing",
            Self::Imported => "imported",
            Self::Retrying => "retrying",
            Self::Skipped => "skipped",
            Self::Superseded => "superseded",
            Self::Gone => "gone",
            Self::Failed => "failed",
        }
    }
}
