//! One decision: takes in the observation, asks the policy, and passes its answer through the guards.

use chrono::{DateTime, Utc};

use super::demand::{self, Demand, Means};
use super::progress::{Stuck, Tick};
use super::wake::Call;
use super::{Policy, State, Target, elapsed_secs, sink, words, zero};
use crate::decision::{Decision, Inputs, Reason};
use crate::observation::{Observation, QueueDepth};

/// What a settle window adds to the start-up time.
/// Longer: growth is slower; shorter: a size is judged before it has shown what it can do.
const SETTLE_SECS: f64 = 30.0;

/// Above this many workers, a shrink by less than a tenth is not worth the trouble.
const DEAD_BAND_ABOVE: u32 = 10;

/// Jobs longer than this may not end before a draining worker's time is up, so busy workers are not asked to.
const LONG_JOB_SECS: f64 = 30.0;

/// One decision in the making.
pub struct Round<'a> {
    policy: &'a Policy,
    seen: &'a Observation,
    state: &'a mut State,
    now: DateTime<Utc>,
    inputs: Inputs,
    live: u32,
    slots_per_worker: u32,
    job_secs: f64,
    start_up_secs: f64,
    settle_secs: f64,
    arrivals_per_sec: f64,
    stuck: Option<Stuck>,
}

/// A number and what bound it, before the sentence is finished.
struct Verdict {
    desired: u32,
    reason: Reason,
    why: String,
}

impl Verdict {
    fn new(desired: u32, reason: Reason, why: impl Into<String>) -> Self {
        Self { desired, reason, why: why.into() }
    }
}

impl<'a> Round<'a> {
    /// Takes the observation into the state.
    pub fn open(policy: &'a Policy, seen: &'a Observation, state: &'a mut State, now: DateTime<Utc>) -> Self {
        let secs = state.seen_at.map_or(0.0, |before| elapsed_secs(before, now));
        state.seen_at = Some(state.seen_at.map_or(now, |before| before.max(now)));

        let completions = seen.completions.as_deref().unwrap_or_default();
        state.job_time.absorb(completions.iter().map(|done| done.duration_secs), now);
        state.start_up.absorb(&seen.start_ups);
        let live = seen.pool.live();
        let slots_per_worker = seen.slots_per_worker.unwrap_or(policy.slots_per_worker).max(1);
        let job_secs = state.job_time.secs(policy.job_secs);
        let start_up_secs = state.start_up.secs(policy.start_up_secs);
        let settle_secs = start_up_secs + SETTLE_SECS;

        let depth = seen.queue.as_ref().ok();
        // What is missing from a sum would look as if it had gone away.
        let whole = depth.filter(|_| seen.queue_unread.is_none());
        let per_message = seen.objects_per_message.unwrap_or(1.0).max(1.0);
        let backlog = whole.map(|depth| (depth.visible as f64 + depth.in_flight as f64) * per_message);
        state.arrivals.absorb(completions, backlog, now);
        if let Some(depth) = depth.filter(|depth| whole.is_some() || depth.visible > 0) {
            state.wake.absorb(depth, live, !completions.is_empty(), now);
        }
        state.quiet.absorb(seen, now);
        state.stale.absorb(whole.is_some(), now);
        state.sink.absorb(seen, secs, job_secs, now);
        if live == 0 {
            state.progress = Default::default();
        }
        let tick = Tick {
            finished: seen.completions.as_ref().map(Vec::len),
            receives: seen.receives,
            redeliveries: seen.redeliveries,
            slots: u64::from(seen.pool.up()) * u64::from(slots_per_worker),
            job_secs,
            job_measured: state.job_time.is_measured(),
        };
        let stuck = state.progress.absorb(&tick, now);
        let capped = state.sink.cap().is_some_and(|cap| cap <= live);
        let trouble = stuck.is_some() || capped || state.sink.is_unhealthy() || state.sink.in_doubt(now);
        state.gate.absorb(&seen.pool, trouble, settle_secs, now);

        let arrivals_per_sec = state.arrivals.per_sec();
        let mut inputs = Inputs::new(seen, now);
        inputs.job_secs = job_secs;
        inputs.arrivals_per_sec = arrivals_per_sec;
        inputs.slots_per_worker = slots_per_worker;
        inputs.start_up_secs = start_up_secs;
        inputs.stale_secs = if whole.is_some() { 0.0 } else { state.stale.secs(now) };
        Self {
            policy,
            seen,
            state,
            now,
            inputs,
            live,
            slots_per_worker,
            job_secs,
            start_up_secs,
            settle_secs,
            arrivals_per_sec,
            stuck,
        }
    }

