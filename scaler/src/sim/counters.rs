//! SQS's counters as they are: late, noisy, and sometimes simply wrong.

use super::workload::Load;
use crate::observation::QueueDepth;
use std::collections::VecDeque;

/// The counters lag between these.
const LAG_SECS: (f64, f64) = (5.0, 40.0);

/// Relative noise, one standard deviation.
const NOISE: f64 = 0.03;

/// Share of readings that show an empty queue, whatever is in it.
const FALSE_ZEROS: f64 = 0.005;

/// Phantom messages: how often a day, and for how long.
const PHANTOMS_A_DAY: f64 = 6.0;
const PHANTOM_SECS: f64 = 60.0;

/// The counters of a simulated queue.
pub struct Counters {
    rng: fastrand::Rng,
    /// (second, visible, in flight) of the last lag.
    samples: VecDeque<(f64, u64, u64)>,
    /// Start and size of each phantom.
    phantoms: Vec<(f64, u64)>,
}

impl Counters {
    /// Draws the phantoms of the whole run.
    pub fn new(load: &Load, rng: &mut fastrand::Rng) -> Self {
        let mut rng = rng.fork();
        let mut phantoms = Vec::new();
        let mut at = 0.0;
        loop {
            at += -rng.f64().max(f64::MIN_POSITIVE).ln() * 86_400.0 / PHANTOMS_A_DAY;
            if at > load.workload.horizon * 2.0 + 86_400.0 {
                break;
            }
            phantoms.push((at, rng.u64(1..=2)));
        }
        Self { rng, samples: VecDeque::new(), phantoms }
    }

    /// Takes down the true depth; called once a second.
    pub fn sample(&mut self, second: f64, visible: u64, in_flight: u64) {
        self.samples.push_back((second, visible, in_flight));
        while self.samples.front().is_some_and(|(at, ..)| *at < second - LAG_SECS.1 - 1.0) {
            self.samples.pop_front();
        }
    }

    /// Reads the counters.
    ///
    /// # Errors
    /// When the simulated counters are gone for a while.
    pub fn read(&mut self, second: f64, load: &Load, oldest: Option<(f64, u64)>) -> Result<QueueDepth, String> {
        // Drawn before anything else, so that one reading does not shift all later ones.
        let lag = LAG_SECS.0 + self.rng.f64() * (LAG_SECS.1 - LAG_SECS.0);
        let noise = [gauss(&mut self.rng), gauss(&mut self.rng)];
        let false_zero = self.rng.f64() < FALSE_ZEROS;
        if load.workload.blackout.is_some_and(|gone| second >= gone.at && second < gone.at + gone.lasts) {
            return Err("SQS did not answer".to_owned());
        }
        let seen = self.samples.iter().rev().find(|(at, ..)| *at <= second - lag).or(self.samples.front());
        let (mut visible, mut in_flight) = seen.map_or((0, 0), |(_, visible, in_flight)| (*visible, *in_flight));
        if false_zero {
            (visible, in_flight) = (0, 0);
        }
        let phantom = self.phantoms.iter().find(|(at, _)| second >= *at && second < at + PHANTOM_SECS);
        Ok(QueueDepth {
            visible: blur(visible, noise[0]) + phantom.map_or(0, |(_, size)| *size),
            in_flight: blur(in_flight, noise[1]),
            delayed: 0,
            delayed_due: Some(0),
            oldest_age_secs: oldest.map(|(age, _)| age),
            oldest_receive_count: oldest.map(|(_, count)| count),
        })
    }
}

fn blur(n: u64, noise: f64) -> u64 {
    (n as f64 * (1.0 + NOISE * noise)).round().max(0.0) as u64
}

/// Returns a standard normal number.
pub fn gauss(rng: &mut fastrand::Rng) -> f64 {
    let radius = (-2.0 * rng.f64().max(f64::MIN_POSITIVE).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.f64()).cos()
}
