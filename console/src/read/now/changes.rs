//! What changed lately: the pools' sizes, the releases that run, and what shapes rows.

use crate::read::{Failure, Reader};
use chrono::{DateTime, Utc};
use serde::Serialize;

/// A change of a pool's number, or one that could not be made.
#[derive(Debug, Clone, Serialize)]
pub struct Change {
    /// The pool.
    pub pool: String,
    /// When.
    pub at: DateTime<Utc>,
    /// The number before.
    pub before: Option<i32>,
    /// The number.
    pub desired: i32,
    /// The rule or guard that made it.
    pub reason: String,
    /// Why, as a sentence.
    pub explain: String,
    /// Whether it was carried out.
    pub applied: bool,
    /// What was done, or why not; also that somebody else had changed the number.
    pub outcome: Option<String>,
}
service::from_row!(Change { pool, at, before, desired, reason, explain, applied, outcome });

/// Importers of one release.
#[derive(Debug, Clone, Serialize)]
pub struct Release {
    /// Its version.
    pub version: String,
    /// How many run.
    pub n: i64,
    /// When the first of them started.
    pub since: DateTime<Utc>,
}
service::from_row!(Release { version, n, since });

/// Objects made by one of several recipes.
#[derive(Debug, Clone, Serialize)]
pub struct Made {
    /// The dataset.
    pub dataset: String,
    /// The recipe.
    pub recipe: String,
    /// Objects of it, of the last 2,000 of all datasets.
    pub n: i64,
    /// When the first of them was imported.
    pub since: Option<DateTime<Utc>>,
}
service::from_row!(Made { dataset, recipe, n, since });

/// What changed.
#[derive(Debug, Clone, Serialize)]
pub struct Changes {
    /// The pools' sizes, the newest change first.
    pub decisions: Vec<Change>,
    /// The releases that run.
    pub releases: Vec<Release>,
    /// Datasets whose objects are made by several recipes.
    pub made: Vec<Made>,
}

/// Returns what changed lately.
///
/// # Errors
/// As [`Reader::read`].
pub async fn changes(reader: &Reader) -> Result<Changes, Failure> {
    let query = async |connection: &mut sqlx::PgConnection| {
        Ok(Changes {
            decisions: sqlx::query_as(include_str!("decisions.sql")).fetch_all(&mut *connection).await?,
            releases: sqlx::query_as(
                "SELECT version, count(*) AS n, min(started_at) AS since FROM penstock.workers \
                 GROUP BY version ORDER BY since DESC LIMIT 10",
            )
            .fetch_all(&mut *connection)
            .await?,
            made: sqlx::query_as(include_str!("made.sql")).fetch_all(connection).await?,
        })
    };
    reader.read(query).await
}
