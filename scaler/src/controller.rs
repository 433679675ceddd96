//! The loop of one pool: observe, decide, apply, keep.
//!
//! One of the two places that read the clock. Everything between an
//! observation and a plan is pure; what cannot be seen is unknown, and what
//! could not be done is written down and tried again at the next tick.

mod account;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::config::Pool;
use crate::decision::Decision;
use crate::http::Readiness;
use crate::leader::{Lead, Leadership};
use crate::limits::Limits;
use crate::metrics::{Metrics, OfPart, OfPool, OfQueue, OfReason, OfState};
use crate::observation::{Observation, PoolSize};
use crate::policy::{self, Policy, State};
use crate::pool::census::{self, Census};
use crate::pool::track::Track;
use crate::pool::{Applied, Members, Plan, WorkerPool};
use crate::queue_depth::{DepthSource, Depths};
use crate::sink_watch::SinkWatch;
use crate::store::{Heartbeat, Reading, Record, Store};
use account::Account;

/// A tick is early or late by up to this share of the interval, so that many pools do not ask AWS at once.
const JITTER: f64 = 0.1;

/// Longest pause while the pool's API fails, unless the interval is longer: once it answers again it is heard soon.
const LONGEST_BACKOFF: Duration = Duration::from_secs(20);

/// Least time to act in, and to keep what was decided, when the looks took nearly all there is.
const LEAST: Duration = Duration::from_secs(1);

/// How long a scaler that stops waits for Postgres to say whether another one takes over.
const GOODBYE: Duration = Duration::from_secs(1);

/// How long decisions are kept.
const KEEP_DAYS: i32 = 90;

/// How often an unchanged, idle pool's decision is kept.
const KEEP_QUIET_SECS: i64 = 55;

/// State older than this says nothing about now, apart from what was proven, and what was finished since is not read.
const LONGEST_PAUSE_SECS: i64 = 600;

/// What a pool's loop works with.
pub struct Parts<P, Q> {
    /// The configuration.
    pub pool: Pool,
    /// The workers.
    pub workers: P,
    /// The queues.
    pub queue: Q,
    /// The database.
    pub store: Option<Store>,
    /// The leader's lock; without one this scaler is alone.
    pub leadership: Option<Arc<Leadership>>,
    /// Shared by all pools.
    pub metrics: Arc<Metrics>,
    /// Shared by all pools.
    pub readiness: Arc<Readiness>,
    /// This scaler, as `pool_state` names its leader: host and process.
    pub identity: Identity,
}

/// Who this scaler is.
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
    /// Another scaler leads, or nobody can tell, and why.
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
}

/// One pool's loop.
pub struct Controller<P, Q> {
    parts: Parts<P, Q>,
    policy: Policy,
    limits: Limits,
    carried: Carried,
    watch: SinkWatch,
    leads: bool,
    first_look: bool,
    /// Since when heartbeats have been readable without a break.
    readable_since: Option<Instant>,
    /// The size at the last census, for when the pool cannot be listed.
    last_size: Option<PoolSize>,
    last_kept: Option<(DateTime<Utc>, u32, u32, crate::decision::Reason)>,
    last_logged: Option<u32>,
    forgotten_at: Option<Instant>,
    pool_failures: u32,
    /// What each part failed with last, without the numbers in it.
    noted: BTreeMap<&'static str, String>,
}

