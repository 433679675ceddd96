//! Whether Postgres still hears a session that waits for its answer.
//!
//! A merge may take minutes and a lock its ten seconds, so no clock of ours can tell a server at work from one that went
//! away without a word. The server can: on another connection it is asked what each waiting session's backend does.
//! One that is gone, or that itself waits for us, will not answer; nor will a server that takes no connection.
//! One that waits for us is ended, so that its locks do not hold up who does the work next.
//!
//! Work on a session counts as waiting for Postgres unless it says that it waits for something else ([`elsewhere`]), and
//! only since the last sign of life that it says it had ([`heard`]): a COPY that gets on looks the same to the server
//! all the time before 14, and so does a long answer that is read slowly in every version.

use super::Session;
use parking_lot::Mutex;
use service::words::chain;
use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicI32, Ordering},
    },
    time::Duration,
};
use tokio::{sync::watch, time::Instant};
use tracing::debug;

/// How long both sides may wait for each other: no answer is on its way then.
const SILENCE: Duration = Duration::from_secs(15);
/// Part of that a session waits before its backend is asked about; most statements take less.
const ASKED_AFTER: u32 = 3;
/// Time between two looks of a watch that has a connection of its own.
pub(super) const LOOK: Duration = Duration::from_secs(5);

/// Factor on [`SILENCE`] for a COPY whose progress the server does not report (before 14): what was sent last may be on
/// its way for as long as a slow line takes to empty the kernels' buffers.
const UNSEEN: u32 = 4;

tokio::task_local! {
    static WAIT: Arc<Wait>;
}

/// Work that was given up because Postgres did not answer.
#[derive(Debug, thiserror::Error)]
#[error("{what} waited {} s for an answer from Postgres at {place}: {why}", .waited.as_secs())]
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

/// Says that Postgres took or gave something just now, in the middle of a statement.
pub fn heard() {
    let _ = WAIT.try_with(|wait| wait.presence.lock().since = Instant::now());
}

/// Says that the work goes on with another session, of this backend.
pub fn goes_on_with(session: &Session) {
    let _ = WAIT.try_with(|wait| {
        // First, so that a look that has asked about the other backend finds that it is not waited for.
        let mut presence = wait.presence.lock();
        (presence.since, presence.seen) = (Instant::now(), None);
        wait.backend.store(session.backend, Ordering::Relaxed);
    });
}

/// One piece of work on a session.
#[derive(Debug)]
struct Wait {
    backend: AtomicI32,
    silence: Duration,
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
        let mut presence = self.0.presence.lock();
        presence.n_away -= 1;
        presence.since = Instant::now();
    }
}

impl Wait {
    fn leave(self: &Arc<Self>) -> Away {
        self.presence.lock().n_away += 1;
        Away(Arc::clone(self))
    }

    /// Returns for how long it has waited for Postgres.
    fn waited(&self) -> Duration {
        let presence = self.presence.lock();
        if presence.n_away > 0 { Duration::ZERO } else { presence.since.elapsed() }
    }

    /// Judges what the server says of the backend; returns whether it is to be ended.
    fn judge(&self, backend: Option<&Backend>) -> bool {
        let waited = self.waited();
        let Some(backend) = backend else {
            if waited >= self.silence / ASKED_AFTER {
                self.given_up.send_replace(Some("its backend is gone".into()));
            }
            return false;
        };
        let mut presence = self.presence.lock();
        if !backend.waits_for_us {
            presence.seen = None;
            return false;
        }
        match &presence.seen {
            Some((at, since)) if *at == backend.at => {
                let silence = if backend.gets_on_unseen { self.silence * UNSEEN } else { self.silence };
                if since.elapsed() >= silence && waited >= silence {
                    self.given_up
                        .send_replace(Some(format!("its backend is waiting for the client ({})", backend.state)));
                    return true;
                }
            }
            _ => presence.seen = Some((backend.at.clone(), Instant::now())),
        }
        false
    }
}

/// What the server says of a backend.
#[derive(Debug)]
struct Backend {
    pid: i32,
    state: String,
    waits_for_us: bool,
    /// It may get on without a change in what is seen of it.
    gets_on_unseen: bool,
    /// Changes with everything it does.
    at: String,
}
service::from_row!(Backend { pid, state, waits_for_us, gets_on_unseen, at });

/// The work that waits, of all sessions.
#[derive(Debug)]
pub struct Watch {
    /// [`SILENCE`], which no test can wait for.
    silence: Duration,
    waits: Mutex<Vec<Weak<Wait>>>,
    heard_at: Mutex<Instant>,
}

impl Default for Watch {
    fn default() -> Self {
        Self { silence: SILENCE, waits: Mutex::default(), heard_at: Mutex::new(Instant::now()) }
    }
}

