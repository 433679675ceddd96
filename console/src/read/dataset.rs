//! One dataset: its minutes, its rejects, what its objects were made by, and what waits for what.

use super::{
    Failure, Reader,
    chart::Span,
    now::{self, Problem},
};
use chrono::{DateTime, Utc};
use serde::Serialize;

/// Intervals of its charts.
const INTERVALS: i32 = 96;

/// What became of its objects in one interval.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "they are the table's columns, added up")]
pub struct Interval {
    /// When it begins.
    pub at: DateTime<Utc>,
    pub n_imported: i64,
    pub n_skipped: i64,
    pub n_superseded: i64,
    pub n_gone: i64,
    pub n_failed: i64,
    pub rows_written: i64,
    pub rows_rejected: i64,
    pub bytes: i64,
    /// The middle of its minutes' middles.
    pub lag_p50: Option<f64>,
    /// The worst of its minutes.
    pub lag_p95: Option<f64>,
}
service::from_row!(Interval {
    at,
    n_imported,
    n_skipped,
    n_superseded,
    n_gone,
    n_failed,
    rows_written,
    rows_rejected,
    bytes,
    lag_p50,
    lag_p95
});

/// By which recipe some of its last objects were made.
#[derive(Debug, Clone, Serialize)]
pub struct MadeBy {
    /// The recipe: settings, SQL and program that shaped the rows.
    pub recipe: Option<String>,
    /// Objects.
    pub n: i64,
    /// When the last of them was imported.
    pub latest: Option<DateTime<Utc>>,
}
service::from_row!(MadeBy { recipe, n, latest });

/// A step after it or before it.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// The dataset that follows.
    pub dataset: String,
    /// Those it follows.
    pub after: Vec<String>,
    /// The queue that its pointers go to.
    pub queue: String,
}
service::from_row!(Step { dataset, after, queue });

/// A field whose keys are awaited.
#[derive(Debug, Clone, Serialize)]
pub struct Awaited {
    /// Whose field it is.
    pub dataset: String,
    /// The field.
    pub field: String,
    /// The column where its keys are awaited.
    pub lookup: String,
    /// The datasets that fill it.
    pub fillers: Vec<String>,
    /// Keys that are waited for, of the first 1,001.
    pub n: i64,
}
service::from_row!(Awaited { dataset, field, lookup, fillers, n });

/// One dataset.
#[derive(Debug, Clone, Serialize)]
pub struct Dataset {
    /// Whether anything is known of it.
    pub is_known: bool,
    /// Its intervals, the oldest first; those without objects are missing.
    pub intervals: Vec<Interval>,
    /// How long an interval is, in seconds.
    pub interval_secs: f64,
    /// What is wrong with its objects and rows.
    pub problems: Vec<Problem>,
    /// By what its last objects were made.
    pub made: Vec<MadeBy>,
    /// The steps it is part of.
    pub steps: Vec<Step>,
    /// What waits for what.
    pub awaited: Vec<Awaited>,
}

/// Returns what is known of a dataset.
///
/// # Errors
/// As [`Reader::read`].
pub async fn dataset(reader: &Reader, name: &str, span: Span) -> Result<Dataset, Failure> {
    let interval_secs = (span.secs() / f64::from(INTERVALS)).max(60.0);
    let query = async |connection: &mut sqlx::PgConnection| {
        let intervals = sqlx::query_as(include_str!("dataset/intervals.sql")).bind(name).bind(span.secs());
        let intervals: Vec<Interval> = intervals.bind(interval_secs).fetch_all(&mut *connection).await?;
        let made = sqlx::query_as(include_str!("dataset/made.sql")).bind(name).fetch_all(&mut *connection).await?;
        let steps = sqlx::query_as(
            "SELECT dataset, after, queue FROM penstock.step WHERE dataset = $1 OR $1 = ANY (after) ORDER BY dataset LIMIT 100",
        );
        let steps: Vec<Step> = steps.bind(name).fetch_all(&mut *connection).await?;
        let awaited = sqlx::query_as(include_str!("dataset/awaited.sql")).bind(name);
        let awaited: Vec<Awaited> = awaited.fetch_all(&mut *connection).await?;
        let known = sqlx::query_scalar(include_str!("dataset/known.sql")).bind(name).fetch_one(connection);
        let known: bool = known.await?;
        let is_known = known || !steps.is_empty() || !awaited.is_empty();
        Ok(Dataset { is_known, intervals, interval_secs, problems: Vec::new(), made, steps, awaited })
    };
    let mut dataset = reader.read(query).await?;
    dataset.problems = now::gathered(reader, None, Some(name)).await?;
    dataset.is_known |= !dataset.made.is_empty();
    Ok(dataset)
}