    /// Returns the decision.
    pub fn decide(mut self) -> Decision {
        let verdict = match (&self.seen.queue, &self.seen.queue_unread) {
            (Ok(depth), None) => self.with_counters(depth),
            (Ok(depth), Some(why)) => self.with_some_counters(depth, why),
            (Err(why), _) => self.without_counters(why),
        };
        let verdict = match &self.seen.pool_unread {
            Some(why) => self.without_pool(why),
            None => self.protect(verdict),
        };
        let verdict = self.bound(verdict);
        self.inputs.proven = self.state.gate.proven(self.policy.initial_proven);
        self.inputs.sink_cap = self.state.sink.cap();
        let change = match (self.live, verdict.desired) {
            (n, m) if n < m => format!("so the pool grows from {n} to {m}"),
            (n, m) if n > m => format!("so the pool shrinks from {n} to {m}"),
            (n, _) => format!("so the pool stays at {n}"),
        };
        let draining = self.seen.pool.draining.min(verdict.desired.saturating_sub(self.live));
        let back = if draining > 0 { format!(", taking back {draining} draining first") } else { String::new() };
        Decision {
            desired: verdict.desired,
            reason: verdict.reason,
            explain: format!("{}, {change}{back}.", capitalised(&verdict.why)),
            inputs: self.inputs,
        }
    }

    fn with_counters(&mut self, depth: &QueueDepth) -> Verdict {
        let means = Means {
            live: self.live,
            slots_per_worker: self.slots_per_worker,
            job_secs: self.job_secs,
            arrivals_per_sec: self.arrivals_per_sec,
            start_up_secs: self.start_up_secs,
            objects_per_message: self.seen.objects_per_message.unwrap_or(1.0).max(1.0),
            waited_secs: self.state.wake.waited_secs(self.now),
        };
        let mut demand = demand::demand(&self.policy.target, depth, &means);
        if zero::looks_empty(self.seen, depth) {
            demand.workers = 0;
        }
        if self.seen.queue_unread.is_none() {
            self.state.window.push(demand.workers, self.now);
        }
        self.inputs.want = Some(demand.workers);
        self.inputs.want_window_max = Some(self.state.window.max());
        self.inputs.age_secs = demand.age_secs;
        self.inputs.slack_secs = demand.slack_secs;
        self.inputs.work_secs = demand.work_secs;

        if self.live == 0 {
            return self.waking(depth, &demand);
        }
        let want = demand.workers;
        if want > self.live {
            self.grow(want, self.need(depth, &demand))
        } else if want < self.live {
            self.shrink(want, depth, &demand)
        } else if let Some(stuck) = &self.stuck {
            Verdict::new(self.live, Reason::NoProgress, &stuck.why)
        } else {
            Verdict::new(want, Reason::Steady, self.need(depth, &demand))
        }
    }

    /// Decides for a pool without workers.
    fn waking(&mut self, depth: &QueueDepth, demand: &Demand) -> Verdict {
        let visible = words::count(depth.visible, "message");
        match self.state.wake.call(&self.policy.target, depth, self.start_up_secs, self.now) {
            Call::Nothing if depth.in_flight > 0 => Verdict::new(
                0,
                Reason::Steady,
                format!("no message is visible and the {} in flight cannot be received yet", depth.in_flight),
            ),
            Call::Nothing => Verdict::new(0, Reason::Steady, "no message is visible"),
            Call::Unconfirmed { wait_secs } => Verdict::new(
                0,
                Reason::WakeUnconfirmed,
                format!("{visible} visible may be a phantom and must still be there in {}", words::secs(wait_secs)),
            ),
            Call::Work => {
                let want = demand.workers.max(1);
                let mut verdict = self.grow(want, self.need(depth, demand));
                if verdict.desired == 1 && want == 1 && verdict.reason == self.own_reason() {
                    verdict.reason = Reason::Wake;
                }
                verdict
            }
        }
    }

