//! Foresight: floods that come at the same time each day or week are met by workers that are there already.
//!
//! A forecast is made of three floods in a row at the same time of the day or of the week: two would do to expect the
//! third, which came and so has proven it. One that stays away ends the row. How many workers wait for a flood follows from
//! what they may cost, and what it has cost is accounted for: where it was more than that, floods go unforeseen until
//! their share has paid for it.

mod forecast;
#[cfg(test)]
pub mod tests;

use super::{Policy, Target, elapsed_secs};
use crate::{
    decision::{Bound, Guard, Inputs, Reason},
    observation::PoolSize,
};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Floods in a row that make a forecast.
const IN_A_ROW: i32 = 3;

/// Floods that begin within this of the same time are the same. Longer: more are foreseen, at a higher price each.
const TOLERANCE_SECS: f64 = 600.0;

/// Seconds after a flood's beginning for which it is known how much had arrived by then.
const HORIZONS: [f64; 5] = [60.0, 120.0, 240.0, 480.0, LAST_HORIZON_SECS];
const LAST_HORIZON_SECS: f64 = 960.0;

/// How old a figure of the counters is in the mean.
const MEAN_LAG_SECS: f64 = 20.0;

/// A flood may have begun so long before it was seen: the counters lag, and the messages' age is known to workers only.
const SEEN_WITHIN_SECS: f64 = 240.0;

/// Time over which the work of calm hours is averaged.
const CALM_SECS: f64 = 900.0;

/// More than so many times what calm hours bring is a flood. Smaller: noise is one; larger: a rise goes unforeseen.
const CALM_FACTOR: f64 = 1.5;

/// A flood is done when its workers are idle after this share of what was expected.
const DONE_SHARE: f64 = 0.8;

/// For so long the counters may still show what idle workers have been through with.
const STALE_COUNTERS_SECS: f64 = 60.0;

/// Longer than any age or start-up time that matters.
const LONGEST_SECS: f64 = 366.0 * 86_400.0;

/// Floods remembered, and for how long.
const MOST_FLOODS: usize = 128;
const KEPT_DAYS: i64 = 23;

/// What a decision was made from, as far as floods are learnt from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// When it was made.
    pub at: DateTime<Utc>,
    /// Objects waiting and in flight; `None` where the counters could not be read.
    pub backlog: Option<f64>,
    /// Objects finished since the decision before; `None` where the ledger could not be read.
    pub done: Option<f64>,
    /// Their time in slots.
    pub done_secs: f64,
    /// Age of the oldest message that counts.
    pub age_secs: Option<f64>,
    /// One object's time in one slot.
    pub job_secs: f64,
    /// Time from requesting a worker to its first receive.
    pub start_up_secs: f64,
}

impl Moment {
    /// Returns a decision's moment; a message has so many objects.
    pub fn of(inputs: &Inputs, objects_per_message: f64) -> Self {
        // What an object costs its slot beside its recorded time.
        let recorded_secs = inputs.recorded_job_secs.filter(|secs| *secs > 0.0);
        let cost = recorded_secs.map_or(1.0, |recorded| inputs.job_secs / recorded);
        let depth = inputs.queue.filter(|_| inputs.queue_error.is_none());
        Self {
            at: inputs.now,
            backlog: depth.map(|depth| (depth.visible as f64 + depth.in_flight as f64) * objects_per_message),
            done: inputs.completed.map(f64::from),
            done_secs: inputs.completed_secs.unwrap_or(0.0) * cost,
            age_secs: inputs.age_secs,
            job_secs: inputs.job_secs,
            start_up_secs: inputs.start_up_secs,
        }
    }
}

/// What a forecast costs and brings is worked out from these.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Share of a flood's worker-hours that it may cost more.
    pub share: f64,
    /// The promised time.
    pub promised_secs: f64,
    /// Time from requesting a worker to its first receive.
    pub start_up_secs: f64,
    /// How long the pool keeps idle workers after a flood that was not foreseen.
    pub shrink_window_secs: f64,
    /// Objects at once in one worker.
    pub slots_per_worker: u32,
}

