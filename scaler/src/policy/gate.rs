//! The growth gate: a pool jumps to sizes it has proven and feels its way beyond them.

use super::{elapsed_secs, words};
use crate::{
    decision::{Bound, Guard, Reason},
    observation::PoolSize,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// The sizes a pool has proven, and the step it is trying now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GrowthGate {
    /// The largest size that has proven itself; 0 before there is one.
    proven: u32,
    /// The size granted beyond it, and when.
    step: Option<(u32, DateTime<Utc>)>,
    /// The smallest number of working workers since a time.
    held: Option<(u32, DateTime<Utc>)>,
}

impl GrowthGate {
    /// Takes in a pool at work; a size held for a settle window without trouble is proven.
    pub fn absorb(&mut self, pool: &PoolSize, trouble: bool, settle_secs: f64, now: DateTime<Utc>) {
        let working = u64::from(pool.busy) * 10 >= u64::from(pool.up()) * 8 && pool.busy > 0;
        if trouble || !working {
            self.held = None;
            return;
        }
        let (size, since) = self.held.get_or_insert((pool.up(), now));
        *size = (*size).min(pool.up());
        if elapsed_secs(*since, now) >= settle_secs {
            self.proven = self.proven.max(*size);
            self.held = Some((pool.up(), now));
        }
    }

    /// Returns the largest proven size.
    pub fn proven(&self, initial: u32) -> u32 {
        self.proven.max(initial)
    }

    /// Returns the largest size the pool may have now, for one that wants `want`.
    fn limit(&mut self, want: u32, pool: &PoolSize, initial: u32, settle_secs: f64, now: DateTime<Utc>) -> u32 {
        let proven = self.proven(initial);
        if want <= proven {
            if pool.live() <= proven {
                self.step = None;
            }
            return proven;
        }
        let (size, since) = match self.step {
            Some((size, since)) if size >= proven => (size, since),
            _ => (proven.max(pool.live()), now),
        };
        // Twice what really came up, and only when most of the last step did.
        let arrived = pool.starting <= pool.live() / 2;
        if want > size && arrived && elapsed_secs(since, now) >= settle_secs {
            let next = size.max(pool.up().saturating_mul(2));
            self.step = Some((next, now));
            return next;
        }
        self.step = Some((size, since));
        size
    }

    /// Returns what the pool may grow to now.
    pub fn bound(&mut self, want: u32, pool: &PoolSize, initial: u32, settle_secs: f64, now: DateTime<Utc>) -> Bound {
        let size = self.limit(want, pool, initial, settle_secs, now);
        let (proven, next) = (self.proven(initial), words::secs(self.next_step_secs(settle_secs, now)));
        let why = format!("beyond the proven {proven} the pool at most doubles, next in {next}");
        Bound::at_most(size, Guard::GrowthGate, Reason::GrowthGate, why)
    }

    /// Returns in how many seconds the next step may be taken.
    fn next_step_secs(&self, settle_secs: f64, now: DateTime<Utc>) -> f64 {
        self.step.map_or(settle_secs, |(_, since)| (settle_secs - elapsed_secs(since, now)).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::at, *};

    fn busy(n: u32) -> PoolSize {
        PoolSize { busy: n, ..PoolSize::default() }
    }

    #[test]
    fn sizes_double_in_each_settle_window() {
        let mut gate = GrowthGate::default();
        let mut sizes = Vec::new();
        let mut n = 0;
        for tick in 0..32 {
            let now = at(f64::from(tick) * 10.0);
            gate.absorb(&busy(n), false, 75.0, now);
            n = gate.limit(200, &busy(n), 32, 75.0, now).min(200);
            if sizes.last() != Some(&n) {
                sizes.push(n);
            }
        }
        assert_eq!(sizes, [32, 64, 128, 200]);
        assert_eq!(gate.proven(32), 128);
        gate.absorb(&busy(200), false, 75.0, at(400.0));
        assert_eq!(gate.proven(32), 200);
    }

    #[test]
    fn workers_still_starting_prove_nothing() {
        let mut gate = GrowthGate::default();
        let starting = PoolSize { starting: 32, ..PoolSize::default() };
        assert_eq!(gate.limit(200, &PoolSize::default(), 32, 75.0, at(0.0)), 32);
        assert_eq!(gate.limit(200, &starting, 32, 75.0, at(300.0)), 32);
        assert_eq!(gate.limit(200, &busy(32), 32, 75.0, at(310.0)), 64);
    }

    #[test]
    fn idle_or_troubled_pool_proves_nothing() {
        let mut gate = GrowthGate::default();
        for tick in 0..30 {
            let now = at(f64::from(tick) * 10.0);
            gate.absorb(&PoolSize { idle: 90, busy: 10, ..PoolSize::default() }, false, 75.0, now);
        }
        for tick in 30..60 {
            gate.absorb(&busy(100), true, 75.0, at(f64::from(tick) * 10.0));
        }
        assert_eq!(gate.proven(32), 32);
    }
}
