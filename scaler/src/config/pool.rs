//! One pool: its settings and what is checked of them.

use super::{ConfigError, ScheduleSettings, WorkersKind, duration};
use crate::{
    policy::{Policy, Target},
    timeouts::Timeouts,
};
use serde::Deserialize;
use service::{aws::role::Role, config::Source};

/// One pool of workers and the queues it empties.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// The pool's name: in `history`, in metrics, and in the database.
    pub name: String,
    /// The queues; their depths are added up.
    #[serde(default)]
    pub queue_urls: Vec<String>,
    /// Role to assume for the counters of the queues, such as one of the account that owns them.
    pub role_arn: Option<String>,
    /// External id that the role's owner asks for.
    pub external_id: Option<String>,
    /// Minimum number of workers; 0 lets an idle pool scale to zero.
    #[serde(default)]
    pub min: u32,
    /// Maximum number of workers.
    #[serde(default = "default_max")]
    pub max: u32,
    /// Seconds between two decisions. Shorter sees little more, since SQS's counters lag.
    #[serde(default = "default_interval_secs")]
    pub interval_secs: u32,
    /// The deadline policy: every message done this long after it was sent.
    #[serde(default, deserialize_with = "duration::optional_positive_secs")]
    pub drain_within: Option<f64>,
    /// The backlog policy: messages, waiting or in flight, per worker.
    #[serde(default)]
    pub backlog_per_worker: Option<u64>,
    /// Objects at once in one worker, an importer's `concurrency`; measured when there is a database.
    #[serde(default = "default_slots_per_worker")]
    pub slots_per_worker: u32,
    /// First guess of the time from requesting a worker to its first receive; measured afterwards.
    #[serde(default = "default_start_up", deserialize_with = "duration::positive_secs")]
    pub start_up: f64,
    /// First guess of one message's time in one slot; measured afterwards.
    #[serde(default = "default_job", deserialize_with = "duration::positive_secs")]
    pub job: f64,
    /// The pool shrinks to the most workers it wanted within this time. Longer pays for idle workers; shorter follows
    /// every fluctuation of SQS's lagging counters.
    #[serde(default = "default_shrink_window", deserialize_with = "duration::positive_secs")]
    pub shrink_window: f64,
    /// Workers the pool may jump to before a larger size has proven itself.
    #[serde(default = "default_initial_proven")]
    pub initial_proven: u32,
    /// Postgres connections reserved for other clients.
    #[serde(default = "default_connection_reserve")]
    pub connection_reserve: u32,
    /// Times at which there are workers whatever the queues say, for loads whose time is known.
    #[serde(default)]
    pub schedule: Vec<ScheduleSettings>,
    /// Foresight: share of its worker-hours that a flood may cost more to be met by workers that are there when it begins,
    /// once it came at the same time on three days or in three weeks in a row; 0 foresees none. For `drain_within` only.
    #[serde(default = "default_foresight")]
    pub foresight: f64,
    /// What the workers are.
    pub workers: Option<WorkersKind>,
}

impl Pool {
    /// Returns the pool's policy.
    pub fn policy(&self) -> Policy {
        let target = match (self.drain_within, self.backlog_per_worker) {
            (_, Some(messages_per_worker)) => Target::Backlog { messages_per_worker },
            (drain_within, None) => Target::Deadline { drain_within_secs: drain_within.unwrap_or(f64::MAX) },
        };
        Policy {
            target,
            min: self.min,
            max: self.max,
            slots_per_worker: self.slots_per_worker,
            start_up_secs: self.start_up,
            job_secs: self.job,
            shrink_window_secs: self.shrink_window,
            initial_proven: self.initial_proven,
            connection_reserve: self.connection_reserve,
            // What is wrong with one was said when the file was read.
            schedules: self.schedule.iter().filter_map(|settings| settings.schedule().ok()).collect(),
            foresight: self.foresight,
        }
    }

    /// Returns the role to assume for the queues.
    pub fn role(&self) -> Option<Role> {
        Role::of(self.role_arn.as_deref(), self.external_id.as_deref()).ok().flatten()
    }

    /// Returns how long the parts of its ticks may take.
    pub fn timeouts(&self) -> Timeouts {
        Timeouts::of(self.interval_secs)
    }