impl Terms {
    /// Returns those of a policy; only a promise can be kept better, and there may be no share for it.
    pub fn of(policy: &Policy, start_up_secs: f64, slots_per_worker: u32) -> Option<Self> {
        let Target::Deadline { drain_within_secs: promised_secs } = policy.target else { return None };
        let (share, shrink_window_secs) = (policy.foresight, policy.shrink_window_secs);
        (share > 0.0).then_some(Self { share, promised_secs, start_up_secs, shrink_window_secs, slots_per_worker })
    }
}

/// A flood: more objects at once than those who were busy before it would soon be through with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flood {
    begins: DateTime<Utc>,
    /// Objects that had arrived within each of the horizons, beyond those of calm hours.
    arrived: [f64; HORIZONS.len()],
    /// Mean time of one of its objects in one slot.
    job_secs: f64,
}

/// A flood that is under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Rising {
    seen_at: DateTime<Utc>,
    /// Objects finished since then, and how many a second calm hours have.
    done: f64,
    done_secs: f64,
    calm_per_sec: f64,
    flood: Flood,
}

/// The flood that was foreseen last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Foreseen {
    earliest: DateTime<Utc>,
    size: u32,
    has_come: bool,
    /// One object's time in one slot, before the flood.
    job_secs: f64,
    /// What the pool has cost for it, and up to when.
    spent_secs: f64,
    spent_to: DateTime<Utc>,
    /// Objects finished since it began.
    done: f64,
    /// When there was nothing left to do, or it had been waited for in vain.
    over_at: Option<DateTime<Utc>>,
    /// Whether most of what was expected was done by then.
    is_done: bool,
    /// Whether its cost is in the account.
    is_settled: bool,
}

/// The past floods of a pool, the one that was foreseen last, and the account.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Foresight {
    floods: VecDeque<Flood>,
    rising: Option<Rising>,
    /// Slots that calm hours keep busy.
    calm: f64,
    /// Work finished lately, which fades within two starts.
    lately_secs: f64,
    /// Readings in a row without a flood.
    calm_readings: u32,
    seen_at: Option<DateTime<Utc>>,
    foreseen: Option<Foreseen>,
    /// Worker time that foreseen floods have cost beyond their share; less than 0 when they have cost less.
    debt_secs: f64,
    /// What was learnt so far of the decisions before this was kept, and whether that was all.
    past: Option<Box<Self>>,
    is_whole: bool,
}

impl Foresight {
    /// Returns after which time past decisions are still to be learnt from, if there are any.
    pub fn past_after(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let oldest = now - TimeDelta::days(KEPT_DAYS);
        (!self.is_whole).then(|| self.past.as_ref().and_then(|past| past.seen_at).unwrap_or(oldest))
    }

    /// Learns from past decisions, oldest first, as [`super::decide`] does from each it makes; the last of them end it.
    pub fn recall(&mut self, policy: &Policy, moments: &[Moment], are_last: bool) {
        let past = self.past.get_or_insert_default();
        for moment in moments {
            if let Some(terms) = Terms::of(policy, moment.start_up_secs, policy.slots_per_worker) {
                past.absorb(moment, &terms);
            }
        }
        if !are_last {
            return;
        }
        // What this one has seen itself it knows better.
        let first = self.floods.front().map(|flood| flood.begins);
        let is_earlier = |flood: &Flood| first.is_none_or(|first| flood.begins < first - seconds(TOLERANCE_SECS));
        let earlier = self.past.take().into_iter().flat_map(|past| past.floods).take_while(is_earlier);
        self.floods = earlier.chain(std::mem::take(&mut self.floods)).collect();
        self.is_whole = true;
    }

