//! A pool over time: what waits, what comes, and who works.

use super::{Failure, Reader};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Points of a chart.
const INTERVALS: i32 = 180;

/// How far back a chart goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Span {
    /// An hour.
    #[serde(rename = "1h")]
    Hour,
    /// Six hours.
    #[default]
    #[serde(rename = "6h")]
    SixHours,
    /// A day.
    #[serde(rename = "1d")]
    Day,
    /// A week.
    #[serde(rename = "7d")]
    Week,
    /// Thirty days.
    #[serde(rename = "30d")]
    Month,
}

impl Span {
    /// All of them, the shortest first.
    pub const ALL: [Self; 5] = [Self::Hour, Self::SixHours, Self::Day, Self::Week, Self::Month];

    /// Returns how it is written in an address.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Hour => "1h",
            Self::SixHours => "6h",
            Self::Day => "1d",
            Self::Week => "7d",
            Self::Month => "30d",
        }
    }

    /// Returns how people say it.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Hour => "1 hour",
            Self::SixHours => "6 hours",
            Self::Day => "1 day",
            Self::Week => "7 days",
            Self::Month => "30 days",
        }
    }

    /// Returns its seconds.
    #[must_use]
    pub fn secs(self) -> f64 {
        match self {
            Self::Hour => 3600.0,
            Self::SixHours => 6.0 * 3600.0,
            Self::Day => 86_400.0,
            Self::Week => 7.0 * 86_400.0,
            Self::Month => 30.0 * 86_400.0,
        }
    }
}

/// A pool at one time; where nothing was decided nothing is known.
#[derive(Debug, Clone, Serialize)]
pub struct Point {
    /// When.
    pub at: DateTime<Utc>,
    /// Workers wanted.
    pub desired: Option<i32>,
    /// Workers there, or starting.
    pub running: Option<f64>,
    /// Messages that wait or are in hand.
    pub depth: Option<f64>,
    /// Objects that come in a minute, estimated.
    pub arriving: Option<f64>,
}
service::from_row!(Point { at, desired, running, depth, arriving });

/// Returns a pool over time, the oldest point first.
///
/// # Errors
/// As [`Reader::read`].
pub async fn chart(reader: &Reader, pool: &str, span: Span) -> Result<Vec<Point>, Failure> {
    let query = async |connection: &mut _| {
        sqlx::query_as(include_str!("chart.sql"))
            .bind(pool)
            .bind(span.secs())
            .bind(INTERVALS)
            .fetch_all(connection)
            .await
    };
    reader.read(query).await
}
