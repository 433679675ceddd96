//! The simulator: the real decision against a simulated queue, pool and database.
//!
//! Time runs in events inside steps of one second; everything random comes from
//! the seed, so the same seed gives the same run.

pub mod bars;
pub mod chart;
mod counters;
pub mod optimum;
pub mod rules;
pub mod table;
pub mod trace;
pub mod what_if;
mod workers;
pub mod workload;

use crate::{
    decision::Reason,
    observation::{Observation, QueueDepth, Sink},
};
use chrono::{DateTime, Utc};
use counters::Counters;
use rules::Rule;
use workers::{Victims, Workers};
use workload::Load;

/// How often rules that are asked each tick are asked.
pub const TICK_SECS: u32 = 10;

/// After the last arrival the run goes on until nothing is left to do, but no longer than this.
const LONGEST_TAIL_SECS: f64 = 4.0 * 3600.0;

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Messages that were to be done within the promised time.
    pub messages: u64,
    /// Those that were not.
    pub misses: u64,
    /// Time from sent to done, sorted.
    pub latencies: Vec<f32>,
    /// Worker time from request to exit.
    pub worker_secs: f64,
    /// Most workers at once.
    pub peak: u32,
    /// How often the number wanted changed its direction while messages arrived, per hour.
    pub turns_per_hour: f64,
    /// Jobs cut short by a scale-in.
    pub busy_kills: u64,
    /// Times the pool woke although no message existed and none was foreseen.
    pub false_wakes: u64,
    /// Objects finished per second while the sink was saturated, over what it can take.
    pub sink_share: Option<f64>,
    /// Changes of the number that came without an explanation.
    pub unexplained: u64,
    /// The run, every ten seconds.
    pub points: Vec<Point>,
    /// The number's changes, in order: when, from, to, why.
    pub changes: Vec<Change>,
}

/// One moment of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Point {
    /// Seconds since the start.
    pub at: f64,
    /// Messages sent so far.
    pub sent: u64,
    /// Messages waiting or in flight.
    pub depth: u64,
    /// Workers receiving.
    pub up: u32,
    /// Workers paid for.
    pub paid: u32,
    /// Workers wanted.
    pub desired: u32,
    /// Longest time from sent to done among those done since the point before.
    pub latency: f64,
}

/// One change of the number wanted.
#[derive(Clone, Debug)]
pub struct Change {
    /// Seconds since the start.
    pub at: f64,
    /// The number before.
    pub from: u32,
    /// The number after.
    pub to: u32,
    /// The reason's word.
    pub reason: String,
    /// The sentence.
    pub explain: String,
}

impl Outcome {
    /// Returns the share of messages that were late.
    pub fn miss_share(&self) -> f64 {
        if self.messages == 0 { 0.0 } else { self.misses as f64 / self.messages as f64 }
    }

    /// Returns a percentile of the time from sent to done.
    pub fn latency(&self, share: f64) -> f64 {
        match self.latencies.len() {
            0 => 0.0,
            n => f64::from(self.latencies[((n as f64 - 1.0) * share).round() as usize]),
        }
    }
}

/// Returns the simulated time as a time of day.
pub fn at(secs: f64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_767_225_600_000 + (secs * 1000.0) as i64).unwrap_or(DateTime::UNIX_EPOCH)
}

/// Runs a load under a rule.
pub fn run(load: &Load, rule: &mut dyn Rule, seed: u64) -> Outcome {
    let mut rng = fastrand::Rng::with_seed(seed ^ 0x005e_ed0f_5ca1_e500);
    let mut counters = Counters::new(load, &mut rng);
    let mut workers = Workers::new(load, rng.fork());
    let mut outcome = Outcome::default();
    let victims = if rule.chooses_victims() { Victims::LeastBusy } else { Victims::Any };
    let mut desired = 0;
    let end = load.workload.horizon.max(load.arrivals.last().map_or(0.0, |job| job.at));
    let mut second = 0.0;
    loop {
        workers.advance(load, second);
        counters.sample(second, workers.visible(), workers.in_flight());
        if (second as u64).is_multiple_of(u64::from(TICK_SECS)) {
            let queue = counters.read(second, load, workers.oldest_in_hand(second));
            let seen = observe(load, &mut workers, queue);
            let answer = rule.size(&seen, second);
            if answer.desired != desired {
                let is_foreseen = answer.reason == Reason::Foresight.as_str();
                if desired == 0 && workers.backlog() == 0 && rule.floor() == 0 && !is_foreseen {
                    outcome.false_wakes += 1;
                }
                outcome.unexplained += u64::from(answer.explain.is_empty());
                outcome.changes.push(Change {
                    at: second,
                    from: desired,
                    to: answer.desired,
                    reason: answer.reason,
                    explain: answer.explain,
                });
                desired = answer.desired;
            }
            workers.scale_to(desired, victims, load, second);
            outcome.peak = outcome.peak.max(workers.paid());
            outcome.points.push(Point {
                at: second,
                sent: workers.sent(),
                depth: workers.backlog(),
                up: workers.size().up(),
                paid: workers.paid(),
                desired,
                latency: std::mem::take(&mut workers.longest_latency),
            });
        }
        second += 1.0;
        let over = second >= end && workers.backlog() == 0 && workers.paid() <= rule.floor().max(rule.may_keep());
        if over || second >= end + LONGEST_TAIL_SECS {
            break;
        }
    }
    finish(load, workers, second, outcome)
}

/// Returns what is seen of the workers, and takes what happened since the look before.
fn observe(load: &Load, workers: &mut Workers, queue: Result<QueueDepth, String>) -> Observation {
    let since = std::mem::take(&mut workers.since);
    Observation {
        completions: Some(since.completions),
        receives: Some(since.receives),
        redeliveries: Some(since.redeliveries),
        last_worker_empty_polls: workers.fewest_empty_polls(),
        sink: Sink { healthy: Some(workers.slowdown(load) < 4.0), ..Sink::default() },
        start_ups: since.start_ups,
        failed_starts: Some(workers.failed_in_a_row),
        ..Observation::of(workers.size(), queue)
    }
}

fn finish(load: &Load, mut workers: Workers, end: f64, mut outcome: Outcome) -> Outcome {
    workers.close(end);
    outcome.worker_secs = workers.worker_secs;
    outcome.busy_kills = workers.busy_kills;
    outcome.latencies = std::mem::take(&mut workers.latencies);
    outcome.latencies.sort_by(f32::total_cmp);
    let in_time = outcome.latencies.partition_point(|secs| f64::from(*secs) <= load.workload.drain_within) as u64;
    outcome.messages = load.judged().count() as u64;
    outcome.misses = outcome.messages - in_time.min(outcome.messages);
    outcome.turns_per_hour = turns_per_hour(load, &outcome.changes);
    outcome.sink_share = workers.sink_share(load);
    outcome
}

/// Returns how often the number changed its direction while messages arrived, per hour.
fn turns_per_hour(load: &Load, changes: &[Change]) -> f64 {
    let (Some(first), Some(last)) = (load.arrivals.first(), load.arrivals.last()) else { return 0.0 };
    let hours = ((last.at - first.at) / 3600.0).max(1.0);
    let ups: Vec<bool> = changes.iter().filter(|change| change.at <= last.at).map(|c| c.to > c.from).collect();
    ups.windows(2).filter(|pair| pair[0] != pair[1]).count() as f64 / hours
}