    /// Takes in a moment; the moments come in the order of their times.
    pub fn absorb(&mut self, moment: &Moment, terms: &Terms) {
        let secs = self.seen_at.map_or(0.0, |before| elapsed_secs(before, moment.at));
        self.seen_at = Some(moment.at);
        let Some(done) = moment.done else {
            // How large it is would not be known.
            (self.rising, self.calm_readings) = (None, 0);
            return;
        };
        // Two starts and two objects: within that nobody would call for more workers.
        let soon_secs = 2.0 * (moment.start_up_secs + moment.job_secs);
        self.lately_secs = self.lately_secs * (-secs / soon_secs).exp() + moment.done_secs;
        if let Some(rising) = &mut self.rising {
            rising.absorb(moment, done);
            if rising.is_known(moment.at) {
                self.keep(moment.at, terms);
            }
            return;
        }
        if secs > 0.0 {
            self.calm += (moment.done_secs / secs - self.calm) * (secs / CALM_SECS).min(1.0);
        }
        let Some(backlog) = moment.backlog else { return };
        if backlog * moment.job_secs + self.lately_secs <= (CALM_FACTOR * self.calm + 1.0) * soon_secs {
            self.calm_readings = self.calm_readings.saturating_add(1);
        } else if self.calm_readings >= 2 {
            let flood = Flood { begins: moment.at, arrived: [0.0; HORIZONS.len()], job_secs: moment.job_secs };
            let calm_per_sec = self.calm / moment.job_secs;
            let mut rising = Rising { seen_at: moment.at, done: 0.0, done_secs: 0.0, calm_per_sec, flood };
            rising.absorb(moment, done);
            self.rising = Some(rising);
        } else {
            // One empty reading in a long backlog is no calm.
            self.calm_readings = 0;
        }
    }

    /// Keeps the flood that is under way; one that was not foreseen pays its share.
    fn keep(&mut self, now: DateTime<Utc>, terms: &Terms) {
        let Some(Rising { mut flood, .. }) = self.rising.take() else { return };
        self.calm_readings = 0;
        let is_near = |foreseen: &&Foreseen| apart_secs(foreseen.earliest, flood.begins) <= TOLERANCE_SECS;
        match self.foreseen.as_ref().filter(is_near) {
            // More workers at once may make each object slower.
            Some(foreseen) => flood.job_secs = flood.job_secs.min(foreseen.job_secs),
            None => {
                let usual_secs = forecast::usual_secs(&flood.arrived, flood.job_secs, terms).unwrap_or(0.0);
                self.settle(-terms.share * usual_secs, usual_secs, terms);
            }
        }
        self.floods.push_back(flood);
        self.floods.retain(|flood| flood.begins > now - TimeDelta::days(KEPT_DAYS));
        while self.floods.len() > MOST_FLOODS {
            self.floods.pop_front();
        }
    }

    /// Enters what a flood has cost beyond its share; what is saved pays for as many floods as make a forecast.
    fn settle(&mut self, secs: f64, usual_secs: f64, terms: &Terms) {
        let most = f64::from(IN_A_ROW) * terms.share * usual_secs;
        self.debt_secs = (self.debt_secs + secs).max(self.debt_secs.min(-most));
    }

    /// Returns the workers that a flood which is about to come, or has come, is to be met with.
    pub fn bound(&mut self, terms: &Terms, pool: &PoolSize, now: DateTime<Utc>) -> Option<Bound> {
        self.account(terms, pool, now);
        let forecast = self.forecast(terms.start_up_secs, now)?;
        if self.foreseen.as_ref().is_none_or(|before| apart_secs(before.earliest, forecast.earliest) > TOLERANCE_SECS) {
            if self.debt_secs > 0.0 || now > forecast.gives_up(false) {
                return None;
            }
            self.foreseen = Some(Foreseen {
                earliest: forecast.earliest,
                size: forecast.size(terms, self.calm)?,
                has_come: false,
                job_secs: forecast.job_secs,
                spent_secs: 0.0,
                spent_to: now,
                done: 0.0,
                over_at: None,
                is_done: false,
                is_settled: false,
            });
        }
        let foreseen = self.foreseen.as_mut().filter(|foreseen| foreseen.over_at.is_none())?;
        let busy = f64::from(pool.busy) - self.calm / f64::from(terms.slots_per_worker);
        foreseen.has_come |= busy > f64::from(pool.idle) && now >= foreseen.earliest;
        let done = self.rising.as_ref().map_or(0.0, |rising| rising.done(now));
        let is_idle = f64::from(pool.idle) >= busy && pool.starting == 0;
        let is_all = done >= DONE_SHARE * forecast.all() || now > forecast.ends();
        foreseen.is_done = foreseen.has_come && is_idle && is_all;
        if foreseen.is_done || now > forecast.gives_up(foreseen.has_come) {
            foreseen.over_at = Some(now);
            return None;
        }
        let why = forecast.said(foreseen.has_come);
        Some(Bound::at_least(foreseen.size, Guard::Foresight, Reason::Foresight, why))
    }

