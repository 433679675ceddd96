//! One slot's connection to Postgres, and what is known to exist in its session.

use super::{
    liveness::{self, GivenUp, Watch},
    runs_as::RunsAs,
    shorts::create_record_type,
    sql::StagedColumn,
};
use crate::database::{self, Begin, End, TransactionError};
use anyhow::Context;
use parking_lot::Mutex;
use service::postgres::Server;
use sqlx::{Executor, PgConnection};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::time::{MissedTickBehavior, timeout};

/// How long a transaction waits for a lock before it is held and tried again.
/// Shorter turns long merges of others into retries; longer lets a stopped worker block a slot.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a look at the sessions that wait may take, connecting included. Longer: a server that is silent to all is
/// waited for longer; shorter: one that is only slow is taken for silent.
const LOOKED_WITHIN: Duration = Duration::from_secs(10);

/// Least `work_mem` of a session, in KiB: what a merge sorts its rows in. Postgres's own default of 4 MiB makes it write
/// them to disk and read them again; more would have to be multiplied by all the workers' slots.
const MERGE_KIB: u32 = 32 * 1024;

/// Settings of a role that would change what values mean, or are written as; and a commit that is not on disk when its
/// message is deleted is none.
const ROLE_SETTINGS: &str = "SET bytea_output = 'hex'; SET extra_float_digits = 1; SET standard_conforming_strings = on; \
    SET array_nulls = on; SET transform_null_equals = off; SET intervalstyle = 'postgres'; SET xmloption = content; \
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';";

/// Where sessions come from: makes connections, keeps those that are given back, and keeps count of their backends.
#[derive(Clone)]
pub struct Sessions {
    connect: Arc<dyn Fn() -> anyhow::Result<Server> + Send + Sync>,
    /// Sessions that were given back.
    idle: Arc<Mutex<Vec<Session>>>,
    backends: Arc<Mutex<Vec<i32>>>,
    lock_timeout: Duration,
    /// Whether the server answers those who wait for it.
    pub watch: Arc<Watch>,
}

impl Sessions {
    /// Returns a source of sessions; `connect` is asked again for each, so that changed credentials are picked up.
    pub fn new<S: Into<Server>>(connect: impl Fn() -> anyhow::Result<S> + Send + Sync + 'static) -> Self {
        let connect = Arc::new(move || connect().map(Into::into));
        Self {
            connect,
            idle: Arc::default(),
            backends: Arc::default(),
            lock_timeout: LOCK_TIMEOUT,
            watch: Arc::default(),
        }
    }

    /// Returns the same source with another lock timeout; for tests.
    #[must_use]
    pub fn with_lock_timeout(mut self, lock_timeout: Duration) -> Self {
        self.lock_timeout = lock_timeout;
        self.idle = Arc::default();
        self
    }