    /// Passes a want above the pool's size through the guards on growth.
    fn grow(&mut self, want: u32, need: String) -> Verdict {
        let live = self.live;
        let mut verdict = Verdict::new(want, self.own_reason(), need.clone());
        if want > self.policy.max {
            verdict = Verdict::new(self.policy.max, Reason::Max, format!("{need}, and max is {}", self.policy.max));
        }
        // A pool below its minimum is brought there at once, so the gate starts from it.
        let base = live.max(self.policy.min.min(self.policy.max));
        let initial = self.policy.initial_proven;
        let gate = self.state.gate.limit(verdict.desired, &self.seen.pool, initial, self.settle_secs, self.now);
        let gate = gate.max(base);
        if gate < verdict.desired {
            let next = self.state.gate.next_step_secs(self.settle_secs, self.now);
            let proven = self.state.gate.proven(initial);
            verdict = Verdict::new(
                gate,
                Reason::GrowthGate,
                format!(
                    "{need}, and beyond the proven {proven} the pool at most doubles, next in {}",
                    words::secs(next)
                ),
            );
        }
        let sink = &self.seen.sink;
        let ceiling = sink::connection_ceiling(sink, self.policy.connection_reserve, self.slots_per_worker);
        if let Some(ceiling) = ceiling.map(|ceiling| ceiling.max(base))
            && ceiling < verdict.desired
        {
            verdict = Verdict::new(
                ceiling,
                Reason::SinkCap,
                format!("{need}, and the database's connections are enough for {}", words::workers(ceiling)),
            );
        }
        if let Some(cap) = self.state.sink.cap()
            && cap.max(base) < verdict.desired
        {
            verdict = Verdict::new(
                cap.max(base),
                Reason::SinkCap,
                format!("{need}, and more than {} did not make the database take more", words::workers(cap)),
            );
        }
        if self.state.sink.is_unhealthy() {
            verdict = Verdict::new(base, Reason::SinkCap, format!("{need}, and the database is not healthy"));
        } else if self.state.sink.in_doubt(self.now) {
            let why = format!("{need}, and whether the last growth made the database take more is not yet clear");
            verdict = Verdict::new(base, Reason::SinkCap, why);
        } else if let Some(stuck) = &self.stuck {
            verdict = Verdict::new(base, Reason::NoProgress, format!("{need}, and {}", stuck.why));
        }
        self.limit_starts(verdict, &need)
    }

    /// Limits growth while starts keep failing, and says so when it only replaces dead workers.
    fn limit_starts(&mut self, verdict: Verdict, need: &str) -> Verdict {
        if verdict.desired <= self.live {
            return verdict;
        }
        let failed = self.seen.failed_starts.unwrap_or(0);
        if let Some((more, secs)) = self.state.starts.allowance(failed, self.seen.pool.starting, self.now) {
            let size = self.live.saturating_add(more).min(verdict.desired);
            let why = format!("{need}, and {failed} starts in a row failed, so one is tried in {}", words::secs(secs));
            return Verdict::new(size, Reason::DeadWorker, why);
        }
        let dead = self.seen.pool.dead;
        if dead > 0 && verdict.desired <= self.live.saturating_add(dead) {
            let why = format!("{need}, and {} without a heartbeat", words::workers(dead));
            return Verdict::new(verdict.desired, Reason::DeadWorker, why);
        }
        verdict
    }

    /// Passes a want below the pool's size through the guards on shrinking.
    fn shrink(&mut self, want: u32, depth: &QueueDepth, demand: &Demand) -> Verdict {
        let live = self.live;
        let need = self.need(depth, demand);
        let max = self.state.window.max();
        let mut refusal = None;
        if want == 0 {
            let (start_up, job) = (self.start_up_secs, self.job_secs);
            refusal = self.state.quiet.refusal(self.policy, self.seen, depth, start_up, job, self.now);
            match &refusal {
                None if max == 0 => {
                    let polls = self.seen.last_worker_empty_polls.unwrap_or(0);
                    return Verdict::new(
                        0,
                        self.own_reason(),
                        format!("{need} and {polls} long polls came back empty"),
                    );
                }
                None => {}
                // The workers know better than the counters that there is work.
                Some((reason, why)) if self.seen.pool.busy > 0 || self.seen.last_worker_empty_polls == Some(0) => {
                    return Verdict::new(live, *reason, format!("{need}, but {why}"));
                }
                Some((reason, why)) if live == 1 => return Verdict::new(1, *reason, format!("{need}, but {why}")),
                Some(_) => {}
            }
        }
        let covered = self.state.window.covered_secs(self.now);
        if covered < super::window::WINDOW_SECS {
            let why = format!("{need}, but only the last {} have been seen", words::secs(covered));
            return Verdict::new(live, Reason::ShrinkWindow, why);
        }
        if max >= live {
            let why = format!("{need}, but {max} were wanted within the last {}", words::secs(covered));
            return Verdict::new(live, Reason::ShrinkWindow, why);
        }
        if live > DEAD_BAND_ABOVE && u64::from(max) * 10 > u64::from(live) * 9 {
            let why = format!("{need}, and {max} at most in the last {}, within a tenth", words::secs(covered));
            return Verdict::new(live, Reason::ShrinkWindow, why);
        }
        let busy = self.seen.pool.busy.min(live);
        if self.job_secs > LONG_JOB_SECS && busy > max {
            let job = words::secs(self.job_secs);
            let why = format!("{need}, but {busy} are busy with objects of {job} that a drain might cut short");
            return Verdict::new(busy, Reason::Busy, why);
        }
        if max == 0 {
            let (reason, why) = refusal.unwrap_or((Reason::KeepWarm, "one worker stays".to_owned()));
            return Verdict::new(1, reason, format!("{need}, but {why}"));
        }
        let reason = if max > want { Reason::ShrinkWindow } else { self.own_reason() };
        Verdict::new(max, reason, format!("{need}, and {max} at most in the last {}", words::secs(covered)))
    }

