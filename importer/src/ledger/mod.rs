//! The ledger: what became of each object version, and the fence that decides who may write.
//!
//! Everything the protocol reads or writes in schema `penstock` is here. The argument why it is
//! exactly once in effect stands in docs/design/protocol.md.

pub mod many;
pub mod migrate;
pub mod rejects;
pub mod workers;

use crate::order::{Identity, Stamp, order, same_version};
use chrono::{DateTime, Utc};
use decode::{PayloadForm, Reject};
use sqlx::{PgConnection, Row, postgres::PgRow};
use std::cmp::Ordering;

/// The version whose rows stand in the table, as the head row names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// `object_status.id` of the version.
    pub object_id: i64,
    /// Which version it is.
    pub identity: Identity,
    /// How new it is.
    pub stamp: Stamp,
    /// The head is a tombstone: the key was removed.
    pub is_delete: bool,
}

/// A version that wants to be written.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Which version it is.
    pub identity: Identity,
    /// How new it is.
    pub stamp: Stamp,
    /// Import although this version already stands (a forced replay); never although a newer one does.
    pub force: bool,
    /// Append mode, and this version's rows were appended before.
    pub appended_before: bool,
}

/// What the fence says to a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Write, and become the head.
    Write,
    /// Nothing tells this version from the other one that stands: the one the store has now is the newer,
    /// and when it has neither, the later commit wins.
    Tied,
    /// This very version stands (append: was written once).
    AlreadyImported,
    /// A newer version stands.
    Superseded,
}

/// Decides between the version that stands and a candidate.
#[must_use]
pub fn judge(standing: Option<&Standing>, candidate: &Candidate) -> Verdict {
    let Some(standing) = standing else {
        return Verdict::Write;
    };
    let already = || if candidate.force { Verdict::Write } else { Verdict::AlreadyImported };
    if !standing.is_delete && same_version(&standing.identity, &candidate.identity) {
        return already();
    }
    match order(&candidate.stamp, &standing.stamp) {
        Ordering::Less => Verdict::Superseded,
        Ordering::Equal | Ordering::Greater if candidate.appended_before => already(),
        Ordering::Equal => Verdict::Tied,
        Ordering::Greater => Verdict::Write,
    }
}

/// Which head an object belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HeadKey {
    /// Dataset; empty for objects no dataset claims.
    pub dataset: String,
    /// Bucket.
    pub bucket: String,
    /// Key.
    pub key: String,
}

/// What the ledger knows of a key and one of its versions before anything is read.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The head row's id, when the key was seen before.
    pub head_id: Option<i64>,
    /// The version that stands.
    pub standing: Option<Standing>,
    /// This version's own row.
    pub own: Option<OwnRow>,
}

/// This version's row.
#[derive(Debug, Clone)]
pub struct OwnRow {
    /// `object_status.id`.
    pub object_id: i64,
    /// Its rows were committed once.
    pub ever_imported: bool,
    /// For a failed one: the message that was forwarded to the dead-letter queue.
    pub forwarded_message_id: Option<String>,
}

/// Reads what is known, without any lock: good for leaving early, never for writing.
///
/// # Errors
/// Of the database.
pub async fn look_up(
    connection: &mut PgConnection,
    head: &HeadKey,
    identity: &Identity,
    is_delete: bool,
) -> sqlx::Result<Known> {
    let row = sqlx::query(include_str!("look_up.sql"))
        .bind(&head.dataset)
        .bind(&head.bucket)
        .bind(&head.key)
        .bind(&identity.version_id)
        .bind(&identity.etag)
        .bind(size(identity))
        .bind(is_delete)
        .fetch_optional(connection)
        .await?;
    let Some(row) = row else {
        return Ok(Known::default());
    };
    let own = match row.try_get::<Option<i64>, _>("own_id")? {
        None => None,
        Some(object_id) => Some(OwnRow {
            object_id,
            ever_imported: row.try_get("own_ever_imported")?,
            forwarded_message_id: row.try_get("own_forwarded_message_id")?,
        }),
    };
    Ok(Known { head_id: Some(row.try_get("head_id")?), standing: standing(&row)?, own })
}

