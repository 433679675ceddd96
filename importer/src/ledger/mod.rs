//! The ledger: what became of each object version, and the fence that decides who may write.
//!
//! Everything the protocol reads or writes in schema `penstock` is here. The argument why it is
//! exactly once in effect stands in docs/design/protocol.md.

mod attempt;
mod ending;
mod fence;
mod judge;
pub mod many;
pub mod problems;
pub mod rejects;
mod state;
pub mod steps;
pub mod tags;
mod text;
pub mod workers;

pub use attempt::{Attempt, HeadKey, Known, OwnRow, Recorded, begin, correct_identity, look_up};
pub use ending::{Counts, Ended, Imported, finish_imported, finish_otherwise, finish_removed, note_seen_again};
pub use fence::{Fenced, lock_head};
pub use judge::{Candidate, Standing, Verdict, judge};
pub use service::postgres::migrations as migrate;
pub use state::State;
pub use text::{in_ascii, lacks_characters};

use crate::order::Identity;

/// An entry that is pruned between its attempt and its end takes the attempt with it: the next one makes it again.
fn found(n_rows: u64) -> sqlx::Result<()> {
    if n_rows == 0 { Err(sqlx::Error::RowNotFound) } else { Ok(()) }
}

fn size(identity: &Identity) -> Option<i64> {
    identity.size.and_then(|size| i64::try_from(size).ok())
}
