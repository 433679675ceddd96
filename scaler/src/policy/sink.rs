//! The sink cap: a pool is not grown past what the database takes.
//!
//! Growth is judged by its result. While every worker is busy and work is
//! waiting, the throughput at one size is measured; when the pool has grown and
//! settled, it is measured again. The comparison is always across a growth, so
//! objects that become larger (which also lower the throughput, at one size) are
//! not mistaken for a tired database.
//!
//! A tired database shows in the objects themselves: each takes longer the more
//! are loaded at once. Where they take as long as before, few completions mean a
//! few long objects, or a store that is slow, and the pool is not capped. How long
//! objects take is compared by the logarithm, for whose mean a few that take very
//! long count little.

use super::{elapsed_secs, words};
use crate::{
    decision::{Bound, Guard, Reason},
    observation::{Completion, Observation, PoolSize, Sink},
};
use chrono::{DateTime, Utc};
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

/// How long one bad observation holds growth back while the second is awaited.
const DOUBT_SECS: f64 = 120.0;

/// Shortest stretch of full work that counts as an observation.
const SHORTEST_WINDOW_SECS: f64 = 8.0;

/// Standard deviations between "no gain" and "full gain" for an observation to say anything.
const SIGMAS: f64 = 3.0;

/// Part of the slowing that a tired sink would bring, on a scale of logarithms, from which objects count as slower.
const LEAST_SLOWING: f64 = 0.5;

/// Standard errors by which objects must be slower.
const SLOWER_ERRORS: f64 = 2.0;

/// Fewest completions that make a rate.
const FEWEST_COMPLETIONS: f64 = 10.0;

/// What a job counts as that is recorded as shorter.
const SHORTEST_JOB_SECS: f64 = 0.001;

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
    /// Whether this size has been found too large; it is not judged again.
    condemned: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Count {
    secs: f64,
    done: f64,
    /// Of the logarithms of how long each object took: how many, their sum, and that of their squares. A state of an
    /// older version has none.
    n_logs: f64,
    logs: f64,
    squares: f64,
}

impl Count {
    fn add(&mut self, secs: f64, completions: &[Completion]) {
        self.secs += secs;
        self.done += completions.len() as f64;
        for log in completions.iter().map(|done| done.duration_secs.max(SHORTEST_JOB_SECS).ln()) {
            self.n_logs += 1.0;
            self.logs += log;
            self.squares += log * log;
        }
    }

    /// The mean of the logarithms, and the square of its standard error.
    fn mean_log(&self) -> (f64, f64) {
        let mean = self.logs / self.done.max(1.0);
        let variance = (self.squares / self.done.max(1.0) - mean * mean).max(0.0);
        (mean, variance / (self.done - 1.0).max(1.0))
    }

    /// Whether objects took longer than `before`, where a tired sink would make them take `factor` times as long.
    fn is_slower(&self, before: &Self, factor: f64) -> bool {
        if before.n_logs < before.done || self.n_logs < self.done {
            return true;
        }
        let ((was, was_unsure), (is, is_unsure)) = (before.mean_log(), self.mean_log());
        let least = (LEAST_SLOWING * factor.ln()).max(SLOWER_ERRORS * (was_unsure + is_unsure).sqrt());
        is - was >= least
    }

    fn per_sec(&self) -> f64 {
        self.done / self.secs.max(1.0)
    }