impl<P: WorkerPool, Q: DepthSource> Controller<P, Q> {
    /// Prepares the loop.
    pub fn new(parts: Parts<P, Q>) -> Self {
        parts.metrics.announce(&parts.pool.name);
        Self {
            policy: parts.pool.policy(),
            limits: parts.pool.limits(),
            parts,
            carried: Carried::default(),
            watch: SinkWatch::default(),
            leads: false,
            first_look: true,
            readable_since: None,
            last_size: None,
            last_kept: None,
            last_logged: None,
            forgotten_at: None,
            pool_failures: 0,
            noted: BTreeMap::new(),
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
        if !self.leads {
            return;
        }
        let name = self.parts.pool.name.clone();
        let heir = match &self.parts.leadership {
            None => false,
            Some(leadership) => match leadership.confirm(&name, GOODBYE).await {
                // Another one took over since the last tick: the workers are its own.
                Lead::Anothers => true,
                Lead::Ours => leadership.has_heir(&name, GOODBYE).await.unwrap_or(false),
                // Workers that finish and go are better than workers nobody looks after.
                Lead::Unknown(_) => false,
            },
        };
        if heir {
            info!(pool = self.parts.pool.name, "leaving the workers to the scaler that takes over");
        } else {
            self.parts.workers.close().await;
        }
    }

    /// Does one tick, within [`Limits::tick`].
    pub async fn tick(&mut self) -> anyhow::Result<Tick> {
        let begun = Instant::now();
        match self.lead().await? {
            Lead::Ours => {}
            Lead::Anothers => return Ok(Tick::Following(None)),
            Lead::Unknown(why) => return Ok(Tick::Following(Some(why))),
        }
        let now = Utc::now();
        let seen = self.look(now).await;
        let (decision, state) = policy::decide(&self.policy, &seen.observation, &self.carried.policy, now);
        self.carried.policy = state;
        let (applied, outcome) = self.act(&decision, &seen, begun, now).await;
        self.report(&decision, &seen.observation, applied, outcome.as_deref());
        self.keep(&decision, applied, outcome.as_deref(), begun, now).await;
        Ok(Tick::Decided(Box::new(Decided { decision, applied, outcome })))
    }

    /// Makes sure that this scaler leads; on taking over, goes on where the leader before stopped.
    async fn lead(&mut self) -> anyhow::Result<Lead> {
        let lead = match &self.parts.leadership {
            Some(leadership) => leadership.confirm(&self.parts.pool.name, self.limits.lead()).await,
            None => Lead::Ours,
        };
        self.parts.metrics.leading.get_or_create(&self.of_pool()).set(i64::from(lead == Lead::Ours));
        match &lead {
            Lead::Ours => self.parts.readiness.note("leader", Ok(())),
            Lead::Anothers => {
                self.parts.readiness.note("leader", Ok(()));
                if self.leads || self.first_look {
                    info!(pool = self.parts.pool.name, "another scaler leads the pool");
                }
                self.leads = false;
                self.first_look = false;
                self.give_way().await;
                return Ok(lead);
            }
            // Said in the log where it was found: all pools share the session.
            Lead::Unknown(why) => {
                self.count_failure("leader");
                self.parts.readiness.note("leader", Err(why.clone()));
                // So that whoever leads then is said.
                self.first_look |= self.leads;
                self.leads = false;
                return Ok(lead);
            }
        }
        if !self.leads {
            self.take_over().await?;
            self.leads = true;
        }
        Ok(lead)
    }

    async fn take_over(&mut self) -> anyhow::Result<()> {
        self.first_look = true;
        self.readable_since = None;
        let Some(store) = self.parts.store.as_ref().map(|store| store.within(self.limits.call())) else {
            return Ok(());
        };
        let Some((state, _)) = store.load_state(&self.parts.pool.name).await? else {
            self.carried = Carried::default();
            return Ok(());
        };
        self.carried = serde_json::from_value(state).unwrap_or_else(|error| {
            // An older release may not know a newer one's state. The pool is held until it is learnt anew.
            warn!(pool = self.parts.pool.name, error = %error, "the kept state could not be read, starting afresh");
            Carried::default()
        });
        let pause = self.carried.kept_at.map(|at| Utc::now() - at);
        if pause.is_none_or(|pause| pause.num_seconds() > LONGEST_PAUSE_SECS) {
            self.carried.account = Account::default();
            self.carried.read_to = None;
        }
        Ok(())
    }

    /// Lets go of workers on this machine when the leader is on another one and cannot see them.
    async fn give_way(&mut self) {
        let Some(store) = self.parts.store.as_ref().map(|store| store.within(self.limits.call())) else { return };
        let Ok(Some((_, Some(leader)))) = store.load_state(&self.parts.pool.name).await else { return };
        if leader.split(' ').next() != Some(self.parts.identity.host.as_str()) {
            self.parts.workers.hand_over().await;
        }
    }

    /// Observes everything at once.
    async fn look(&mut self, now: DateTime<Utc>) -> Seen {
        let horizon_secs = self.policy.start_up_secs + f64::from(self.parts.pool.interval_secs);
        let urls = &self.parts.pool.queue_urls;
        let read_to = self.carried.read_to.filter(|read_to| (now - *read_to).num_seconds() <= LONGEST_PAUSE_SECS);
        let store = self.parts.store.as_ref().map(|store| store.within(self.limits.call()));
        let limit = self.limits.members();
        let (depths, members, reading) =
            tokio::join!(self.parts.queue.depths(horizon_secs), timeout(limit, self.parts.workers.members()), async {
                match &store {
                    Some(store) => Some(store.read(urls, read_to).await),
                    None => None,
                }
            });
        let members = members.unwrap_or_else(|_| Err(anyhow::anyhow!("look at the pool: not done within {limit:.1?}")));
        self.note_queues(&depths);
        let reading = match reading {
            None => None,
            Some(Ok(reading)) => {
                self.note("database", Ok(()));
                self.noted.remove("database");
                self.readable_since.get_or_insert_with(Instant::now);
                Some(Ok(reading))
            }
            Some(Err(error)) => {
                self.fail("database", &error);
                self.note("database", Err(format!("{error:#}")));
                self.readable_since = None;
                Some(Err(error))
            }
        };
        let reading = match &reading {
            None => Known::Nobody,
            Some(Ok(reading)) => Known::Reading(reading),
            Some(Err(error)) => Known::Unreadable(format!("{error:#}")),
        };
        let members = match members {
            Ok(members) => {
                self.pool_failures = 0;
                self.noted.remove("pool");
                self.note("pool", Ok(()));
                Ok(members)
            }
            Err(error) => {
                self.pool_failures = self.pool_failures.saturating_add(1);
                self.fail("pool", &error);
                self.note("pool", Err(format!("{error:#}")));
                Err(format!("{error:#}"))
            }
        };
        self.understand(&depths, members, reading, now)
    }

    /// Says which queues could be counted and which could not.
    fn note_queues(&mut self, depths: &Depths) {
        for (url, depth) in &depths.0 {
            let of_queue = OfQueue { pool: self.parts.pool.name.clone(), queue: url.clone() };
            self.parts.metrics.queue_counted.get_or_create(&of_queue).set(i64::from(depth.is_ok()));
        }
        match depths.unread() {
            None => {
                self.noted.remove("queue");
                self.note("queue", Ok(()));
            }
            Some(why) => {
                self.fail("queue", &anyhow::anyhow!("{why}"));
                self.note("queue", Err(why));
            }
        }
    }

    /// Makes an observation of what was seen.
    fn understand(
        &mut self,
        depths: &Depths,
        members: Result<Members, String>,
        reading: Known<'_>,
        now: DateTime<Utc>,
    ) -> Seen {
        let (mut depth, unread) = (depths.total(), depths.unread());
        let heartbeats = match &reading {
            Known::Reading(reading) => Some(reading.heartbeats.as_slice()),
            _ => None,
        };
        let account = &mut self.carried.account;
        let (completions, read_to) = match &reading {
            Known::Reading(reading) => (reading.completions.clone(), reading.read_to),
            _ => (None, None),
        };
        let flow = account.absorb(heartbeats, completions.as_deref(), now);
        self.carried.read_to = read_to.or(self.carried.read_to);

        let (mut size, mut start_ups, mut fewest_empty_polls) = (self.last_size.unwrap_or_default(), Vec::new(), None);
        let mut census = None;
        if let Ok(members) = &members {
            self.carried.track.meet(members, self.first_look, now);
            let track = &self.carried.track;
            let means = census::Means {
                heartbeats,
                readable_secs: self.readable_since.map_or(0.0, |since| since.elapsed().as_secs_f64()),
                in_flight: depth.filter(|_| unread.is_none()).map(|depth| depth.in_flight),
                start_up_secs: self.policy.start_up_secs,
                since: &|member| track.since(member, now),
                now,
            };
            let taken = Census::take(members, &means);
            size = taken.size();
            fewest_empty_polls = taken.fewest_empty_polls;
            start_ups = self.carried.track.absorb(&taken);
            census = Some(taken);
            self.first_look = false;
            self.last_size = Some(size);
        }
        let slots_per_worker = heartbeats.and_then(measured_slots);
        if let (Some(depth), Some(heartbeats)) = (&mut depth, heartbeats) {
            (depth.oldest_age_secs, depth.oldest_receive_count) = oldest(heartbeats);
        }
        let sink = match &reading {
            Known::Nobody => crate::observation::Sink::default(),
            Known::Unreadable(_) => self.watch.judge(None, None),
            Known::Reading(reading) => self.watch.judge(Some(&reading.load), slots_per_worker.map(|slots| slots + 2)),
        };
        let observation = Observation {
            pool: size,
            pool_unread: members.as_ref().err().cloned(),
            queue: depth.ok_or_else(|| {
                format!("the counters could not be read ({})", unread.as_deref().unwrap_or("there is no queue"))
            }),
            queue_unread: depth.and(unread),
            completions,
            receives: flow.receives,
            redeliveries: flow.redeliveries,
            last_worker_empty_polls: fewest_empty_polls,
            sink,
            database_unread: match reading {
                Known::Unreadable(why) => Some(why),
                _ => None,
            },
            slots_per_worker,
            objects_per_message: flow.objects_per_message,
            start_ups,
            failed_starts: Some(self.carried.track.failed_in_a_row()),
        };
        Seen { observation, census, note: members.ok().and_then(|members| members.note) }
    }

    /// Brings the pool to the number, and says what came of it.
    async fn act(
        &mut self,
        decision: &Decision,
        seen: &Seen,
        begun: Instant,
        now: DateTime<Utc>,
    ) -> (bool, Option<String>) {
        let Some(census) = &seen.census else {
            return (false, Some("the pool could not be listed, so nothing was done".to_owned()));
        };
        let plan = Plan::new(decision.desired, census, self.parts.workers.abilities());
        let mut parts: Vec<String> = seen.note.iter().cloned().collect();
        let mut applied = Applied::default();
        if !plan.is_empty() || plan.fewer > 0 {
            // Between the look and now another may have become the leader.
            let lead = match &self.parts.leadership {
                Some(leadership) => leadership.confirm(&self.parts.pool.name, self.limits.lead()).await,
                None => Lead::Ours,
            };
            match lead {
                Lead::Ours => {}
                Lead::Anothers => {
                    self.leads = false;
                    return (false, Some("not leading any more, so nothing was done".to_owned()));
                }
                Lead::Unknown(why) => {
                    self.leads = false;
                    return (false, Some(format!("nobody can tell who leads ({why}), so nothing was done")));
                }
            }
            let left = self.limits.act_until().saturating_sub(begun.elapsed()).max(LEAST);
            let lost = async {
                match &self.parts.leadership {
                    Some(leadership) => leadership.lost(&self.parts.pool.name).await,
                    None => std::future::pending().await,
                }
            };
            // What is begun and not done is seen at the next look.
            let stopped = tokio::select! {
                carried_out = timeout(left, self.parts.workers.carry_out(&plan, &mut applied)) => {
                    carried_out.err().map(|_| format!("not all was done within {left:.1?}, the rest is the next tick's"))
                }
                () = lost => Some("not leading any more, so no more was done".to_owned()),
            };
            applied.problems.extend(stopped);
            self.carried.track.note(&applied, now);
        }
        let of_pool = self.of_pool();
        self.parts.metrics.started.get_or_create(&of_pool).inc_by(u64::from(applied.started));
        self.parts.metrics.ended.get_or_create(&of_pool).inc_by(applied.ended.len() as u64);
        let reached = applied.problems.is_empty() && plan.kept.is_none();
        parts.extend(applied.outcome());
        parts.extend(plan.kept);
        (reached, (!parts.is_empty()).then(|| parts.join("; ")))
    }

    /// Logs and counts a decision.
    fn report(&mut self, decision: &Decision, seen: &Observation, applied: bool, outcome: Option<&str>) {
        let pool = self.parts.pool.name.as_str();
        let (visible, in_flight) =
            seen.queue.as_ref().map_or((-1, -1), |depth| (signed(depth.visible), signed(depth.in_flight)));
        let live = seen.pool.live();
        let changed = self.last_logged != Some(decision.desired) || decision.desired != live;
        self.last_logged = Some(decision.desired);
        let text = if changed { "pool resized" } else { "pool left as it is" };
        macro_rules! line {
            ($level:ident) => {
                $level!(
                    pool,
                    pool.desired = decision.desired,
                    pool.running = live,
                    queue.visible = visible,
                    queue.in_flight = in_flight,
                    reason = decision.reason.as_str(),
                    explain = decision.explain,
                    applied,
                    outcome = outcome.unwrap_or_default(),
                    "{text}"
                )
            };
        }
        if changed {
            line!(info);
        } else {
            line!(debug);
        }
        let metrics = &self.parts.metrics;
        let of_pool = self.of_pool();
        let reason = OfReason { pool: of_pool.pool.clone(), reason: decision.reason.as_str() };
        metrics.decisions.get_or_create(&reason).inc();
        metrics.desired.get_or_create(&of_pool).set(decision.desired.into());
        let is_whole = seen.queue.is_ok() && seen.queue_unread.is_none();
        metrics.queue_readable.get_or_create(&of_pool).set(i64::from(is_whole));
        metrics.job.get_or_create(&of_pool).set(decision.inputs.job_secs);
        metrics.arrivals.get_or_create(&of_pool).set(decision.inputs.arrivals_per_sec);
        metrics.start_up.get_or_create(&of_pool).set(decision.inputs.start_up_secs);
        metrics.oldest_age.get_or_create(&of_pool).set(decision.inputs.age_secs.unwrap_or(0.0));
        metrics.failed_starts.get_or_create(&of_pool).set(seen.failed_starts.unwrap_or(0).into());
        if let Some(healthy) = seen.sink.healthy {
            metrics.sink_healthy.get_or_create(&of_pool).set(healthy.into());
        }
        let of_state = |state| OfState { pool: of_pool.pool.clone(), state };
        let size = seen.pool;
        for (state, n) in [
            ("starting", size.starting),
            ("idle", size.idle),
            ("busy", size.busy),
            ("draining", size.draining),
            ("dead", size.dead),
        ] {
            metrics.workers.get_or_create(&of_state(state)).set(n.into());
        }
        if let Ok(depth) = &seen.queue {
            for (state, n) in [("visible", depth.visible), ("in_flight", depth.in_flight), ("delayed", depth.delayed)] {
                metrics.messages.get_or_create(&of_state(state)).set(signed(n));
            }
        }
    }

    /// Keeps the state and the decision; without a database there is nothing to keep them in.
    async fn keep(
        &mut self,
        decision: &Decision,
        applied: bool,
        outcome: Option<&str>,
        begun: Instant,
        now: DateTime<Utc>,
    ) {
        let live = decision.inputs.pool.live();
        // An idle pool says the same thing all night.
        let is_quiet = live == 0
            && decision.desired == 0
            && outcome.is_none()
            && decision.inputs.queue_error.is_none()
            && decision.inputs.queue.is_some_and(|depth| depth.visible == 0 && depth.in_flight == 0);
        let same = self.last_kept.is_some_and(|(at, desired, running, reason)| {
            is_quiet
                && (desired, running, reason) == (decision.desired, live, decision.reason)
                && (now - at).num_seconds() < KEEP_QUIET_SECS
        });
        let left = self.limits.tick.saturating_sub(begun.elapsed()).max(LEAST);
        let Some(store) = self.parts.store.as_ref().map(|store| store.within(self.limits.call())) else { return };
        self.carried.kept_at = Some(now);
        let state = serde_json::to_value(&self.carried).unwrap_or_default();
        let record = Record {
            pool: &self.parts.pool.name,
            at: now,
            desired: decision.desired,
            reason: decision.reason.as_str(),
            explain: &decision.explain,
            inputs: serde_json::to_value(&decision.inputs).unwrap_or_default(),
            applied,
            outcome,
        };
        let leader = format!("{} {}", self.parts.identity.host, self.parts.identity.pid);
        let keeping = store.keep(&self.parts.pool.name, &state, &leader, (!same).then_some(&record));
        let late = |_| Err(anyhow::anyhow!("keep the decision: not done within {left:.1?}"));
        match timeout(left, keeping).await.unwrap_or_else(late) {
            Ok(took) => {
                self.watch.committed(took);
                if !same {
                    self.last_kept = Some((now, decision.desired, live, decision.reason));
                }
            }
            Err(error) => {
                self.fail("database", &error);
                self.note("database", Err(format!("{error:#}")));
                // There is no time left for more.
                return;
            }
        }
        self.forget(begun).await;
    }

    /// Once an hour, forgets what is too old to be asked for.
    async fn forget(&mut self, begun: Instant) {
        if self.forgotten_at.is_some_and(|at| at.elapsed() < Duration::from_secs(3600)) {
            return;
        }
        self.forgotten_at = Some(Instant::now());
        let left = self.limits.tick.saturating_sub(begun.elapsed());
        let Some(store) = self.parts.store.as_ref().map(|store| store.within(self.limits.call())) else { return };
        let forgetting = timeout(left, store.forget(&self.parts.pool.name, KEEP_DAYS));
        if let Ok(Err(error)) = forgetting.await {
            debug!(pool = self.parts.pool.name, error = format!("{error:#}"), "old decisions could not be forgotten");
        }
    }

    /// Returns the time to the next tick: the interval and some jitter, longer while the pool's API fails.
    fn pause(&self) -> Duration {
        let interval = Duration::from_secs(self.parts.pool.interval_secs.into());
        let jitter = 1.0 + JITTER * (2.0 * fastrand::f64() - 1.0);
        let backoff = interval.saturating_mul(1 << self.pool_failures.min(6)).min(LONGEST_BACKOFF.max(interval));
        backoff.mul_f64(jitter)
    }

    /// Counts a failure and logs it, once for as long as it stays the same but for the numbers in it.
    fn fail(&mut self, part: &'static str, error: &anyhow::Error) {
        self.count_failure(part);
        let text = format!("{error:#}");
        let without_numbers: String = text.chars().filter(|c| !c.is_ascii_digit()).collect();
        if self.noted.get(part) != Some(&without_numbers) {
            warn!(pool = self.parts.pool.name, part, error = text, "part of a tick failed");
            self.noted.insert(part, without_numbers);
        }
    }

    fn count_failure(&self, part: &'static str) {
        let of_part = OfPart { pool: self.parts.pool.name.clone(), part };
        self.parts.metrics.failures.get_or_create(&of_part).inc();
    }

    fn note(&self, part: &str, state: Result<(), String>) {
        let name = if part == "database" { part.to_owned() } else { format!("{part} of {}", self.parts.pool.name) };
        self.parts.readiness.note(name, state);
    }

    fn of_pool(&self) -> OfPool {
        OfPool { pool: self.parts.pool.name.clone() }
    }
}

/// What was seen in a tick.
struct Seen {
    observation: Observation,
    /// `None` when the pool could not be listed.
    census: Option<Census>,
    note: Option<String>,
}

/// What is known of the importers.
enum Known<'a> {
    /// There is no database.
    Nobody,
    /// There is one, and it does not answer, or wrongly.
    Unreadable(String),
    /// What it said.
    Reading(&'a Reading),
}

/// Returns the objects at once in one worker, as the workers say.
fn measured_slots(heartbeats: &[Heartbeat]) -> Option<u32> {
    let slots: Vec<u32> = heartbeats.iter().map(|heartbeat| heartbeat.slots).filter(|slots| *slots > 0).collect();
    let sum: u32 = slots.iter().sum();
    (!slots.is_empty()).then(|| (sum / slots.len() as u32).max(1))
}

/// Returns the age and the receive count of the oldest message in anybody's hands.
fn oldest(heartbeats: &[Heartbeat]) -> (Option<f64>, Option<u64>) {
    let ages =
        heartbeats.iter().filter_map(|heartbeat| Some((heartbeat.oldest_age_secs?, heartbeat.oldest_receive_count)));
    match ages.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((age, count)) => (Some(age), count),
        None => (None, None),
    }
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Runs a loop's parts once and describes the answer, for `once` and `check`.
pub async fn once<P: WorkerPool, Q: DepthSource>(parts: Parts<P, Q>) -> anyhow::Result<Tick> {
    let name = parts.pool.name.clone();
    Controller::new(parts).tick().await.with_context(|| format!("pool \"{name}\""))
}