    /// Lends a session: one that was given back, else a new one. It is over, with its connection, unless it is given
    /// back in turn.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn lend(&self) -> anyhow::Result<Session> {
        let idle = self.idle.lock().pop();
        match idle {
            Some(session) => Ok(session),
            None => self.open().await,
        }
    }

    /// Takes a session back, for others to use. One whose transaction did not come to its end is closed instead.
    pub fn give_back(&self, session: Session) {
        if !session.is_lost {
            self.idle.lock().push(session);
        }
    }

    /// Closes the idle sessions: connections break together.
    pub fn close_idle(&self) {
        self.idle.lock().clear();
    }

    /// Connects, for a session that is not shared, before or after.
    ///
    /// # Errors
    /// When the configuration cannot be read or Postgres does not let us in, or does not answer.
    pub async fn open(&self) -> anyhow::Result<Session> {
        let server = (self.connect)()?;
        let mut connection = server.connect().await?;
        // The fence needs READ COMMITTED, whatever the role's default; text without a zone is UTC; a loader's
        // merge may take longer than what suits a web request, and is none the faster for being compiled; the
        // keepalives free the locks of a worker whose host went away. Not every version of Postgres has the last two timeouts.
        let settings = format!(
            "SET default_transaction_isolation = 'read committed'; \
             SET client_min_messages = warning; SET timezone = 'UTC'; SET datestyle = 'ISO, YMD'; \
             {ROLE_SETTINGS} SET lock_timeout = {}; SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; \
             SELECT set_config(name, '0', false) FROM pg_settings \
             WHERE name IN ('idle_session_timeout', 'transaction_timeout'); \
             SET jit = off; SELECT set_config(name, '{MERGE_KIB}kB', false) FROM pg_settings \
             WHERE name = 'work_mem' AND setting::bigint < {MERGE_KIB}; \
             SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3; \
             SET tcp_user_timeout = '30s'",
            self.lock_timeout.as_millis()
        );
        let set_up = connection.execute(settings.as_str());
        server.answer("set up the session", set_up).await.context("set up the session")?;
        let ask = sqlx::query_as("SELECT pg_backend_pid(), current_setting('server_version_num')::int4")
            .fetch_one(&mut connection);
        let (backend, version) = server.answer("ask for the backend's pid", ask).await?;
        self.backends.lock().push(backend);
        let backends = Arc::clone(&self.backends);
        Ok(Session {
            connection,
            server,
            version,
            is_lost: false,
            backend,
            backends,
            stagings: Vec::new(),
            n_stagings: 0,
            record_types: BTreeSet::new(),
            transforms: BTreeSet::new(),
            granted: BTreeSet::new(),
        })
    }

    /// Does work on a session, which ends when its backend is found not to answer; see [`super::liveness`]. Somebody must
    /// look: the heartbeat, or [`Self::keep_watch`].
    ///
    /// # Errors
    /// [`GivenUp`]; the session must be dropped then.
    pub async fn watched<T>(
        &self,
        what: &'static str,
        (backend, place): (i32, String),
        work: impl Future<Output = T>,
    ) -> Result<T, GivenUp> {
        self.watch.over(what, (backend, &place), work).await
    }

    /// Looks after the sessions that wait, on a connection of its own, as long as this is polled.
    /// It is only open while something waits for it.
    pub async fn keep_watch(&self) {
        let mut session = None;
        let mut looks = tokio::time::interval(liveness::LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            if !self.watch.is_wanted() {
                session = None;
                continue;
            }
            let looked = match timeout(LOOKED_WITHIN, self.look(&mut session)).await {
                Ok(looked) => looked,
                Err(_) => Err(anyhow::anyhow!("no answer within {} s", LOOKED_WITHIN.as_secs())),
            };
            if let Err(error) = looked {
                session = None;
                self.watch.unheard(&error);
            }
        }
    }

    async fn look(&self, session: &mut Option<Session>) -> anyhow::Result<()> {
        let open = match session {
            Some(open) => open,
            None => session.insert(self.open().await?),
        };
        self.watch.look(open).await
    }

    /// Refuses a transaction pooler, which keeps no session together.
    ///
    /// # Errors
    /// As [`database::refuse_transaction_pooler`].
    pub async fn refuse_transaction_pooler(&self) -> anyhow::Result<()> {
        database::refuse_transaction_pooler(&(self.connect)()?).await
    }

    /// Returns the process ids of the backends in use.
    #[must_use]
    pub fn backends(&self) -> Vec<i32> {
        self.backends.lock().clone()
    }
}

/// A connection, leased: its holder gives it back ([`Sessions::give_back`]) when its work ended well. Dropped instead,
/// after an error or with work that was given up, it is closed and never used again.
pub struct Session {
    /// The connection.
    pub connection: PgConnection,
    /// Where it goes.
    pub server: Server,
    /// `server_version_num`.
    pub(super) version: i32,
    /// Its transaction is not over, or what is left of it is not known.
    is_lost: bool,
    /// The process id of its backend.
    pub backend: i32,
    backends: Arc<Mutex<Vec<i32>>>,
    /// Shapes and names of the staging tables there are, the one used last at the end.
    stagings: Vec<(String, String)>,
    n_stagings: u64,
    /// Widths of the records of texts there are.
    record_types: BTreeSet<usize>,
    /// Whom what transforms need is there for.
    transforms: BTreeSet<RunsAs>,
    /// Staging tables, and who may use them beside this session's role.
    granted: BTreeSet<(String, RunsAs)>,
}

