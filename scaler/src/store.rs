//! What the scaler keeps in Postgres and reads from it: its state and decisions, the importers' ledger and heartbeats.

use crate::{
    config::Database,
    database,
    observation::{Completion, Pause},
    policy::Moment,
};
use anyhow::Context;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use service::{
    due,
    postgres::{Silent, migrations},
    worker::WorkerState,
};
use sqlx::{Connection, Executor, PgConnection};
use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::{sync::Semaphore, time::timeout};

/// Connections of all pools together; the leader's session is the third.
const CONNECTIONS: usize = 2;

/// Objects of one look at the ledger, at most.
const MOST_COMPLETIONS: i64 = 200_000;

/// Pointers about to be sent that are counted, at most.
const MOST_DUE: i64 = 10_000;

/// Past decisions that are read at once.
pub const MOST_MOMENTS: usize = 5_000;

/// What the ledger shows less recently than this is complete: rows are stamped shortly before they are committed.
const SETTLED_SECS: f64 = 2.0;

/// The database, connected again whenever it was lost. Clones share its connections.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    limit: Duration,
}

struct Shared {
    database: Database,
    application_name: String,
    free: Semaphore,
    idle: Mutex<Vec<Connected>>,
}

struct Connected {
    connection: PgConnection,
    /// When the server ends a statement.
    limit: Duration,
}

/// A worker's heartbeat.
#[derive(Clone, Debug, PartialEq)]
pub struct Heartbeat {
    /// Unique to the process.
    pub id: String,
    /// Where it runs.
    pub host: String,
    /// Its process there.
    pub pid: i32,
    /// Its instance, where it knows.
    pub instance_id: Option<String>,
    /// What it is doing.
    pub state: WorkerState,
    /// Objects at once.
    pub slots: u32,
    /// Objects being imported.
    pub in_flight: u32,
    /// Empty long polls in a row.
    pub empty_polls: u32,
    /// How long ago it last gave a heartbeat, by the server's clock.
    pub silent_secs: f64,
    /// When its first receive was answered.
    pub first_receive_at: Option<DateTime<Utc>>,
    /// Messages received since it started.
    pub receives: u64,
    /// Those of them received before.
    pub redeliveries: u64,
    /// How long ago the oldest message in hand was sent.
    pub oldest_age_secs: Option<f64>,
    /// How often that message was received.
    pub oldest_receive_count: Option<i32>,
}
service::from_row!(Heartbeat {
    id,
    host,
    pid,
    instance_id,
    state: String,
    slots: i32,
    in_flight: i32,
    empty_polls: i32,
    silent_secs,
    first_receive_at,
    receives: i64,
    redeliveries: i64,
    oldest_age_secs,
    oldest_receive_count
});

/// How busy the server is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ServerLoad {
    /// Its connection limit.
    pub max_connections: u32,
    /// Connections that are still free for us.
    pub free_connections: u32,
    /// Backends of importers.
    pub importer_backends: u32,
    /// Those of them that wait for a lock.
    pub waiting_for_locks: u32,
}
service::from_row!(ServerLoad {
    max_connections: i64,
    free_connections: i64,
    importer_backends: i64,
    waiting_for_locks: i64
});

/// What a tick reads.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Those of the last hour on the pool's queues.
    pub heartbeats: Vec<Heartbeat>,
    /// What was finished since the reading before; `None` at the first one.
    pub completions: Option<Vec<Completion>>,
    /// How busy the server is.
    pub load: ServerLoad,
    /// Up to when the ledger was read.
    pub read_to: Option<DateTime<Utc>>,
    /// The pause that was asked for last.
    pub pause: Option<Pause>,
    /// Pointers of earlier steps that will be in the pool's queues within the horizon.
    pub due_soon: u64,
}

