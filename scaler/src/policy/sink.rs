//! The sink cap: a pool is not grown past what the database takes.
//!
//! Growth is judged by its result. While every worker is busy and work is
//! waiting, the throughput at one size is measured; when the pool has grown and
//! settled, it is measured again. The comparison is always across a growth, so
//! objects that become larger (which also lower the throughput, at one size) are
//! not mistaken for a tired database.
//!
//! A tired database shows in the objects themselves: each takes longer the more
//! are loaded at once. Where some are far longer than others and the rest take as
//! long as before, few completions mean that long ones hold the slots, and the pool
//! is not capped. How long objects take is compared by the logarithm, for whose mean
//! a few that take very long count little, and nothing is judged before the figures
//! are sure enough for how much the objects differ.

mod count;
#[cfg(test)]
mod tests;

use super::{elapsed_secs, words};
use crate::{
    decision::{Bound, Guard, Reason},
    observation::{Observation, PoolSize, Sink},
};
use chrono::{DateTime, Utc};
use count::{Count, SHORTEST_WINDOW_SECS};
use serde::{Deserialize, Serialize};

/// Share of the expected gain below which a growth was in vain.
const LEAST_GAIN: f64 = 0.15;

/// Share of the best per-worker rate below which the pool is past what the sink takes.
const LEAST_RATE: f64 = 0.6;

/// A per-worker rate that changes by more than this at one size is a change of the work, not of the sink.
const DRIFT: f64 = 0.25;

/// Observations that must agree before a cap is set.
const AGREEING: u32 = 2;

/// A cap relaxed to this size is no cap any more.
const FORGOTTEN_CAP: u32 = 100_000;

/// How often a cap is relaxed, by a quarter.
const RELAX_SECS: f64 = 300.0;

/// The same while messages are late and the database shows no sign of trouble.
const RELAX_LATE_SECS: f64 = 100.0;

/// How long one bad observation holds growth back while the second is awaited.
const DOUBT_SECS: f64 = 120.0;

/// Standard deviations between "no gain" and "full gain" for an observation to say anything.
const SIGMAS: f64 = 3.0;

/// How long an unhealthy sink is watched before workers are drained for it.
const UNHEALTHY_SECS: f64 = 60.0;

/// What is known of the database's limits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SinkState {
    /// The stretch of full work at one size that is being measured.
    era: Option<Era>,
    /// The throughput at the size before.
    before: Option<Measure>,
    /// The best per-worker rate of this kind of work.
    best: Option<f64>,
    /// What was completed at it.
    at_best: Option<Count>,
    cap: Option<u32>,
    cap_at: Option<DateTime<Utc>>,
    strikes: u32,
    struck_at: Option<DateTime<Utc>>,
    unhealthy_since: Option<DateTime<Utc>>,
    unhealthy_readings: u32,
    /// When something was last finished, and the recent throughput.
    finished_at: Option<DateTime<Utc>>,
    recent_per_sec: f64,
    /// The size last drained to, and when.
    drained: Option<(u32, DateTime<Utc>)>,
}

/// A stretch of full work at one size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Era {
    size: u32,
    since: DateTime<Utc>,
    /// The whole stretch.
    total: Count,
    /// Its newest part, not yet judged.
    window: Count,
    last_per_sec: Option<f64>,
    /// Whether this size has been found too large.
    condemned: bool,
    /// Observations in a row that said otherwise since.
    #[serde(default)]
    acquittals: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Measure {
    size: u32,
    count: Count,
}

impl SinkState {
    /// Takes in what was finished in the `secs` since the observation before.
    pub fn absorb(&mut self, seen: &Observation, slots_per_worker: u32, secs: f64, job_secs: f64, now: DateTime<Utc>) {
        self.watch_health(seen.sink.healthy, now);
        let Some(completions) = seen.completions.as_deref() else { return };
        let done = completions.len();
        if done > 0 {
            self.finished_at = Some(now);
        }
        if secs <= 0.0 {
            return;
        }
        let keep = 0.5_f64.powf(secs / 30.0);
        self.recent_per_sec = self.recent_per_sec * keep + done as f64 / secs * (1.0 - keep);

        let pool = &seen.pool;
        // As much as they could have taken since: with less, a worker may have been idle between two looks.
        let slots = f64::from(pool.busy) * f64::from(slots_per_worker);
        let could_take = slots * (secs / job_secs).max(1.0);
        let work_waits = seen.queue.as_ref().is_ok_and(|depth| depth.visible as f64 >= could_take);
        // What an ailing sink does says nothing about the kind of work or the size.
        if pool.busy == 0 || pool.idle > 0 || !work_waits || self.is_unhealthy() {
            return;
        }
        if self.era.as_ref().is_none_or(|era| era.size.abs_diff(pool.busy) * 10 > era.size) {
            self.begin_era(pool.busy, now);
        }
        let Some(era) = &mut self.era else { return };
        // What completes right after a change of size was started before it.
        let grace = (1.5 * job_secs).clamp(SHORTEST_WINDOW_SECS, 120.0);
        if elapsed_secs(era.since, now) < grace {
            return;
        }
        for count in [&mut era.total, &mut era.window] {
            count.add(secs, completions);
        }
        if pool.starting == 0 {
            self.judge(now);
        }
    }