/// Staging tables of a session at most: each costs catalog rows, and every commit empties each of them.
const MAX_STAGINGS: usize = 32;

impl Session {
    /// Returns the process id of its backend, and where that runs.
    #[must_use]
    pub fn whereabouts(&self) -> (i32, String) {
        (self.backend, self.server.place())
    }

    /// Does work in a transaction of this session; see [`database::transaction`]. Until the transaction has ended, and
    /// after an error that loses the session, it cannot be given back.
    ///
    /// # Errors
    /// As [`database::transaction`].
    pub async fn transaction<T, E: TransactionError>(
        &mut self,
        begin: Begin,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<End<T>, E>,
    ) -> Result<T, E> {
        self.is_lost = true;
        let ended = database::transaction(&mut self.connection, begin, work).await;
        self.is_lost = ended.as_ref().is_err_and(TransactionError::loses_session);
        ended
    }

    /// Returns the quoted name of a staging table of this shape, made on first use.
    ///
    /// The table lasts as long as the session and empties itself with each transaction, so an object
    /// costs no catalog writes, unless the session has seen [`MAX_STAGINGS`] other shapes since: then it gave way.
    /// Must be called outside a transaction.
    ///
    /// # Errors
    /// Of the database.
    pub async fn staging(&mut self, shape: &str) -> sqlx::Result<String> {
        if let Some(place) = self.stagings.iter().position(|(known, _)| known == shape) {
            let used = self.stagings.remove(place);
            let name = used.1.clone();
            self.stagings.push(used);
            return Ok(name);
        }
        if self.stagings.len() >= MAX_STAGINGS {
            let (_, unused) = self.stagings.remove(0);
            self.connection.execute(format!("DROP TABLE {unused}").as_str()).await?;
            self.granted.retain(|(staging, _)| *staging != unused);
        }
        // Names are not used again: a prepared statement may know the old table's columns.
        let name = format!("pg_temp.penstock_staging_{}", self.n_stagings);
        self.n_stagings += 1;
        let create = format!("CREATE TEMP TABLE {} {shape} ON COMMIT DELETE ROWS", name.trim_start_matches("pg_temp."));
        self.connection.execute(create.as_str()).await?;
        self.stagings.push((shape.to_owned(), name.clone()));
        Ok(name)
    }

    /// Makes what transforms need that run so and use these staging tables, on first use: each costs catalog rows.
    /// Called outside a transaction.
    ///
    /// # Errors
    /// Of the database.
    pub async fn transforms(&mut self, runs_as: &RunsAs, stagings: [&str; 2]) -> sqlx::Result<()> {
        if !self.transforms.contains(runs_as) {
            runs_as.create(&mut self.connection).await?;
            self.transforms.insert(runs_as.clone());
        }
        for staging in stagings {
            let granted = (staging.to_owned(), runs_as.clone());
            if !self.granted.contains(&granted) {
                runs_as.grant(&mut self.connection, staging).await?;
                self.granted.insert(granted);
            }
        }
        Ok(())
    }

    /// Makes the types that the statements for these columns take texts apart with. Called outside a transaction.
    ///
    /// # Errors
    /// Of the database.
    pub async fn record_types(&mut self, columns: &[StagedColumn]) -> sqlx::Result<()> {
        let mut widths = BTreeSet::new();
        columns.iter().filter_map(|column| column.target.cuts.as_ref()).for_each(|cuts| cuts.add_widths(&mut widths));
        for width in widths {
            if !self.record_types.contains(&width) {
                self.connection.execute(create_record_type(width).as_str()).await?;
                self.record_types.insert(width);
            }
        }
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.backends.lock().retain(|backend| *backend != self.backend);
    }
}
