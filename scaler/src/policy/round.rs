//! One decision: takes in the observation, asks the policy, and passes its answer through the guards.
//!
//! What each guard allows is noted in `Inputs::bounds`, whether or not it is the tightest.

mod growth;
mod need;
mod shrink;

use super::{
    Policy, State, Target,
    demand::{self, Basis, Demand},
    elapsed_secs,
    foresight::{Moment, Terms},
    progress::{Activity, Stuck},
    words, zero,
};
use crate::{
    decision::{Bound, Decision, Guard, Inputs, Reason},
    observation::{Observation, Pause, QueueDepth},
};
use chrono::{DateTime, Utc};

/// What a settle window adds to the start-up time.
/// Longer: growth is slower; shorter: a size is judged before it has shown what it can do.
const SETTLE_SECS: f64 = 30.0;

/// One decision in the making.
pub struct Round<'a> {
    policy: &'a Policy,
    seen: &'a Observation,
    state: &'a mut State,
    now: DateTime<Utc>,
    inputs: Inputs,
    live: u32,
    slots_per_worker: u32,
    /// What an object costs a slot, and that part of it which is recorded.
    job_secs: f64,
    recorded_secs: f64,
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

    /// Returns what becomes of a number under a bound, said after what calls for it.
    fn bound(bound: &Bound, n: u32, need: &str, joint: &str) -> Self {
        Self::new(bound.allow(n), bound.reason, format!("{need}, {joint} {}", bound.why))
    }

    /// Returns the same for a bound that needs no word of what called for the number.
    fn bound_alone(bound: &Bound, n: u32) -> Self {
        Self::new(bound.allow(n), bound.reason, &bound.why)
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
        let recorded_secs = state.job_time.secs(policy.job_secs);
        let work_waits = seen.queue.as_ref().is_ok_and(|depth| depth.visible > 0);
        if seen.completions.is_some() && work_waits && seen.pool.busy > 0 && seen.pool.idle == 0 {
            let slots = f64::from(seen.pool.busy) * f64::from(slots_per_worker);
            state.slot_cost.absorb(slots, secs, completions.iter().map(|done| done.duration_secs));
        }
        let job_secs = recorded_secs * state.slot_cost.factor();
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
        let is_late = depth.is_some_and(|depth| demand::is_late(&policy.target, depth));
        state.sink.relax(is_late, seen.sink.healthy, now);
        state.sink.absorb(seen, slots_per_worker, secs, job_secs, now);
        if live == 0 {
            state.progress = Default::default();
        }
        let activity = Activity {
            finished: seen.completions.as_ref().map(Vec::len),
            receives: seen.receives,
            redeliveries: seen.redeliveries,
            slots: u64::from(seen.pool.up()) * u64::from(slots_per_worker),
            job_secs,
            job_measured: state.job_time.is_measured(),
        };
        let stuck = state.progress.absorb(&activity, now);
        let capped = state.sink.cap().is_some_and(|cap| cap <= live);
        let trouble = stuck.is_some() || capped || state.sink.is_unhealthy() || state.sink.in_doubt(now);
        state.gate.absorb(&seen.pool, trouble, settle_secs, now);

        let arrivals_per_sec = state.arrivals.per_sec();
        let mut inputs = Inputs::new(seen, now);
        inputs.promised_secs = match policy.target {
            Target::Deadline { drain_within_secs } => Some(drain_within_secs),
            Target::Backlog { .. } => None,
        };
        inputs.job_secs = job_secs;
        inputs.recorded_job_secs = (job_secs > recorded_secs).then_some(recorded_secs);
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
            recorded_secs,
            start_up_secs,
            settle_secs,
            arrivals_per_sec,
            stuck,
        }
    }

    /// Returns the decision.
    pub fn decide(mut self) -> Decision {
        let verdict = match (self.inputs.pause.clone(), &self.seen.queue, &self.seen.queue_unread) {
            (Some(pause), ..) => self.paused(&pause),
            (None, Ok(depth), None) => self.with_counters(depth),
            (None, Ok(depth), Some(why)) => self.with_some_counters(depth, why),
            (None, Err(why), _) => self.without_counters(why),
        };
        let verdict = match &self.seen.pool_unread {
            Some(why) => self.without_pool(why),
            None => self.protect(verdict),
        };
        let verdict = self.limit(verdict);
        self.inputs.proven = self.state.gate.proven(self.policy.initial_proven);
        self.inputs.sink_cap = self.state.sink.cap();
        if let Some(terms) = self.terms() {
            let per_message = self.seen.objects_per_message.unwrap_or(1.0).max(1.0);
            self.state.foresight.absorb(&Moment::of(&self.inputs, per_message), &terms);
        }
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

    /// Goes by a pause, within what keeps the database, busy workers and starts that fail from harm.
    ///
    /// The policy is asked all the same, so that it knows what it wanted when the pause ends.
    fn paused(&mut self, pause: &Pause) -> Verdict {
        if let Ok(depth) = &self.seen.queue {
            self.ask(depth);
        }
        let size = pause.at.min(self.policy.max);
        let why = format!("paused by hand {}", pause.words());
        self.inputs.note(Bound::exactly(size, Guard::Pause, Reason::Paused, &why));
        if size > self.live {
            return self.grow(size, &why, Reason::Paused);
        }
        let verdict = Verdict::new(size, Reason::Paused, &why);
        match self.long_jobs() {
            Some(bound) if size < self.live => {
                let is_held = bound.allow(size) > size;
                let held = Verdict::bound(&bound, size, &why, "but");
                self.inputs.note(bound);
                if is_held { held } else { verdict }
            }
            _ => verdict,
        }
    }

    /// Asks the policy alone how many workers the counters call for.
    fn ask(&mut self, depth: &QueueDepth) -> Demand {
        let basis = Basis {
            live: self.live,
            slots_per_worker: self.slots_per_worker,
            job_secs: self.job_secs,
            arrivals_per_sec: self.arrivals_per_sec,
            start_up_secs: self.start_up_secs,
            objects_per_message: self.seen.objects_per_message.unwrap_or(1.0).max(1.0),
            waited_secs: self.state.wake.waited_secs(self.now),
        };
        let mut demand = demand::demand(&self.policy.target, depth, &basis);
        if zero::looks_empty(self.seen, depth) {
            demand.workers = 0;
        }
        if self.state.foresight.is_just_done(self.now) {
            // Idle workers ask all of SQS's servers, and what the flood called for will not be called for again.
            demand.workers = demand.workers.min(self.seen.pool.busy.saturating_mul(2).max(1));
            self.state.window.clear();
        }
        if self.seen.queue_unread.is_none() {
            self.state.window.push(demand.workers, self.policy.shrink_window_secs, self.now);
        }
        self.inputs.want = Some(demand.workers);
        self.inputs.want_window_max = Some(self.state.window.max());
        self.inputs.age_secs = demand.age_secs;
        self.inputs.slack_secs = demand.slack_secs;
        self.inputs.work_secs = demand.work_secs;
        demand
    }

    fn with_counters(&mut self, depth: &QueueDepth) -> Verdict {
        let foreseen = self.foreseen();
        let demand = self.ask(depth);
        let mut call = Verdict::new(demand.workers, self.own_reason(), self.need(depth, &demand));
        if let Some(bound) = foreseen {
            if bound.allow(call.desired) > call.desired {
                call = Verdict::bound(&bound, call.desired, &call.why, "but");
            }
            self.inputs.note(bound);
        }
        let is_foreseen = call.reason == Reason::Foresight;
        let (want, need) = (call.desired, call.why.as_str());
        if self.live == 0 && !is_foreseen {
            return self.waking(depth, want, need);
        }
        if want > self.live {
            return self.grow(want, need, call.reason);
        }
        if want < self.live {
            return self.shrink(want, need, call.reason, depth);
        }
        match &self.stuck {
            Some(stuck) => {
                let bound = stuck.bound(self.base());
                let verdict = Verdict::bound_alone(&bound, self.live);
                self.inputs.note(bound);
                verdict
            }
            None if is_foreseen => call,
            None => Verdict::new(want, Reason::Steady, need),
        }
    }

    /// Returns what a flood that is foreseen asks for.
    fn foreseen(&mut self) -> Option<Bound> {
        let terms = self.terms()?;
        self.state.foresight.bound(&terms, &self.seen.pool, self.now)
    }

    fn terms(&self) -> Option<Terms> {
        Terms::of(self.policy, self.start_up_secs, self.slots_per_worker)
    }

    /// Decides for a pool without workers.
    fn waking(&mut self, depth: &QueueDepth, want: u32, need: &str) -> Verdict {
        let sighting = self.state.wake.sighting(&self.policy.target, depth, self.start_up_secs, self.now);
        if let Some(bound) = sighting.bound(depth) {
            let verdict = Verdict::bound_alone(&bound, want);
            self.inputs.note(bound);
            return verdict;
        }
        let want = want.max(1);
        let mut verdict = self.grow(want, need, self.own_reason());
        if verdict.desired == 1 && want == 1 && verdict.reason == self.own_reason() {
            verdict.reason = Reason::Wake;
        }
        verdict
    }

    /// Grows for what could be counted; whether the pool may shrink, only all of the queues can say.
    fn with_some_counters(&mut self, depth: &QueueDepth, why: &str) -> Verdict {
        let verdict = self.with_counters(depth);
        if verdict.desired <= self.live {
            // That no message is visible in some of the queues keeps no pool empty.
            self.inputs.bounds.retain(|bound| bound.guard != Guard::Wake);
            return self.without_counters(why);
        }
        self.inputs.note(Bound::at_least(self.live, Guard::StaleMetrics, Reason::StaleMetrics, why));
        verdict
    }

    /// Holds what was seen last: beside workers that cannot be seen none can be started, and none ended.
    fn without_pool(&mut self, why: &str) -> Verdict {
        let why = format!("the pool cannot be seen ({why})");
        let bound = Bound::exactly(self.live, Guard::UnseenPool, Reason::StaleMetrics, why);
        let verdict = Verdict::bound_alone(&bound, self.live);
        self.inputs.note(bound);
        verdict
    }

    fn without_counters(&mut self, why: &str) -> Verdict {
        let stale = words::secs(self.state.stale.secs(self.now));
        let size = self.state.stale.size(self.seen, self.settle_secs, self.now);
        let why = if size <= self.live {
            format!("{why} for {stale}, which is never taken for an empty queue")
        } else {
            format!("{why} for {stale} and no worker has seen an empty poll")
        };
        self.inputs.note(Bound::exactly(size, Guard::StaleMetrics, Reason::StaleMetrics, &why));
        if size <= self.live {
            return Verdict::new(size, Reason::StaleMetrics, why);
        }
        self.grow(size, &why, Reason::StaleMetrics)
    }

    /// Lets an ailing database or a stuck pool shrink the pool, and keeps it in an outage.
    fn protect(&mut self, verdict: Verdict) -> Verdict {
        let bound = if self.state.sink.is_outage(self.job_secs, self.now) {
            self.state.sink.outage_bound(&self.seen.pool)
        } else if self.state.sink.is_unhealthy() {
            self.state.sink.drain_bound(self.live, self.settle_secs, self.now)
        } else {
            let probe = self.stuck.as_ref().and_then(|stuck| Some(stuck.bound(stuck.probe?)));
            probe.filter(|bound| bound.allow(self.live) < self.live)
        };
        let Some(bound) = bound else { return verdict };
        let verdict = if bound.allow(verdict.desired) == verdict.desired {
            verdict
        } else {
            Verdict::bound_alone(&bound, verdict.desired)
        };
        self.inputs.note(bound);
        verdict
    }

    /// Applies the configured limits, whatever else was decided.
    fn limit(&mut self, mut verdict: Verdict) -> Verdict {
        for bound in [self.max(), self.min()].into_iter().chain(self.scheduled()) {
            if bound.allow(verdict.desired) != verdict.desired {
                verdict = Verdict::bound(&bound, verdict.desired, &verdict.why, "and");
            }
            self.inputs.note(bound);
        }
        verdict
    }

    fn max(&self) -> Bound {
        let max = self.policy.max;
        Bound::at_most(max, Guard::Max, Reason::Max, format!("max is {max}"))
    }

    fn min(&self) -> Bound {
        let min = self.policy.min.min(self.policy.max);
        let least = min.min(self.highest_floor());
        let below = if least < min { ", below which a pause may go" } else { "" };
        Bound::at_least(least, Guard::Min, Reason::Min, format!("min is {min}{below}"))
    }

    /// Returns the floor that a schedule asks for now, the highest of several, but for one that a pause goes below.
    fn scheduled(&self) -> Option<Bound> {
        let asked = self.policy.schedules.iter().filter_map(|schedule| schedule.bound(self.settle_secs, self.now));
        let highest = asked.max_by_key(|bound| bound.at_least)?;
        Some(Bound { at_least: highest.at_least.map(|floor| floor.min(self.highest_floor())), ..highest })
    }

    /// Returns the fewest workers there may be: the minimum or a schedule's, or what a pause below it asks for.
    fn least(&self) -> u32 {
        let floor = self.scheduled().and_then(|bound| bound.at_least).unwrap_or(0);
        self.policy.min.max(floor).min(self.highest_floor())
    }

    /// Returns what no floor goes beyond.
    fn highest_floor(&self) -> u32 {
        let paused = self.inputs.pause.as_ref().map_or(u32::MAX, |pause| pause.at);
        self.policy.max.min(paused)
    }

    fn own_reason(&self) -> Reason {
        match self.policy.target {
            Target::Deadline { .. } => Reason::Deadline,
            Target::Backlog { .. } => Reason::Backlog,
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
