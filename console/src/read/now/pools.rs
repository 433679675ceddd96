//! The pools as their scalers decided last, and whether they are late.

use crate::read::{Failure, Reader, kept::Seen, pool::Pause};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use service::words;

/// A scaler that has said nothing for longer may be gone.
const SILENT_SECS: f64 = 120.0;

/// A pool.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PoolNow {
    /// Its name.
    pub pool: String,
    /// Who decides.
    pub leader: Option<String>,
    /// How long ago that one was heard.
    pub silent_secs: f64,
    /// When it decided last.
    pub at: Option<DateTime<Utc>>,
    /// Workers wanted.
    pub desired: Option<i32>,
    /// The rule or guard that made the number.
    pub reason: Option<String>,
    /// Why, as a sentence.
    pub explain: Option<String>,
    /// Whether the pool was brought to the number.
    pub applied: Option<bool>,
    /// What was done, or why not.
    pub outcome: Option<String>,
    /// Workers that are, or will be, there.
    pub running: Option<u64>,
    /// Those of them that are not up yet.
    pub starting: Option<u64>,
    /// Those of them that import.
    pub busy: Option<u64>,
    /// Workers that finish what they have.
    pub draining: Option<u64>,
    /// Workers without a heartbeat.
    pub dead: Option<u64>,
    /// Fewest workers configured.
    pub min: Option<u64>,
    /// Most workers configured.
    pub max: Option<u64>,
    /// Messages that wait.
    pub visible: Option<u64>,
    /// Messages in hand.
    pub in_flight: Option<u64>,
    /// Why the counters could not be read.
    pub queue_error: Option<String>,
    /// Age of the oldest message that counts, in seconds.
    pub oldest_secs: Option<f64>,
    /// What was promised, in seconds.
    pub promised_secs: Option<f64>,
    /// Since when a message is older than that without a break, as far back as 1,000 decisions go.
    pub late_since: Option<DateTime<Utc>>,
    /// Whether Postgres takes writes at its usual speed.
    pub sink_healthy: Option<bool>,
    /// The size that Postgres was found to take.
    pub sink_cap: Option<u64>,
    /// How long the scaler's own commits took lately, in seconds.
    pub commit_secs: Option<f64>,
    /// The size it is held at by hand.
    pub pause: Option<Pause>,
}

struct Row {
    pool: String,
    leader: Option<String>,
    silent_secs: f64,
    at: Option<DateTime<Utc>>,
    desired: Option<i32>,
    reason: Option<String>,
    explain: Option<String>,
    applied: Option<bool>,
    outcome: Option<String>,
    inputs: Option<Value>,
    pause: Option<Value>,
}
service::from_row!(Row { pool, leader, silent_secs, at, desired, reason, explain, applied, outcome, inputs, pause });

/// Returns the pools, by name.
///
/// # Errors
/// As [`Reader::read`].
pub async fn pools(reader: &Reader) -> Result<Vec<PoolNow>, Failure> {
    let query = async |connection: &mut sqlx::PgConnection| {
        let rows: Vec<Row> = sqlx::query_as(include_str!("pools.sql")).fetch_all(&mut *connection).await?;
        let mut pools: Vec<PoolNow> = rows.into_iter().map(PoolNow::of).collect();
        for pool in pools.iter_mut().filter(|pool| pool.is_late()) {
            let since = sqlx::query_scalar(include_str!("late_since.sql")).bind(&pool.pool);
            pool.late_since = since.fetch_one(&mut *connection).await?;
        }
        Ok(pools)
    };
    reader.read(query).await
}

