//! Rows of one kind that were rejected.

use super::{Failure, Reader, values};
use chrono::{DateTime, Utc};
use serde::Serialize;

/// Rows that are shown; one more says that there are more.
pub const MOST: i64 = 100;

/// What is wrong with the rows that are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Which {
    /// Of this dataset.
    pub dataset: String,
    /// Of this class.
    pub class: String,
    /// In this column; empty: in none.
    pub column: String,
}

/// A rejected row.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The object's id.
    pub object_id: i64,
    /// Its bucket.
    pub bucket: String,
    /// Its key.
    pub key: String,
    /// The row's number in it, from 1.
    pub row_number: i64,
    /// Why, without values unless they may be shown.
    pub message: Option<String>,
    /// How the row begins, where it may be shown.
    pub payload: Option<String>,
    /// When it was rejected.
    pub created_at: DateTime<Utc>,
}
service::from_row!(Row { object_id, bucket, key, row_number, message, payload, created_at });

/// Returns rows that wait for their second chance, of the last objects that have such.
///
/// # Errors
/// As [`Reader::read`].
pub async fn rejects(reader: &Reader, which: &Which) -> Result<Vec<Row>, Failure> {
    let may_show = reader.shows_values();
    let payload = if may_show { "encode(substring(r.payload FOR 2000), 'escape')" } else { "NULL::text" };
    let sql = include_str!("rejects/rows.sql").replace("{payload}", payload);
    let query = async |connection: &mut sqlx::PgConnection| {
        let rows = sqlx::query_as(&sql).bind(&which.dataset).bind(&which.class).bind(&which.column).bind(MOST + 1);
        rows.fetch_all(connection).await
    };
    let mut rows: Vec<Row> = reader.read(query).await?;
    for row in &mut rows {
        row.message = row.message.take().and_then(|message| values::of_row(&message, may_show));
    }
    Ok(rows)
}
