//! One slot's connection to Postgres, and what is known to exist in its session.

use anyhow::Context;
use sqlx::{Connection, Executor, PgConnection, postgres::PgConnectOptions};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// How long a transaction waits for a lock before it is held and tried again.
/// Shorter turns long merges of others into retries; longer lets a stopped worker block a slot.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// Least `work_mem` of a session, in KiB: what a merge sorts its rows in. Postgres's own default of 4 MiB makes it write
/// them to disk and read them again; more would have to be multiplied by all the workers' slots.
const MERGE_KIB: u32 = 32 * 1024;

/// Where sessions come from: makes connections and keeps count of their backends.
#[derive(Clone)]
pub struct Sessions {
    connect: Arc<dyn Fn() -> anyhow::Result<PgConnectOptions> + Send + Sync>,
    backends: Arc<Mutex<Vec<i32>>>,
    lock_timeout: Duration,
}

impl Sessions {
    /// Returns a source of sessions; `connect` is asked anew for each, so that changed credentials are picked up.
    pub fn new(connect: impl Fn() -> anyhow::Result<PgConnectOptions> + Send + Sync + 'static) -> Self {
        Self { connect: Arc::new(connect), backends: Arc::default(), lock_timeout: LOCK_TIMEOUT }
    }

    /// Returns the same source with another lock timeout; for tests.
    #[must_use]
    pub fn with_lock_timeout(mut self, lock_timeout: Duration) -> Self {
        self.lock_timeout = lock_timeout;
        self
    }

    /// Connects.
    ///
    /// # Errors
    /// When the configuration cannot be read or Postgres does not let us in.
    pub async fn open(&self) -> anyhow::Result<Session> {
        let options = (self.connect)()?;
        let mut connection = PgConnection::connect_with(&options).await.context("connect to Postgres")?;
        // The fence needs READ COMMITTED, whatever the role's default; text without a zone is UTC; a loader's
        // merge may take longer than what suits a web request, and is none the faster for being compiled; the
        // keepalives free the locks of a worker whose host went away. Not every version of Postgres has the last two timeouts.
        let settings = format!(
            "SET default_transaction_isolation = 'read committed'; \
             SET client_min_messages = warning; SET timezone = 'UTC'; SET datestyle = 'ISO, YMD'; \
             SET lock_timeout = {}; SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; \
             SELECT set_config(name, '0', false) FROM pg_settings \
             WHERE name IN ('idle_session_timeout', 'transaction_timeout'); \
             SET jit = off; SELECT set_config(name, '{MERGE_KIB}kB', false) FROM pg_settings \
             WHERE name = 'work_mem' AND setting::bigint < {MERGE_KIB}; \
             SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3",
            self.lock_timeout.as_millis()
        );
        connection.execute(settings.as_str()).await.context("set up the session")?;
        let backend: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
            .fetch_one(&mut connection)
            .await
            .context("ask for the backend's pid")?;
        self.lock().push(backend);
        Ok(Session { connection, backend, backends: Arc::clone(&self.backends), stagings: HashMap::new() })
    }

    /// Returns the process ids of the backends in use.
    #[must_use]
    pub fn backends(&self) -> Vec<i32> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<i32>> {
        self.backends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection of one slot. Dropped, not repaired, after any error in a transaction:
/// what a failed COPY or a cut connection leaves behind is not worth reasoning about.
pub struct Session {
    /// The connection.
    pub connection: PgConnection,
    backend: i32,
    backends: Arc<Mutex<Vec<i32>>>,
    stagings: HashMap<String, String>,
}

impl Session {
    /// Returns the quoted name of a staging table of this shape, made on first use.
    ///
    /// The table lasts as long as the session and empties itself with each transaction, so an object
    /// costs no catalog writes. Must be called outside a transaction.
    ///
    /// # Errors
    /// Of the database.
    pub async fn staging(&mut self, shape: &str) -> sqlx::Result<String> {
        if let Some(name) = self.stagings.get(shape) {
            return Ok(name.clone());
        }
        let name = format!("pg_temp.penstock_staging_{}", self.stagings.len());
        let create = format!("CREATE TEMP TABLE {} {shape} ON COMMIT DELETE ROWS", name.trim_start_matches("pg_temp."));
        self.connection.execute(create.as_str()).await?;
        self.stagings.insert(shape.to_owned(), name.clone());
        Ok(name)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut backends = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
        backends.retain(|backend| *backend != self.backend);
    }
}
