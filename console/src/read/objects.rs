//! Objects that are searched for: page by page, each from a bounded piece of an index.

use super::{Failure, Reader};
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;

/// Entries of a page.
pub const PAGE: i64 = 100;

/// Entries that are looked at for a page: more would take longer than somebody waits.
const LOOKED_AT: i64 = 4_000;

/// What is searched for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Search {
    /// The bucket and how the key begins.
    pub prefix: Option<(String, String)>,
    /// Only of this dataset.
    pub dataset: Option<String>,
    /// Only in this state.
    pub state: Option<String>,
    /// Only with this reason.
    pub reason: Option<String>,
    /// First seen then or later.
    pub since: Option<DateTime<Utc>>,
    /// First seen before.
    pub until: Option<DateTime<Utc>>,
    /// Behind the last one of the page before.
    pub after: Option<Cursor>,
}

impl Search {
    /// Returns whether every entry will do, whatever became of it.
    fn takes_all(&self) -> bool {
        let Self { dataset, state, reason, since, until, .. } = self;
        [dataset, state, reason].iter().all(|text| text.is_none()) && [since, until].iter().all(|time| time.is_none())
    }
}

/// Where a page begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Cursor {
    /// Below this id.
    Id(i64),
    /// Behind this key, and this head where there are several.
    Key(String, i64),
}

/// An entry of the ledger.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "they are the ledger's columns")]
pub struct Found {
    pub id: i64,
    pub dataset: String,
    pub bucket: String,
    pub key: String,
    pub version_id: Option<String>,
    pub is_delete: bool,
    pub state: String,
    pub reason: Option<String>,
    pub attempts: i32,
    pub rows_read: Option<i64>,
    pub rows_written: Option<i64>,
    pub rows_rejected: Option<i64>,
    pub first_seen_at: DateTime<Utc>,
    pub imported_at: Option<DateTime<Utc>>,
    /// Whether its rows are those in the table.
    pub stands: bool,
}
service::from_row!(Found {
    id,
    dataset,
    bucket,
    key,
    version_id,
    is_delete,
    state,
    reason,
    attempts,
    rows_read,
    rows_written,
    rows_rejected,
    first_seen_at,
    imported_at,
    stands
});

/// A page of what was found.
#[derive(Debug, Clone, Serialize)]
pub struct Objects {
    /// By key where a prefix was asked for, else the latest first.
    pub found: Vec<Found>,
    /// Where the next page begins, if there is one.
    pub next: Option<Cursor>,
    /// Entries that were looked at, where that ended the page.
    pub looked_at: Option<i64>,
}

/// Returns a page of objects.
///
/// # Errors
/// As [`Reader::read`].
pub async fn objects(reader: &Reader, search: &Search) -> Result<Objects, Failure> {
    let query = async |connection: &mut PgConnection| match &search.prefix {
        Some((bucket, prefix)) => by_key(connection, search, bucket, prefix).await,
        None => by_id(connection, search).await,
    };
    reader.read(query).await
}

async fn by_key(connection: &mut PgConnection, search: &Search, bucket: &str, prefix: &str) -> sqlx::Result<Objects> {
    let (after_key, after_head) = match &search.after {
        Some(Cursor::Key(key, head)) => (Some(key.as_str()), *head),
        _ => (None, 0),
    };
    let end = end_of(prefix);
    // Where every entry will do, a page of keys has a page of entries.
    let looked_at = if search.takes_all() { PAGE + 1 } else { LOOKED_AT };
    let heads = "SELECT h.key, h.id FROM penstock.head h \
        WHERE h.bucket = $1 AND h.key ~>=~ $2 AND ($3::text IS NULL OR h.key ~<~ $3) \
          AND ($4::text IS NULL OR h.key ~>=~ $4) AND ($4::text IS NULL OR h.key ~>~ $4 OR h.id > $5) \
        ORDER BY h.bucket USING ~<~, h.key USING ~<~ OFFSET $6 LIMIT 1";
    let last = sqlx::query_as(heads).bind(bucket).bind(prefix).bind(&end).bind(after_key).bind(after_head);
    let last: Option<(String, i64)> = last.bind(looked_at - 1).fetch_optional(&mut *connection).await?;
    let found = sqlx::query_as(include_str!("objects/by_key.sql"))
        .bind(bucket)
        .bind(prefix)
        .bind(&end)
        .bind(after_key)
        .bind(after_head)
        .bind(&search.dataset)
        .bind(&search.state)
        .bind(&search.reason)
        .bind(search.since)
        .bind(search.until)
        .bind(PAGE + 1)
        .bind(looked_at);
    let mut found: Vec<Found> = found.fetch_all(connection).await?;
    // Versions of one key stay together, unless they are more than a page.
    if found.len() as i64 > PAGE
        && let Some(last) = found.last().map(|last| last.key.clone())
        && found[0].key != last
    {
        found.retain(|entry| entry.key != last);
        let next = found.last().map(|last| Cursor::Key(last.key.clone(), i64::MAX));
        return Ok(Objects { next, found, looked_at: None });
    }
    let looked_to = last.map(|(key, head)| Cursor::Key(key, head));
    Ok(page(found, (looked_to, looked_at), |last| Cursor::Key(last.key.clone(), i64::MAX)))
}

