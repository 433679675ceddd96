//! Backing off when workers are started and never come up.

use super::{elapsed_secs, words};
use crate::{
    decision::{Bound, Guard, Reason},
    observation::PoolSize,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Failed starts in a row that are taken for bad luck.
const TOLERATED: u32 = 3;

/// Pause after the first failure too many; it doubles with each further one.
const FIRST_PAUSE_SECS: f64 = 30.0;

/// Longest pause. Longer: a repaired image is noticed late; shorter: money is burnt on starts.
const LONGEST_PAUSE_SECS: f64 = 600.0;

/// When starting was last tried although starts keep failing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Starts {
    tried_at: Option<DateTime<Utc>>,
}

impl Starts {
    /// Returns what the pool may grow to after this many failed starts in a row.
    pub fn bound(&self, failed_in_a_row: u32, pool: &PoolSize, now: DateTime<Utc>) -> Option<Bound> {
        let (more, secs) = self.allowance(failed_in_a_row, pool.starting, now)?;
        let why = format!("{failed_in_a_row} starts in a row failed, so one is tried in {}", words::secs(secs));
        Some(Bound::at_most(pool.live().saturating_add(more), Guard::FailedStarts, Reason::DeadWorker, why))
    }

    /// Takes note that a worker is started although starts keep failing.
    pub fn tried(&mut self, now: DateTime<Utc>) {
        self.tried_at = Some(now);
    }

    /// Returns how many workers may be added, and for how long that stands.
    fn allowance(&self, failed_in_a_row: u32, starting: u32, now: DateTime<Utc>) -> Option<(u32, f64)> {
        let too_many = failed_in_a_row.checked_sub(TOLERATED + 1)?;
        let pause =
            (FIRST_PAUSE_SECS * 2.0_f64.powi(i32::try_from(too_many.min(16)).unwrap_or(16))).min(LONGEST_PAUSE_SECS);
        let since = self.tried_at.map_or(f64::INFINITY, |at| elapsed_secs(at, now));
        if starting == 0 && since >= pause {
            return Some((1, pause));
        }
        Some((0, (pause - since).max(0.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::at, *};

    #[test]
    fn failing_starts_are_tried_one_at_a_time_with_growing_pauses() {
        let mut starts = Starts::default();
        assert_eq!(starts.allowance(3, 0, at(0.0)), None);
        assert_eq!(starts.allowance(4, 0, at(0.0)), Some((1, 30.0)));
        starts.tried(at(0.0));
        assert_eq!(starts.allowance(4, 0, at(10.0)), Some((0, 20.0)));
        assert_eq!(starts.allowance(5, 0, at(70.0)), Some((1, 60.0)));
        starts.tried(at(70.0));
        assert_eq!(starts.allowance(30, 0, at(100.0)), Some((0, 570.0)));
    }
}
