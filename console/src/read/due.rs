//! What waits to be sent, and what refuses.

use super::{Failure, Reader};
use chrono::{DateTime, Utc};
use serde::Serialize;

/// Items of a page; one more says that there are more.
pub const MOST: i64 = 100;

/// Items for one target.
#[derive(Debug, Clone, Serialize)]
pub struct Target {
    /// `step`, `notify`, `tag` or `recheck`.
    pub kind: String,
    /// The dataset that follows or whose objects get a tag, the notification's name, or the column that is looked at.
    pub target: String,
    /// Where that is.
    pub place: Option<String>,
    /// How many, of the first 5,000 of all targets.
    pub n: i64,
    /// How many of them are overdue.
    pub n_overdue: i64,
    /// How many of them could not be sent when that was tried.
    pub n_refused: i64,
    /// Since when the oldest of them waits.
    pub since: DateTime<Utc>,
    /// When the next is sent.
    pub next_at: DateTime<Utc>,
    /// How often one was tried at most.
    pub attempts: i32,
    /// Why one could not be sent.
    pub error: Option<String>,
}
service::from_row!(Target { kind, target, place, n, n_overdue, n_refused, since, next_at, attempts, error });

/// One item.
#[derive(Debug, Clone, Serialize)]
pub struct Item {
    /// Its id.
    pub id: i64,
    /// Not before.
    pub at: DateTime<Utc>,
    /// `step`, `notify` or `tag`.
    pub kind: String,
    /// The dataset that follows or whose object gets a tag, or the notification's name.
    pub target: String,
    /// What happened.
    pub event: Option<String>,
    /// The object it is about.
    pub object_id: Option<i64>,
    /// How often it was tried.
    pub attempts: i32,
    /// Why it could not be sent.
    pub error: Option<String>,
    /// Since when it waits.
    pub created_at: DateTime<Utc>,
}
service::from_row!(Item { id, at, kind, target, event, object_id, attempts, error, created_at });

/// What waits.
#[derive(Debug, Clone, Serialize)]
pub struct Due {
    /// By where it goes, what refuses first.
    pub targets: Vec<Target>,
    /// One by one, what is sent next first.
    pub items: Vec<Item>,
}

/// Returns what waits, item by item behind a time and an id.
///
/// # Errors
/// As [`Reader::read`].
pub async fn due(reader: &Reader, after: Option<(DateTime<Utc>, i64)>) -> Result<Due, Failure> {
    let (at, id) = after.unwrap_or((DateTime::UNIX_EPOCH, 0));
    let query = async |connection: &mut sqlx::PgConnection| {
        let targets = sqlx::query_as(include_str!("due/targets.sql")).fetch_all(&mut *connection).await?;
        let items = sqlx::query_as(
            "SELECT i.id, i.at, i.kind, i.target, i.event, i.object_id, i.attempts, i.error, i.created_at \
             FROM penstock.due_item i WHERE i.at >= $1 AND (i.at > $1 OR i.id > $2) ORDER BY i.at, i.id LIMIT $3",
        );
        let items = items.bind(at).bind(id).bind(MOST + 1).fetch_all(connection).await?;
        Ok(Due { targets, items })
    };
    reader.read(query).await
}
