//! The loop of one pool: observe, decide, apply, keep.
//!
//! Everything between an observation and a plan is pure; what cannot be seen is unknown, and what
//! could not be done is written down and tried again at the next tick.

mod account;
mod act;
mod keep;
mod lead;
mod look;
mod report;

use crate::{
    config::Pool,
    decision::Decision,
    leader::{Lead, Leadership},
    metrics::{Metrics, OfPart, OfPool},
    observation::{Pause, PoolSize},
    policy::{self, Policy, State},
    pool::{WorkerPool, track::Track},
    queue_depth::SqsQueues,
    sink_watch::SinkWatch,
    store::Store,
    timeouts::Timeouts,
};
use account::Account;
use chrono::{DateTime, Utc};
use keep::Kept;
use serde::{Deserialize, Serialize};
use service::{http::Health, time::backoff, words::chain};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// A tick is early or late by up to this share of the interval, so that many pools do not ask AWS at once.
const JITTER: f64 = 0.1;

/// Longest pause while the pool's API fails, unless the interval is longer: once it answers again it is heard soon.
const LONGEST_BACKOFF: Duration = Duration::from_secs(20);

/// Least time to act in, and to keep what was decided, when the looks took nearly all there is.
const LEAST_TIME: Duration = Duration::from_secs(1);

/// State older than this says nothing about now, apart from what was proven, and what was finished since is not read.
const LONGEST_PAUSE_SECS: i64 = 600;

/// What a pool's loop works with.
pub struct Parts<P> {
    /// The configuration.
    pub pool: Pool,
    /// The workers.
    pub workers: P,
    /// The queues.
    pub queue: SqsQueues,
    /// The database.
    pub store: Option<Store>,
    /// The leader's lock; without one this scaler is alone.
    pub leadership: Option<Arc<Leadership>>,
    /// Shared by all pools.
    pub metrics: Arc<Metrics>,
    /// Shared by all pools.
    pub readiness: Arc<Health>,
    /// This scaler, as `pool_state` names its leader: host and process.
    pub identity: Identity,
}

/// This scaler's identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The machine.
    pub host: String,
    /// The process.
    pub pid: u32,
}

/// What a tick came to.
#[derive(Debug)]
pub enum Tick {
    /// Another scaler leads, or it is not known who does, and why.
    Following(Option<String>),
    /// A decision was made.
    Decided(Box<Decided>),
}

/// A decision and what came of it.
#[derive(Debug)]
pub struct Decided {
    /// The decision.
    pub decision: Decision,
    /// Whether the pool is on its way to the number.
    pub applied: bool,
    /// What was done, or why not.
    pub outcome: Option<String>,
}

/// What is carried from tick to tick, and from leader to leader.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Carried {
    policy: State,
    account: Account,
    track: Track,
    /// Up to when the ledger was read.
    read_to: Option<DateTime<Utc>>,
    kept_at: Option<DateTime<Utc>>,
    /// The pause read last: one goes on while the database cannot be read, and ends by the clock.
    pause: Option<Pause>,
    /// A message is older than was promised, and people were told.
    late: bool,
}

/// One pool's loop.
pub struct Controller<P> {
    parts: Parts<P>,
    policy: Policy,
    timeouts: Timeouts,
    carried: Carried,
    watch: SinkWatch,
    leads: bool,
    first_look: bool,
    /// Since when heartbeats have been readable without a break.
    readable_since: Option<Instant>,
    /// The size at the last census, for when the pool cannot be listed.
    last_size: Option<PoolSize>,
    last_kept: Option<Kept>,
    last_logged: Option<u32>,
    /// Whether the last decision was to look a second time before a first worker is started.
    looks_again: bool,
    forgotten_at: Option<Instant>,
    pool_failures: u32,
    /// What each part failed with last, without the numbers in it.
    last_errors: BTreeMap<&'static str, String>,
}