    /// Returns the largest size worth growing to; `None` when nothing is known against growth.
    pub fn cap(&self) -> Option<u32> {
        self.cap
    }

    /// Returns the cap as a bound.
    pub fn cap_bound(&self) -> Option<Bound> {
        let cap = self.cap?;
        let why = format!("throughput did not grow beyond {}", words::workers(cap));
        Some(Bound::at_most(cap, Guard::SinkCap, Reason::SinkCap, why))
    }

    /// Returns that an unhealthy sink lets no pool grow.
    pub fn health_bound(&self, size: u32) -> Option<Bound> {
        let why = "the database is not healthy";
        self.is_unhealthy().then(|| Bound::at_most(size, Guard::SinkHealth, Reason::SinkCap, why))
    }

    /// Returns that no pool grows while a first observation speaks against the last growth.
    pub fn doubt_bound(&self, size: u32, now: DateTime<Utc>) -> Option<Bound> {
        let why = "whether the last growth made the database take more is not yet clear";
        self.in_doubt(now).then(|| Bound::at_most(size, Guard::SinkDoubt, Reason::SinkCap, why))
    }

    /// Returns that no busy worker is drained in an outage.
    pub fn outage_bound(&self, pool: &PoolSize) -> Option<Bound> {
        let why = "the database accepts no writes, and returning messages would use up their receives";
        (pool.busy > 0).then(|| Bound::at_least(pool.live(), Guard::SinkOutage, Reason::SinkCap, why))
    }

    /// Whether a first observation, not long ago, speaks against the last growth.
    pub fn in_doubt(&self, now: DateTime<Utc>) -> bool {
        self.strikes > 0 && self.struck_at.is_some_and(|at| elapsed_secs(at, now) < DOUBT_SECS)
    }

    /// Whether the sink is reported unhealthy.
    pub fn is_unhealthy(&self) -> bool {
        self.unhealthy_since.is_some()
    }

    /// Whether it is unhealthy and takes nothing at all.
    pub fn is_outage(&self, job_secs: f64, now: DateTime<Utc>) -> bool {
        let silence = self.finished_at.map_or(f64::INFINITY, |at| elapsed_secs(at, now));
        self.is_unhealthy() && silence > (3.0 * job_secs).max(60.0)
    }

    /// Returns that workers an unhealthy sink cannot serve are drained, and lowers the cap to what it takes.
    pub fn drain_bound(&mut self, live: u32, settle_secs: f64, now: DateTime<Utc>) -> Option<Bound> {
        let size = self.drain_to(live, settle_secs, now)?;
        let why = format!("the database is not healthy and takes no more than {} bring it", words::workers(size));
        Some(Bound::at_most(size, Guard::SinkHealth, Reason::SinkCap, why))
    }

    /// Lowers the cap to what an unhealthy sink takes, and returns the size to drain to now.
    ///
    /// At most a quarter of the pool goes in a settle window, and never more
    /// than leaves what the sink takes now at a healthy worker's rate.
    fn drain_to(&mut self, live: u32, settle_secs: f64, now: DateTime<Utc>) -> Option<u32> {
        let since = self.unhealthy_since?;
        let best = self.best.filter(|best| *best > 0.0)?;
        if self.unhealthy_readings < AGREEING || elapsed_secs(since, now) < UNHEALTHY_SECS || self.recent_per_sec <= 0.0
        {
            return None;
        }
        let takes = (1.1 * self.recent_per_sec / best).ceil().max(1.0) as u32;
        self.cap = Some(self.cap.map_or(takes, |cap| cap.min(takes)));
        self.cap_at = Some(now);
        if let Some((size, at)) = self.drained
            && elapsed_secs(at, now) < settle_secs
        {
            return (size < live).then_some(size);
        }
        let target = takes.max(live - live / 4);
        if target >= live {
            return None;
        }
        self.drained = Some((target, now));
        Some(target)
    }

    fn begin_era(&mut self, size: u32, now: DateTime<Utc>) {
        if let Some(ended) = self.era.take() {
            if size < ended.size {
                self.before = None;
                self.strikes = 0;
            } else if ended.total.is_enough() {
                self.before = Some(Measure { size: ended.size, count: ended.total });
            }
        }
        self.era = Some(Era {
            size,
            since: now,
            total: Count::default(),
            window: Count::default(),
            last_per_sec: None,
            condemned: false,
            acquittals: 0,
        });
    }

