//! What is sent in a simulation: the built-in workloads, and those of a file.

use super::counters::gauss;
use crate::config::duration;
use serde::{Deserialize, de::Error};

/// How much jobs differ: the sigma of a log-normal distribution with the right mean.
const JOB_SIGMA: f64 = 0.47;

/// The longest job of a distribution with a heavy tail.
const LONGEST_JOB_SECS: f64 = 600.0;

/// A load, drawn: every message with its time and its work.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// What it was drawn from.
    pub workload: Workload,
    /// Every message, in the order sent.
    pub arrivals: Vec<Arrival>,
}

/// One message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrival {
    /// When it is sent.
    pub at: f64,
    /// How long it takes a worker that is not disturbed.
    pub work_secs: f64,
    /// Whether it can never be imported.
    pub poison: bool,
}

/// A workload as it is written down.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Workload {
    /// Its name in the table.
    pub name: String,
    /// The promised time.
    #[serde(deserialize_with = "duration::secs")]
    pub drain_within: f64,
    /// Mean recorded time of one job in one slot.
    #[serde(deserialize_with = "duration::secs")]
    pub job: f64,
    /// What a job costs its slot beside the time that is recorded for it.
    #[serde(deserialize_with = "duration::secs")]
    pub overhead: f64,
    /// The policy's first guess; twice the truth when absent.
    #[serde(deserialize_with = "duration::optional_secs")]
    pub guess: Option<f64>,
    /// The tail index of job times that follow a Pareto distribution, up to [`LONGEST_JOB_SECS`]; else they are lognormal.
    pub tail: Option<f64>,
    /// Mean time from request to first receive.
    #[serde(deserialize_with = "duration::secs")]
    pub start_up: f64,
    /// Jobs at once in one worker.
    pub slots_per_worker: u32,
    /// Most workers.
    pub max: u32,
    /// Share of starts that fail.
    pub start_failures: f64,
    /// Share of messages that can never be imported.
    pub poison: f64,
    /// Jobs at once the database takes before it becomes slower.
    pub sink_slots: Option<u32>,
    /// When the counters cannot be read.
    pub blackout: Option<Blackout>,
    /// Share of a foreseen flood's worker-hours that foresight may add.
    pub foresight: f64,
    /// What comes before is not judged: it is there to be learnt from.
    #[serde(deserialize_with = "duration::secs")]
    pub warm_up: f64,
    /// How long the run lasts at least.
    #[serde(deserialize_with = "duration::secs")]
    pub horizon: f64,
    /// What is sent.
    pub send: Vec<Send>,
}

/// A time without counters.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Blackout {
    /// When it begins.
    #[serde(deserialize_with = "duration::secs")]
    pub at: f64,
    /// How long it lasts.
    #[serde(deserialize_with = "duration::secs")]
    pub lasts: f64,
}

/// Messages sent in a stretch of time: a number of them, or a rate that may rise or fall.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Send {
    /// When it begins.
    #[serde(deserialize_with = "duration::secs")]
    pub at: f64,
    /// How long it lasts.
    #[serde(deserialize_with = "duration::secs")]
    pub lasts: f64,
    /// Messages altogether, evenly spread.
    pub messages: u64,
    /// Messages per second at its beginning, at random intervals.
    pub per_sec: f64,
    /// Messages per second at its end; as at its beginning when absent.
    pub per_sec_end: Option<f64>,
    /// Again after this long, until the horizon.
    #[serde(deserialize_with = "duration::optional_secs")]
    pub every: Option<f64>,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            name: String::new(),
            drain_within: 900.0,
            job: 1.0,
            overhead: 0.0,
            guess: None,
            tail: None,
            start_up: 45.0,
            slots_per_worker: 1,
            max: 200,
            start_failures: 0.0,
            poison: 0.0,
            sink_slots: None,
            blackout: None,
            foresight: 0.1,
            warm_up: 0.0,
            horizon: 3600.0,
            send: Vec::new(),
        }
    }
}

const MINUTE: f64 = 60.0;
const HOUR: f64 = 3600.0;
const DAY: f64 = 24.0 * HOUR;