impl Watch {
    /// Does work on a session until it ends, or its backend is found not to answer.
    ///
    /// # Errors
    /// [`GivenUp`].
    pub(super) async fn over<T>(
        &self,
        what: &'static str,
        (backend, place): (i32, &str),
        work: impl Future<Output = T>,
    ) -> Result<T, GivenUp> {
        let presence = Mutex::new(Presence { n_away: 0, since: Instant::now(), seen: None });
        let backend = AtomicI32::new(backend);
        let wait = Arc::new(Wait { backend, silence: self.silence, presence, given_up: watch::Sender::new(None) });
        {
            let mut waits = self.waits.lock();
            waits.retain(|earlier| earlier.strong_count() > 0);
            waits.push(Arc::downgrade(&wait));
        }
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
        let waits = self.waits.lock();
        waits.iter().filter_map(Weak::upgrade).filter(|wait| wait.waited() >= self.silence / ASKED_AFTER).collect()
    }

    /// Asks the server about the backends of those who wait for it.
    ///
    /// # Errors
    /// Of the database; [`Self::unheard`] is to be told.
    pub async fn look(&self, session: &mut Session) -> anyhow::Result<()> {
        let waiting = self.waiting();
        if !waiting.is_empty() {
            let backends: Vec<i32> = waiting.iter().map(|wait| wait.backend.load(Ordering::Relaxed)).collect();
            let seen = session.backends_at_work(&backends).await?;
            let mut ended = Vec::new();
            for (pid, wait) in backends.into_iter().zip(waiting) {
                let backend = seen.iter().find(|backend| backend.pid == pid);
                if wait.judge(backend) {
                    ended.extend(backend.map(|backend| (pid, backend.at.clone())));
                }
            }
            if !ended.is_empty() {
                session.end_backends(ended).await?;
            }
        }
        *self.heard_at.lock() = Instant::now();
        Ok(())
    }

    /// Notes that the server could not be asked. After a while it is waited for no longer, unless it answered, if
    /// only with a refusal.
    pub fn unheard(&self, error: &anyhow::Error) {
        let mut heard_at = self.heard_at.lock();
        let answered = error.chain().any(|cause| matches!(cause.downcast_ref(), Some(sqlx::Error::Database(_))));
        if answered {
            *heard_at = Instant::now();
        } else if heard_at.elapsed() >= self.silence {
            for wait in self.waiting() {
                if wait.waited() >= self.silence {
                    wait.given_up.send_replace(Some(format!("no other connection is answered ({})", chain(error))));
                }
            }
        }
    }

    /// Returns whether anything waits.
    pub(super) fn is_wanted(&self) -> bool {
        let wanted = !self.waiting().is_empty();
        if !wanted {
            *self.heard_at.lock() = Instant::now();
        }
        wanted
    }
}

impl Session {
    /// Returns what the server says of backends, by process id.
    async fn backends_at_work(&mut self, backends: &[i32]) -> anyhow::Result<Vec<Backend>> {
        let sql = self.backends_sql();
        let statement = sqlx::query_as(&sql).bind(backends).fetch_all(&mut self.connection);
        self.server.answer("look at the sessions", statement).await
    }