/// What is recorded early for people to see: who imports what, for the how-manyth time.
#[derive(Debug, Clone)]
pub struct Attempt<'a> {
    /// Which key.
    pub head: &'a HeadKey,
    /// Which version.
    pub identity: &'a Identity,
    /// How new.
    pub stamp: &'a Stamp,
    /// Stands for a removal of the key.
    pub is_delete: bool,
    /// Id of the worker.
    pub worker: &'a str,
    /// The queue the message came from, if one.
    pub queue_url: Option<&'a str>,
    /// When the event happened.
    pub event_time: Option<DateTime<Utc>>,
}

/// Ids of the rows an attempt is recorded in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// Row of `penstock.head`.
    pub head_id: i64,
    /// Row of `penstock.object`.
    pub object_id: i64,
    /// Its rows were committed once.
    pub ever_imported: bool,
}

/// Records that an import of this version begins; creates the head and the version's row when they are missing.
///
/// # Errors
/// Of the database.
pub async fn begin(connection: &mut PgConnection, attempt: &Attempt<'_>) -> sqlx::Result<Recorded> {
    let head_id = ensure_head(connection, attempt.head).await?;
    for _ in 1..BEGIN_TRIES {
        if let Some(recorded) = begin_once(connection, attempt, head_id).await? {
            return Ok(recorded);
        }
    }
    begin_once(connection, attempt, head_id).await?.ok_or(sqlx::Error::RowNotFound)
}

/// Times an entry may be pruned between being found and being written, before it is somebody else's turn.
const BEGIN_TRIES: usize = 5;

/// Records an attempt; none when its entry was there, and pruned before it was written.
async fn begin_once(
    connection: &mut PgConnection,
    attempt: &Attempt<'_>,
    head_id: i64,
) -> sqlx::Result<Option<Recorded>> {
    let row = sqlx::query(include_str!("begin.sql"))
        .bind(head_id)
        .bind(attempt.is_delete)
        .bind(&attempt.identity.version_id)
        .bind(&attempt.identity.etag)
        .bind(size(attempt.identity))
        .bind(&attempt.stamp.sequencer)
        .bind(attempt.stamp.last_modified)
        .bind(attempt.worker)
        .bind(attempt.queue_url)
        .bind(attempt.event_time)
        .fetch_optional(connection)
        .await?;
    let recorded = |row: PgRow| -> sqlx::Result<Recorded> {
        Ok(Recorded { head_id, object_id: row.try_get("id")?, ever_imported: row.try_get("ever_imported")? })
    };
    row.map(recorded).transpose()
}

async fn ensure_head(connection: &mut PgConnection, head: &HeadKey) -> sqlx::Result<i64> {
    loop {
        let found = sqlx::query_scalar("SELECT id FROM penstock.head WHERE dataset = $1 AND bucket = $2 AND key = $3")
            .bind(&head.dataset)
            .bind(&head.bucket)
            .bind(&head.key)
            .fetch_optional(&mut *connection)
            .await?;
        if let Some(id) = found {
            return Ok(id);
        }
        // Another worker may insert it first; then the next look finds it.
        sqlx::query(include_str!("ensure_heads.sql"))
            .bind(&head.dataset)
            .bind([&head.bucket])
            .bind([&head.key])
            .execute(&mut *connection)
            .await?;
    }
}

/// What the fence found, true until the transaction ends.
#[derive(Debug, Clone)]
pub struct Fenced {
    /// The version that stands.
    pub standing: Option<Standing>,
    /// Rows of the version that asks were committed once, and not removed since.
    pub ever_imported: bool,
}

