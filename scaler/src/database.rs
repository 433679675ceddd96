//! Sessions that last as a scaler's must, and bringing the schema up to date on one.

use anyhow::Context;
use chrono::{DateTime, Utc};
use service::{
    config::Database,
    postgres::{
        STATEMENT_TIMEOUT, Server, Silent, TransactionPooler, is_outage, migrations, refuse_transaction_pooler,
    },
};
use sqlx::{Connection, Executor, PgConnection};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How often a session that migrates is looked at by another one.
const LOOK: Duration = Duration::from_secs(5);

/// How long it may take to close a session.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Opens a session whose statements end after a limit.
///
/// It depends on no setting of the role: names are found in `pg_catalog` or say their schema, an idle session lasts,
/// and one whose client vanishes is ended by the server within 15 s.
///
/// # Errors
/// When the server cannot be reached, refuses the role, or does not answer.
pub async fn open(server: &Server, statement_limit: Duration) -> anyhow::Result<PgConnection> {
    let mut connection = server.connect().await?;
    let settings = format!(
        "SET client_min_messages = warning; {}; \
         SELECT set_config(name, '0', false) FROM pg_catalog.pg_settings \
         WHERE name IN ('idle_session_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout'); \
         SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 2",
        statement_timeout(statement_limit)
    );
    server.answer("set up the session", connection.execute(settings.as_str())).await.context("set up the session")?;
    Ok(connection)
}

/// Returns the SET that makes the server cancel statements shortly before `limit`.
pub fn statement_timeout(limit: Duration) -> String {
    format!("SET statement_timeout = {}", limit.mul_f64(0.9).as_millis().max(1))
}

/// Ends a session in order, unless the server does not answer.
pub async fn close(connection: PgConnection) {
    // Best effort: the server notices a session that is gone.
    drop(timeout(CLOSE_TIMEOUT, connection.close()).await);
}

/// Why the schema could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// Postgres is out of reach, silent or in a state it will leave: waiting may help.
    #[error("{0:#}")]
    Unreachable(anyhow::Error),
    /// Postgres answered: this role may not, or a migration failed.
    #[error("{0:#}")]
    Refused(anyhow::Error),
}

impl SchemaError {
    fn of(error: anyhow::Error) -> Self {
        if is_outage(&error) { Self::Unreachable(error) } else { Self::Refused(error) }
    }
}

/// Brings the schema up to date where this role may, on a session of its own.
///
/// A migration may take its time, and may wait for another process that migrates; it is given up when another
/// session finds its backend gone or without work, or is not answered either.
///
/// # Errors
/// When postgres is out of reach, where waiting may help, or refuses.
pub async fn ensure_schema(database: &Database, application_name: &str) -> Result<(), SchemaError> {
    let connected = async {
        let server = database.server(application_name)?;
        refuse_transaction_pooler(&server).await?;
        let mut connection = open(&server, STATEMENT_TIMEOUT).await?;
        let pid: i32 =
            server.answer("ask for the backend's pid", backend_pid(&mut connection)).await.context("open a session")?;
        Ok((server, connection, pid))
    };
    let (server, mut connection, pid) =
        connected.await.map_err(|error: anyhow::Error| match error.is::<TransactionPooler>() {
            true => SchemaError::Refused(error),
            false => SchemaError::Unreachable(error),
        })?;
    let migrating = async {
        connection.execute("SET statement_timeout = 0").await.context("prepare to apply migrations")?;
        migrations::migrate(&mut connection).await
    };
    let migrated = tokio::select! {
        migrated = migrating => migrated,
        error = watch(&server, pid) => Err(error),
    };
    migrated.map_err(SchemaError::of)?;
    close(connection).await;
    Ok(())
}

async fn backend_pid(connection: &mut PgConnection) -> sqlx::Result<i32> {
    sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(connection).await
}

/// Returns when a backend is found to do nothing for us any more, with the reason.
async fn watch(server: &Server, pid: i32) -> anyhow::Error {
    let mut idle_since = None;
    loop {
        sleep(LOOK).await;
        match idle_state(server, pid).await {
            Err(error) => return error.context("look after the session that migrates"),
            Ok(Backend::AtWork) => idle_since = None,
            // Between two statements it is idle for a moment, but not since the same one twice.
            Ok(Backend::Idle(since)) if idle_since != Some(since) => idle_since = Some(since),
            Ok(Backend::Idle(_) | Backend::Gone) => {
                return Silent { call: "migrate", place: server.place(), after: 2 * LOOK }.into();
            }
        }
    }
}

enum Backend {
    AtWork,
    Idle(DateTime<Utc>),
    Gone,
}

async fn idle_state(server: &Server, pid: i32) -> anyhow::Result<Backend> {
    let mut session = open(server, STATEMENT_TIMEOUT).await?;
    let look = sqlx::query_as("SELECT state = 'active', state_change FROM pg_catalog.pg_stat_activity WHERE pid = $1")
        .bind(pid)
        .fetch_optional(&mut session);
    let found: Option<(Option<bool>, Option<DateTime<Utc>>)> = server.answer("look at a session", look).await?;
    close(session).await;
    Ok(match found {
        None => Backend::Gone,
        Some((Some(false), Some(since))) => Backend::Idle(since),
        Some(_) => Backend::AtWork,
    })
}
