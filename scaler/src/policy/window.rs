//! The shrink window: a pool gives up workers only when none of its recent readings wanted them.

use super::{elapsed_secs, words};
use crate::decision::{Bound, Guard, Reason};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Above this many workers, a shrink by less than a tenth is not worth the trouble.
const DEAD_BAND_ABOVE: u32 = 10;

/// What was wanted in the last seconds: as many as the policy says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WantWindow {
    /// Times and wants; only those that may still become the maximum, so each is larger than all after it.
    wants: VecDeque<(DateTime<Utc>, u32)>,
    /// Since when readings have come without a gap as long as the window.
    covered_since: Option<DateTime<Utc>>,
    read_at: Option<DateTime<Utc>>,
}

impl WantWindow {
    /// Takes in a new want.
    pub fn push(&mut self, want: u32, window_secs: f64, now: DateTime<Utc>) {
        let gap = self.read_at.is_none_or(|before| elapsed_secs(before, now) > window_secs);
        if gap {
            self.covered_since = Some(now);
        }
        self.read_at = Some(now);
        while self.wants.back().is_some_and(|(_, last)| *last <= want) {
            self.wants.pop_back();
        }
        self.wants.push_back((now, want));
        self.forget(window_secs, now);
    }

    /// Forgets what was wanted, though not that readings have come.
    pub fn clear(&mut self) {
        self.wants.clear();
    }

    /// Returns the largest want remembered.
    pub fn max(&self) -> u32 {
        self.wants.front().map_or(0, |(_, want)| *want)
    }

    /// Returns for how many seconds there have been readings, at most the window's length.
    fn covered_secs(&self, window_secs: f64, now: DateTime<Utc>) -> f64 {
        self.covered_since.map_or(0.0, |since| elapsed_secs(since, now).min(window_secs))
    }

    /// Returns the largest want, in words.
    pub fn said(&self, window_secs: f64, now: DateTime<Utc>) -> String {
        format!("{} at most in the last {}", self.max(), words::secs(self.covered_secs(window_secs, now)))
    }

    /// Returns what a pool may shrink to, each with the word that joins it to the need.
    pub fn bounds(&self, live: u32, window_secs: f64, now: DateTime<Utc>) -> Vec<(&'static str, Bound)> {
        let (max, covered) = (self.max(), self.covered_secs(window_secs, now));
        let at_least = |n, why| Bound::at_least(n, Guard::ShrinkWindow, Reason::ShrinkWindow, why);
        if covered < window_secs {
            let why = format!("only the last {} have been seen", words::secs(covered));
            return vec![("but", at_least(live, why))];
        }
        if max >= live {
            let why = format!("{max} were wanted within the last {}", words::secs(covered));
            return vec![("but", at_least(live, why))];
        }
        let mut bounds = vec![("and", at_least(max, self.said(window_secs, now)))];
        if live > DEAD_BAND_ABOVE && u64::from(max) * 10 > u64::from(live) * 9 {
            let why = format!("{}, within a tenth", self.said(window_secs, now));
            bounds.push(("and", Bound::at_least(live, Guard::DeadBand, Reason::ShrinkWindow, why)));
        }
        bounds
    }

    fn forget(&mut self, window_secs: f64, now: DateTime<Utc>) {
        while self.wants.front().is_some_and(|(at, _)| elapsed_secs(*at, now) >= window_secs) {
            self.wants.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::at, *};

    #[test]
    fn largest_want_is_kept_for_the_window() {
        let mut window = WantWindow::default();
        for (secs, want, max) in [(0.0, 80, 80), (10.0, 90, 90), (40.0, 72, 90), (59.0, 64, 90), (125.0, 70, 90)] {
            window.push(want, 120.0, at(secs));
            assert_eq!(window.max(), max, "at {secs} s");
        }
        window.push(60, 120.0, at(131.0));
        assert_eq!(window.max(), 72);
    }

    #[test]
    fn gap_starts_the_cover_anew() {
        let mut window = WantWindow::default();
        window.push(1, 120.0, at(0.0));
        window.push(1, 120.0, at(100.0));
        assert_eq!(window.covered_secs(120.0, at(100.0)), 100.0);
        window.push(1, 120.0, at(221.0));
        assert_eq!(window.covered_secs(120.0, at(221.0)), 0.0);
    }

    #[test]
    fn window_stays_small() {
        let mut window = WantWindow::default();
        for tick in 0..10_000_u32 {
            window.push(tick % 7, 120.0, at(f64::from(tick)));
        }
        assert!(window.wants.len() <= 7);
    }
}
