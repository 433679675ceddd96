//! The worker's heartbeat in `penstock.workers`.

use super::Worker;
use crate::{
    ledger::workers::{self, WorkerRow},
    load::{Session, Sessions},
};
use anyhow::Context;
use chrono::{DateTime, Utc};
use service::{postgres::Server, words::chain, worker::WorkerState};
use std::{
    sync::{Arc, OnceLock, atomic::Ordering},
    time::Duration,
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Time between heartbeats, at most; also at most a third of the visibility timeout.
const BEAT: Duration = Duration::from_secs(5);

/// How long a heartbeat waits for its answer before it is written on another connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the heartbeat says that does not change.
#[derive(Debug, Clone)]
pub struct WorkerIdentity {
    /// Unique to the process.
    pub id: String,
    /// Host name.
    pub host: String,
    /// EC2 instance id, task id or pod name, once known.
    pub instance_id: Arc<OnceLock<String>>,
    /// Address of /healthz and /metrics.
    pub listen: Option<String>,
    /// When the process started.
    pub started_at: DateTime<Utc>,
}

/// Beats until stopped, then removes the worker's row.
pub async fn beat(worker: Arc<Worker>, sessions: Sessions, identity: WorkerIdentity, stop: CancellationToken) {
    let visibility = Duration::from_secs(worker.config.queue.visibility_timeout_secs.into());
    let mut ticks = tokio::time::interval(BEAT.min(visibility / 3));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut session = None;
    let mut failing = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = ticks.tick() => {}
        }
        match beat_once(&worker, &sessions, &identity, &mut session).await {
            Ok(()) => failing = false,
            Err(error) => {
                session = None;
                sessions.watch.unheard(&error);
                if !std::mem::replace(&mut failing, true) {
                    warn!(error = chain(&error), "heartbeat failed");
                }
            }
        }
    }
    if let Some(mut session) = session {
        let (server, removing) = (session.server.clone(), workers::remove(&mut session.connection, &identity.id));
        if let Err(error) = server.answer("remove the worker's row", removing).await {
            debug!(error = chain(&error), "could not remove the worker's row");
        }
    }
}

async fn beat_once(
    worker: &Worker,
    sessions: &Sessions,
    identity: &WorkerIdentity,
    session: &mut Option<Session>,
) -> anyhow::Result<()> {
    // A connection that broke is not the server's silence: the beat is written on the next at once.
    if let Some(open) = session
        && write(worker, sessions, identity, open).await.is_ok()
    {
        return Ok(());
    }
    *session = None;
    let mut open = sessions.open().await?;
    write(worker, sessions, identity, &mut open).await?;
    *session = Some(open);
    Ok(())
}

/// Writes the heartbeat, and looks after the sessions that wait for an answer.
async fn write(
    worker: &Worker,
    sessions: &Sessions,
    identity: &WorkerIdentity,
    open: &mut Session,
) -> anyhow::Result<()> {
    // First, for it reads and waits for no disk and no lock: a server whose writes are slow is not silent.
    let server = open.server.clone();
    in_time(&server, "look at the sessions that wait", sessions.watch.look(open)).await?;
    let row = row(worker, sessions, identity);
    let beat = workers::heartbeat(&mut open.connection, &row);
    in_time(&server, "write the heartbeat", server.answer("write the heartbeat", beat)).await
}

async fn in_time<E: Into<anyhow::Error>>(
    server: &Server,
    what: &'static str,
    work: impl Future<Output = Result<(), E>>,
) -> anyhow::Result<()> {
    match timeout(PATIENCE, work).await {
        Ok(done) => done.map_err(Into::into).context(what),
        Err(_) => {
            let (place, secs) = (server.place(), PATIENCE.as_secs());
            anyhow::bail!("{what}: Postgres at {place} did not answer within {secs} s");
        }
    }
}

fn row(worker: &Worker, sessions: &Sessions, identity: &WorkerIdentity) -> WorkerRow {
    let progress = &worker.progress;
    let first_receive_ms = progress.first_receive_ms.load(Ordering::Relaxed);
    let in_flight = progress.busy.load(Ordering::Relaxed);
    let state = if progress.draining.load(Ordering::Relaxed) {
        WorkerState::Draining
    } else if first_receive_ms == 0 {
        WorkerState::Starting
    } else if worker.in_hand.is_empty() {
        WorkerState::Idle
    } else {
        WorkerState::Busy
    };
    let oldest = worker.in_hand.oldest();
    worker.metrics.messages_held.set(i64::try_from(worker.in_hand.len()).unwrap_or(i64::MAX));
    let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    WorkerRow {
        id: identity.id.clone(),
        host: identity.host.clone(),
        pid: number(std::process::id()),
        instance_id: identity.instance_id.get().cloned(),
        version: crate::cli::VERSION,
        state,
        slots: number(worker.config.worker.concurrency),
        in_flight: number(in_flight),
        empty_polls: number(progress.empty_polls.load(Ordering::Relaxed)),
        listen: identity.listen.clone(),
        backends: sessions.backends(),
        queue_url: worker.config.queue.url.clone(),
        visibility_timeout_secs: number(worker.config.queue.visibility_timeout_secs),
        started_at: identity.started_at,
        first_receive_at: i64::try_from(first_receive_ms)
            .ok()
            .filter(|ms| *ms > 0)
            .and_then(DateTime::from_timestamp_millis),
        receives: count(progress.receives.load(Ordering::Relaxed)),
        redeliveries: count(progress.redeliveries.load(Ordering::Relaxed)),
        oldest_sent_at: oldest.map(|(sent_at, _)| sent_at),
        oldest_receive_count: oldest.map(|(_, count)| number(count)),
    }
}
