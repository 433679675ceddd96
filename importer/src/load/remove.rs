//! Taking an object's rows away: replace, forced append, and removal of the key.

use super::{LoadError, Session, Target};
use crate::{
    database::{Begin, End},
    ledger::{self, Candidate, Recorded, Verdict, judge},
    object::{ObjectStore, ReadTarget, StoreError},
};
use sqlx::PgConnection;
use std::time::Instant;

/// What became of a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// This many rows are gone, and a tombstone is the head.
    Removed(u64),
    /// The version removed is not the one that stands, or the object is there again.
    Superseded,
}

/// A key whose object was deleted.
pub struct Remove<'a> {
    /// Where the object lay.
    pub store: &'a dyn ObjectStore,
    /// The dataset and its table.
    pub target: &'a Target,
    /// The object.
    pub read: &'a ReadTarget,
    /// The removal, for the fence.
    pub candidate: &'a Candidate,
    /// The ledger's rows for it.
    pub recorded: Recorded,
    /// The dataset's name.
    pub dataset: &'a str,
    /// The pointer that the datasets after it are sent.
    pub sent_on: &'a str,
    /// One version was deleted for good, rather than the key's current one.
    pub of_version: bool,
    /// When work on it began.
    pub started: Instant,
}

/// Removes a key's rows after its object was deleted (`on_delete = "remove"`), under the head's lock.
///
/// # Errors
/// [`LoadError`]; the session must be dropped then.
pub async fn remove(session: &mut Session, remove: &Remove<'_>) -> Result<Removal, LoadError> {
    session.transaction(Begin::Plainly, async |tx| remove_under_lock(tx, remove).await).await
}

async fn remove_under_lock(tx: &mut PgConnection, remove: &Remove<'_>) -> Result<End<Removal>, LoadError> {
    let Remove { store, target, read, candidate, recorded, of_version, started, .. } = *remove;
    let standing = ledger::lock_head(tx, recorded.head_id, &candidate.identity).await?.standing;
    // The removal of one version of a versioned bucket matters only when that version stands.
    let stands = standing.as_ref().is_some_and(|s| s.identity.version_id == candidate.identity.version_id);
    let refused = if of_version { !stands } else { judge(standing.as_ref(), candidate) == Verdict::Superseded };
    let removed_before = standing.as_ref().is_some_and(|standing| {
        standing.object_id == recorded.object_id && standing.stamp.sequencer == candidate.stamp.sequencer
    });
    if removed_before {
        return Ok(End::RollBack(Removal::Removed(0)));
    }
    // Asked under the lock: a producer that puts the object again after this answer sends an event that comes after us.
    let there_again = !refused
        && match store.head(&ReadTarget { version_id: None, etag: None, ..read.clone() }).await {
            Ok(_) => true,
            Err(StoreError::Missing) => false,
            Err(error) => return Err(LoadError::Store(error)),
        };
    if refused || there_again {
        return Ok(End::RollBack(Removal::Superseded));
    }
    let removed = delete_rows_of_key(tx, target, recorded.head_id).await?;
    let duration_seconds = started.elapsed().as_secs_f64();
    ledger::finish_removed(tx, recorded, &candidate.stamp, removed, duration_seconds).await?;
    ledger::steps::send_on(tx, remove.dataset, recorded.object_id, remove.sent_on).await?;
    Ok(End::Commit(Removal::Removed(removed)))
}

/// Deletes the rows of every version of a key. Needs the lineage column.
///
/// # Errors
/// Of the database.
pub(super) async fn delete_rows_of_key(
    connection: &mut PgConnection,
    target: &Target,
    head_id: i64,
) -> sqlx::Result<u64> {
    let sql = format!(
        "DELETE FROM {} WHERE penstock_object = ANY (ARRAY(SELECT id FROM penstock.object WHERE head_id = $1))",
        target.table.qualified
    );
    Ok(sqlx::query(&sql).bind(head_id).execute(connection).await?.rows_affected())
}

/// Deletes the rows of one version. Needs the lineage column.
///
/// # Errors
/// Of the database.
pub(super) async fn delete_rows_of_version(
    connection: &mut PgConnection,
    target: &Target,
    object_id: i64,
) -> sqlx::Result<u64> {
    let sql = format!("DELETE FROM {} WHERE penstock_object = $1", target.table.qualified);
    Ok(sqlx::query(&sql).bind(object_id).execute(connection).await?.rows_affected())
}
