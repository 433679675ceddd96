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

/// A job that takes longer may not end before a draining worker's time is up; so may one where this is the mean.
const LONG_JOB_SECS: f64 = 60.0;
const LONG_MEAN_SECS: f64 = 30.0;

/// Share of the busy time in such jobs from which busy workers are not asked to drain.
const LONG_SHARE: f64 = 0.05;

/// Slots' time loses half its weight in this time. Longer: a store that became slow is noticed later; shorter: what is in
/// hand counts as cost.
const COST_HALF_LIFE_SECS: f64 = 300.0;

/// Fewest jobs of each slot that say what one costs, the least cost that is told from what is in hand, and the most that is believed.
const FEWEST_COSTED: f64 = 10.0;
const LEAST_COST: f64 = 1.25;
const MOST_COST: f64 = 10.0;

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
    /// Those of `secs` that jobs took which a drain might cut short.
    long_secs: f64,
    counted_at: Option<DateTime<Utc>>,
}

impl JobTime {
    /// Takes in the durations of newly finished objects.
    pub fn absorb(&mut self, durations: impl IntoIterator<Item = f64>, now: DateTime<Utc>) {
        let (mut jobs, mut secs, mut long_secs) = (0.0, 0.0, 0.0);
        for duration in durations {
            jobs += 1.0;
            secs += duration;
            long_secs += if duration > LONG_JOB_SECS { duration } else { 0.0 };
        }
        if jobs == 0.0 {
            return;
        }
        if let Some(before) = self.counted_at {
            let half_lives = (elapsed_secs(before, now) / HALF_LIFE_SECS).min(jobs / HALF_LIFE_JOBS);
            let keep = 0.5_f64.powf(half_lives);
            self.jobs *= keep;
            self.secs *= keep;
            self.long_secs *= keep;
        }
        self.jobs += jobs;
        self.secs += secs;
        self.long_secs += long_secs;
        self.counted_at = Some(now);
    }

    /// Returns the believed time of one object in one slot.
    pub fn secs(&self, guess_secs: f64) -> f64 {
        ((GUESS_JOBS * guess_secs + self.secs) / (GUESS_JOBS + self.jobs)).max(SHORTEST_JOB_SECS)
    }

    /// Whether a busy slot may well have a job in hand that lasts longer than a drain.
    pub fn is_long(&self, guess_secs: f64) -> bool {
        self.secs(guess_secs) > LONG_MEAN_SECS || self.has_long_ones()
    }

    /// Whether a few jobs far longer than their mean take a good part of the busy time.
    pub fn has_long_ones(&self) -> bool {
        self.secs <= LONG_MEAN_SECS * self.jobs && self.long_secs > LONG_SHARE * self.secs
    }

    /// Whether the figure rests on completions more than on the guess.
    pub fn is_measured(&self) -> bool {
        self.jobs >= GUESS_JOBS
    }
}

/// What an object costs a slot beside the time that is recorded for it: receiving it, acknowledging it, a slow store.
///
/// While work waits and no worker is idle, all the slots' time went into what was finished, or is in hand still. So it is
/// the decaying ratio of that time to the recorded one. What is in hand is not in the second yet, so nothing is said
/// before each slot has finished several times as much.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SlotCost {
    slots: f64,
    slot_secs: f64,
    job_secs: f64,
    jobs: f64,
}

impl SlotCost {
    /// Takes in the time of `slots` slots that all had work, and the durations of what was finished in it.
    pub fn absorb(&mut self, slots: f64, secs: f64, durations: impl IntoIterator<Item = f64>) {
        let keep = 0.5_f64.powf(secs / COST_HALF_LIFE_SECS);
        for sum in [&mut self.slot_secs, &mut self.job_secs, &mut self.jobs] {
            *sum *= keep;
        }
        self.slots = slots;
        self.slot_secs += slots * secs;
        for duration in durations {
            self.jobs += 1.0;
            self.job_secs += duration.max(SHORTEST_JOB_SECS);
        }
    }

    /// Returns what the recorded time of a job is to be multiplied by, from 1.
    pub fn factor(&self) -> f64 {
        let factor = self.slot_secs / self.job_secs;
        let is_known = self.jobs >= FEWEST_COSTED * self.slots;
        if is_known && factor >= LEAST_COST { factor.min(MOST_COST) } else { 1.0 }
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
    fn few_long_jobs_are_noticed_beside_many_short_ones() {
        let mut time = JobTime::default();
        time.absorb([1.0; 99], at(0.0));
        assert!(!time.is_long(2.0));
        time.absorb([300.0], at(10.0));
        assert!(time.secs(2.0) < 10.0 && time.is_long(2.0) && time.has_long_ones());
        let mut time = JobTime::default();
        time.absorb([300.0; 20], at(0.0));
        assert!(time.is_long(2.0) && !time.has_long_ones());
    }

    #[test]
    fn what_a_job_costs_its_slot_beside_its_own_time_is_found() {
        let mut cost = SlotCost::default();
        let mut factors = Vec::new();
        for _ in 0..30 {
            // Ten slots, of which each finishes five jobs of a second in ten seconds.
            cost.absorb(10.0, 10.0, [1.0; 50]);
            factors.push(cost.factor());
        }
        assert_eq!(factors[0], 1.0, "a first look says nothing");
        assert!((factors[29] - 2.0).abs() < 0.01, "{factors:?}");

        // Two slots of the ten have a job of minutes in hand.
        let mut cost = SlotCost::default();
        (0..30).for_each(|_| cost.absorb(10.0, 10.0, [1.0; 80]));
        assert!((cost.factor() - 1.25).abs() < 0.01, "{}", cost.factor());
        (0..3).for_each(|_| cost.absorb(10.0, 10.0, [1.0; 82]));
        assert_eq!(cost.factor(), 1.0, "too little to be told from what is in hand");
    }

    #[test]
    fn start_up_is_measured() {
        let mut start_up = StartUp::default();
        assert_eq!(start_up.secs(45.0), 45.0);
        start_up.absorb(&[90.0; 30]);
        assert!(start_up.secs(45.0) > 80.0);
    }
}
