//! Whether Postgres still hears a session that waits for its answer.
//!
//! A merge may take minutes and a lock its ten seconds, so no clock of ours can tell a server at work from one that went
//! away without a word. The server can: on another connection it is asked what each waiting session's backend does.
//! One that is gone, or that itself waits for us, will not answer; nor will a server that takes no connection.
//!
//! Work on a session counts as waiting for Postgres unless it says that it waits for something else ([`elsewhere`]).

use super::Session;
use sqlx::Row;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// How long both sides may wait for each other: no answer is on its way then.
const SILENCE: Duration = Duration::from_secs(15);
/// How long a session waits before its backend is asked about; most statements take less.
const ASKED_AFTER: Duration = Duration::from_secs(5);
/// Time between two looks of a watch that has a connection of its own.
pub(super) const LOOK: Duration = Duration::from_secs(5);

tokio::task_local! {
    static WAIT: Arc<Wait>;
}

/// Work that was given up because Postgres did not answer.
#[derive(Debug, thiserror::Error)]
#[error("{what} waited {} s for an answer of Postgres at {place}, and {why}", .waited.as_secs())]
pub struct GivenUp {
    what: &'static str,
    place: String,
    waited: Duration,
    why: String,
}

/// Waits for something that is not Postgres.
pub async fn elsewhere<T>(work: impl Future<Output = T>) -> T {
    let _away = WAIT.try_with(|wait| wait.leave()).ok();
    work.await
}

/// One piece of work on a session.
#[derive(Debug)]
struct Wait {
    backend: i32,
    presence: Mutex<Presence>,
    given_up: watch::Sender<Option<String>>,
}

/// How often the work is elsewhere now, since when it is not, and what its backend was seen at since when.
#[derive(Debug)]
struct Presence {
    n_away: usize,
    since: Instant,
    seen: Option<(String, Instant)>,
}

struct Away(Arc<Wait>);

impl Drop for Away {
    fn drop(&mut self) {
        let mut presence = self.0.presence();
        presence.n_away -= 1;
        presence.since = Instant::now();
    }
}

impl Wait {
    fn leave(self: &Arc<Self>) -> Away {
        self.presence().n_away += 1;
        Away(Arc::clone(self))
    }

    fn presence(&self) -> std::sync::MutexGuard<'_, Presence> {
        self.presence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns for how long it has waited for Postgres.
    fn waited(&self) -> Duration {
        let presence = self.presence();
        if presence.n_away > 0 { Duration::ZERO } else { presence.since.elapsed() }
    }

    /// Judges what the server says of the backend.
    fn judge(&self, backend: Option<&Backend>) {
        let waited = self.waited();
        let Some(backend) = backend else {
            if waited >= ASKED_AFTER {
                self.given_up.send_replace(Some("its backend is gone".into()));
            }
            return;
        };
        let mut presence = self.presence();
        if !backend.waits_for_us {
            presence.seen = None;
            return;
        }
        match &presence.seen {
            Some((at, since)) if *at == backend.at => {
                if since.elapsed() >= SILENCE && waited >= SILENCE {
                    self.given_up.send_replace(Some(format!("its backend waits for us ({})", backend.state)));
                }
            }
            _ => presence.seen = Some((backend.at.clone(), Instant::now())),
        }
    }
}

/// What the server says of a backend.
#[derive(Debug)]
struct Backend {
    state: String,
    waits_for_us: bool,
    /// Changes with everything it does.
    at: String,
}

/// The work that waits, of all sessions.
#[derive(Debug)]
pub struct Watch {
    waits: Mutex<HashMap<u64, Arc<Wait>>>,
    next: AtomicU64,
    heard_at: Mutex<Instant>,
}

impl Default for Watch {
    fn default() -> Self {
        Self { waits: Mutex::default(), next: AtomicU64::default(), heard_at: Mutex::new(Instant::now()) }
    }
}

