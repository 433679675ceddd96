//! The ways that leave the path before its end, and what errors lead there.

use super::{Held, Settled};
use crate::{
    ledger::{self, Recorded},
    message::ObjectPointer,
    outcome::{self, Outside, Sorted},
};

/// How the path is left before its end.
pub(super) enum Exit {
    /// The outcome is known without the steps that are left.
    Settled(Settled),
    /// The version to import is, by now, this one.
    Again(Box<ObjectPointer>),
    /// The object is not there; the attempt that looked for it is recorded.
    Missing(Recorded),
    /// Something outside is broken.
    Held(Held),
}

impl From<Held> for Exit {
    fn from(held: Held) -> Self {
        Self::Held(held)
    }
}

/// A name that the ledger cannot hold.
#[derive(Debug, thiserror::Error)]
#[error("the encoding of the database cannot hold the object's name")]
pub(super) struct Unstorable;

/// Holds what a statement of the ledger failed for.
pub(super) fn held_by_database(error: sqlx::Error) -> Held {
    if ledger::lacks_characters(&error) {
        return Held { outside: Outside::Contention, error: Unstorable.into() };
    }
    match outcome::sort_database_error(error) {
        Sorted::Hold(outside, error) => Held { outside, error },
        // The ledger's own statements do not depend on the object, so whatever refuses them is broken outside.
        Sorted::Failed(failure) => Held { outside: Outside::Postgres, error: anyhow::anyhow!(failure.error) },
        Sorted::Missing | Sorted::Changed => unreachable!("databases are neither"),
    }
}
