//! The decision: how many workers there should be, as a pure function of what was seen.
//!
//! Every rule and guard is here and in the modules below, one idea each, so that
//! `reason` always names what bound the number. A pool backend applies the
//! number and never second-guesses it.

mod arrivals;
mod demand;
mod foresight;
mod gate;
mod progress;
mod rate;
mod round;
mod schedule;
mod sink;
mod stale;
mod starts;
mod wake;
mod window;
pub(crate) mod words;
mod zero;

#[cfg(test)]
mod bounds;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod stories;

use foresight::Foresight;
pub use foresight::Moment;
pub use schedule::Schedule;

use crate::{decision::Decision, observation::Observation};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// What a pool is asked to achieve, and its limits.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The rule that sizes the pool.
    pub target: Target,
    /// Minimum number of workers.
    pub min: u32,
    /// Maximum number of workers.
    pub max: u32,
    /// Objects at once in one worker, until it is measured.
    pub slots_per_worker: u32,
    /// First guess of the time from requesting a worker to its first receive.
    pub start_up_secs: f64,
    /// First guess of one object's time in one slot.
    pub job_secs: f64,
    /// How long a want is remembered: the pool shrinks to the largest of them.
    pub shrink_window_secs: f64,
    /// Workers the pool may jump to before a larger size has proven itself.
    pub initial_proven: u32,
    /// Database connections kept for others.
    pub connection_reserve: u32,
    /// When there are workers whatever the queues say.
    pub schedules: Vec<Schedule>,
    /// Share of its worker-hours that a flood which is foreseen may cost more; 0 foresees none.
    pub foresight: f64,
}

/// The rule that sizes a pool.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// Every message done this long after it was sent, for the fewest worker-hours.
    Deadline {
        /// The promised time.
        drain_within_secs: f64,
    },
    /// This many messages per worker.
    Backlog {
        /// Messages, waiting or in flight, that one worker is for.
        messages_per_worker: u64,
    },
}

/// What the policy carries from one decision to the next: small, and kept as JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    seen_at: Option<DateTime<Utc>>,
    job_time: rate::JobTime,
    slot_cost: rate::SlotCost,
    start_up: rate::StartUp,
    arrivals: arrivals::Arrivals,
    window: window::WantWindow,
    wake: wake::Wake,
    gate: gate::GrowthGate,
    sink: sink::SinkState,
    stale: stale::Stale,
    progress: progress::Progress,
    starts: starts::Starts,
    quiet: zero::Quiet,
    foresight: Foresight,
}

impl State {
    /// Returns after which time past decisions are still to be learnt from, if there are any.
    pub fn past_after(&self, policy: &Policy, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.foresight.past_after(now).filter(|_| foresight::Terms::of(policy, 0.0, 1).is_some())
    }

    /// Learns from past decisions, oldest first; the last of them end it.
    pub fn recall(&mut self, policy: &Policy, moments: &[Moment], are_last: bool) {
        self.foresight.recall(policy, moments, are_last);
    }
}

/// Returns how many workers there should be, why, and what to remember for the next time.
///
/// Reads no clock, no network and no environment: the same arguments give the same answer.
pub fn decide(policy: &Policy, seen: &Observation, state: &State, now: DateTime<Utc>) -> (Decision, State) {
    let mut next = state.clone();
    let decision = round::Round::open(policy, seen, &mut next, now).decide();
    (decision, next)
}

/// Returns the seconds from one time to another, 0 when they are the wrong way round.
fn elapsed_secs(from: DateTime<Utc>, to: DateTime<Utc>) -> f64 {
    ((to - from).num_milliseconds() as f64 / 1000.0).max(0.0)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::observation::PoolSize;

    /// Returns a time this many seconds after the start of the stories.
    pub fn at(secs: f64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_767_225_600_000 + (secs * 1000.0).round() as i64).expect("a time in range")
    }

    /// Returns an observation that knows nothing.
    pub fn blind() -> Observation {
        Observation::of(PoolSize::default(), Err("the counters could not be read".to_owned()))
    }
}