/// Returns the built-in workloads.
pub fn built_in() -> Vec<Workload> {
    let of = |name: &str, horizon: f64, send: Vec<Send>| Workload {
        name: name.to_owned(),
        horizon,
        send,
        ..Workload::default()
    };
    let burst = |messages| Send { at: 2.0 * MINUTE, lasts: 10.0, messages, ..Send::default() };
    let rate = |at, lasts, per_sec| Send { at, lasts, per_sec, ..Send::default() };
    vec![
        of("burst", HOUR, vec![burst(20_000)]),
        of("steady", 4.0 * HOUR, vec![rate(2.0 * MINUTE, 4.0 * HOUR - 2.0 * MINUTE, 20.0)]),
        of("periodic", 3.0 * HOUR, vec![Send { every: Some(10.0 * MINUTE), ..burst(1000) }]),
        of("trickle", 6.0 * HOUR, vec![Send { every: Some(3.0 * MINUTE), ..burst(1) }]),
        Workload { job: 5.0 * MINUTE, drain_within: 30.0 * MINUTE, ..of("long-jobs", 2.0 * HOUR, vec![burst(200)]) },
        Workload {
            sink_slots: Some(40),
            drain_within: 30.0 * MINUTE,
            ..of("saturated-sink", HOUR, vec![burst(50_000)])
        },
        of(
            "ramp",
            4.0 * HOUR,
            vec![
                Send { per_sec_end: Some(40.0), ..rate(2.0 * MINUTE, 2.0 * HOUR, 0.0) },
                Send { per_sec: 40.0, per_sec_end: Some(0.0), ..rate(2.0 * MINUTE + 2.0 * HOUR, 1.9 * HOUR, 40.0) },
            ],
        ),
        Workload {
            blackout: Some(Blackout { at: 30.0 * MINUTE, lasts: 15.0 * MINUTE }),
            drain_within: 30.0 * MINUTE,
            ..of(
                "blackout",
                2.0 * HOUR,
                vec![
                    rate(2.0 * MINUTE, 2.0 * HOUR - 2.0 * MINUTE, 2.0),
                    Send { at: 32.0 * MINUTE, lasts: 10.0, messages: 5_000, ..Send::default() },
                ],
            )
        },
        of("empty-day", 24.0 * HOUR, Vec::new()),
        of("on-off", 4.0 * HOUR, vec![Send { every: Some(HOUR), ..rate(2.0 * MINUTE, 20.0 * MINUTE, 20.0) }]),
        Workload { job: 5.0, guess: Some(1.0), ..of("wrong-guess", HOUR, vec![burst(5_000)]) },
        Workload { start_failures: 0.3, ..of("failing-starts", HOUR, vec![burst(20_000)]) },
        Workload {
            job: 16.0,
            tail: Some(1.3),
            slots_per_worker: 4,
            ..of("heavy-tail", 2.0 * HOUR, vec![rate(2.0 * MINUTE, 2.0 * HOUR - 2.0 * MINUTE, 3.0)])
        },
        Workload {
            job: 0.5,
            overhead: 1.0,
            guess: Some(0.5),
            ..of("slow-store", 2.0 * HOUR, vec![burst(40_000), rate(HOUR, HOUR, 20.0)])
        },
        of(
            "calm-then-burst",
            8.0 * HOUR,
            vec![rate(2.0 * MINUTE, 8.0 * HOUR, 2.0), Send { at: HOUR, every: Some(2.0 * HOUR), ..burst(20_000) }],
        ),
        Workload {
            warm_up: 4.0 * DAY,
            ..of("daily", 6.0 * DAY, vec![Send { at: 2.0 * HOUR, every: Some(DAY), ..burst(20_000) }])
        },
        Workload { poison: 0.01, ..of("poison", 2.0 * HOUR, vec![rate(2.0 * MINUTE, 1.5 * HOUR, 10.0)]) },
    ]
}

impl Load {
    /// Returns the messages that are to be done within the promised time.
    pub fn judged(&self) -> impl Iterator<Item = &Arrival> {
        self.arrivals.iter().filter(|job| !job.poison && job.at >= self.workload.warm_up)
    }
}