/// Takes the fence: locks the head row until the transaction ends, then reads, in a statement of
/// its own (so with a snapshot taken after the lock was granted), which version stands.
///
/// The lock is the one an update of the head takes. It lets others insert rows that refer to the head,
/// so recording an attempt never waits for an import.
///
/// # Errors
/// Of the database; 55P03 when the lock was not granted within `lock_timeout`.
pub async fn lock_head(connection: &mut PgConnection, head_id: i64, identity: &Identity) -> sqlx::Result<Fenced> {
    sqlx::query("SELECT 1 FROM penstock.head WHERE id = $1 FOR NO KEY UPDATE")
        .bind(head_id)
        .fetch_one(&mut *connection)
        .await?;
    let row = sqlx::query(include_str!("standing.sql"))
        .bind(head_id)
        .bind(&identity.version_id)
        .bind(&identity.etag)
        .bind(size(identity))
        .fetch_one(connection)
        .await?;
    Ok(Fenced { standing: standing(&row)?, ever_imported: row.try_get("ever_imported")? })
}

/// Row counts of an import; `read = written + merged + filtered + rejected`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Rows in the object.
    pub read: u64,
    /// Rows of the object that stand in the table.
    pub written: u64,
    /// Rows that gave way to another.
    pub merged: u64,
    /// Rows dropped by a transform.
    pub filtered: u64,
    /// Rows in `penstock.rejects`.
    pub rejected: u64,
}

/// What is recorded with the rows, in their transaction.
#[derive(Debug, Clone)]
pub struct Imported<'a> {
    /// The rows of the ledger.
    pub recorded: Recorded,
    /// Which version was read.
    pub identity: &'a Identity,
    /// How new it is.
    pub stamp: &'a Stamp,
    /// Row counts.
    pub counts: Counts,
    /// Bytes of the object.
    pub bytes: u64,
    /// How the rows were written: `staged`, `direct`, …
    pub technique: &'a str,
    /// Wall time of the import so far, in seconds.
    pub duration_seconds: f64,
    /// Names of the fields of a CSV object with rejects, None for each without a header.
    pub csv_fields: Option<Vec<Option<String>>>,
}

/// Records the import, makes its version the head, and drops the unresolved rejects of its earlier imports.
/// Runs inside the transaction of the rows, under the head's lock.
///
/// # Errors
/// Of the database.
pub async fn finish_imported(connection: &mut PgConnection, imported: &Imported<'_>) -> sqlx::Result<()> {
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let csv_fields: Option<Vec<Option<String>>> =
        imported.csv_fields.as_ref().map(|fields| fields.iter().map(|name| name.as_deref().map(storable)).collect());
    let done = sqlx::query(include_str!("finish_imported.sql"))
        .bind(imported.recorded.object_id)
        .bind(imported.recorded.head_id)
        .bind(&imported.stamp.sequencer)
        .bind(imported.stamp.last_modified)
        .bind(count(imported.counts.read))
        .bind(count(imported.counts.written))
        .bind(count(imported.counts.merged))
        .bind(count(imported.counts.filtered))
        .bind(count(imported.counts.rejected))
        .bind(count(imported.bytes))
        .bind(imported.technique)
        .bind(imported.duration_seconds)
        .bind(&imported.identity.version_id)
        .bind(&csv_fields)
        .bind(&imported.identity.etag)
        .bind(size(imported.identity))
        .execute(connection)
        .await?;
    found(done.rows_affected())
}

/// An entry that is pruned between its attempt and its end takes the attempt with it: the next one makes it anew.
fn found(n_rows: u64) -> sqlx::Result<()> {
    if n_rows == 0 { Err(sqlx::Error::RowNotFound) } else { Ok(()) }
}