impl PoolNow {
    fn of(row: Row) -> Self {
        let inputs = row.inputs.unwrap_or_default();
        let (pool, queue, sink) = (&inputs["pool"], &inputs["queue"], &inputs["sink"]);
        let members = |states: &[&str]| {
            let of = |state: &&str| pool[*state].as_u64();
            pool.is_object().then(|| states.iter().filter_map(of).sum())
        };
        let bounds = inputs["bounds"].as_array().map(Vec::as_slice).unwrap_or_default();
        let bound = |guard: &str, side: &str| bounds.iter().find(|bound| bound["guard"] == guard)?[side].as_u64();
        Self {
            pool: row.pool,
            leader: row.leader,
            silent_secs: row.silent_secs,
            at: row.at,
            desired: row.desired,
            reason: row.reason,
            explain: row.explain,
            applied: row.applied,
            outcome: row.outcome,
            running: members(&["starting", "idle", "busy"]),
            starting: members(&["starting"]),
            busy: members(&["busy"]),
            draining: members(&["draining"]),
            dead: members(&["dead"]),
            min: bound("min", "at_least"),
            max: bound("max", "at_most"),
            visible: queue["visible"].as_u64(),
            in_flight: queue["in_flight"].as_u64(),
            queue_error: inputs["queue_error"].as_str().map(str::to_owned),
            oldest_secs: inputs["age_secs"].as_f64(),
            promised_secs: inputs["promised_secs"].as_f64(),
            late_since: None,
            sink_healthy: sink["healthy"].as_bool(),
            sink_cap: inputs["sink_cap"].as_u64(),
            commit_secs: sink["commit_secs"].as_f64(),
            pause: row.pause.and_then(Pause::of),
        }
    }

    /// Returns whether its scaler may be gone.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.silent_secs > SILENT_SECS
    }

    /// Returns whether a message is older than was promised.
    #[must_use]
    pub fn is_late(&self) -> bool {
        matches!((self.oldest_secs, self.promised_secs), (Some(oldest), Some(promised)) if oldest > promised)
    }

    /// Returns whether it may not grow any more, but should.
    #[must_use]
    pub fn is_at_max(&self) -> bool {
        self.reason.as_deref() == Some("max")
    }
}

/// The answer to the first question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Lateness {
    /// Nothing is late.
    Fine,
    /// A message is older than was promised.
    Late,
    /// Nobody can tell.
    Unknown,
}

/// Returns whether data is late, the answer in words, and what it is said from.
#[must_use]
pub fn lateness(seen: &Seen<Vec<PoolNow>>) -> (Lateness, String, String) {
    let Some(pools) = &seen.value else {
        let why = seen.failure.as_ref().map_or("nothing was read yet".to_owned(), ToString::to_string);
        return (Lateness::Unknown, "Unknown whether data is late".to_owned(), format!("{why}."));
    };
    let (lateness, answer, detail) = of_pools(pools);
    match &seen.failure {
        None => (lateness, answer, detail),
        Some(failure) => {
            let was = answer[..1].to_lowercase() + &answer[1..];
            (
                Lateness::Unknown,
                "Unknown whether data is late".to_owned(),
                format!("{failure}. Before that: {was}. {detail}"),
            )
        }
    }
}

