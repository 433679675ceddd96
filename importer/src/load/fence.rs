//! What must hold until the transaction ends: which version stands, and that keys are kept apart.

use super::{
    Load, LoadError, Loaded, Target,
    catalog::{NoUniqueIndex, unique_index},
    sql::literal,
};
use crate::{
    config::Mode,
    ledger::{self, Candidate, Verdict, judge},
    object::{ReadTarget, StoreError},
    order::same_version,
};
use sqlx::{Executor, PgConnection};

/// Takes the fence, and returns why it does not let this version through.
///
/// # Errors
/// [`LoadError::Database`], also when the lock was not granted in time, or [`LoadError::Store`].
pub async fn fence(connection: &mut PgConnection, load: &Load<'_>) -> Result<Option<Loaded>, LoadError> {
    let fenced = ledger::lock_head(connection, load.recorded.head_id, &load.candidate.identity).await?;
    // Asked again under the lock: another worker may have appended this version since the attempt was recorded.
    let appended_before = load.target.config.mode == Mode::Append && fenced.ever_imported;
    let candidate = Candidate { appended_before, ..load.candidate.clone() };
    match judge(fenced.standing.as_ref(), &candidate) {
        Verdict::Write => return Ok(None),
        Verdict::Tied => {}
        verdict => return Ok(Some(Loaded::Refused(verdict))),
    }
    // Under the lock, so a producer that puts the object after this answer sends an event that comes after us.
    let current = ReadTarget { version_id: None, etag: None, ..load.object.clone() };
    let tombstone = fenced.standing.is_some_and(|standing| standing.is_delete);
    match load.store.head(&current).await {
        Ok(info) if same_version(&info.identity(), &candidate.identity) => Ok(None),
        Ok(_) => Ok(Some(Loaded::Changed)),
        Err(StoreError::Missing) if tombstone => Ok(Some(Loaded::Refused(Verdict::Superseded))),
        // Gone without an event we act on: the later commit wins.
        Err(StoreError::Missing) => Ok(None),
        Err(error) => Err(LoadError::Store(error)),
    }
}

/// Makes sure that an upsert's keys are kept apart until the transaction ends, also when the catalog has changed since
/// it was read: without their index rows would double in silence.
///
/// # Errors
/// [`LoadError::NoUniqueIndex`] or [`LoadError::Database`].
pub async fn hold_unique_index(connection: &mut PgConnection, target: &Target) -> Result<(), LoadError> {
    let Target { config, table, key, .. } = target;
    if config.mode != Mode::Upsert {
        return Ok(());
    }
    // DROP INDEX waits for the lock that is taken here, which is the one that writing takes; DROP INDEX CONCURRENTLY may
    // mark the index, but waits before it ceases to be kept up.
    let names: Vec<String> = key.iter().map(|name| literal(name)).collect();
    let index = unique_index(&table.oid.to_string(), &format!("ARRAY[{}]", names.join(", ")));
    let sql = format!("LOCK TABLE ONLY {} IN ROW EXCLUSIVE MODE; {index}", table.qualified);
    // Both in one round trip.
    match connection.fetch_all(sql.as_str()).await?.as_slice() {
        [] => Err(NoUniqueIndex::of(table, key).into()),
        _ => Ok(()),
    }
}
