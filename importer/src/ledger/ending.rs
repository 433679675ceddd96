//! How an attempt at a version ended.

use super::{Recorded, State, found, size, text};
use crate::order::{Identity, Stamp};
use sqlx::PgConnection;

/// Row counts of an import; `read + added = written + merged + filtered + rejected`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Rows in the object.
    pub read: u64,
    /// Rows that a transform made beyond the first of one.
    pub added: u64,
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
    /// What shaped the rows ([`crate::load::recipe`]).
    pub recipe: &'a str,
    /// The dataset whose import it follows.
    pub after: Option<&'a str>,
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
    let csv_fields: Option<Vec<Option<String>>> = imported
        .csv_fields
        .as_ref()
        .map(|fields| fields.iter().map(|name| name.as_deref().map(text::storable)).collect());
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
        .bind(count(imported.counts.added))
        .bind(imported.recipe)
        .bind(imported.recorded.delivery.sent_at)
        .bind(imported.recorded.delivery.first_received_at)
        .bind(imported.after)
        .execute(connection)
        .await?;
    found(done.rows_affected())
}

/// How an object ended other than by being imported, as the ledger keeps it.
#[derive(Debug, Clone)]
pub struct Ended<'a> {
    /// Neither [`State::Imported`] nor [`State::Importing`].
    pub state: State,
    /// Short stable word.
    pub reason: Option<&'a str>,
    /// For people; holds no row values.
    pub error: Option<&'a str>,
    /// The message that was forwarded to the dead-letter queue.
    pub forwarded_message_id: Option<&'a str>,
    /// Wall time, in seconds; none: since the attempt began.
    pub duration_seconds: Option<f64>,
    /// The recipe that it was to be made anew by.
    pub asked: Option<&'a str>,
}

/// Records how an object ended. A version whose rows were committed keeps saying `imported`.
///
/// # Errors
/// Of the database.
pub async fn finish_otherwise(connection: &mut PgConnection, object_id: i64, ended: &Ended<'_>) -> sqlx::Result<()> {
    let written = write_end(connection, object_id, ended, ended.error.map(text::storable)).await;
    match written {
        // A file's words in it, which the database's encoding has no characters for.
        Err(error) if text::lacks_characters(&error) => {
            write_end(connection, object_id, ended, ended.error.map(|error| text::in_ascii(&text::storable(error))))
                .await
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
        .bind(<&str>::from(ended.state))
        .bind(ended.reason)
        .bind(error)
        .bind(ended.forwarded_message_id)
        .bind(ended.duration_seconds)
        .bind(ended.asked)
        .execute(connection)
        .await?;
    Ok(())
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
        .bind(recorded.delivery.sent_at)
        .bind(recorded.delivery.first_received_at)
        .execute(connection)
        .await?;
    Ok(())
}
