//! Tags that objects get in S3 once they are loaded: due with the commit, written afterwards.

use service::due::Item;
use sqlx::{Connection, PgConnection, Row, postgres::types::PgInterval};
use std::time::Duration;

/// How long a claim is exclusive. Longer than all of a sending may take.
const LEASE: Duration = Duration::from_secs(90);
/// Items claimed at once.
const AT_ONCE: i64 = 100;

/// Where tags go, for people.
const PLACE: &str = "S3";

/// Claims tags that are due. Claims are made one after the other, so that none sees an object as free that another one
/// is about to take.
///
/// # Errors
/// Of the database.
pub async fn claim(connection: &mut PgConnection, busy: &[String]) -> sqlx::Result<Vec<Item>> {
    let lease = PgInterval::try_from(LEASE).map_err(sqlx::Error::Encode)?;
    let mut tx = connection.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('penstock.tagging', 0))").execute(&mut *tx).await?;
    let claimed = sqlx::query(include_str!("claim_tags.sql")).bind(AT_ONCE).bind(lease).bind(busy);
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
