//! How many objects arrive per second, as the median of short bins.

use super::elapsed_secs;
use crate::observation::Completion;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Length of one bin. Longer: a new level is seen later; shorter: the counters' noise fills it.
const BIN_SECS: f64 = 20.0;

/// Complete bins the median is taken over. More: a ramp is followed later; fewer: a burst counts as a rate.
const BINS: usize = 15;

/// A change of the counters over a longer gap says nothing about the last bins.
const LONGEST_GAP_SECS: f64 = BIN_SECS * BINS as f64;

/// Arrivals of the last five minutes: what was finished, and by how much the queue grew meanwhile.
///
/// The median rather than the mean: a burst is already in the depth and would be
/// counted twice, and one wrong reading moves two bins in opposite directions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Arrivals {
    /// Number of the newest bin, counted from the epoch.
    newest: i64,
    /// The newest bin last.
    bins: VecDeque<f64>,
    /// The backlog as last read.
    backlog: Option<(DateTime<Utc>, f64)>,
}

impl Arrivals {
    /// Takes in what was finished and the backlog now; `None` when it could not be read.
    pub fn absorb(&mut self, completions: &[Completion], backlog: Option<f64>, now: DateTime<Utc>) {
        self.roll(bin_of(now));
        for completion in completions {
            self.add(bin_of(completion.ended_at), 1.0);
        }
        let Some(backlog) = backlog else { return };
        if let Some((before_at, before)) = self.backlog {
            let gap = elapsed_secs(before_at, now);
            if gap > 0.0 && gap <= LONGEST_GAP_SECS {
                self.spread(before_at, now, backlog - before);
            }
        }
        self.backlog = Some((now, backlog));
    }

    /// Returns the objects arriving per second.
    pub fn per_sec(&self) -> f64 {
        // The newest bin is still filling. Bins never seen count as empty, so a
        // fresh start does not take its first burst for a rate.
        let mut complete: Vec<f64> = self.bins.iter().rev().skip(1).copied().collect();
        complete.resize(BINS, 0.0);
        complete.sort_by(f64::total_cmp);
        (complete[BINS / 2] / BIN_SECS).max(0.0)
    }

    /// Spreads a change of the backlog evenly over the time in which it came about.
    fn spread(&mut self, from: DateTime<Utc>, to: DateTime<Utc>, change: f64) {
        let (from, to) = (secs_of(from), secs_of(to));
        let mut at = from;
        while at < to {
            let end = (((at / BIN_SECS).floor() + 1.0) * BIN_SECS).min(to);
            self.add((at / BIN_SECS).floor() as i64, change * (end - at) / (to - from));
            at = end;
        }
    }

    fn add(&mut self, bin: i64, n: f64) {
        let age = self.newest.saturating_sub(bin).max(0);
        let Ok(age) = usize::try_from(age) else { return };
        if let Some(place) = self.bins.len().checked_sub(age + 1) {
            self.bins[place] += n;
        }
    }

    fn roll(&mut self, newest: i64) {
        let steps = newest.saturating_sub(self.newest);
        if steps > 0 {
            for _ in 0..steps.min(BINS as i64 + 1) {
                self.bins.push_back(0.0);
            }
            self.newest = newest;
        }
        while self.bins.len() > BINS + 1 {
            self.bins.pop_front();
        }
    }
}

fn secs_of(time: DateTime<Utc>) -> f64 {
    time.timestamp_millis() as f64 / 1000.0
}

fn bin_of(time: DateTime<Utc>) -> i64 {
    (secs_of(time) / BIN_SECS).floor() as i64
}

#[cfg(test)]
mod tests {
    use super::{super::tests::at, *};

    fn done(n: usize, secs: f64) -> Vec<Completion> {
        vec![Completion { ended_at: at(secs), duration_secs: 1.0, ok: true }; n]
    }

    #[test]
    fn steady_arrivals_are_found_whether_finished_or_waiting() {
        let mut finished = Arrivals::default();
        let mut waiting = Arrivals::default();
        for tick in 0..40 {
            let secs = f64::from(tick) * 10.0;
            finished.absorb(&done(200, secs), Some(0.0), at(secs));
            waiting.absorb(&[], Some(secs * 20.0), at(secs));
        }
        assert!((finished.per_sec() - 20.0).abs() < 0.5, "{}", finished.per_sec());
        assert!((waiting.per_sec() - 20.0).abs() < 0.5, "{}", waiting.per_sec());
    }

    #[test]
    fn burst_is_not_a_rate() {
        let mut arrivals = Arrivals::default();
        for tick in 0..60 {
            let secs = f64::from(tick) * 10.0;
            arrivals.absorb(&[], Some(if tick < 30 { 0.0 } else { 1000.0 }), at(secs));
            assert_eq!(arrivals.per_sec(), 0.0, "at {secs} s");
        }
    }

    #[test]
    fn slow_ticks_fill_every_bin() {
        let mut arrivals = Arrivals::default();
        for tick in 0..10 {
            let secs = f64::from(tick) * 60.0;
            arrivals.absorb(&[], Some(secs * 3.0), at(secs));
        }
        assert!((arrivals.per_sec() - 3.0).abs() < 0.1, "{}", arrivals.per_sec());
    }

    #[test]
    fn false_zero_changes_nothing() {
        let mut arrivals = Arrivals::default();
        for tick in 0..40 {
            let secs = f64::from(tick) * 10.0;
            arrivals.absorb(&done(50, secs), Some(if tick == 30 { 0.0 } else { 4000.0 }), at(secs));
        }
        assert!((arrivals.per_sec() - 5.0).abs() < 0.5, "{}", arrivals.per_sec());
    }

    #[test]
    fn bins_stay_few() {
        let mut arrivals = Arrivals::default();
        arrivals.absorb(&done(3, 0.0), Some(1.0), at(0.0));
        arrivals.absorb(&done(3, -9999.0), Some(1.0), at(1e9));
        assert!(arrivals.bins.len() <= BINS + 1);
    }
}
