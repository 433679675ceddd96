//! One leader among several scalers: an advisory lock on a session of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use sqlx::{Connection, Executor, PgConnection};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::Database;
use crate::database;

/// How often a follower tries to lead, and a leader makes sure that it still does.
const BEAT: Duration = Duration::from_secs(5);

/// How long the lock's session may say nothing, or take to answer, before it is given up.
/// With the follower's beat this bounds how long nobody leads: well under 30 s.
const LEASE_SECS: u32 = 20;

/// First half of the lock's key, the same in every scaler; the second is the pool's.
const LOCK_CLASS: i32 = 0x5045_4e53;

/// One pool's leadership.
///
/// The lock lives and dies with its session. A leader that is stopped, or
/// whose host is gone without a word, loses the session by the server's own
/// timeouts, and asks before it acts.
pub struct Leadership {
    pool: String,
    database: Database,
    session: Mutex<Option<PgConnection>>,
    /// The session's application name: the same for all scalers of this machine that would lead this pool.
    session_name: String,
    leading: AtomicBool,
}

impl Leadership {
    /// Prepares to lead a pool.
    pub fn new(pool: &str, host: &str, database: Database) -> Self {
        Self {
            pool: pool.to_owned(),
            database,
            // Postgres keeps 63 bytes of it.
            session_name: format!("penstock scaler {:016x}", fnv1a(&format!("{pool} {host}"))),
            session: Mutex::new(None),
            leading: AtomicBool::new(false),
        }
    }

    /// Whether this scaler led when it last looked.
    pub fn is_leading(&self) -> bool {
        self.leading.load(Ordering::Acquire)
    }

    /// Asks the server: takes the lock if it is free, or makes sure that it is still held.
    pub async fn check(&self) -> bool {
        let mut session = self.session.lock().await;
        let limit = Duration::from_secs(u64::from(LEASE_SECS / 2));
        let held = match tokio::time::timeout(limit, self.hold(&mut session)).await {
            Ok(Ok(held)) => held,
            Ok(Err(error)) => {
                self.lost(&format!("{error:#}"));
                *session = None;
                false
            }
            Err(_) => {
                self.lost("Postgres did not answer");
                *session = None;
                false
            }
        };
        if held != self.leading.swap(held, Ordering::AcqRel) && held {
            info!(pool = self.pool, "leading the pool");
        }
        held
    }

    /// Whether another scaler of this machine waits to lead the pool: it would find the workers here.
    pub async fn has_heir(&self) -> bool {
        let mut session = self.session.lock().await;
        let Some(session) = session.as_mut() else { return false };
        let waiting = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM pg_stat_activity \
             WHERE application_name = $1 AND datname = current_database() AND pid <> pg_backend_pid())",
        )
        .bind(&self.session_name)
        .fetch_one(session);
        tokio::time::timeout(Duration::from_secs(5), waiting).await.is_ok_and(|found| found.unwrap_or(false))
    }

    /// Beats until stopped, then gives the lock back.
    pub async fn keep(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(BEAT) => {}
            }
            self.check().await;
        }
        self.release().await;
    }

    /// Gives the lock back at once, rather than when the server notices that the session is gone.
    pub async fn release(&self) {
        self.leading.store(false, Ordering::Release);
        if let Some(session) = self.session.lock().await.take() {
            drop(tokio::time::timeout(BEAT, session.close()).await);
        }
    }

    async fn hold(&self, session: &mut Option<PgConnection>) -> anyhow::Result<bool> {
        match session {
            Some(held) if self.is_leading() => {
                held.execute("SELECT 1").await.context("keep the leader's lock")?;
                Ok(true)
            }
            Some(waiting) => self.try_lock(waiting).await,
            None => {
                let fresh = session.insert(connect(&self.database, &self.session_name).await?);
                self.try_lock(fresh).await
            }
        }
    }

    async fn try_lock(&self, session: &mut PgConnection) -> anyhow::Result<bool> {
        sqlx::query_scalar("SELECT pg_try_advisory_lock($1, hashtext($2))")
            .bind(LOCK_CLASS)
            .bind(&self.pool)
            .fetch_one(session)
            .await
            .context("try the leader's lock")
    }

    fn lost(&self, why: &str) {
        if self.is_leading() {
            warn!(pool = self.pool, error = why, "no longer leading the pool");
        }
    }
}

/// Opens the lock's session, one that the server gives up when its owner is gone or stopped.
async fn connect(database: &Database, name: &str) -> anyhow::Result<PgConnection> {
    let mut session = database::connect(database, name).await?;
    let version: i32 = sqlx::query_scalar("SELECT current_setting('server_version_num')::int")
        .fetch_one(&mut session)
        .await
        .context("read the server's version")?;
    session
        .execute("SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 2")
        .await
        .context("set keepalives")?;
    // Before 14 a stopped leader keeps its lock until it goes on or its host is gone.
    if version >= 140_000 {
        session
            .execute(format!("SET idle_session_timeout = '{LEASE_SECS}s'").as_str())
            .await
            .context("set idle_session_timeout")?;
    }
    Ok(session)
}

/// A hash that is the same in every release.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
