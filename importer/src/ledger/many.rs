//! The ledger's statements for many objects at once: one round trip each, however many there are.

use super::{
    Candidate, Counts, Fenced, Known, Recorded,
    attempt::{known, recorded},
    fence::standing,
    size,
};
use crate::{
    message::Delivery,
    order::{Identity, Stamp},
};
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row};
use std::collections::HashMap;

/// An object of a group: where it is, and which version of it.
#[derive(Debug, Clone)]
pub struct Sought<'a> {
    /// Bucket.
    pub bucket: &'a str,
    /// Key.
    pub key: &'a str,
    /// Which version.
    pub identity: &'a Identity,
}

/// Does what [`super::look_up`] does, for many.
///
/// # Errors
/// Of the database.
pub async fn look_up_many(
    connection: &mut PgConnection,
    dataset: &str,
    sought: &[Sought<'_>],
) -> sqlx::Result<Vec<Known>> {
    let rows = sqlx::query(include_str!("look_up_many.sql"))
        .bind(dataset)
        .bind(texts(sought, |sought| Some(sought.bucket)))
        .bind(texts(sought, |sought| Some(sought.key)))
        .bind(texts(sought, |sought| sought.identity.version_id.as_deref()))
        .bind(texts(sought, |sought| sought.identity.etag.as_deref()))
        .bind(sought.iter().map(|sought| size(sought.identity)).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    let mut found = vec![Known::default(); sought.len()];
    for row in rows {
        let place = usize::try_from(row.try_get::<i64, _>("place")? - 1).unwrap_or(usize::MAX);
        if let Some(found) = found.get_mut(place) {
            *found = known(&row)?;
        }
    }
    Ok(found)
}

/// An attempt at a version that was never seen.
#[derive(Debug, Clone)]
pub struct FirstAttempt<'a> {
    /// What and where.
    pub sought: Sought<'a>,
    /// How new.
    pub stamp: &'a Stamp,
    /// When the event happened.
    pub event_time: Option<DateTime<Utc>>,
    /// When its message came.
    pub delivery: Delivery,
}

/// Does what [`super::begin`] does, for many versions that were never seen, each of another key.
/// None for a version that another worker recorded meanwhile.
///
/// # Errors
/// Of the database.
pub async fn begin_many(
    connection: &mut PgConnection,
    dataset: &str,
    attempts: &[FirstAttempt<'_>],
    worker: &str,
    queue_url: Option<&str>,
) -> sqlx::Result<Vec<Option<Recorded>>> {
    let buckets = texts(attempts, |attempt| Some(attempt.sought.bucket));
    let keys = texts(attempts, |attempt| Some(attempt.sought.key));
    sqlx::query(include_str!("ensure_heads.sql"))
        .bind(dataset)
        .bind(&buckets)
        .bind(&keys)
        .execute(&mut *connection)
        .await?;
    let rows = sqlx::query(include_str!("begin_many.sql"))
        .bind(dataset)
        .bind(&buckets)
        .bind(&keys)
        .bind(texts(attempts, |attempt| attempt.sought.identity.version_id.as_deref()))
        .bind(texts(attempts, |attempt| attempt.sought.identity.etag.as_deref()))
        .bind(attempts.iter().map(|attempt| size(attempt.sought.identity)).collect::<Vec<_>>())
        .bind(texts(attempts, |attempt| attempt.stamp.sequencer.as_deref()))
        .bind(attempts.iter().map(|attempt| attempt.stamp.last_modified).collect::<Vec<_>>())
        .bind(attempts.iter().map(|attempt| attempt.event_time).collect::<Vec<_>>())
        .bind(worker)
        .bind(queue_url)
        .bind(attempts.iter().map(|attempt| attempt.delivery.sent_at).collect::<Vec<_>>())
        .bind(attempts.iter().map(|attempt| attempt.delivery.first_received_at).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    let mut begun = HashMap::with_capacity(rows.len());
    for row in rows {
        if row.try_get::<i32, _>("attempts")? == 1 {
            let place: (String, String) = (row.try_get("bucket")?, row.try_get("key")?);
            begun.insert(place, row);
        }
    }
    let place = |attempt: &FirstAttempt<'_>| (attempt.sought.bucket.to_owned(), attempt.sought.key.to_owned());
    let of = |attempt| begun.get(&place(attempt)).map(|row| recorded(row, attempt.delivery)).transpose();
    attempts.iter().map(of).collect()
}

/// Does what [`super::lock_head`] does, for many heads in the order of their ids.
///
/// # Errors
/// Of the database; 55P03 when a lock was not granted within `lock_timeout`.
pub async fn lock_heads(
    connection: &mut PgConnection,
    members: &[(Recorded, &Candidate)],
) -> sqlx::Result<Vec<Option<Fenced>>> {
    let heads: Vec<i64> = members.iter().map(|(recorded, _)| recorded.head_id).collect();
    sqlx::query("SELECT 1 FROM penstock.head WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE")
        .bind(&heads)
        .execute(&mut *connection)
        .await?;
    // A statement of its own, so with a snapshot taken after the locks were granted.
    let rows = sqlx::query(include_str!("standing_many.sql"))
        .bind(&heads)
        .bind(texts(members, |(_, candidate)| candidate.identity.version_id.as_deref()))
        .bind(texts(members, |(_, candidate)| candidate.identity.etag.as_deref()))
        .bind(members.iter().map(|(_, candidate)| size(&candidate.identity)).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    let mut fenced = HashMap::with_capacity(rows.len());
    for row in rows {
        let found = Fenced { standing: standing(&row)?, ever_imported: row.try_get("ever_imported")? };
        fenced.insert(row.try_get::<i64, _>("head_id")?, found);
    }
    Ok(heads.iter().map(|head| fenced.remove(head)).collect())
}

/// One import of a group.
#[derive(Debug, Clone)]
pub struct Finished<'a> {
    /// The rows of the ledger.
    pub recorded: Recorded,
    /// Which version was read, and how new it is.
    pub candidate: &'a Candidate,
    /// Row counts; no rejects.
    pub counts: Counts,
    /// Bytes of the object.
    pub bytes: u64,
    /// The dataset whose import it follows.
    pub after: Option<&'a str>,
}

/// Does what [`super::finish_imported`] does, for many versions that were never imported before; the last statement of
/// its transaction, for the planner is told to look nowhere but in indexes.
///
/// # Errors
/// Of the database.
pub async fn finish_many(
    connection: &mut PgConnection,
    finished: &[Finished<'_>],
    (technique, recipe): (&str, &str),
    duration_seconds_each: f64,
) -> sqlx::Result<()> {
    let numbers = |of: fn(&Finished<'_>) -> u64| -> Vec<i64> {
        finished.iter().map(|finished| i64::try_from(of(finished)).unwrap_or(i64::MAX)).collect()
    };
    sqlx::query(include_str!("by_index.sql")).execute(&mut *connection).await?;
    let done = sqlx::query(include_str!("finish_many.sql"))
        .bind(finished.iter().map(|finished| finished.recorded.object_id).collect::<Vec<_>>())
        .bind(finished.iter().map(|finished| finished.recorded.head_id).collect::<Vec<_>>())
        .bind(texts(finished, |finished| finished.candidate.identity.version_id.as_deref()))
        .bind(texts(finished, |finished| finished.candidate.stamp.sequencer.as_deref()))
        .bind(finished.iter().map(|finished| finished.candidate.stamp.last_modified).collect::<Vec<_>>())
        .bind(numbers(|finished| finished.counts.read))
        .bind(numbers(|finished| finished.counts.written))
        .bind(numbers(|finished| finished.counts.merged))
        .bind(numbers(|finished| finished.counts.filtered))
        .bind(numbers(|finished| finished.counts.added))
        .bind(numbers(|finished| finished.bytes))
        .bind(technique)
        .bind(duration_seconds_each)
        .bind(recipe)
        .bind(finished.iter().map(|finished| finished.recorded.delivery.sent_at).collect::<Vec<_>>())
        .bind(finished.iter().map(|finished| finished.recorded.delivery.first_received_at).collect::<Vec<_>>())
        .bind(texts(finished, |finished| finished.after))
        .execute(connection)
        .await?;
    super::found(u64::from(done.rows_affected() == finished.len() as u64))
}

/// Notes that versions which stand were seen again, by sightings that are no newer than what is known.
///
/// # Errors
/// Of the database.
pub async fn note_many_again(connection: &mut PgConnection, seen: &[(i64, i64)]) -> sqlx::Result<()> {
    sqlx::query(include_str!("note_many_again.sql"))
        .bind(seen.iter().map(|(head_id, _)| *head_id).collect::<Vec<_>>())
        .bind(seen.iter().map(|(_, object_id)| *object_id).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}

fn texts<'a, T>(of: &'a [T], text: impl Fn(&'a T) -> Option<&'a str>) -> Vec<Option<&'a str>> {
    of.iter().map(text).collect()
}