/// A decision as it is kept.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Record {
    /// The pool.
    pub pool: String,
    /// When it was made.
    pub at: DateTime<Utc>,
    /// The number.
    pub desired: i32,
    /// The reason's word.
    pub reason: String,
    /// The sentence.
    pub explain: String,
    /// What it was made from.
    pub inputs: Value,
    /// Whether the pool was brought to the number.
    pub applied: bool,
    /// What was done, or why not.
    pub outcome: Option<String>,
}
service::from_row!(Record { pool, at, desired, reason, explain, inputs, applied, outcome });

service::from_row!(Moment { at, backlog, done, done_secs, age_secs, job_secs, start_up_secs });

/// Which past decisions are asked for.
#[derive(Clone, Debug, Default)]
pub struct PastQuery {
    /// Only this pool's.
    pub pool: Option<String>,
    /// From then on.
    pub since: Option<DateTime<Utc>>,
    /// Until then.
    pub until: Option<DateTime<Utc>>,
    /// At most this many, the newest.
    pub limit: u32,
}

impl Store {
    /// Names the database and how long a call may take; nothing is connected yet.
    pub fn new(database: Database, application_name: impl Into<String>, limit: Duration) -> Self {
        let application_name = application_name.into();
        let shared = Shared { database, application_name, free: Semaphore::new(CONNECTIONS), idle: Mutex::default() };
        Self { shared: Arc::new(shared), limit }
    }

    /// Returns the same connections with another limit to a call.
    #[must_use]
    pub fn within(&self, limit: Duration) -> Self {
        Self { shared: Arc::clone(&self.shared), limit }
    }

    /// Reads a pool's pause, heartbeats, what was finished after `read_to`, the server's load, and what will be sent to the
    /// queues within `horizon_secs`.
    ///
    /// # Errors
    /// When the database cannot be read, or does not answer in time.
    pub async fn read(
        &self,
        pool: &str,
        queues: &[String],
        read_to: Option<DateTime<Utc>>,
        horizon_secs: f64,
    ) -> anyhow::Result<Reading> {
        self.run("read the ledger", async |connection| {
            let pause = read_pause(connection, pool).await?;
            let heartbeats =
                sqlx::query_as(include_str!("store/heartbeats.sql")).bind(queues).fetch_all(&mut *connection).await?;
            let load = sqlx::query_as(include_str!("store/server_load.sql")).fetch_one(&mut *connection).await?;
            let now: DateTime<Utc> = sqlx::query_scalar("SELECT clock_timestamp() - make_interval(secs => $1)")
                .bind(SETTLED_SECS)
                .fetch_one(&mut *connection)
                .await?;
            let completions = match read_to {
                Some(from) => Some(completions(connection, queues, from, now).await?),
                None => None,
            };
            let read_to = Some(read_to.map_or(now, |from| from.max(now)));
            let due_soon: i64 = sqlx::query_scalar(include_str!("store/due_soon.sql"))
                .bind(queues)
                .bind(horizon_secs)
                .bind(MOST_DUE)
                .fetch_one(&mut *connection)
                .await?;
            Ok(Reading { heartbeats, completions, load, read_to, pause, due_soon: due_soon.unsigned_abs() })
        })
        .await
    }

