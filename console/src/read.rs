//! What is read of Postgres: over two connections, and one more for reports, read-only, each statement within a time.

pub mod chart;
pub mod dataset;
pub mod due;
pub mod kept;
pub mod now;
pub mod object;
pub mod objects;
pub mod pool;
pub mod rejects;
pub mod reports;
pub mod values;

use crate::config::Database;
use chrono::{DateTime, Utc};
use serde::Serialize;
use service::words::chain;
use sqlx::{Connection as _, Executor as _, PgConnection};
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{sync::Semaphore, time::timeout};

/// What sessions are for, and what each may take.
#[derive(Debug)]
struct Terms {
    /// `application_name` of the connections.
    name: &'static str,
    /// Connections to the database. More would take from the importers; fewer, and one slow panel holds up all others.
    connections: usize,
    /// Whether a connection is kept for the next who reads.
    is_kept: bool,
    /// How long the server works on a statement.
    statement: Duration,
    /// How long is waited for an answer, for the connection and for one's turn included.
    patience: Duration,
    /// What a session says beside [`SETTINGS`].
    settings: &'static str,
}

/// The terms of what the pages show of Penstock.
const PAGES: Terms = Terms {
    name: "penstock console",
    connections: 2,
    is_kept: true,
    statement: Duration::from_secs(3),
    patience: Duration::from_secs(5),
    settings: "",
};

/// How long a server that could not be reached is left alone.
const LEAVE_ALONE: Duration = Duration::from_secs(2);

/// What a session says first. Nothing it does writes, and none of its statements takes more than one processor.
const SETTINGS: &str = "SET default_transaction_read_only = on; SET lock_timeout = '1s'; SET jit = off; \
    SET max_parallel_workers_per_gather = 0; SET work_mem = '16MB'; SET timezone = 'UTC'; \
    SELECT set_config(name, '0', false) FROM pg_catalog.pg_settings WHERE name = 'idle_session_timeout'";

/// Why something could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// There is no connection.
    #[error("Postgres cannot be reached: {0}")]
    Unreachable(String),
    /// It took too long.
    #[error("Postgres did not answer in time")]
    Slow,
    /// The schema lacks what this program reads.
    #[error("the schema penstock is missing, or older than this program: `importer migrate` mends that")]
    Behind,
    /// The role may not.
    #[error("this role may not read it: {0}")]
    Denied(String),
    /// Something else.
    #[error("Postgres refused: {0}")]
    Refused(String),
    /// A report's file is wrong, or what it asks for.
    #[error("{0}")]
    Report(String),
}

impl Serialize for Failure {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Failure {
    fn of(error: &sqlx::Error) -> Self {
        let Some(said) = error.as_database_error() else { return Self::Unreachable(error.to_string()) };
        let text = said.message().to_owned();
        match said.code().as_deref() {
            // A table, a column, a function or a schema that is not there.
            Some("42P01" | "42703" | "42883" | "3F000") => Self::Behind,
            Some("42501") => Self::Denied(text),
            // Cancelled, or no lock in time.
            Some("57014" | "55P03") => Self::Slow,
            Some(code) if code.starts_with("08") || code.starts_with("57P") => Self::Unreachable(text),
            _ => Self::Refused(text),
        }
    }
}

/// The database, connected again whenever it was lost.
#[derive(Debug)]
pub struct Reader {
    database: Database,
    terms: &'static Terms,
    show_values: bool,
    free: Semaphore,
    idle: Mutex<Vec<PgConnection>>,
    /// When it could not be reached, and why.
    away: Mutex<Option<(Instant, Failure)>>,
    last_answer: Mutex<Option<DateTime<Utc>>>,
}

impl Reader {
    /// Names the database, and says whether what is in rows may be shown; nothing is connected yet.
    #[must_use]
    pub fn new(database: Database, show_values: bool) -> Self {
        Self::on(&PAGES, database, show_values)
    }

    fn on(terms: &'static Terms, database: Database, show_values: bool) -> Self {
        let (free, idle) = (Semaphore::new(terms.connections), Mutex::default());
        Self { database, terms, show_values, free, idle, away: Mutex::default(), last_answer: Mutex::default() }
    }

    /// Returns whether what is in rows may be shown.
    #[must_use]
    pub fn shows_values(&self) -> bool {
        self.show_values
    }

    /// Returns when the database answered last.
    #[must_use]
    pub fn last_answer(&self) -> Option<DateTime<Utc>> {
        *lock(&self.last_answer)
    }

    /// Runs statements on one of the connections; one that failed is not used again.
    ///
    /// # Errors
    /// [`Failure`]; a server that could not be reached a moment ago is not asked again.
    pub async fn read<T>(
        &self,
        statements: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> Result<T, Failure> {
        if let Some(failure) = self.away() {
            return Err(failure);
        }
        let work = async {
            let _turn = self.free.acquire().await.map_err(|_| Failure::Slow)?;
            let idle = lock(&self.idle).pop();
            let mut connection = match idle {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            let done = statements(&mut connection).await;
            match &done {
                Ok(_) if !self.terms.is_kept => drop(connection.close().await),
                Ok(_) => lock(&self.idle).push(connection),
                // What the server refused leaves the session as it was.
                Err(sqlx::Error::Database(said)) if !said.code().is_some_and(|code| code.starts_with("57P")) => {
                    lock(&self.idle).push(connection);
                }
                Err(_) => lock(&self.idle).clear(),
            }
            done.map_err(|error| Failure::of(&error))
        };
        let done = timeout(self.terms.patience, work).await.unwrap_or(Err(Failure::Slow));
        match &done {
            Err(failure @ Failure::Unreachable(_)) => *lock(&self.away) = Some((Instant::now(), failure.clone())),
            Err(_) => {}
            Ok(_) => *lock(&self.last_answer) = Some(Utc::now()),
        }
        done
    }

    fn away(&self) -> Option<Failure> {
        let mut away = lock(&self.away);
        if away.as_ref().is_some_and(|(at, _)| at.elapsed() > LEAVE_ALONE) {
            *away = None;
        }
        away.as_ref().map(|(_, failure)| failure.clone())
    }

    async fn connect(&self) -> Result<PgConnection, Failure> {
        let connect = async {
            let Terms { name, statement, settings, .. } = self.terms;
            let mut connection = self.database.server(name)?.connect().await?;
            let settings = format!("SET statement_timeout = {}; {SETTINGS}; {settings}", statement.as_millis());
            connection.execute(settings.as_str()).await?;
            Ok::<_, anyhow::Error>(connection)
        };
        connect.await.map_err(|error| Failure::Unreachable(chain(&error)))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