async fn by_id(connection: &mut PgConnection, search: &Search) -> sqlx::Result<Objects> {
    let top = match search.after {
        Some(Cursor::Id(id)) => id,
        _ => i64::MAX,
    };
    let bottom = match search.since {
        Some(since) => first_since(connection, since).await?,
        None => 0,
    };
    let top = match search.until {
        Some(until) => top.min(first_since(connection, until).await?),
        None => top,
    };
    let (source, of) = match search.state.as_deref() {
        // Which knows its dataset, so that no entry of another is looked up.
        Some("failed") => (
            "SELECT p.object_id AS id, p.dataset FROM penstock.problem p WHERE p.kind = 'failed' AND p.object_id < $1 \
             AND p.object_id >= $2 ORDER BY p.object_id DESC",
            "$3::text IS NULL OR c.dataset = $3",
        ),
        Some("importing" | "retrying") => (
            "SELECT u.object_id AS id FROM penstock.unfinished u WHERE u.object_id < $1 AND u.object_id >= $2 \
             ORDER BY u.object_id DESC",
            "true",
        ),
        _ => ("SELECT a.id FROM penstock.object a WHERE a.id < $1 AND a.id >= $2 ORDER BY a.id DESC", "true"),
    };
    let last = format!("SELECT c.id FROM ({source} OFFSET $3 LIMIT 1) c");
    let last = sqlx::query_scalar(&last).bind(top).bind(bottom).bind(LOOKED_AT - 1);
    let last: Option<i64> = last.fetch_optional(&mut *connection).await?;
    let sql = include_str!("objects/by_id.sql").replace("{source}", source).replace("{of}", of);
    let found = sqlx::query_as(&sql)
        .bind(top)
        .bind(bottom)
        .bind(&search.dataset)
        .bind(&search.state)
        .bind(&search.reason)
        .bind(PAGE + 1)
        .bind(LOOKED_AT)
        .fetch_all(connection)
        .await?;
    Ok(page(found, (last.map(Cursor::Id), LOOKED_AT), |last| Cursor::Id(last.id)))
}

fn page(
    mut found: Vec<Found>,
    (looked_to, looked_at): (Option<Cursor>, i64),
    cursor: impl Fn(&Found) -> Cursor,
) -> Objects {
    if found.len() as i64 > PAGE {
        found.truncate(PAGE as usize);
        return Objects { next: found.last().map(cursor), found, looked_at: None };
    }
    Objects { found, looked_at: looked_to.as_ref().map(|_| looked_at), next: looked_to }
}

/// Returns the id of the first entry that was first seen then or later. Ids are given as entries are made, so it is found
/// by halving.
async fn first_since(connection: &mut PgConnection, since: DateTime<Utc>) -> sqlx::Result<i64> {
    let ends: (Option<i64>, Option<i64>) = sqlx::query_as(
        "SELECT (SELECT id FROM penstock.object ORDER BY id LIMIT 1), (SELECT id FROM penstock.object ORDER BY id DESC LIMIT 1)",
    )
    .fetch_one(&mut *connection)
    .await?;
    let (Some(mut low), Some(high)) = ends else { return Ok(0) };
    let mut high = high + 1;
    while low < high {
        let middle = low + (high - low) / 2;
        let next = sqlx::query_as("SELECT id, first_seen_at FROM penstock.object WHERE id >= $1 ORDER BY id LIMIT 1");
        let next: Option<(i64, DateTime<Utc>)> = next.bind(middle).fetch_optional(&mut *connection).await?;
        match next {
            Some((id, seen)) if seen < since => low = id + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// Returns the first text behind all that begin like this, byte by byte; none behind the last character.
fn end_of(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        let next = match last {
            '\u{d7ff}' => Some('\u{e000}'),
            last => char::from_u32(u32::from(last) + 1),
        };
        if let Some(next) = next {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_alike_ends_before_the_next_text() {
        assert_eq!(end_of("ab"), Some("ac".into()));
        assert_eq!(end_of("a\u{10ffff}"), Some("b".into()));
        assert_eq!(end_of("\u{d7ff}"), Some("\u{e000}".into()));
        assert_eq!((end_of(""), end_of("\u{10ffff}")), (None, None));
    }
}
