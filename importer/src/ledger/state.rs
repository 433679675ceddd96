//! What `penstock.object_status` says of a version.

use clap::ValueEnum;
use strum::IntoStaticStr;

/// A state of `penstock.object_status`, which spells it like this in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum State {
    /// A worker is importing it
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