    fn is_enough(&self) -> bool {
        self.secs >= SHORTEST_WINDOW_SECS && self.done >= FEWEST_COMPLETIONS
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Measure {
    size: u32,
    count: Count,
}

impl SinkState {
    /// Takes in what was finished in the `secs` since the observation before.
    pub fn absorb(&mut self, seen: &Observation, secs: f64, job_secs: f64, now: DateTime<Utc>) {
        self.relax(now);
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
        let work_waits = seen.queue.as_ref().is_ok_and(|depth| depth.visible > 0);
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
            let noise = (per_sec / era.window.secs + was / before.count.secs).sqrt();
            if expected * (1.0 - LEAST_GAIN) < SIGMAS * noise {
                return;
            }
            in_vain = per_sec - was < LEAST_GAIN * expected
                && era.window.is_slower(&before.count, f64::from(era.size) / f64::from(before.size));
        }
        let window = std::mem::take(&mut era.window);
        let drifted = era.last_per_sec.is_some_and(|last| {
            let noise = SIGMAS * (per_sec / window.secs).sqrt();
            (per_sec - last).abs() > (DRIFT * last).max(noise)
        });
        era.last_per_sec = Some(per_sec);
        if drifted && self.strikes == 0 {
            // The same pool does another kind of work now; what was measured before is no measure for it.
            era.total = window;
            era.condemned = false;
            self.before = None;
            (self.best, self.at_best) = (Some(per_worker), Some(window));
            return;
        }
        if era.condemned {
            return;
        }
        let past_it = self.best.is_some_and(|best| {
            // A state of an older version says nothing of what was completed.
            let is_slower = self.at_best.is_none_or(|before| window.is_slower(&before, best / per_worker));
            per_worker < LEAST_RATE * best && is_slower
        });
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
        era.condemned = true;
        let size_before = self.before.map_or(era.size, |before| before.size);
        let takes = self.best.map_or(size_before, |best| (per_sec / best).ceil().max(1.0) as u32);
        let found = if past_it { takes.min(size_before) } else { size_before };
        self.cap = Some(self.cap.map_or(found, |cap| cap.min(found)));
        self.cap_at = Some(now);
    }

    fn relax(&mut self, now: DateTime<Utc>) {
        let (Some(cap), Some(at)) = (self.cap, self.cap_at) else { return };
        // One step at most: a scaler that was away has seen nothing that speaks for more.
        if elapsed_secs(at, now) >= RELAX_SECS && !self.is_unhealthy() {
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

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{at, blind},
        *,
    };
    use crate::observation::QueueDepth;

    /// What is seen of `done` objects finished in ten seconds by `n` workers that were never idle.
    fn seen(n: u32, starting: u32, done: usize, secs: f64) -> Observation {
        let duration_secs = f64::from(n) * 10.0 / done as f64;
        with_durations(n, starting, vec![duration_secs; done], secs)
    }

    fn with_durations(n: u32, starting: u32, durations: Vec<f64>, secs: f64) -> Observation {
        Observation {
            pool: PoolSize { busy: n, starting, ..PoolSize::default() },
            queue: Ok(QueueDepth { visible: 5000, ..QueueDepth::default() }),
            completions: Some(
                durations
                    .into_iter()
                    .map(|secs_each| Completion { ended_at: at(secs), duration_secs: secs_each, ok: true })
                    .collect(),
            ),
            sink: Sink { healthy: Some(true), ..Sink::default() },
            ..blind()
        }
    }

    /// Runs stretches of (ticks, workers, completions a tick) and returns the cap after each.
    fn caps(stretches: &[(u32, u32, usize)]) -> Vec<Option<u32>> {
        let mut sink = SinkState::default();
        let mut tick = 0;
        stretches
            .iter()
            .map(|(ticks, n, done)| {
                for _ in 0..*ticks {
                    let secs = f64::from(tick) * 10.0;
                    sink.absorb(&seen(*n, 0, *done, secs), 10.0, 1.0, at(secs));
                    tick += 1;
                }
                sink.cap()
            })
            .collect()
    }

    #[test]
    fn growth_in_vain_caps_at_the_size_before() {
        assert_eq!(caps(&[(6, 10, 94), (6, 20, 98)]), [None, Some(10)]);
    }

    #[test]
    fn growth_that_pays_is_not_capped() {
        assert_eq!(caps(&[(6, 10, 94), (6, 20, 180), (6, 40, 350)]), [None, None, None]);
    }

    /// Then it is throughput alone that speaks, as it did then.
    #[test]
    fn a_state_without_durations_is_none_of_instant_objects() {
        let old: Count = serde_json::from_str(r#"{"secs": 60, "done": 100}"#).expect("a count of an older version");
        let mut new = Count::default();
        new.add(60.0, seen(20, 0, 1000, 0.0).completions.as_deref().unwrap_or_default());
        assert!(new.is_slower(&old, 2.0) && old.is_slower(&new, 2.0));
    }

    #[test]
    fn larger_objects_are_not_taken_for_a_tired_sink() {
        assert_eq!(caps(&[(6, 10, 94), (6, 10, 19), (6, 20, 38), (6, 40, 76)]), [None, None, None, None]);
    }

    #[test]
    fn per_worker_rate_below_60_percent_caps_at_what_the_sink_takes() {
        // 20 % gain each time, so no growth is in vain by itself.
        assert_eq!(caps(&[(6, 10, 100), (6, 20, 130), (6, 40, 170)]), [None, None, Some(17)]);
    }

    #[test]
    fn cap_relaxes_by_a_quarter_every_five_minutes() {
        assert_eq!(caps(&[(6, 10, 94), (6, 20, 98), (33, 20, 98), (30, 20, 98)])[1..], [Some(10), Some(13), Some(17)]);
    }

    #[test]
    fn few_completions_of_a_calm_sink_are_no_cap() {
        let mut sink = SinkState::default();
        let mut caps = [(6, 10, 94), (12, 20, 98), (12, 40, 90)].map(|(ticks, n, done)| {
            for _ in 0..ticks {
                let secs = sink.finished_at.map_or(0.0, |before| elapsed_secs(at(0.0), before) + 10.0);
                // Nearly all take a second; the rest of the slots have an object that takes minutes.
                sink.absorb(&with_durations(n, 0, vec![1.0; done], secs), 10.0, 1.0, at(secs));
            }
            sink.cap()
        });
        caps.sort_unstable();
        assert_eq!(caps, [None; 3]);
    }

    #[test]
    fn few_completions_judge_nothing() {
        assert_eq!(caps(&[(6, 10, 1), (6, 20, 1)]), [None, None]);
    }

    #[test]
    fn connections_set_a_ceiling() {
        let sink = |max_connections| Sink { max_connections: Some(max_connections), ..Sink::default() };
        assert_eq!(connection_ceiling(&sink(100), 10, 4), Some(15));
        assert_eq!(connection_ceiling(&sink(5), 10, 4), Some(1));
        assert_eq!(connection_ceiling(&Sink::default(), 10, 4), None);
    }
}
