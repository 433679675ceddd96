//! Tags that objects get in S3 once they are loaded: due with the commit, written afterwards.

use service::due::Item;
use sqlx::{Connection, PgConnection, Row, postgres::types::PgInterval};
use std::time::Duration;

/// How long a claim is exclusive. Longer than all of a sending may take.
const LEASE: Duration = Duration::from_secs(90);
/// Items claimed at once.
const AT_ONCE: i64 = 100;
/// Of these, how many of one dataset: where all have to wait for others of their objects, other datasets have their turn.
const OF_ONE: i64 = 25;

/// Where tags go, for people.
const PLACE: &str = "S3";

/// Claims tags that are due, beside others who do. What is looked at does not grow with what waits.
///
/// # Errors
/// Of the database.
pub async fn claim(connection: &mut PgConnection, busy: &[String]) -> sqlx::Result<Vec<Item>> {
    let lease = PgInterval::try_from(LEASE).map_err(sqlx::Error::Encode)?;
    let mut tx = connection.begin().await?;
    let due = sqlx::query_scalar(include_str!("due_tags.sql")).bind(AT_ONCE).bind(OF_ONE).bind(busy);
    let due: Vec<i64> = due.fetch_all(&mut *tx).await?;
    // A statement of its own, which sees what those claimed who had the objects' locks before.
    let claimed = sqlx::query(include_str!("claim_tags.sql")).bind(due).bind(lease);
    let rows = claimed.fetch_all(&mut *tx).await?;
    tx.commit().await?;
    rows.iter()
        .map(|row| {
            Ok(Item {
                id: row.try_get("id")?,
                target: row.try_get("target")?,
                place: Some(PLACE.to_owned()),
                event: None,
                body: row.try_get("body")?,
                attempts: row.try_get("attempts")?,
            })
        })
        .collect()
}
