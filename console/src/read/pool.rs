//! One pool: its decisions and the workers.

use super::{Failure, Reader};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Decisions and workers that are shown; one more says that there are more.
pub const MOST: i64 = 60;

/// A decision.
#[derive(Debug, Clone, Serialize)]
pub struct Decision {
    /// When.
    pub at: DateTime<Utc>,
    /// Workers wanted.
    pub desired: i32,
    /// The rule or guard that made the number.
    pub reason: String,
    /// Why, as a sentence.
    pub explain: String,
    /// Whether it was carried out.
    pub applied: bool,
    /// What was done, or why not.
    pub outcome: Option<String>,
}
service::from_row!(Decision { at, desired, reason, explain, applied, outcome });

/// A worker's heartbeat.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "they are the table's columns")]
pub struct Worker {
    pub id: String,
    pub host: String,
    pub version: String,
    pub state: String,
    pub slots: i32,
    pub in_flight: i32,
    pub queue_url: Option<String>,
    pub heartbeat_at: DateTime<Utc>,
    pub started_at: DateTime<Utc>,
    /// How long it took to its first receive, in seconds.
    pub start_secs: Option<f64>,
}
service::from_row!(Worker {
    id,
    host,
    version,
    state,
    slots,
    in_flight,
    queue_url,
    heartbeat_at,
    started_at,
    start_secs
});

/// A size at which a pool is held by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Workers.
    pub at: i32,
    /// When it ends by itself.
    pub until: DateTime<Utc>,
    /// Who asked for it.
    pub by: Option<String>,
}

impl Pause {
    /// Reads what a statement made of the row.
    pub(super) fn of(json: Value) -> Option<Self> {
        serde_json::from_value(json).ok()
    }
}

/// One pool.
#[derive(Debug, Clone, Serialize)]
pub struct Pool {
    /// Whether anything is known of it.
    pub is_known: bool,
    /// Its last decisions, the newest first.
    pub decisions: Vec<Decision>,
    /// The size it is held at by hand.
    pub pause: Option<Pause>,
    /// What the last one was made from, with what each guard allowed.
    pub inputs: Option<Value>,
    /// The workers of all pools: the ledger does not know which is whose.
    pub workers: Vec<Worker>,
}

/// Returns what is known of a pool.
///
/// # Errors
/// As [`Reader::read`].
pub async fn pool(reader: &Reader, name: &str) -> Result<Pool, Failure> {
    let query = async |connection: &mut sqlx::PgConnection| {
        let decisions = sqlx::query_as(include_str!("pool/decisions.sql")).bind(name).bind(MOST + 1);
        let decisions = decisions.fetch_all(&mut *connection).await?;
        let inputs =
            sqlx::query_scalar("SELECT inputs FROM penstock.decisions WHERE pool = $1 ORDER BY at DESC LIMIT 1");
        let inputs: Option<Value> = inputs.bind(name).fetch_optional(&mut *connection).await?;
        let state = sqlx::query_scalar(include_str!("pool/pause.sql")).bind(name).fetch_optional(&mut *connection);
        let state: Option<Option<Value>> = state.await?;
        let is_known = inputs.is_some() || state.is_some();
        let pause = state.flatten().and_then(Pause::of);
        let workers = sqlx::query_as(include_str!("pool/workers.sql")).bind(MOST + 1).fetch_all(connection).await?;
        Ok(Pool { is_known, decisions, pause, inputs, workers })
    };
    reader.read(query).await
}
