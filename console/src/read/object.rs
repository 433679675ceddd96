//! One version of an object: all that the ledger knows of it.

use super::{Failure, Reader, values};
use chrono::{DateTime, Utc};
use serde::Serialize;

/// Versions and rejected rows that are shown; one more says that there are more.
pub const MOST: i64 = 20;

/// A version's entry in the ledger.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "they are the ledger's columns")]
pub struct Entry {
    pub id: i64,
    pub dataset: String,
    pub bucket: String,
    pub key: String,
    /// Whether its rows are those in the table.
    pub stands: bool,
    pub is_delete: bool,
    pub version_id: Option<String>,
    pub etag: Option<String>,
    pub size: Option<i64>,
    pub sequencer: Option<String>,
    pub last_modified: Option<DateTime<Utc>>,
    pub state: String,
    pub reason: Option<String>,
    pub error: Option<String>,
    pub attempts: i32,
    pub worker: Option<String>,
    /// Whether that worker still gives heartbeats.
    pub is_worker_there: bool,
    pub queue_url: Option<String>,
    pub after: Option<String>,
    pub rows_read: Option<i64>,
    pub rows_added: Option<i64>,
    pub rows_written: Option<i64>,
    pub rows_merged: Option<i64>,
    pub rows_filtered: Option<i64>,
    pub rows_rejected: Option<i64>,
    pub bytes: Option<i64>,
    pub technique: Option<String>,
    pub recipe: Option<String>,
    pub tried_recipe: Option<String>,
    pub forwarded_message_id: Option<String>,
    pub duration_seconds: Option<f64>,
    pub event_time: Option<DateTime<Utc>>,
    pub sent_at: Option<DateTime<Utc>>,
    pub first_received_at: Option<DateTime<Utc>>,
    pub first_seen_at: DateTime<Utc>,
    pub started_at: Option<DateTime<Utc>>,
    pub imported_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
}
service::from_row!(Entry {
    id,
    dataset,
    bucket,
    key,
    stands,
    is_delete,
    version_id,
    etag,
    size,
    sequencer,
    last_modified,
    state,
    reason,
    error,
    attempts,
    worker,
    is_worker_there,
    queue_url,
    after,
    rows_read,
    rows_added,
    rows_written,
    rows_merged,
    rows_filtered,
    rows_rejected,
    bytes,
    technique,
    recipe,
    tried_recipe,
    forwarded_message_id,
    duration_seconds,
    event_time,
    sent_at,
    first_received_at,
    first_seen_at,
    started_at,
    imported_at,
    finished_at
});

/// Another version of the same key, or the same in another dataset.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "they are the ledger's columns")]
pub struct Version {
    pub id: i64,
    pub dataset: String,
    pub version_id: Option<String>,
    pub etag: Option<String>,
    pub size: Option<i64>,
    pub is_delete: bool,
    pub state: String,
    pub reason: Option<String>,
    pub rows_written: Option<i64>,
    pub first_seen_at: DateTime<Utc>,
    pub imported_at: Option<DateTime<Utc>>,
    /// Whether its rows are those in the table.
    pub stands: bool,
}
service::from_row!(Version {
    id,
    dataset,
    version_id,
    etag,
    size,
    is_delete,
    state,
    reason,
    rows_written,
    first_seen_at,
    imported_at,
    stands
});

/// A rejected row.
#[derive(Debug, Clone, Serialize)]
pub struct RejectedRow {
    /// Its number in the object, from 1.
    pub row_number: i64,
    /// Of what kind the refusal is.
    pub class: String,
    /// The column.
    pub column_name: Option<String>,
    /// Why, without values unless they may be shown.
    pub message: Option<String>,
    /// How the row begins, where it may be shown.
    pub payload: Option<String>,
    /// How many bytes it had.
    pub payload_length: Option<i64>,
    /// When it was rejected.
    pub created_at: DateTime<Utc>,
    /// When its second chance took it.
    pub resolved_at: Option<DateTime<Utc>>,
}
service::from_row!(RejectedRow {
    row_number,
    class,
    column_name,
    message,
    payload,
    payload_length,
    created_at,
    resolved_at
});

/// What an object waits for in one column.
#[derive(Debug, Clone, Serialize)]
pub struct Wait {
    /// The column that its keys are awaited in.
    pub lookup: String,
    /// The object's own field.
    pub field: String,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Until when at most.
    pub until: DateTime<Utc>,
    /// Keys, of the first 1,001.
    pub n: i64,
    /// When it is looked again whatever arrives.
    pub again_at: Option<DateTime<Utc>>,
}
service::from_row!(Wait { lookup, field, since, until, n, again_at });

/// What is to be sent because of an object.
#[derive(Debug, Clone, Serialize)]
pub struct DueStep {
    /// The dataset that comes after.
    pub target: String,
    /// Not before.
    pub at: DateTime<Utc>,
    /// How often it was tried.
    pub attempts: i32,
    /// Why it could not be sent.
    pub error: Option<String>,
}
service::from_row!(DueStep { target, at, attempts, error });

/// All that is known of one version.
#[derive(Debug, Clone, Serialize)]
pub struct Story {
    /// Its entry.
    pub entry: Entry,
    /// The versions of its key, itself among them, the latest seen first.
    pub versions: Vec<Version>,
    /// Its rejected rows.
    pub rejects: Vec<RejectedRow>,
    /// What it waits for.
    pub waits: Vec<Wait>,
    /// What is to be sent because of it.
    pub due: Vec<DueStep>,
}

/// Returns what is known of one version, if anything is.
///
/// # Errors
/// As [`Reader::read`].
pub async fn story(reader: &Reader, id: i64) -> Result<Option<Story>, Failure> {
    let may_show = reader.shows_values();
    let query = async |connection: &mut sqlx::PgConnection| {
        let entry = sqlx::query_as(include_str!("object/entry.sql")).bind(id).fetch_optional(&mut *connection).await?;
        let Some(entry): Option<Entry> = entry else { return Ok(None) };
        let versions = sqlx::query_as(include_str!("object/versions.sql")).bind(&entry.bucket).bind(&entry.key);
        let versions = versions.bind(MOST + 1).fetch_all(&mut *connection).await?;
        let rejects =
            if may_show { include_str!("object/rejects_with_values.sql") } else { include_str!("object/rejects.sql") };
        let rejects = sqlx::query_as(rejects).bind(id).bind(MOST + 1).fetch_all(&mut *connection).await?;
        let waits = sqlx::query_as(include_str!("object/waits.sql")).bind(id).fetch_all(&mut *connection).await?;
        let due = sqlx::query_as(include_str!("object/due.sql")).bind(id).fetch_all(connection).await?;
        Ok(Some(Story { entry, versions, rejects, waits, due }))
    };
    let mut story = reader.read(query).await?;
    if let Some(story) = &mut story {
        let reason = story.entry.reason.clone();
        let hide = |error: String| values::of_object(reason.as_deref(), &error, may_show);
        story.entry.error = story.entry.error.take().map(hide);
        for row in &mut story.rejects {
            row.message = row.message.take().and_then(|message| values::of_row(&message, may_show));
        }
    }
    Ok(story)
}
