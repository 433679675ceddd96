//! What was completed in a stretch of time, and what that says of the sink.

use crate::observation::Completion;
use serde::{Deserialize, Serialize};

/// Shortest stretch of full work that counts as an observation.
pub const SHORTEST_WINDOW_SECS: f64 = 8.0;

/// Part of the slowing that a tired sink would bring, on a scale of logarithms, from which objects count as slower.
const LEAST_SLOWING: f64 = 0.5;

/// Share of a window that an object must take to hold a slot for most of it.
const LONG_SHARE: f64 = 0.5;

/// Standard errors by which objects must be slower.
const SLOWER_ERRORS: f64 = 2.0;

/// Fewest completions that make a rate.
const FEWEST_COMPLETIONS: f64 = 10.0;

/// Largest standard error of a rate, as a share of it.
const LEAST_PRECISION: f64 = 0.15;

/// What a job counts as that is recorded as shorter.
const SHORTEST_JOB_SECS: f64 = 0.001;

/// What was completed in a stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Count {
    /// How long the stretch was.
    pub secs: f64,
    done: f64,
    /// Of the logarithms of how long each object took: how many, their sum, and that of their squares. A state of an
    /// older version has none.
    n_logs: f64,
    logs: f64,
    squares: f64,
    /// Of how long each took itself: their sum, that of their squares, and the longest.
    job_secs: f64,
    job_squares: f64,
    longest_secs: f64,
}

impl Count {
    /// Takes in what was finished in some seconds more.
    pub fn add(&mut self, secs: f64, completions: &[Completion]) {
        self.secs += secs;
        self.done += completions.len() as f64;
        for secs in completions.iter().map(|done| done.duration_secs.max(SHORTEST_JOB_SECS)) {
            self.n_logs += 1.0;
            self.logs += secs.ln();
            self.squares += secs.ln() * secs.ln();
            self.job_secs += secs;
            self.job_squares += secs * secs;
            self.longest_secs = self.longest_secs.max(secs);
        }
    }

    /// Returns the variance of the completions per second.
    ///
    /// The number of jobs that slots which are never idle finish varies as that of a renewal process: as a Poisson
    /// process's, times the squared coefficient of variation of a job's time.
    pub fn variance(&self) -> f64 {
        self.per_sec() / self.secs.max(1.0) * self.spread().max(1.0)
    }

    /// Returns the squared coefficient of variation of a job's time; 0 when nothing is known of it.
    fn spread(&self) -> f64 {
        if self.job_secs > 0.0 { self.done * self.job_squares / (self.job_secs * self.job_secs) - 1.0 } else { 0.0 }
    }

    /// Returns the mean of the logarithms, and the square of its standard error.
    fn mean_log(&self) -> (f64, f64) {
        let mean = self.logs / self.done.max(1.0);
        let variance = (self.squares / self.done.max(1.0) - mean * mean).max(0.0);
        (mean, variance / (self.done - 1.0).max(1.0))
    }

    /// Whether a tired sink, with which each object would take `factor` times as long, explains that fewer were completed
    /// than at `before`.
    ///
    /// Either objects took longer, or none is known that could have held a slot meanwhile.
    pub fn is_tired(&self, before: &Self, factor: f64) -> bool {
        let is_old = before.n_logs < before.done || self.n_logs < self.done;
        let is_even = self.spread().max(before.spread()) <= 1.0;
        let longest_secs = self.longest_secs.max(before.longest_secs);
        is_old || is_even && longest_secs < LONG_SHARE * self.secs || self.is_slower(before, factor)
    }

    fn is_slower(&self, before: &Self, factor: f64) -> bool {
        let ((was, was_unsure), (is, is_unsure)) = (before.mean_log(), self.mean_log());
        let least = (LEAST_SLOWING * factor.ln()).max(SLOWER_ERRORS * (was_unsure + is_unsure).sqrt());
        is - was >= least
    }

    /// Returns the completions per second.
    pub fn per_sec(&self) -> f64 {
        self.done / self.secs.max(1.0)
    }

    /// Whether its rate is sure enough to be judged.
    pub fn is_enough(&self) -> bool {
        self.secs >= SHORTEST_WINDOW_SECS
            && self.done >= FEWEST_COMPLETIONS
            && self.variance().sqrt() <= LEAST_PRECISION * self.per_sec()
    }
}