    /// Grows for what could be counted; whether the pool may shrink, only all of the queues can say.
    fn with_some_counters(&mut self, depth: &QueueDepth, why: &str) -> Verdict {
        let verdict = self.with_counters(depth);
        if verdict.desired > self.live { verdict } else { self.without_counters(why) }
    }

    /// Holds what was seen last: nobody can be started beside workers that cannot be seen, and nobody ended.
    fn without_pool(&self, why: &str) -> Verdict {
        Verdict::new(self.live, Reason::StaleMetrics, format!("the pool cannot be seen ({why})"))
    }

    fn without_counters(&mut self, why: &str) -> Verdict {
        let stale = words::secs(self.state.stale.secs(self.now));
        let size = self.state.stale.size(self.seen, self.settle_secs, self.now);
        if size <= self.live {
            let why = format!("{why} for {stale}, which is never taken for an empty queue");
            return Verdict::new(size, Reason::StaleMetrics, why);
        }
        let need = format!("{why} for {stale} and no worker has seen an empty poll");
        let grown = self.grow(size, need.clone());
        match grown.reason {
            reason if reason == self.own_reason() => Verdict::new(grown.desired, Reason::StaleMetrics, need),
            _ => grown,
        }
    }

    /// Lets an ailing database or a stuck pool shrink the pool, and keeps it in an outage.
    fn protect(&mut self, verdict: Verdict) -> Verdict {
        let live = self.live;
        if self.state.sink.is_outage(self.job_secs, self.now) {
            if verdict.desired < live && self.seen.pool.busy > 0 {
                let why = "the database takes nothing, and handing messages back would use up their receives";
                return Verdict::new(live, Reason::SinkCap, why);
            }
            return verdict;
        }
        if let Some(size) = self.state.sink.drain_to(live, self.settle_secs, self.now)
            && size < verdict.desired
        {
            let why = format!("the database is not healthy and takes no more than {} bring it", words::workers(size));
            return Verdict::new(size, Reason::SinkCap, why);
        }
        if self.state.sink.is_unhealthy() {
            return verdict;
        }
        if let Some(Stuck { probe: Some(probe), why }) = &self.stuck
            && *probe < verdict.desired
            && *probe < live
        {
            return Verdict::new(*probe, Reason::NoProgress, why);
        }
        verdict
    }

    /// Applies the configured limits, whatever else was decided.
    fn bound(&self, verdict: Verdict) -> Verdict {
        if verdict.desired > self.policy.max {
            let why = format!("{}, and max is {}", verdict.why, self.policy.max);
            return Verdict::new(self.policy.max, Reason::Max, why);
        }
        let min = self.policy.min.min(self.policy.max);
        if verdict.desired < min {
            return Verdict::new(min, Reason::Min, format!("{}, and min is {min}", verdict.why));
        }
        verdict
    }

    fn own_reason(&self) -> Reason {
        match self.policy.target {
            Target::Deadline { .. } => Reason::Deadline,
            Target::Backlog { .. } => Reason::Backlog,
        }
    }

    /// Says what the counters call for.
    fn need(&self, depth: &QueueDepth, demand: &Demand) -> String {
        let want = words::workers(demand.workers);
        let due = depth.delayed_due.filter(|due| *due > 0).map(|due| format!(", {due} due")).unwrap_or_default();
        let counters = format!("{} visible{due} and {} in flight", depth.visible, depth.in_flight);
        match self.policy.target {
            Target::Backlog { messages_per_worker } => {
                format!("{counters} at {messages_per_worker} per worker need {want}")
            }
            Target::Deadline { .. } if demand.workers == 0 => format!("{counters} need no worker"),
            Target::Deadline { .. } if demand.by_arrivals => format!(
                "{:.1} arriving a second at {} each keep {want} occupied, with {counters}",
                self.arrivals_per_sec,
                words::secs(self.job_secs)
            ),
            Target::Deadline { .. } => {
                let arriving = if self.arrivals_per_sec >= 0.05 {
                    format!(" with {:.1} arriving a second", self.arrivals_per_sec)
                } else {
                    String::new()
                };
                let age = demand
                    .age_secs
                    .filter(|age| *age >= 1.0)
                    .map(|age| format!(", the oldest {} old,", words::secs(age)));
                format!(
                    "{counters} at {} each{arriving}{} need {want} to be done within {}",
                    words::secs(self.job_secs),
                    age.unwrap_or_default(),
                    words::secs(demand.slack_secs.unwrap_or(0.0))
                )
            }
        }
    }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}
