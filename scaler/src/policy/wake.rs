//! Waking a pool that has no workers, without running after phantoms.

use super::{Target, elapsed_secs, words};
use crate::{
    decision::{Bound, Guard, Reason},
    observation::QueueDepth,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// SQS shows ones and twos that are not there for about a minute; more than this is believed at once.
const PHANTOM_MESSAGES: u64 = 2;

/// Longest wait for a confirmation. Longer: single messages wait; shorter than a minute: phantoms wake the pool.
const LONGEST_CONFIRM_SECS: f64 = 75.0;

/// How far the counters may lag behind the queue.
pub const COUNTER_LAG_SECS: f64 = 40.0;

/// What an empty pool remembers of the messages it has seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wake {
    /// Since when every reading has shown a visible message.
    since: Option<DateTime<Utc>>,
    readings: u32,
}

/// What an empty pool sees, and whether that is worth a worker.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sighting {
    /// Nothing is visible.
    Nothing,
    /// Something is, but it may be a phantom; believed when it is still there in this many seconds.
    Unconfirmed { wait_secs: f64 },
    /// There is work.
    Work,
}

impl Sighting {
    /// Returns what keeps an empty pool empty.
    pub fn bound(&self, depth: &QueueDepth) -> Option<Bound> {
        let (reason, why) = match self {
            Self::Work => return None,
            Self::Nothing if depth.in_flight > 0 => {
                let in_flight = depth.in_flight;
                let why = format!("no message is visible and the {in_flight} in flight cannot be received yet");
                (Reason::Steady, why)
            }
            Self::Nothing => (Reason::Steady, "no message is visible".to_owned()),
            Self::Unconfirmed { wait_secs } => {
                let (visible, wait) = (words::count(depth.visible, "message"), words::secs(*wait_secs));
                let why = format!("{visible} visible may be a phantom and must still be there in {wait}");
                (Reason::WakeUnconfirmed, why)
            }
        };
        Some(Bound::at_most(0, Guard::Wake, reason, why))
    }
}

impl Wake {
    /// Takes in a reading: counts from the first message an empty pool sees.
    pub fn absorb(&mut self, depth: &QueueDepth, live: u32, progressed: bool, now: DateTime<Utc>) {
        if depth.visible == 0 || progressed {
            *self = Self::default();
        } else if live == 0 || self.since.is_some() {
            self.since.get_or_insert(now);
            self.readings = self.readings.saturating_add(1);
        }
    }

    /// Returns how long messages are known to have waited for a worker.
    pub fn waited_secs(&self, now: DateTime<Utc>) -> f64 {
        self.since.map_or(0.0, |since| elapsed_secs(since, now))
    }

    /// Returns whether an empty pool should wake for what it sees.
    pub fn sighting(&self, target: &Target, depth: &QueueDepth, start_up_secs: f64, now: DateTime<Utc>) -> Sighting {
        if depth.visible == 0 {
            return Sighting::Nothing;
        }
        let confirm_secs = confirm_secs(target, start_up_secs);
        if depth.visible > PHANTOM_MESSAGES || confirm_secs <= 0.0 {
            return Sighting::Work;
        }
        // Only a message that exists has an age, so a second reading is enough to believe it.
        let aged = depth.oldest_age_secs.is_some_and(|age| age > 0.0);
        let wait_secs = confirm_secs - self.waited_secs(now);
        if self.readings >= 2 && (aged || wait_secs <= 0.0) {
            return Sighting::Work;
        }
        Sighting::Unconfirmed { wait_secs: wait_secs.max(0.0) }
    }
}

/// Returns how long the promise lets one or two messages wait for their confirmation.
fn confirm_secs(target: &Target, start_up_secs: f64) -> f64 {
    match target {
        Target::Deadline { drain_within_secs } => {
            (0.5 * drain_within_secs - start_up_secs - COUNTER_LAG_SECS).clamp(0.0, LONGEST_CONFIRM_SECS)
        }
        Target::Backlog { .. } => LONGEST_CONFIRM_SECS,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::at, *};

    const L15: Target = Target::Deadline { drain_within_secs: 900.0 };

    fn depth(visible: u64) -> QueueDepth {
        QueueDepth { visible, ..QueueDepth::default() }
    }

    fn calls(target: Target, readings: &[(f64, QueueDepth)]) -> Vec<bool> {
        let mut wake = Wake::default();
        readings
            .iter()
            .map(|(secs, depth)| {
                wake.absorb(depth, 0, false, at(*secs));
                wake.sighting(&target, depth, 45.0, at(*secs)) == Sighting::Work
            })
            .collect()
    }

    #[test]
    fn one_message_is_believed_when_it_outlasts_a_phantom() {
        let readings: Vec<_> = (0..9).map(|tick| (f64::from(tick) * 10.0, depth(1))).collect();
        assert_eq!(calls(L15, &readings), [false, false, false, false, false, false, false, false, true]);
    }

    #[test]
    fn phantom_of_a_minute_wakes_nobody() {
        let readings: Vec<_> = (0..12).map(|tick| (f64::from(tick) * 10.0, depth(u64::from(tick < 7)))).collect();
        assert!(calls(L15, &readings).iter().all(|woken| !woken));
    }

    #[test]
    fn three_messages_wake_at_once() {
        assert_eq!(calls(L15, &[(0.0, depth(3))]), [true]);
    }

    #[test]
    fn short_promise_waits_for_no_confirmation() {
        assert_eq!(calls(Target::Deadline { drain_within_secs: 120.0 }, &[(0.0, depth(1))]), [true]);
        let some = Target::Deadline { drain_within_secs: 190.0 };
        assert_eq!(calls(some, &[(0.0, depth(1)), (10.0, depth(1))]), [false, true]);
    }

    #[test]
    fn message_with_an_age_is_no_phantom() {
        let aged = QueueDepth { oldest_age_secs: Some(12.0), ..depth(1) };
        assert_eq!(calls(L15, &[(0.0, aged), (10.0, aged)]), [false, true]);
    }
}
