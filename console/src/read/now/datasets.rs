//! The datasets: when something of each came last, and how long it took.

use crate::read::{Failure, Reader};
use chrono::{DateTime, Utc};
use serde::Serialize;

/// A dataset.
#[derive(Debug, Clone, Serialize)]
pub struct DatasetNow {
    /// Its name.
    pub dataset: String,
    /// Objects imported within a quarter of an hour, at most 2,000 of all datasets.
    pub n_recent: i64,
    /// When an object was imported last.
    pub newest_import: Option<DateTime<Utc>>,
    /// How long ago, in seconds.
    pub quiet_secs: Option<f64>,
    /// When the newest object that was imported had been put.
    pub newest_event: Option<DateTime<Utc>>,
    /// Seconds from put to commit, of half of the objects.
    pub lag_p50: Option<f64>,
    /// The same of 95 in a hundred.
    pub lag_p95: Option<f64>,
}
service::from_row!(DatasetNow { dataset, n_recent, newest_import, quiet_secs, newest_event, lag_p50, lag_p95 });

/// Returns the datasets, the one that was quiet for longest first.
///
/// # Errors
/// As [`Reader::read`].
pub async fn datasets(reader: &Reader) -> Result<Vec<DatasetNow>, Failure> {
    let query = async |connection: &mut _| sqlx::query_as(include_str!("datasets.sql")).fetch_all(connection).await;
    reader.read(query).await
}
