//! `penstock.workers`: who is alive, and which Postgres backends are whose.

use chrono::{DateTime, Utc};
use service::worker::WorkerState;
use sqlx::PgConnection;

/// What a worker says of itself with every heartbeat.
#[derive(Debug, Clone)]
pub struct WorkerRow {
    /// Unique to the process.
    pub id: String,
    /// Host name.
    pub host: String,
    /// Process id on that host.
    pub pid: i32,
    /// EC2 instance id, task id or pod name, where known.
    pub instance_id: Option<String>,
    /// Version of the program.
    pub version: &'static str,
    /// What it is doing.
    pub state: WorkerState,
    /// Objects at once.
    pub slots: i32,
    /// Objects being imported now.
    pub in_flight: i32,
    /// Empty long polls in a row.
    pub empty_polls: i32,
    /// Address of /healthz and /metrics.
    pub listen: Option<String>,
    /// Process ids of its Postgres backends.
    pub backends: Vec<i32>,
    /// The queue it reads.
    pub queue_url: Option<String>,
    /// The visibility timeout it uses, in seconds: missing two of them makes its backends fair game.
    pub visibility_timeout_secs: i32,
    /// When the process started.
    pub started_at: DateTime<Utc>,
    /// When the first receive was answered.
    pub first_receive_at: Option<DateTime<Utc>>,
    /// Messages received since the start.
    pub receives: i64,
    /// Those of them that had been received before.
    pub redeliveries: i64,
    /// SentTimestamp of the oldest message in hand.
    pub oldest_sent_at: Option<DateTime<Utc>>,
    /// How often that message was received.
    pub oldest_receive_count: Option<i32>,
}

/// Writes the heartbeat, and sweeps out rows without a heartbeat for an hour, unless backends of theirs are left:
/// those may hold locks, and are only ended by the row. Settles what was abandoned, forgets what was finished hours
/// ago, and writes what pages are made from: the minutes that are over, and which problems are none any more.
///
/// # Errors
/// Of the database.
pub async fn heartbeat(connection: &mut PgConnection, row: &WorkerRow) -> sqlx::Result<()> {
    sqlx::query(include_str!("heartbeat.sql"))
        .bind(&row.id)
        .bind(&row.host)
        .bind(row.pid)
        .bind(&row.instance_id)
        .bind(row.version)
        .bind(<&str>::from(row.state))
        .bind(row.slots)
        .bind(row.in_flight)
        .bind(row.empty_polls)
        .bind(&row.listen)
        .bind(&row.backends)
        .bind(&row.queue_url)
        .bind(row.visibility_timeout_secs)
        .bind(row.started_at)
        .bind(row.first_receive_at)
        .bind(row.receives)
        .bind(row.redeliveries)
        .bind(row.oldest_sent_at)
        .bind(row.oldest_receive_count)
        .execute(&mut *connection)
        .await?;
    sqlx::query(include_str!("sweep_workers.sql")).execute(&mut *connection).await?;
    sqlx::query(include_str!("settle_abandoned.sql")).execute(&mut *connection).await?;
    sqlx::query(include_str!("forget_finished.sql")).execute(&mut *connection).await?;
    sqlx::query("SELECT penstock.roll_up()").execute(&mut *connection).await?;
    sqlx::query("SELECT penstock.forget_mended()").execute(connection).await?;
    Ok(())
}

/// Removes the row of a worker that exits.
///
/// # Errors
/// Of the database.
pub async fn remove(connection: &mut PgConnection, id: &str) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM penstock.workers WHERE id = $1").bind(id).execute(connection).await?;
    Ok(())
}

/// Ends the backends of workers that have missed two visibility periods, and returns how many.
///
/// Called by who waited in vain for a lock: a stopped process (SIGSTOP, a frozen VM) keeps its
/// transaction open and would block its keys forever. Its messages are visible to others by then,
/// and its commit can only fail. Backends are told by the worker's `application_name`, so a recycled
/// process id is never hit.
///
/// # Errors
/// Of the database.
pub async fn end_stopped_backends(connection: &mut PgConnection) -> sqlx::Result<u64> {
    let ended: i64 = sqlx::query_scalar(include_str!("end_stopped_backends.sql")).fetch_one(connection).await?;
    Ok(u64::try_from(ended).unwrap_or(0))
}
