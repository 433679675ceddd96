//! How long an object takes in a slot, and a worker to start: measured means that begin at a configured guess.

use super::elapsed_secs;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Jobs the configured guess is worth.
/// Larger: a wrong guess is believed longer; smaller: the first short jobs of a mixture mislead.
const GUESS_JOBS: f64 = 5.0;

/// Completions lose half their weight in this time, or in `HALF_LIFE_JOBS` jobs if those take longer.
/// Larger: a change in object sizes is noticed later; smaller: the estimate trembles.
const HALF_LIFE_SECS: f64 = 120.0;
const HALF_LIFE_JOBS: f64 = 20.0;

/// Starts the configured start-up time is worth.
const GUESS_STARTS: f64 = 3.0;

/// Starts after which an older one has lost half its weight.
const HALF_LIFE_STARTS: f64 = 20.0;

/// No job is believed to be shorter: a rate must stay finite.
const SHORTEST_JOB_SECS: f64 = 0.001;

/// The decaying mean of what objects took in their slots.
///
/// It is taken from completed durations, not from exposure (busy seconds over
/// completions), which is censored when jobs are long. Nothing is forgotten
/// while nothing completes, so a night without work does not bring the guess back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobTime {
    jobs: f64,
    secs: f64,
    counted_at: Option<DateTime<Utc>>,
}

impl JobTime {
    /// Takes in the durations of newly finished objects.
    pub fn absorb(&mut self, durations: impl IntoIterator<Item = f64>, now: DateTime<Utc>) {
        let (mut jobs, mut secs) = (0.0, 0.0);
        for duration in durations {
            jobs += 1.0;
            secs += duration;
        }
        if jobs == 0.0 {
            return;
        }
        if let Some(before) = self.counted_at {
            let half_lives = (elapsed_secs(before, now) / HALF_LIFE_SECS).min(jobs / HALF_LIFE_JOBS);
            let keep = 0.5_f64.powf(half_lives);
            self.jobs *= keep;
            self.secs *= keep;
        }
        self.jobs += jobs;
        self.secs += secs;
        self.counted_at = Some(now);
    }

    /// Returns the believed time of one object in one slot.
    pub fn secs(&self, guess_secs: f64) -> f64 {
        ((GUESS_JOBS * guess_secs + self.secs) / (GUESS_JOBS + self.jobs)).max(SHORTEST_JOB_SECS)
    }

    /// Whether the figure rests on completions more than on the guess.
    pub fn is_measured(&self) -> bool {
        self.jobs >= GUESS_JOBS
    }
}

/// The decaying mean of the time from requesting a worker to its first receive.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StartUp {
    starts: f64,
    secs: f64,
}

impl StartUp {
    /// Takes in the start-up times of workers that came up.
    pub fn absorb(&mut self, samples: &[f64]) {
        for sample in samples {
            let keep = 0.5_f64.powf(1.0 / HALF_LIFE_STARTS);
            self.starts = self.starts * keep + 1.0;
            self.secs = self.secs * keep + sample;
        }
    }

    /// Returns the believed start-up time.
    pub fn secs(&self, guess_secs: f64) -> f64 {
        (GUESS_STARTS * guess_secs + self.secs) / (GUESS_STARTS + self.starts)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::at, *};

    #[test]
    fn guess_gives_way_to_measurements() {
        let mut time = JobTime::default();
        assert_eq!(time.secs(2.0), 2.0);
        time.absorb([1.0; 5], at(0.0));
        assert_eq!(time.secs(2.0), 1.5);
        time.absorb([1.0; 95], at(10.0));
        assert!((time.secs(2.0) - 1.05).abs() < 0.01);
    }

    #[test]
    fn larger_objects_are_noticed_within_minutes() {
        let mut time = JobTime::default();
        for tick in 0..60 {
            time.absorb([1.0; 10], at(f64::from(tick) * 10.0));
        }
        for tick in 60..84 {
            time.absorb([5.0; 10], at(f64::from(tick) * 10.0));
        }
        assert!(time.secs(1.0) > 3.5, "{}", time.secs(1.0));
    }

    #[test]
    fn rare_jobs_keep_their_weight() {
        let mut time = JobTime::default();
        for job in 0..40 {
            time.absorb([10.0], at(f64::from(job) * 600.0));
        }
        assert!((time.secs(2.0) - 10.0).abs() < 1.7, "{}", time.secs(2.0));
    }

    #[test]
    fn idle_night_brings_back_no_guess() {
        let mut time = JobTime::default();
        time.absorb([10.0; 100], at(0.0));
        time.absorb([10.0; 2], at(40_000.0));
        assert!((time.secs(2.0) - 10.0).abs() < 0.5, "{}", time.secs(2.0));
    }

    #[test]
    fn start_up_is_measured() {
        let mut start_up = StartUp::default();
        assert_eq!(start_up.secs(45.0), 45.0);
        start_up.absorb(&[90.0; 30]);
        assert!(start_up.secs(45.0) > 80.0);
    }
}