impl Workload {
    /// Reads a workload file.
    ///
    /// # Errors
    /// When the text is not TOML, or a setting is unknown or of another type.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        let workload: Self = toml::from_str(text)?;
        if workload.name.is_empty() { Err(Error::missing_field("name")) } else { Ok(workload) }
    }

    /// Draws every message.
    pub fn draw(&self, seed: u64) -> Load {
        let mut rng = fastrand::Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.name.len() as u64);
        let mut times = Vec::new();
        for send in &self.send {
            let mut at = send.at;
            loop {
                send.times(at, self.horizon, &mut rng, &mut times);
                match send.every {
                    Some(every) if every > 0.0 && at + every < self.horizon => at += every,
                    _ => break,
                }
            }
        }
        times.sort_by(f64::total_cmp);
        let arrivals = times
            .into_iter()
            .map(|at| Arrival {
                at,
                work_secs: self.overhead + self.work_secs(&mut rng),
                poison: rng.f64() < self.poison,
            })
            .collect();
        Load { workload: Self { slots_per_worker: self.slots_per_worker.max(1), ..self.clone() }, arrivals }
    }

    fn work_secs(&self, rng: &mut fastrand::Rng) -> f64 {
        let Some(tail) = self.tail else {
            return self.job * (JOB_SIGMA * gauss(rng) - JOB_SIGMA * JOB_SIGMA / 2.0).exp();
        };
        // Without the bound their mean would be `job`.
        let shortest = self.job * (tail - 1.0) / tail;
        (shortest * (1.0 - rng.f64()).powf(-1.0 / tail)).min(LONGEST_JOB_SECS)
    }

    /// Returns the policy's first guess of one job's time.
    pub fn guess_secs(&self) -> f64 {
        self.guess.unwrap_or(2.0 * self.job)
    }
}

impl Send {
    fn times(&self, at: f64, horizon: f64, rng: &mut fastrand::Rng, times: &mut Vec<f64>) {
        for i in 0..self.messages {
            times.push(at + self.lasts * i as f64 / self.messages as f64);
        }
        let (from, to) = (self.per_sec, self.per_sec_end.unwrap_or(self.per_sec));
        let most = from.max(to);
        if most <= 0.0 {
            return;
        }
        // Thinning: candidates at the highest rate, kept with the present one's share.
        let mut offset = 0.0;
        loop {
            offset -= rng.f64().max(f64::MIN_POSITIVE).ln() / most;
            if offset >= self.lasts || at + offset >= horizon {
                return;
            }
            let rate = from + (to - from) * offset / self.lasts;
            if rng.f64() * most < rate {
                times.push(at + offset);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_workloads_send_what_they_say() {
        let sent: Vec<_> =
            built_in().iter().map(|workload| (workload.name.clone(), workload.draw(1).arrivals.len())).collect();
        for (name, least, most) in [
            ("burst", 20_000, 20_000),
            ("steady", 280_000, 291_000),
            ("periodic", 18_000, 18_000),
            ("trickle", 120, 120),
            ("empty-day", 0, 0),
            ("on-off", 94_000, 98_000),
        ] {
            let (_, n) = sent.iter().find(|(has, _)| has == name).expect(name);
            assert!((least..=most).contains(n), "{name}: {n}");
        }
    }

    #[test]
    fn same_seed_draws_the_same_load() {
        let workload = &built_in()[1];
        assert_eq!(workload.draw(3), workload.draw(3));
        assert_ne!(workload.draw(3), workload.draw(4));
    }

    #[test]
    fn mean_job_is_the_one_asked_for() {
        let load = built_in()[0].draw(1);
        let mean = load.arrivals.iter().map(|job| job.work_secs).sum::<f64>() / load.arrivals.len() as f64;
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
    }

    #[test]
    fn workload_file_is_read_and_its_mistakes_are_named() {
        let text = "name = \"evening\"\njob = \"500ms\"\n[[send]]\nat = \"1m\"\nlasts = \"10s\"\nmessages = 30\n";
        let workload = Workload::parse(text).unwrap();
        assert_eq!((workload.job, workload.draw(1).arrivals.len()), (0.5, 30));
        let error = Workload::parse("name = \"x\"\nspeed = 3\n").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("speed"), "{error}");
    }
}
