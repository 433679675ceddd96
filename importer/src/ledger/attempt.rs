//! What is known of a version before it is read, and that an import of it begins.

use super::{Standing, fence::standing, size};
use crate::{
    message::Delivery,
    order::{Identity, Stamp},
};
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row, postgres::PgRow};

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
    row.as_ref().map_or_else(|| Ok(Known::default()), known)
}

/// Reads what is known from a row of `look_up.sql` and its like.
///
/// # Errors
/// Of the database.
pub(super) fn known(row: &PgRow) -> sqlx::Result<Known> {
    let own = match row.try_get("own_id")? {
        None => None,
        Some(object_id) => Some(OwnRow {
            object_id,
            ever_imported: row.try_get("own_ever_imported")?,
            forwarded_message_id: row.try_get("own_forwarded_message_id")?,
        }),
    };
    Ok(Known { head_id: Some(row.try_get("head_id")?), standing: standing(row)?, own })
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
    /// When its message came.
    pub delivery: Delivery,
}

/// An attempt that is recorded, and in which rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// Row of `penstock.head`.
    pub head_id: i64,
    /// Row of `penstock.object`.
    pub object_id: i64,
    /// Its rows were committed once.
    pub ever_imported: bool,
    /// When the message of this attempt came.
    pub delivery: Delivery,
}

/// Records that an import of this version begins; creates the head and the version's row when they are missing.
///
/// # Errors
/// Of the database.
pub async fn begin(connection: &mut PgConnection, attempt: &Attempt<'_>) -> sqlx::Result<Recorded> {
    let head_id = ensure_head(connection, attempt.head).await?;
    for _ in 0..BEGIN_TRIES {
        if let Some(recorded) = begin_once(connection, attempt, head_id).await? {
            return Ok(recorded);
        }
    }
    Err(sqlx::Error::RowNotFound)
}

/// Times an entry may be pruned between being found and being written, before giving up.
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
        .bind(attempt.delivery.sent_at)
        .bind(attempt.delivery.first_received_at)
        .fetch_optional(connection)
        .await?;
    row.map(|row| recorded(&row, attempt.delivery)).transpose()
}

/// Reads which rows an attempt is recorded in.
///
/// # Errors
/// Of the database.
pub(super) fn recorded(row: &PgRow, delivery: Delivery) -> sqlx::Result<Recorded> {
    let (head_id, object_id) = (row.try_get("head_id")?, row.try_get("object_id")?);
    Ok(Recorded { head_id, object_id, ever_imported: row.try_get("ever_imported")?, delivery })
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