    /// Judges the newest part of the era once it says something.
    fn judge(&mut self, now: DateTime<Utc>) {
        let Some(era) = &mut self.era else { return };
        if !era.window.is_enough() {
            return;
        }
        let per_sec = era.window.per_sec();
        let per_worker = per_sec / f64::from(era.size);

        let mut in_vain = false;
        if let Some(before) = self.before {
            let was = before.count.per_sec();
            let expected = was * (f64::from(era.size) / f64::from(before.size) - 1.0);
            let noise = (era.window.variance() + before.count.variance()).sqrt();
            if expected * (1.0 - LEAST_GAIN) < SIGMAS * noise {
                return;
            }
            in_vain = per_sec - was < LEAST_GAIN * expected
                && era.window.is_tired(&before.count, f64::from(era.size) / f64::from(before.size));
        }
        let window = std::mem::take(&mut era.window);
        let drifted = era.last_per_sec.is_some_and(|last| {
            let noise = SIGMAS * window.variance().sqrt();
            (per_sec - last).abs() > (DRIFT * last).max(noise)
        });
        let before_sec = era.last_per_sec.replace(per_sec);
        if drifted && self.strikes == 0 {
            // The same pool does another kind of work now; what was measured before is no measure for it.
            if era.condemned && before_sec.is_some_and(|last| per_sec > last) {
                (self.cap, self.cap_at) = (None, None);
            }
            era.total = window;
            era.condemned = false;
            self.before = None;
            (self.best, self.at_best) = (Some(per_worker), Some(window));
            return;
        }
        let past_it = self.best.is_some_and(|best| {
            // A state of an older version says nothing of what was completed.
            let is_tired = self.at_best.is_none_or(|before| window.is_tired(&before, best / per_worker));
            per_worker < LEAST_RATE * best && is_tired
        });
        if era.condemned {
            era.acquittals = if in_vain || past_it { 0 } else { era.acquittals + 1 };
            if era.acquittals >= AGREEING {
                era.condemned = false;
                (self.cap, self.cap_at) = (None, None);
            }
            return;
        }
        if !in_vain && !past_it {
            self.strikes = 0;
            if self.best.is_none_or(|best| per_worker > best) {
                (self.best, self.at_best) = (Some(per_worker), Some(window));
            }
            return;
        }
        self.strikes += 1;
        self.struck_at = Some(now);
        if self.strikes < AGREEING {
            return;
        }
        self.strikes = 0;
        (era.condemned, era.acquittals) = (true, 0);
        let size_before = self.before.map_or(era.size, |before| before.size);
        let takes = self.best.map_or(size_before, |best| (per_sec / best).ceil().max(1.0) as u32);
        let found = if past_it { takes.min(size_before) } else { size_before };
        self.cap = Some(self.cap.map_or(found, |cap| cap.min(found)));
        self.cap_at = Some(now);
    }

    /// Relaxes the cap from time to time, and sooner where messages are late beside a database that is well.
    pub fn relax(&mut self, is_late: bool, healthy: Option<bool>, now: DateTime<Utc>) {
        let (Some(cap), Some(at)) = (self.cap, self.cap_at) else { return };
        let pause_secs = if is_late && healthy == Some(true) { RELAX_LATE_SECS } else { RELAX_SECS };
        // One step at most: a scaler that was away has seen nothing that speaks for more.
        if elapsed_secs(at, now) >= pause_secs && !self.is_unhealthy() {
            self.cap = Some(cap.saturating_add(cap.div_ceil(4))).filter(|cap| *cap < FORGOTTEN_CAP);
            self.cap_at = Some(now);
        }
    }

    fn watch_health(&mut self, healthy: Option<bool>, now: DateTime<Utc>) {
        match healthy {
            Some(false) => {
                self.unhealthy_since.get_or_insert(now);
                self.unhealthy_readings = self.unhealthy_readings.saturating_add(1);
            }
            Some(true) => {
                self.unhealthy_since = None;
                self.unhealthy_readings = 0;
            }
            // Not known: what was last known stands.
            None => {}
        }
    }
}

/// Returns how many workers the server's connections allow, for a pool that is not made smaller than `base` for them.
pub fn connection_bound(sink: &Sink, reserve: u32, slots_per_worker: u32, base: u32) -> Option<Bound> {
    let size = connection_ceiling(sink, reserve, slots_per_worker)?.max(base);
    let why = format!("the database's connections are enough for {}", words::workers(size));
    Some(Bound::at_most(size, Guard::Connections, Reason::SinkCap, why))
}

fn connection_ceiling(sink: &Sink, reserve: u32, slots_per_worker: u32) -> Option<u32> {
    let max_connections = sink.max_connections?;
    let each = sink.connections_per_worker.unwrap_or(slots_per_worker.saturating_add(2)).max(1);
    Some((max_connections.saturating_sub(reserve) / each).max(1))
}
