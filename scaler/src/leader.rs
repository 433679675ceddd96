//! One leader of each pool among several scalers: advisory locks on one session.

use crate::{config::Database, database};
use anyhow::Context;
use service::{
    postgres::{Server, Silent},
    words::chain,
};
use sqlx::{Executor, PgConnection};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::{
    sync::{Mutex, Notify, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often the session is asked at the least: a follower tries to lead, a leader makes sure that it still does.
const BEAT: Duration = Duration::from_secs(5);

/// How long an answer may take before the session is given up. A beat and this are less than the 15 s after which
/// the server gives up a session whose client it cannot reach, so the leader knows before another one can lead.
const ANSWER: Duration = Duration::from_secs(5);

/// How soon a new session is tried after one was lost.
const RETRY: Duration = Duration::from_secs(1);

/// How long a session may be silent before the server ends it: its scaler is frozen.
/// With the follower's beat this bounds how long there is no leader: well under 30 s.
const LEASE_SECS: u32 = 20;

/// First half of the leader's lock's key, the same in every scaler; the second is the pool's.
const LEADER: i32 = 0x5045_4e53;

/// First half of the key of the lock that all scalers of a machine share that would lead a pool; the second is both's.
const CANDIDATE: i32 = 0x5045_4e54;

/// Who leads a pool, as this scaler knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lead {
    /// This one.
    Ours,
    /// Another one.
    Theirs,
    /// It is not known, and why. This scaler does not lead.
    Unknown(String),
}

/// The leadership of all pools of this scaler.
///
/// The locks live and die with their session. A leader that is frozen, or whose host vanishes, loses
/// the session by the server's own timeouts, and asks before it acts.
pub struct Leadership {
    database: Database,
    application_name: String,
    pools: Vec<String>,
    host: String,
    session: Mutex<Option<Session>>,
    /// Asks for a look at once.
    ask: Notify,
    status: watch::Sender<Status>,
}

/// The session with the locks.
struct Session {
    connection: PgConnection,
    server: Server,
    leads: BTreeSet<String>,
}

/// What was found when the session was asked last.
#[derive(Clone, Debug)]
struct Status {
    asked_at: Option<Instant>,
    /// The pools that are led, or why that is not known.
    leads: Result<BTreeSet<String>, String>,
}

impl Status {
    fn of(&self, pool: &str) -> Lead {
        match &self.leads {
            Ok(leads) if leads.contains(pool) => Lead::Ours,
            Ok(_) => Lead::Theirs,
            Err(why) => Lead::Unknown(why.clone()),
        }
    }
}

impl Leadership {
    /// Prepares to lead pools; nothing is connected until [`Self::keep`].
    pub fn new(database: Database, application_name: &str, pools: Vec<String>, host: &str) -> Self {
        let leads = Err("nobody has been asked yet".to_owned());
        Self {
            database,
            application_name: application_name.to_owned(),
            pools,
            host: host.to_owned(),
            session: Mutex::default(),
            ask: Notify::new(),
            status: watch::Sender::new(Status { asked_at: None, leads }),
        }
    }

    /// Returns who leads a pool, asked again; those who ask together are answered together. Without a session the answer
    /// comes at once.
    pub async fn confirm(&self, pool: &str, limit: Duration) -> Lead {
        let since = Instant::now();
        let mut status = self.status.subscribe();
        let known = status.borrow().of(pool);
        if let Lead::Unknown(_) = known {
            return known;
        }
        self.ask.notify_one();
        let is_answer = |status: &Status| status.leads.is_err() || status.asked_at.is_some_and(|asked| asked >= since);
        match timeout(limit, status.wait_for(is_answer)).await {
            Ok(Ok(status)) => status.of(pool),
            // The sender lives as long as this.
            Ok(Err(_)) => Lead::Unknown("nobody keeps the session".to_owned()),
            Err(_) => Lead::Unknown(self.silent("confirm the lead", limit)),
        }
    }

    /// Returns whether this scaler leads a pool, as far as it knows.
    pub fn leads_any(&self) -> bool {
        self.status.borrow().leads.as_ref().is_ok_and(|leads| !leads.is_empty())
    }

    /// Returns once this scaler does not lead a pool any more, as far as it knows.
    pub async fn lost(&self, pool: &str) {
        // The sender lives as long as this.
        drop(self.status.subscribe().wait_for(|status| status.of(pool) != Lead::Ours).await);
    }

    /// Returns once the server has been asked for the first time.
    pub async fn asked(&self) {
        // The sender lives as long as this.
        drop(self.status.subscribe().wait_for(|status| status.asked_at.is_some()).await);
    }

    /// Whether another scaler of this machine waits to lead the pool: it would find the workers here. `None` when that
    /// is not known.
    pub async fn has_successor(&self, pool: &str, limit: Duration) -> Option<bool> {
        let asked = timeout(limit, async {
            let mut session = self.session.lock().await;
            let held = session.as_mut()?;
            let found = sqlx::query_scalar(
                "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks \
                 WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid() \
                 AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) \
                 AND classid = $1::bigint::oid AND objid = (hashtext($2)::bigint & 4294967295)::oid AND objsubid = 2)",
            )
            .bind(i64::from(CANDIDATE))
            .bind(self.candidacy(pool))
            .fetch_one(&mut held.connection)
            .await;
            found.ok()
        });
        asked.await.ok().flatten()
    }

    /// Keeps the session until stopped, then gives the locks back.
    pub async fn keep(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let asked_at = Instant::now();
            let looked = tokio::select! {
                () = stop.cancelled() => break,
                looked = self.look() => looked,
            };
            let is_kept = looked.is_ok();
            self.publish(Status { asked_at: Some(asked_at), leads: looked.map_err(|error| chain(&error)) });
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.ask.notified(), if is_kept => {}
                () = sleep(if is_kept { BEAT } else { RETRY }) => {}
            }
        }
        if let Some(session) = self.session.lock().await.take() {
            database::close(session.connection).await;
        }
    }

    /// Takes the locks that are free, and makes sure that the others are still held: with the session they would be gone.
    async fn look(&self) -> anyhow::Result<BTreeSet<String>> {
        let mut session = self.session.lock().await;
        let open = match session.take() {
            Some(open) => open,
            None => self.open().await?,
        };
        // Where it is not answered it is not used again, and dropping it gives the locks back.
        let Session { mut connection, server, mut leads } = open;
        let wanted: Vec<&str> = self.pools.iter().map(String::as_str).filter(|pool| !leads.contains(*pool)).collect();
        let trying =
            sqlx::query_as("SELECT pool, pg_try_advisory_lock($1, hashtext(pool)) FROM unnest($2::text[]) AS pool")
                .bind(LEADER)
                .bind(&wanted)
                .fetch_all(&mut connection);
        let tried: Vec<(String, bool)> = match timeout(ANSWER, trying).await {
            Ok(tried) => tried.context("keep the leader's locks")?,
            Err(_) => anyhow::bail!(self.silent("keep the leader's locks", ANSWER)),
        };
        leads.extend(tried.into_iter().filter(|(_, is_ours)| *is_ours).map(|(pool, _)| pool));
        let found = leads.clone();
        *session = Some(Session { connection, server, leads });
        Ok(found)
    }

    /// Opens the session, one that the server ends when its owner is gone or frozen.
    async fn open(&self) -> anyhow::Result<Session> {
        let server = self.database.server(&self.application_name)?;
        let mut connection = database::open(&server, ANSWER).await?;
        let candidacies: Vec<String> = self.pools.iter().map(|pool| self.candidacy(pool)).collect();
        let preparing = async {
            // Before 14 there is none, and a frozen leader keeps its locks until it goes on or its host is gone.
            let lease = format!(
                "SELECT set_config(name, '{LEASE_SECS}s', false) FROM pg_catalog.pg_settings \
                 WHERE name = 'idle_session_timeout'"
            );
            connection.execute(lease.as_str()).await?;
            sqlx::query("SELECT pg_try_advisory_lock_shared($1, hashtext(name)) FROM unnest($2::text[]) AS name")
                .bind(CANDIDATE)
                .bind(&candidacies)
                .execute(&mut connection)
                .await
        };
        server.answer("prepare the leader's session", preparing).await.context("prepare the leader's session")?;
        Ok(Session { connection, server, leads: BTreeSet::new() })
    }

    /// Logs what has changed, and wakes those who wait for it.
    fn publish(&self, now: Status) {
        let before = self.status.send_replace(now.clone());
        for pool in &self.pools {
            match (before.of(pool), now.of(pool)) {
                (before, Lead::Ours) if before != Lead::Ours => info!(pool, "leading the pool"),
                (Lead::Ours, Lead::Unknown(why)) => warn!(pool, error = why, "no longer leading the pool"),
                _ => {}
            }
        }
        let led = before.leads.as_ref().is_ok_and(|leads| !leads.is_empty());
        if let Err(why) = &now.leads
            && !led
            && (before.leads.is_ok() || before.asked_at.is_none())
        {
            warn!(error = why, "leader unknown; leaving all pools unchanged");
        }
    }

    fn candidacy(&self, pool: &str) -> String {
        format!("{pool} {}", self.host)
    }

    fn silent(&self, call: &'static str, after: Duration) -> String {
        Silent { call, place: self.database.place(), after }.to_string()
    }
}