    /// Checks what is needed to run the pool, beyond what is needed to decide for it.
    ///
    /// # Errors
    /// When there are no queues or no workers, or the workers' kind is not in this build.
    pub fn check_runnable(&self) -> Result<&WorkersKind, ConfigError> {
        let problem = |text: &str| Err(ConfigError::of(format!("pool \"{}\": {text}", self.name)));
        if self.queue_urls.is_empty() {
            return problem("`queue_urls` is missing");
        }
        match &self.workers {
            None => problem("[pool.workers] is missing"),
            Some(kind) if !kind.built_in().1 => Err(self.not_built_in(kind)),
            Some(kind) => Ok(kind),
        }
    }

    /// Says that a kind of workers was left out of this build.
    pub fn not_built_in(&self, kind: &WorkersKind) -> ConfigError {
        let (name, _) = kind.built_in();
        let pool = &self.name;
        ConfigError::of(format!(
            "pool \"{pool}\": `workers.kind` \"{name}\" is not in this build of the scaler; \
             use one built with `--features {name}`, as a default build is"
        ))
    }

    /// Returns what tells a pool's processes from those of another stack on the same machine.
    pub fn mark(&self) -> String {
        format!("{} {}", self.name, self.queue_urls.join(" "))
    }

    /// Notes what is wrong with the settings, which stand at `path` in the file.
    pub(super) fn check(&self, path: &str, has_namesake: bool, source: &mut Source<'_>) {
        let has_read = |key: &str| source.is_readable(&format!("{path}.{key}"));
        let (has_max, has_backlog) = (has_read("max"), has_read("backlog_per_worker"));
        let mut wrong = |key: &str, problem: String| {
            let name = key.rsplit('.').next().unwrap_or_default();
            source.add(&format!("{path}.{key}"), format!("pool \"{}\": `{name}` {problem}", self.name));
        };
        if self.name.is_empty() || self.name.len() > 100 {
            wrong("name", "must have 1 to 100 bytes".to_owned());
        }
        if has_namesake {
            wrong("name", "is another pool's name too".to_owned());
        }
        match (self.drain_within, self.backlog_per_worker) {
            (Some(_), Some(_)) => {
                wrong("backlog_per_worker", "stands beside `drain_within`: give exactly one of the two".into());
            }
            (None, None) if has_backlog => {
                wrong("drain_within", "or `backlog_per_worker` is missing: give one of the two".into());
            }
            (None, Some(0)) => wrong("backlog_per_worker", "must be at least 1".to_owned()),
            _ => {}
        }
        if has_max && self.min > self.max {
            wrong("min", format!("is {}, more than `max` ({})", self.min, self.max));
        }
        for (key, value, range) in [
            ("interval_secs", self.interval_secs, 1..=3600),
            ("slots_per_worker", self.slots_per_worker, 1..=1000),
            ("initial_proven", self.initial_proven, 1..=100_000),
            ("max", self.max, 1..=100_000),
        ] {
            if !range.contains(&value) {
                wrong(key, format!("is {value}, not between {} and {}", range.start(), range.end()));
            }
        }
        if !(0.0..=1.0).contains(&self.foresight) {
            wrong("foresight", format!("is {}, not between 0 and 1", self.foresight));
        }
        if let Err((setting, problem)) = Role::of(self.role_arn.as_deref(), self.external_id.as_deref()) {
            wrong(setting, problem.to_owned());
        }
        for (place, settings) in self.schedule.iter().enumerate() {
            let mut wrong = |key: &str, problem: String| wrong(&format!("schedule.{place}.{key}"), problem);
            if let Err((key, problem)) = settings.schedule() {
                wrong(key, problem);
            }
            if has_max && settings.floor > self.max {
                wrong("floor", format!("is {}, more than `max` ({})", settings.floor, self.max));
            }
        }
        for (place, url) in self.queue_urls.iter().enumerate() {
            // The value is not shown: it may be another URL, with a password.
            if !(url.starts_with("https://") || url.starts_with("http://")) {
                wrong("queue_urls", format!("entry {} is no queue URL", place + 1));
            }
            if url.ends_with(".fifo") {
                wrong("queue_urls", format!("entry {} is a FIFO queue, which is not supported", place + 1));
            }
        }
        if let Some((key, problem)) = self.workers.as_ref().and_then(WorkersKind::mistake) {
            wrong(key, problem.to_owned());
        }
    }
}

fn default_max() -> u32 {
    40
}
fn default_interval_secs() -> u32 {
    10
}
fn default_slots_per_worker() -> u32 {
    1
}
fn default_start_up() -> f64 {
    45.0
}
fn default_job() -> f64 {
    2.0
}
fn default_shrink_window() -> f64 {
    120.0
}
fn default_foresight() -> f64 {
    0.1
}
fn default_initial_proven() -> u32 {
    32
}
fn default_connection_reserve() -> u32 {
    10
}