fn of_pools(pools: &[PoolNow]) -> (Lateness, String, String) {
    let most = |of: fn(&PoolNow) -> f64| pools.iter().max_by(|a, b| of(a).total_cmp(&of(b)));
    let overdue = |pool: &PoolNow| pool.oldest_secs.unwrap_or(0.0) - pool.promised_secs.unwrap_or(f64::INFINITY);
    let n_late = pools.iter().filter(|pool| pool.is_late()).count();
    if let Some(pool) = most(overdue).filter(|pool| pool.is_late()) {
        let by = words::secs(overdue(pool));
        let oldest = words::secs(pool.oldest_secs.unwrap_or(0.0));
        let promised = words::secs(pool.promised_secs.unwrap_or(0.0));
        let more = if n_late > 1 { format!(" {} more pools are late.", n_late - 1) } else { String::new() };
        let seen = if pool.is_silent() {
            format!(" That was {} ago: no scaler has decided since.", words::secs(pool.silent_secs))
        } else {
            String::new()
        };
        let detail = format!(
            "The oldest message of pool {} has waited {oldest}; promised is {promised}.{seen}{more}",
            pool.pool
        );
        return (Lateness::Late, format!("Data is late by {by}"), detail);
    }
    if let Some(pool) = most(|pool| pool.silent_secs).filter(|pool| pool.is_silent()) {
        let detail = format!("No scaler has decided for pool {} in {}.", pool.pool, words::secs(pool.silent_secs));
        return (Lateness::Unknown, "Unknown whether data is late".to_owned(), detail);
    }
    if let Some(pool) = pools.iter().find(|pool| pool.queue_error.is_some()) {
        let why = pool.queue_error.as_deref().unwrap_or_default();
        let detail = format!("The queue of pool {} does not tell how deep it is: {why}.", pool.pool);
        return (Lateness::Unknown, "Unknown whether data is late".to_owned(), detail);
    }
    if pools.is_empty() {
        let detail = "No scaler has decided here, so nobody counts what waits in the queue.".to_owned();
        return (Lateness::Unknown, "Unknown whether data is late".to_owned(), detail);
    }
    let detail = match most(|pool| pool.oldest_secs.unwrap_or(-1.0)) {
        Some(PoolNow { oldest_secs: Some(oldest), promised_secs, pool, .. }) => {
            let promised =
                promised_secs.map_or("nothing is promised".to_owned(), |p| format!("promised is {}", words::secs(p)));
            format!("The oldest message waits in pool {pool} for {}; {promised}.", words::secs(*oldest))
        }
        _ => "No message waits.".to_owned(),
    };
    (Lateness::Fine, "Nothing is late".to_owned(), detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pool(oldest: Option<f64>, promised: Option<f64>) -> PoolNow {
        PoolNow { pool: "p".into(), oldest_secs: oldest, promised_secs: promised, ..PoolNow::default() }
    }

    #[track_caller]
    fn check(pools: Vec<PoolNow>, lateness_expected: Lateness, words: &str) {
        let (found, answer, detail) = lateness(&Seen::once(Ok(pools)));
        assert_eq!(found, lateness_expected, "{answer} {detail}");
        assert!(format!("{answer} {detail}").contains(words), "{answer} {detail}");
    }

    #[test]
    fn the_worst_pool_answers() {
        check(vec![pool(Some(1000.0), Some(900.0)), pool(Some(2100.0), Some(900.0))], Lateness::Late, "late by 20m");
        check(vec![pool(Some(12.0), Some(900.0))], Lateness::Fine, "for 12s; promised is 15m");
        check(vec![pool(Some(12.0), None)], Lateness::Fine, "nothing is promised");
        check(vec![pool(None, Some(900.0))], Lateness::Fine, "No message waits");
        check(vec![PoolNow { silent_secs: 600.0, ..pool(None, Some(900.0)) }], Lateness::Unknown, "in 10m");
        check(vec![PoolNow { queue_error: Some("denied".into()), ..pool(None, None) }], Lateness::Unknown, "denied");
        let silent = PoolNow { silent_secs: 600.0, ..pool(Some(2100.0), Some(900.0)) };
        check(vec![silent], Lateness::Late, "That was 10m ago: no scaler has decided since.");
        check(vec![], Lateness::Unknown, "No scaler");
    }

    #[test]
    fn what_cannot_be_read_is_not_fine() {
        let (found, _, detail) = lateness(&Seen::once(Err(Failure::Slow)));
        assert_eq!((found, detail.as_str()), (Lateness::Unknown, "Postgres did not answer in time."));
        let mut seen = Seen::once(Ok(vec![pool(Some(12.0), Some(900.0))]));
        seen.failure = Some(Failure::Slow);
        let (found, _, detail) = lateness(&seen);
        assert!(found == Lateness::Unknown && detail.contains("Before that: nothing is late."), "{detail}");
    }

    #[test]
    fn a_decision_s_inputs_are_read() {
        let inputs = json!({"pool": {"starting": 1, "idle": 2, "busy": 3, "draining": 4}, "queue": {"visible": 5, "in_flight": 6},
            "age_secs": 7.5, "promised_secs": 900.0, "bounds": [{"guard": "max", "at_most": 32}, {"guard": "min", "at_least": 0}]});
        let row = Row {
            pool: "p".into(),
            leader: None,
            silent_secs: 0.0,
            at: None,
            desired: Some(6),
            reason: None,
            explain: None,
            applied: None,
            outcome: None,
            inputs: Some(inputs),
            pause: None,
        };
        let pool = PoolNow::of(row);
        assert_eq!((pool.running, pool.max, pool.min, pool.oldest_secs), (Some(6), Some(32), Some(0), Some(7.5)));
    }
}