    /// Ends backends, unless they did anything since they were seen.
    async fn end_backends(&mut self, backends: Vec<(i32, String)>) -> anyhow::Result<()> {
        let (pids, ats): (Vec<i32>, Vec<String>) = backends.into_iter().unzip();
        let sql = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM ({}) backends WHERE waits_for_us AND at = ANY ($2)",
            self.backends_sql()
        );
        let statement = sqlx::query(&sql).bind(pids).bind(ats).execute(&mut self.connection);
        match self.server.answer("end sessions that were given up", statement).await {
            // Of another role by now: its server's keepalives end it.
            Err(error) if matches!(error.downcast_ref(), Some(sqlx::Error::Database(_))) => {
                debug!(error = chain(&error), "could not end the backends of sessions that were given up");
                Ok(())
            }
            ended => ended.map(|_| ()),
        }
    }

    /// Returns the question about the backends $1.
    fn backends_sql(&self) -> String {
        match self.version {
            // What a COPY has taken so far is only shown since 14.
            ..140_000 => include_str!("liveness.sql")
                .replace("/*copied*/", "NULL::text")
                .replace("/*unseen*/", "coalesce(a.state = 'active' AND starts_with(a.query, 'COPY '), false)"),
            _ => include_str!("liveness.sql")
                .replace(
                    "/*copied*/",
                    "(SELECT p.bytes_processed::text FROM pg_catalog.pg_stat_progress_copy p WHERE p.pid = a.pid)",
                )
                .replace("/*unseen*/", "false"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use tokio::time::sleep;

    /// Stands for [`SILENCE`].
    const QUICK: Duration = Duration::from_millis(100);

    fn quick() -> Watch {
        Watch { silence: QUICK, ..Watch::default() }
    }

    fn idle(at: &str) -> Backend {
        Backend {
            pid: 1,
            state: "idle in transaction".into(),
            waits_for_us: true,
            gets_on_unseen: false,
            at: at.into(),
        }
    }

    /// Lets work that never ends be looked at now and then; returns why it was given up, if it was.
    async fn watched(work: impl Future<Output = ()>, says: impl Fn(u64) -> Option<Backend>) -> Option<String> {
        let watch = quick();
        let looking = async {
            for n in 0..12 {
                sleep(QUICK / 4).await;
                for wait in watch.waiting() {
                    wait.judge(says(n).as_ref());
                }
            }
        };
        tokio::select! {
            given_up = watch.over("an import", (1, "h:5432"), work) => given_up.err().map(|error| error.to_string()),
            () = looking => None,
        }
    }

    #[tokio::test]
    async fn work_whose_backend_waits_for_us_is_given_up() {
        let why = watched(pending(), |_| Some(idle("same"))).await;
        let why = why.expect("given up");
        assert!(why.starts_with("an import waited 0 s for an answer from Postgres at h:5432: "), "{why}");
        assert!(why.ends_with("its backend is waiting for the client (idle in transaction)"), "{why}");
    }

    #[tokio::test]
    async fn work_whose_backend_is_gone_is_given_up() {
        let why = watched(pending(), |_| None).await.expect("given up");
        assert!(why.ends_with("its backend is gone"), "{why}");
    }

    #[tokio::test]
    async fn work_whose_backend_works_or_gets_on_is_left_alone() {
        let at_work = |_| Some(Backend { waits_for_us: false, ..idle("same") });
        assert_eq!(watched(pending(), at_work).await, None);
        assert_eq!(watched(pending(), |n| Some(idle(&n.to_string()))).await, None);
    }

    #[tokio::test]
    async fn work_that_waits_for_something_else_is_left_alone() {
        assert_eq!(watched(elsewhere(pending()), |_| Some(idle("same"))).await, None);
        assert_eq!(watched(elsewhere(pending()), |_| None).await, None);
    }

    #[tokio::test]
    async fn work_that_hears_of_postgres_is_left_alone_although_its_backend_looks_the_same() {
        let copying = async {
            loop {
                sleep(QUICK / 4).await;
                heard();
            }
        };
        assert_eq!(watched(copying, |_| Some(idle("same"))).await, None);
    }

    #[tokio::test]
    async fn a_copy_that_gets_on_unseen_is_given_up_later() {
        let copying = Backend { gets_on_unseen: true, ..idle("same") };
        for (silence, expected) in [(SILENCE * UNSEEN * 2, true), (SILENCE * (UNSEEN - 1), false)] {
            let wait = silent_for(silence, silence);
            assert_eq!(wait.judge(Some(&copying)), expected, "{silence:?}");
            assert_eq!(wait.given_up.borrow().is_some(), expected, "{silence:?}");
        }
    }

    #[tokio::test]
    async fn work_that_heard_of_postgres_between_two_looks_is_left_alone_and_its_backend_not_ended() {
        for (heard, expected) in [(SILENCE / 2, false), (SILENCE, true)] {
            assert_eq!(silent_for(SILENCE * 2, heard).judge(Some(&idle("same"))), expected, "heard {heard:?} ago");
        }
    }

    #[tokio::test]
    async fn work_that_went_on_with_another_session_is_not_judged_by_what_was_asked_before() {
        for answer in [None, Some(idle("same"))] {
            let wait = silent_for(SILENCE * 2, SILENCE * 2);
            let mut presence = wait.presence.lock();
            (presence.since, presence.seen) = (Instant::now(), None);
            drop(presence);
            assert!(!wait.judge(answer.as_ref()) && wait.given_up.borrow().is_none(), "{answer:?}");
        }
    }

    /// Work whose backend has been seen at one thing for so long, and that heard of Postgres so long ago.
    fn silent_for(seen: Duration, heard: Duration) -> Wait {
        let ago = |time| Instant::now().checked_sub(time).expect("clocks count from earlier");
        let presence = Presence { n_away: 0, since: ago(heard), seen: Some(("same".into(), ago(seen))) };
        Wait {
            backend: AtomicI32::new(1),
            silence: SILENCE,
            presence: Mutex::new(presence),
            given_up: watch::Sender::new(None),
        }
    }

    #[tokio::test]
    async fn only_a_server_that_answers_nobody_is_not_waited_for() {
        let refused = || sqlx::Error::Database(Box::new(Refusal));
        for (error, expected) in
            [(anyhow::anyhow!("timed out"), true), (anyhow::Error::from(refused()).context("connect"), false)]
        {
            let watch = quick();
            let looking = async {
                for _ in 0..12 {
                    sleep(QUICK / 4).await;
                    watch.unheard(&error);
                }
            };
            let given_up = tokio::select! {
                given_up = watch.over("an import", (1, "h:5432"), pending::<()>()) => given_up.is_err(),
                () = looking => false,
            };
            assert_eq!(given_up, expected, "{error:#}");
        }
    }

    /// What a server says that has no room for another connection.
    #[derive(Debug, thiserror::Error)]
    #[error("too many connections")]
    struct Refusal;

    impl sqlx::error::DatabaseError for Refusal {
        fn message(&self) -> &str {
            "too many connections"
        }

        fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
            self
        }

        fn as_error_mut(&mut self) -> &mut (dyn std::error::Error + Send + Sync + 'static) {
            self
        }

        fn into_error(self: Box<Self>) -> Box<dyn std::error::Error + Send + Sync + 'static> {
            self
        }

        fn kind(&self) -> sqlx::error::ErrorKind {
            sqlx::error::ErrorKind::Other
        }
    }
}