    /// Returns a pool's state as it was kept last, and who kept it.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn load_state(&self, pool: &str) -> anyhow::Result<Option<(Value, Option<String>)>> {
        self.run("read the pool's state", async |connection| {
            sqlx::query_as("SELECT state, leader FROM penstock.pool_state WHERE pool = $1")
                .bind(pool)
                .fetch_optional(connection)
                .await
        })
        .await
    }

    /// Keeps a pool's state and, where given, a decision, in one transaction; returns how long the commit took.
    ///
    /// # Errors
    /// When the transaction failed, or was not answered in time; it may have been committed.
    pub async fn keep(
        &self,
        pool: &str,
        state: &Value,
        leader: &str,
        record: Option<&Record>,
    ) -> anyhow::Result<Duration> {
        self.run("keep the decision", async |connection| {
            let mut transaction = connection.begin().await?;
            sqlx::query(
                "INSERT INTO penstock.pool_state (pool, state, leader, updated_at) VALUES ($1, $2, $3, clock_timestamp()) \
                 ON CONFLICT (pool) DO UPDATE SET state = excluded.state, leader = excluded.leader, \
                 updated_at = excluded.updated_at",
            )
            .bind(pool)
            .bind(state)
            .bind(leader)
            .execute(&mut *transaction)
            .await?;
            if let Some(record) = record {
                sqlx::query(
                    "INSERT INTO penstock.decisions (pool, at, desired, reason, explain, inputs, applied, outcome) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                )
                .bind(&record.pool)
                .bind(record.at)
                .bind(record.desired)
                .bind(&record.reason)
                .bind(&record.explain)
                .bind(&record.inputs)
                .bind(record.applied)
                .bind(&record.outcome)
                .execute(&mut *transaction)
                .await?;
            }
            let begun = Instant::now();
            transaction.commit().await?;
            Ok(begun.elapsed())
        })
        .await
    }

    /// Puts a pause in the place of a pool's, or takes it away; returns the one before, whether or not it was over.
    ///
    /// # Errors
    /// As [`Self::read`]; it may then have been put there.
    pub async fn pause(&self, pool: &str, pause: Option<&Pause>) -> anyhow::Result<Option<Pause>> {
        self.run("keep the pause", async |connection| {
            let mut transaction = connection.begin().await?;
            let before = read_pause(&mut transaction, pool).await?;
            sqlx::query(
                "INSERT INTO penstock.pool_state (pool, state, updated_at, pause_size, pause_until, paused_by) \
                 VALUES ($1, '{}', clock_timestamp(), $2, $3, $4) ON CONFLICT (pool) DO UPDATE \
                 SET pause_size = excluded.pause_size, pause_until = excluded.pause_until, paused_by = excluded.paused_by",
            )
            .bind(pool)
            .bind(pause.map(|pause| i32::try_from(pause.at).unwrap_or(i32::MAX)))
            .bind(pause.map(|pause| pause.until))
            .bind(pause.and_then(|pause| pause.by.as_deref()))
            .execute(&mut *transaction)
            .await?;
            transaction.commit().await?;
            Ok(before)
        })
        .await
    }

    /// Returns past decisions, oldest first.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn past(&self, query: &PastQuery) -> anyhow::Result<Vec<Record>> {
        self.run("read past decisions", async |connection| {
            sqlx::query_as(include_str!("store/past.sql"))
                .bind(&query.pool)
                .bind(query.since)
                .bind(query.until)
                .bind(i64::from(query.limit))
                .fetch_all(connection)
                .await
        })
        .await
    }

    /// Returns what floods are learnt from of a pool's decisions after a time, oldest first, and at most [`MOST_MOMENTS`].
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn moments(&self, pool: &str, after: DateTime<Utc>) -> anyhow::Result<Vec<Moment>> {
        self.run("read past decisions", async |connection| {
            sqlx::query_as(include_str!("store/moments.sql"))
                .bind(pool)
                .bind(after)
                .bind(MOST_MOMENTS as i64)
                .fetch_all(connection)
                .await
        })
        .await
    }

    /// Returns when the last decision before a time was made, of one pool or of any.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn last_before(&self, pool: Option<&str>, at: DateTime<Utc>) -> anyhow::Result<Option<DateTime<Utc>>> {
        self.run("read past decisions", async |connection| {
            sqlx::query_scalar(
                "SELECT max(at) FROM penstock.decisions WHERE at <= $2 AND ($1::text IS NULL OR pool = $1)",
            )
            .bind(pool)
            .bind(at)
            .fetch_one(connection)
            .await
        })
        .await
    }

    /// Forgets decisions older than this; returns how many.
    ///
    /// # Errors
    /// When the rows cannot be deleted, or the database does not answer in time.
    pub async fn forget(&self, pool: &str, days: i32) -> anyhow::Result<u64> {
        self.run("forget old decisions", async |connection| {
            let done = sqlx::query(
                "DELETE FROM penstock.decisions WHERE pool = $1 AND at < now() - make_interval(days => $2)",
            )
            .bind(pool)
            .bind(days)
            .execute(connection)
            .await?;
            Ok(done.rows_affected())
        })
        .await
    }

    /// Makes the notice `late` due: a pool's oldest message is older than was promised. Both in seconds.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn tell_late(&self, pool: &str, age_secs: f64, promised_secs: f64) -> anyhow::Result<()> {
        let said = json!({
            "pool": pool, "oldest_secs": age_secs.round(), "promised_secs": promised_secs,
            "do": format!("scaler history --pool {pool}"),
        });
        self.run("tell of a late message", async |connection| {
            sqlx::query("SELECT penstock.tell('late', '', NULL, $1::jsonb)")
                .bind(said.to_string())
                .execute(connection)
                .await
        })
        .await
        .map(|_| ())
    }

    /// Claims what is due, as [`due::claim`] does.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn claim_due(&self, busy: &[String]) -> anyhow::Result<Vec<due::Item>> {
        self.run("claim what is due", async |connection| due::claim(connection, busy).await).await
    }

    /// Settles what was due, as [`due::settle`] does.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn settle_due(&self, sent: &[due::Sent]) -> anyhow::Result<()> {
        self.run("settle what was due", async |connection| due::settle(connection, sent).await).await
    }

    /// Returns how many migrations are missing; changes nothing.
    ///
    /// # Errors
    /// As [`migrations::standing`], or the database does not answer in time.
    pub async fn missing_migrations(&self) -> anyhow::Result<usize> {
        let looking = self.on_connection(async |connection| migrations::standing(connection).await);
        Ok(self.bounded("look for schema penstock", looking).await?.missing)
    }

    /// Runs statements, waiting for one of the connections included; a connection that failed is not used again.
    async fn run<T>(
        &self,
        what: &'static str,
        statements: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> anyhow::Result<T> {
        self.bounded(what, self.on_connection(statements)).await
    }

    async fn bounded<T>(&self, what: &'static str, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        match timeout(self.limit, work).await {
            Ok(done) => done.context(what),
            Err(_) => Err(Silent { call: what, place: self.shared.database.place(), after: self.limit }.into()),
        }
    }

    async fn on_connection<T, E: Into<anyhow::Error>>(
        &self,
        statements: impl AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
    ) -> anyhow::Result<T> {
        let _free = self.shared.free.acquire().await?;
        let idle = self.shared.idle().pop();
        let mut connected = match idle {
            Some(connected) => connected,
            None => self.connect().await?,
        };
        if connected.limit != self.limit {
            connected.connection.execute(database::statement_timeout(self.limit).as_str()).await?;
            connected.limit = self.limit;
        }
        let done = statements(&mut connected.connection).await.map_err(Into::into)?;
        self.shared.idle().push(connected);
        Ok(done)
    }

    async fn connect(&self) -> anyhow::Result<Connected> {
        let server = self.shared.database.server(&self.shared.application_name)?;
        Ok(Connected { connection: database::open(&server, self.limit).await?, limit: self.limit })
    }
}

impl Shared {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connected>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read_pause(connection: &mut PgConnection, pool: &str) -> Result<Option<Pause>, sqlx::Error> {
    let row: Option<(i32, DateTime<Utc>, Option<String>)> = sqlx::query_as(
        "SELECT pause_size, pause_until, paused_by FROM penstock.pool_state WHERE pool = $1 AND pause_size IS NOT NULL",
    )
    .bind(pool)
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|(at, until, by)| Pause { at: at.unsigned_abs(), until, by }))
}

async fn completions(
    connection: &mut PgConnection,
    queues: &[String],
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Vec<Completion>, sqlx::Error> {
    let rows: Vec<(DateTime<Utc>, f64, bool)> = sqlx::query_as(include_str!("store/completions.sql"))
        .bind(queues)
        .bind(from)
        .bind(to)
        .bind(MOST_COMPLETIONS)
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().map(|(ended_at, duration_secs, ok)| Completion { ended_at, duration_secs, ok }).collect())
}