    /// Accounts for what the pool costs for a foreseen flood, until only those are left who are there in calm hours.
    fn account(&mut self, terms: &Terms, pool: &PoolSize, now: DateTime<Utc>) {
        let Some(foreseen) = self.foreseen.as_mut().filter(|foreseen| !foreseen.is_settled) else { return };
        let calm = self.calm / f64::from(terms.slots_per_worker);
        let more = (f64::from(pool.live()) - calm).max(0.0);
        foreseen.spent_secs += more * elapsed_secs(foreseen.spent_to, now);
        foreseen.spent_to = now;
        foreseen.done = foreseen.done.max(self.rising.as_ref().map_or(0.0, |rising| rising.done(now)));
        let is_calm = foreseen.over_at.is_some() && more <= 1.0 + calm / 2.0;
        if is_calm || elapsed_secs(foreseen.earliest, now) > LAST_HORIZON_SECS {
            foreseen.is_settled = true;
            let arrived = [foreseen.done; HORIZONS.len()];
            let usual_secs = forecast::usual_secs(&arrived, foreseen.job_secs, terms).filter(|_| foreseen.has_come);
            let usual_secs = usual_secs.unwrap_or(0.0);
            let beyond = foreseen.spent_secs - (1.0 + terms.share) * usual_secs;
            self.settle(beyond, usual_secs, terms);
        }
    }

    /// Whether a foreseen flood was done a moment ago, so that what the counters show of it is old.
    pub fn is_just_done(&self, now: DateTime<Utc>) -> bool {
        let over_at = self.foreseen.as_ref().filter(|foreseen| foreseen.is_done).and_then(|foreseen| foreseen.over_at);
        over_at.is_some_and(|at| elapsed_secs(at, now) < STALE_COUNTERS_SECS)
    }
}

impl Rising {
    /// Returns the objects finished beyond those of calm hours.
    fn done(&self, now: DateTime<Utc>) -> f64 {
        self.done - self.calm_per_sec * elapsed_secs(self.flood.begins, now)
    }

    fn absorb(&mut self, moment: &Moment, done: f64) {
        self.done += done;
        self.done_secs += moment.done_secs;
        let earliest = self.seen_at - seconds(SEEN_WITHIN_SECS / 2.0);
        if let Some(age) = moment.age_secs
            && elapsed_secs(self.seen_at, moment.at) <= SEEN_WITHIN_SECS
        {
            let sent = moment.at - seconds(age);
            self.flood.begins = self.flood.begins.min(sent.max(earliest));
        }
        let Some(backlog) = moment.backlog else { return };
        let arrived = self.done(moment.at) + backlog;
        let after = elapsed_secs(self.flood.begins, moment.at) - MEAN_LAG_SECS;
        for (horizon, by_then) in HORIZONS.iter().zip(&mut self.flood.arrived) {
            if after <= *horizon {
                *by_then = by_then.max(arrived);
            }
        }
        if self.is_known(moment.at) {
            // What was finished is exact, what the counters show is not.
            self.flood.arrived.iter_mut().for_each(|by_then| *by_then = by_then.min(arrived));
            if self.done >= 1.0 {
                self.flood.job_secs = self.done_secs / self.done;
            }
        }
    }

    fn is_known(&self, now: DateTime<Utc>) -> bool {
        elapsed_secs(self.seen_at, now) > LAST_HORIZON_SECS + MEAN_LAG_SECS
    }
}

fn apart_secs(a: DateTime<Utc>, b: DateTime<Utc>) -> f64 {
    elapsed_secs(a, b).max(elapsed_secs(b, a))
}

/// Returns a time span; one that is longer than anything here takes is cut, so that no date overflows.
fn seconds(secs: f64) -> TimeDelta {
    TimeDelta::milliseconds((secs.min(LONGEST_SECS) * 1000.0) as i64)
}
