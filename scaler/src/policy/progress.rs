//! Noticing a pool that receives and receives and gets nothing done.

use super::elapsed_secs;
use crate::decision::{Bound, Guard, Reason};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Job times without a completion after which a pool that receives is stuck.
const STUCK_JOBS: f64 = 3.0;

/// At least this long, since a tick sees nothing shorter.
const STUCK_SECS: f64 = 30.0;

/// As long as the job time is only a guess and every message received may still be in a worker's hands.
const STUCK_GUESSED_SECS: f64 = 300.0;

/// Fewer receives say nothing.
const FEWEST_RECEIVES: f64 = 5.0;

/// How long the pool is held before it shrinks to the probe.
const HOLD_SECS: f64 = 120.0;

/// Workers left to find out whether things work again.
const PROBE: u32 = 2;

/// Receives lose half their weight in this time.
const HALF_LIFE_SECS: f64 = 120.0;

/// Receives since something was last finished.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// When messages were first received after the last completion.
    since: Option<DateTime<Utc>>,
    receives_since: u64,
    /// Decaying counts, for the share of retries.
    receives: f64,
    retries: f64,
    finished: f64,
    counted_at: Option<DateTime<Utc>>,
    /// Since when the pool has been found stuck.
    stuck_since: Option<DateTime<Utc>>,
}

/// What the guard says of a stuck pool.
#[derive(Clone, Debug, PartialEq)]
pub struct Stuck {
    /// The size to shrink to, once it has been stuck for long enough.
    pub probe: Option<u32>,
    /// Why, as the second half of a sentence.
    pub why: String,
}

impl Stuck {
    /// Returns that a stuck pool is no larger than this.
    pub fn bound(&self, size: u32) -> Bound {
        Bound::at_most(size, Guard::NoProgress, Reason::NoProgress, &self.why)
    }
}

/// What was received and finished since the tick before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Activity {
    /// Objects finished; `None` when that is not known.
    pub finished: Option<usize>,
    /// Messages received.
    pub receives: Option<u64>,
    /// Those received before.
    pub redeliveries: Option<u64>,
    /// Slots of the workers that are up.
    pub slots: u64,
    /// One object's believed time.
    pub job_secs: f64,
    /// Whether that is measured.
    pub job_measured: bool,
}

impl Progress {
    /// Takes in a tick and says whether the pool is stuck.
    pub fn absorb(&mut self, activity: &Activity, now: DateTime<Utc>) -> Option<Stuck> {
        let (Some(finished), Some(receives)) = (activity.finished, activity.receives) else {
            // Without a ledger nothing is known, and nothing is held against the pool.
            *self = Self::default();
            return None;
        };
        self.count(finished, receives, activity.redeliveries.unwrap_or(0), now);
        if finished > 0 {
            self.since = None;
            self.receives_since = 0;
        } else if receives > 0 {
            self.since.get_or_insert(now);
            self.receives_since = self.receives_since.saturating_add(receives);
        }
        let Some(why) = self.why(activity, now) else {
            self.stuck_since = None;
            return None;
        };
        let stuck_since = *self.stuck_since.get_or_insert(now);
        let hold_secs = HOLD_SECS.max(STUCK_JOBS * activity.job_secs);
        Some(Stuck { probe: (elapsed_secs(stuck_since, now) >= hold_secs).then_some(PROBE), why })
    }

    fn why(&self, activity: &Activity, now: DateTime<Utc>) -> Option<String> {
        if let Some(since) = self.since {
            let waited = elapsed_secs(since, now);
            let all_may_be_in_hand = self.receives_since <= activity.slots;
            let patience = if !activity.job_measured && all_may_be_in_hand { STUCK_GUESSED_SECS } else { STUCK_SECS };
            if self.receives_since as f64 >= FEWEST_RECEIVES && waited >= patience.max(STUCK_JOBS * activity.job_secs) {
                return Some(format!(
                    "{} messages were received in {waited:.0} s and none was finished",
                    self.receives_since
                ));
            }
        }
        // Retries beside a healthy flow are an outage's aftermath or one bad producer.
        if self.receives >= 4.0 * FEWEST_RECEIVES
            && self.retries > self.receives / 2.0
            && self.finished < self.receives / 2.0
        {
            return Some(format!(
                "{:.0} of the last {:.0} receives were retries and {:.0} objects were finished",
                self.retries, self.receives, self.finished
            ));
        }
        None
    }

    fn count(&mut self, finished: usize, receives: u64, retries: u64, now: DateTime<Utc>) {
        if let Some(before) = self.counted_at {
            let keep = 0.5_f64.powf(elapsed_secs(before, now) / HALF_LIFE_SECS);
            self.receives *= keep;
            self.retries *= keep;
            self.finished *= keep;
        }
        self.receives += receives as f64;
        self.retries += retries as f64;
        self.finished += finished as f64;
        self.counted_at = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::at, *};

    fn tick(finished: usize, receives: u64) -> Activity {
        Activity {
            finished: Some(finished),
            receives: Some(receives),
            redeliveries: None,
            slots: 10,
            job_secs: 2.0,
            job_measured: true,
        }
    }

    /// Returns when the pool is first found stuck, and when it is first to shrink.
    fn run(ticks: u32, of: impl Fn(u32) -> Activity) -> (Option<u32>, Option<u32>) {
        let mut progress = Progress::default();
        let (mut stuck, mut probe) = (None, None);
        for n in 0..ticks {
            if let Some(found) = progress.absorb(&of(n), at(f64::from(n) * 10.0)) {
                stuck.get_or_insert(n * 10);
                if found.probe.is_some() {
                    probe.get_or_insert(n * 10);
                }
            }
        }
        (stuck, probe)
    }

    #[test]
    fn receives_without_completions_hold_and_then_shrink() {
        assert_eq!(run(30, |_| tick(0, 10)), (Some(30), Some(150)));
    }

    #[test]
    fn one_completion_clears_it() {
        assert_eq!(run(60, |n| tick(usize::from(n % 3 == 0), 10)), (None, None));
    }

    #[test]
    fn long_jobs_get_three_of_their_own_times() {
        let long = |_| Activity { job_secs: 100.0, ..tick(0, 4) };
        assert_eq!(run(60, long), (Some(300), None));
    }

    #[test]
    fn unmeasured_jobs_in_hand_are_given_time() {
        let first = |n| Activity { job_measured: false, ..tick(0, if n == 0 { 10 } else { 0 }) };
        assert_eq!(run(40, first).0, Some(300));
        let looping = |_| Activity { job_measured: false, ..tick(0, 10) };
        assert_eq!(run(40, looping).0, Some(30));
    }

    #[test]
    fn retries_for_the_most_part_are_no_progress() {
        let retrying = |_| Activity { redeliveries: Some(30), ..tick(3, 40) };
        assert!(run(20, retrying).0.is_some());
        let recovering = |_| Activity { redeliveries: Some(30), ..tick(40, 40) };
        assert_eq!(run(20, recovering), (None, None));
    }

    #[test]
    fn without_a_ledger_nothing_is_held_against_the_pool() {
        assert_eq!(run(60, |_| Activity { finished: None, ..tick(0, 40) }), (None, None));
    }
}