/// Returns text as Postgres can hold it, which is without U+0000.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Writes rejects of an object, in the transaction of its rows.
///
/// # Errors
/// Of the database.
pub async fn insert_rejects(
    connection: &mut PgConnection,
    object_id: i64,
    form: PayloadForm,
    rejects: &[Reject],
) -> sqlx::Result<()> {
    if rejects.is_empty() {
        return Ok(());
    }
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    sqlx::query(include_str!("insert_rejects.sql"))
        .bind(object_id)
        .bind(rejects.iter().map(|r| number(r.row_number)).collect::<Vec<_>>())
        .bind(rejects.iter().map(|r| r.class).collect::<Vec<_>>())
        .bind(rejects.iter().map(|r| r.column.as_deref().map(storable)).collect::<Vec<_>>())
        // A message may quote a value.
        .bind(rejects.iter().map(|r| storable(&r.message)).collect::<Vec<_>>())
        .bind(rejects.iter().map(|r| r.payload.as_slice()).collect::<Vec<_>>())
        .bind(rejects.iter().map(|r| number(r.payload_length)).collect::<Vec<_>>())
        .bind(form.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

/// How an object ended other than by being imported, as the ledger keeps it.
#[derive(Debug, Clone)]
pub struct Ended<'a> {
    /// `skipped`, `superseded`, `gone`, `failed` or `retrying`.
    pub state: &'a str,
    /// Short stable word.
    pub reason: Option<&'a str>,
    /// For people; holds no row values.
    pub error: Option<&'a str>,
    /// The message that was forwarded to the dead-letter queue.
    pub forwarded_message_id: Option<&'a str>,
    /// Wall time, in seconds; none: since the attempt began.
    pub duration_seconds: Option<f64>,
}

/// Records how an object ended. A version whose rows were committed keeps saying `imported`.
///
/// # Errors
/// Of the database.
pub async fn finish_otherwise(connection: &mut PgConnection, object_id: i64, ended: &Ended<'_>) -> sqlx::Result<()> {
    let written = write_end(connection, object_id, ended, ended.error.map(storable)).await;
    match written {
        // A file's words in it, which the database's encoding has no characters for.
        Err(error) if lacks_characters(&error) => {
            write_end(connection, object_id, ended, ended.error.map(|error| in_ascii(&storable(error)))).await
        }
        written => written,
    }
}

async fn write_end(
    connection: &mut PgConnection,
    object_id: i64,
    ended: &Ended<'_>,
    error: Option<String>,
) -> sqlx::Result<()> {
    sqlx::query(include_str!("finish_otherwise.sql"))
        .bind(object_id)
        .bind(ended.state)
        .bind(ended.reason)
        .bind(error)
        .bind(ended.forwarded_message_id)
        .bind(ended.duration_seconds)
        .execute(connection)
        .await?;
    Ok(())
}

/// Returns whether a text could not be stored because the database's encoding lacks characters of it.
#[must_use]
pub fn lacks_characters(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| matches!(&*code, "22P05" | "22021"))
}

/// Returns text with what is beyond ASCII escaped.
#[must_use]
pub fn in_ascii(text: &str) -> String {
    let mut ascii = String::with_capacity(text.len());
    for character in text.chars() {
        match character.is_ascii() {
            true => ascii.push(character),
            false => ascii.extend(character.escape_unicode()),
        }
    }
    ascii
}