impl<P: WorkerPool> Controller<P> {
    /// Prepares the loop.
    pub fn new(parts: Parts<P>) -> Self {
        parts.metrics.announce(&parts.pool.name);
        Self {
            policy: parts.pool.policy(),
            timeouts: parts.pool.timeouts(),
            parts,
            carried: Carried::default(),
            watch: SinkWatch::default(),
            leads: false,
            first_look: true,
            readable_since: None,
            last_size: None,
            last_kept: None,
            last_logged: None,
            looks_again: false,
            forgotten_at: None,
            pool_failures: 0,
            last_errors: BTreeMap::new(),
        }
    }

    /// Ticks until stopped; then leaves the workers to another scaler of this machine, or drains those only we look after.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let begun = Instant::now();
            tokio::select! {
                () = stop.cancelled() => break,
                ticked = self.tick() => if let Err(error) = ticked {
                    self.fail("tick", &error);
                },
            }
            let of_pool = self.of_pool();
            self.parts.metrics.tick_duration.get_or_create(&of_pool).observe(begun.elapsed().as_secs_f64());
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(self.pause()) => {}
            }
        }
        self.leave().await;
    }

    /// Does one tick, within [`Timeouts::tick`].
    ///
    /// # Errors
    /// When the state that the leader before kept cannot be read. Whatever else fails is part of the decision.
    pub async fn tick(&mut self) -> anyhow::Result<Tick> {
        let begun = Instant::now();
        match self.lead().await? {
            Lead::Ours => {}
            Lead::Theirs => return Ok(Tick::Following(None)),
            Lead::Unknown(why) => return Ok(Tick::Following(Some(why))),
        }
        let now = Utc::now();
        let seen = self.look(now).await;
        let (decision, state) = policy::decide(&self.policy, &seen.observation, &self.carried.policy, now);
        self.carried.policy = state;
        let (applied, outcome) = self.act(&decision, &seen, begun, now).await;
        let decided = Decided { decision, applied, outcome };
        self.report(&decided, &seen.observation);
        self.tell_late(&decided.decision).await;
        self.recall(begun, now).await;
        self.keep(&decided, begun, now).await;
        Ok(Tick::Decided(Box::new(decided)))
    }

    /// Returns the time to the next tick: the interval and some jitter, longer while the pool's API fails.
    fn pause(&self) -> Duration {
        let interval = Duration::from_secs(self.parts.pool.interval_secs.into());
        let jitter = 1.0 + JITTER * (2.0 * fastrand::f64() - 1.0);
        backoff(interval, self.pool_failures, LONGEST_BACKOFF.max(interval)).mul_f64(jitter)
    }

    /// Says in the log, in the metrics and in `/readyz` whether a part of the tick came about.
    fn note<T>(&mut self, part: &'static str, result: anyhow::Result<T>) -> Result<T, String> {
        let result = result.map_err(|error| {
            self.fail(part, &error);
            chain(&error)
        });
        if result.is_ok() {
            self.last_errors.remove(part);
        }
        let name = if part == "database" { part.to_owned() } else { format!("{part} of {}", self.parts.pool.name) };
        self.parts.readiness.note(&name, result.as_ref().map(|_| ()).map_err(String::clone));
        result
    }

    /// Counts a failure and logs it, once for as long as it stays the same but for the numbers in it.
    fn fail(&mut self, part: &'static str, error: &anyhow::Error) {
        self.count_failure(part);
        let text = chain(error);
        let without_numbers: String = text.chars().filter(|c| !c.is_ascii_digit()).collect();
        if self.last_errors.get(part) != Some(&without_numbers) {
            warn!(pool = self.parts.pool.name, part, error = text, "part of a tick failed");
            self.last_errors.insert(part, without_numbers);
        }
    }

    fn count_failure(&self, part: &'static str) {
        let of_part = OfPart { pool: self.parts.pool.name.clone(), part };
        self.parts.metrics.failures.get_or_create(&of_part).inc();
    }

    fn of_pool(&self) -> OfPool {
        OfPool { pool: self.parts.pool.name.clone() }
    }

    /// Returns the database, where a call may take as long as one of a tick may.
    fn store(&self) -> Option<Store> {
        self.parts.store.as_ref().map(|store| store.within(self.timeouts.call()))
    }
}
