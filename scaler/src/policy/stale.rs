//! What to do while the counters cannot be read: hold, and after a while trust the workers alone.

use super::elapsed_secs;
use crate::observation::Observation;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// A gap this short is only held through.
const HOLD_SECS: f64 = 30.0;

/// Since when the counters have been unreadable, and what was done about it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stale {
    /// The last good reading, or the first look at the pool.
    read_at: Option<DateTime<Utc>>,
    /// The size last grown to, and when.
    grown: Option<(u32, DateTime<Utc>)>,
}

impl Stale {
    /// Takes note of a good reading, or of the first attempt at one.
    pub fn absorb(&mut self, readable: bool, now: DateTime<Utc>) {
        if readable {
            self.read_at = Some(now);
            self.grown = None;
        } else {
            self.read_at.get_or_insert(now);
        }
    }

    /// Returns for how long the counters have been unreadable.
    pub fn secs(&self, now: DateTime<Utc>) -> f64 {
        self.read_at.map_or(0.0, |at| elapsed_secs(at, now))
    }

    /// Returns the size to have, never smaller than the pool.
    ///
    /// Workers that have not seen one empty poll have more work than they can
    /// do, so the pool grows by a quarter in each settle window.
    pub fn size(&mut self, seen: &Observation, settle_secs: f64, now: DateTime<Utc>) -> u32 {
        let live = seen.pool.live();
        let granted = self.grown.map_or(live, |(size, _)| size.max(live));
        let Some(read_at) = self.read_at else { return live };
        let since = self.grown.map_or(read_at, |(_, at)| at);
        let all_have_work =
            seen.last_worker_empty_polls == Some(0) && seen.pool.busy > seen.pool.idle && seen.pool.starting == 0;
        if self.secs(now) < HOLD_SECS || !all_have_work || elapsed_secs(since, now) < settle_secs {
            return granted;
        }
        let grown = live.saturating_add(live.div_ceil(4));
        self.grown = Some((grown, now));
        grown
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{at, blind},
        *,
    };
    use crate::observation::PoolSize;

    fn busy(n: u32, polls: u32) -> Observation {
        Observation {
            pool: PoolSize { busy: n, ..PoolSize::default() },
            last_worker_empty_polls: Some(polls),
            ..blind()
        }
    }

    #[test]
    fn short_gap_is_held_and_a_long_one_grows_by_a_quarter() {
        let mut stale = Stale::default();
        stale.absorb(true, at(0.0));
        assert_eq!(stale.size(&busy(6, 0), 75.0, at(20.0)), 6);
        assert_eq!(stale.size(&busy(6, 0), 75.0, at(80.0)), 8);
        assert_eq!(stale.size(&busy(6, 0), 75.0, at(90.0)), 8);
        assert_eq!(stale.size(&busy(8, 0), 75.0, at(155.0)), 10);
    }

    #[test]
    fn empty_poll_holds_the_pool() {
        let mut stale = Stale::default();
        stale.absorb(true, at(0.0));
        assert_eq!(stale.size(&busy(6, 1), 75.0, at(600.0)), 6);
    }
}