/// Corrects which version a row is of, by what the store says; false when another row stands for that version.
/// A row whose rows were committed keeps the identity they have, unless it is of this version by its id.
///
/// # Errors
/// Of the database.
pub async fn correct_identity(
    connection: &mut PgConnection,
    object_id: i64,
    identity: &Identity,
) -> sqlx::Result<bool> {
    let done = sqlx::query(include_str!("correct_identity.sql"))
        .bind(object_id)
        .bind(&identity.version_id)
        .bind(&identity.etag)
        .bind(size(identity))
        .execute(connection)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Notes that a version was seen again while `standing_id` stands, and how new that sighting was.
///
/// The sighting's stamp must reach the head before the message goes: A (put again after B) is newer
/// than B, so a late B has to find that out. In append A's rows stand beside B's; then A becomes the
/// head again. Returns false when another version stands by now.
///
/// # Errors
/// Of the database.
pub async fn note_seen_again(
    connection: &mut PgConnection,
    head_id: i64,
    standing_id: i64,
    object_id: i64,
    stamp: &Stamp,
) -> sqlx::Result<bool> {
    let done = sqlx::query(include_str!("note_seen_again.sql"))
        .bind(head_id)
        .bind(standing_id)
        .bind(object_id)
        .bind(&stamp.sequencer)
        .bind(stamp.last_modified)
        .execute(connection)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Makes a tombstone the head: the key was removed and its rows with it. Runs under the head's lock.
///
/// # Errors
/// Of the database.
pub async fn finish_removed(
    connection: &mut PgConnection,
    recorded: Recorded,
    stamp: &Stamp,
    removed_rows: u64,
    duration_seconds: f64,
) -> sqlx::Result<()> {
    sqlx::query(include_str!("finish_removed.sql"))
        .bind(recorded.object_id)
        .bind(recorded.head_id)
        .bind(&stamp.sequencer)
        .bind(stamp.last_modified)
        .bind(format!("{removed_rows} rows removed"))
        .bind(duration_seconds)
        .execute(connection)
        .await?;
    Ok(())
}

fn size(identity: &Identity) -> Option<i64> {
    identity.size.and_then(|size| i64::try_from(size).ok())
}

fn standing(row: &PgRow) -> sqlx::Result<Option<Standing>> {
    let Some(object_id) = row.try_get::<Option<i64>, _>("object_id")? else {
        return Ok(None);
    };
    Ok(Some(Standing {
        object_id,
        identity: Identity {
            version_id: row.try_get("version_id")?,
            etag: row.try_get("etag")?,
            size: row.try_get::<Option<i64>, _>("size")?.and_then(|size| u64::try_from(size).ok()),
        },
        stamp: Stamp { sequencer: row.try_get("sequencer")?, last_modified: row.try_get("last_modified")? },
        is_delete: row.try_get("is_delete")?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(etag: &str, sequencer: &str) -> (Identity, Stamp) {
        (
            Identity { version_id: None, etag: Some(etag.into()), size: Some(1) },
            Stamp { sequencer: Some(sequencer.into()), last_modified: None },
        )
    }

    fn check(stands: Option<(&str, &str, bool)>, candidate: (&str, &str), force: bool, appended: bool) -> Verdict {
        let standing = stands.map(|(etag, sequencer, is_delete)| {
            let (identity, stamp) = version(etag, sequencer);
            Standing { object_id: 1, identity, stamp, is_delete }
        });
        let (identity, stamp) = version(candidate.0, candidate.1);
        judge(standing.as_ref(), &Candidate { identity, stamp, force, appended_before: appended })
    }

    #[test]
    fn the_fence_lets_only_newer_versions_through() {
        use Verdict::{AlreadyImported, Superseded, Tied, Write};
        for (stands, candidate, force, appended, expected) in [
            (None, ("a", "1"), false, false, Write),
            (Some(("a", "1", false)), ("a", "1"), false, false, AlreadyImported),
            (Some(("a", "1", false)), ("a", "1"), true, false, Write),
            (Some(("b", "2", false)), ("a", "1"), false, false, Superseded),
            (Some(("b", "2", false)), ("a", "1"), true, false, Superseded),
            // Content put back later is imported again, except in append.
            (Some(("b", "2", false)), ("a", "3"), false, false, Write),
            (Some(("b", "2", false)), ("a", "3"), false, true, AlreadyImported),
            // A tombstone stops what is older and nothing else.
            (Some(("", "2", true)), ("a", "1"), false, false, Superseded),
            (Some(("", "2", true)), ("a", "3"), false, false, Write),
            // Nothing tells them apart.
            (Some(("b", "2", false)), ("a", "2"), false, false, Tied),
            (Some(("b", "2", false)), ("a", "2"), false, true, AlreadyImported),
        ] {
            assert_eq!(check(stands, candidate, force, appended), expected, "{stands:?} {candidate:?}");
        }
    }
}