struct Listed<'a>(&'a Watch, u64);

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.0.waits().remove(&self.1);
    }
}

impl Watch {
    fn waits(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<Wait>>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does work on a session until it ends, or its backend is found not to answer.
    pub(super) async fn over<T>(
        &self,
        what: &'static str,
        (backend, place): (i32, &str),
        work: impl Future<Output = T>,
    ) -> Result<T, GivenUp> {
        let presence = Mutex::new(Presence { n_away: 0, since: Instant::now(), seen: None });
        let wait = Arc::new(Wait { backend, presence, given_up: watch::Sender::new(None) });
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.waits().insert(id, Arc::clone(&wait));
        let _listed = Listed(self, id);
        let mut given_up = wait.given_up.subscribe();
        tokio::select! {
            biased;
            done = WAIT.scope(Arc::clone(&wait), work) => Ok(done),
            why = async { given_up.wait_for(Option::is_some).await.map_or_else(|_| None, |why| why.clone()) } => {
                let place = place.to_owned();
                Err(GivenUp { what, place, waited: wait.waited(), why: why.unwrap_or_default() })
            }
        }
    }

    fn waiting(&self) -> Vec<Arc<Wait>> {
        self.waits().values().filter(|wait| wait.waited() >= ASKED_AFTER).cloned().collect()
    }

    /// Asks the server about the backends of those who wait for it.
    ///
    /// # Errors
    /// Of the database; [`Self::unheard`] is to be told.
    pub async fn look(&self, session: &mut Session) -> anyhow::Result<()> {
        let waiting = self.waiting();
        if !waiting.is_empty() {
            let backends: Vec<i32> = waiting.iter().map(|wait| wait.backend).collect();
            let seen = session.backends_at_work(&backends).await?;
            for wait in waiting {
                wait.judge(seen.get(&wait.backend));
            }
        }
        *self.heard_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        Ok(())
    }

    /// Notes that the server could not be asked. After a while nobody waits for it any longer, unless it answered, if
    /// only with a refusal.
    pub fn unheard(&self, error: &anyhow::Error) {
        let mut heard_at = self.heard_at.lock().unwrap_or_else(PoisonError::into_inner);
        let answered = error.chain().any(|cause| matches!(cause.downcast_ref(), Some(sqlx::Error::Database(_))));
        if answered {
            *heard_at = Instant::now();
        } else if heard_at.elapsed() >= SILENCE {
            for wait in self.waiting() {
                if wait.waited() >= SILENCE {
                    wait.given_up.send_replace(Some(format!("no other connection is answered ({error:#})")));
                }
            }
        }
    }

    /// Returns whether anybody waits.
    pub(super) fn is_wanted(&self) -> bool {
        let wanted = !self.waiting().is_empty();
        if !wanted {
            *self.heard_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
        wanted
    }
}

impl Session {
    /// Returns what the server says of backends, by process id.
    async fn backends_at_work(&mut self, backends: &[i32]) -> anyhow::Result<HashMap<i32, Backend>> {
        let sql = match self.version {
            // What a COPY has taken so far is only shown since 14.
            ..140_000 => include_str!("liveness.sql").replace("/*copied*/", "NULL::text"),
            _ => include_str!("liveness.sql").replace(
                "/*copied*/",
                "(SELECT p.bytes_processed::text FROM pg_catalog.pg_stat_progress_copy p WHERE p.pid = a.pid)",
            ),
        };
        let statement = sqlx::query(&sql).bind(backends).fetch_all(&mut self.connection);
        let rows = self.server.answer("look at the sessions", statement).await?;
        rows.iter()
            .map(|row| {
                let backend = Backend {
                    state: row.try_get("state")?,
                    waits_for_us: row.try_get("waits_for_us")?,
                    at: row.try_get("at")?,
                };
                Ok((row.try_get("pid")?, backend))
            })
            .collect()
    }
}
