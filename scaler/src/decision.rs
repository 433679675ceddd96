//! What the policy answers: a number, the guard that bound it, and one sentence for people.

use crate::observation::{Observation, Pause, PoolSize, QueueDepth, Sink};
use chrono::{DateTime, Utc};
use serde::Serialize;

/// Declares an enum each of whose values has a word, the same in JSON, tables and metrics.
macro_rules! worded {
    ($(#[$docs:meta])* pub enum $name:ident { $($(#[$doc:meta])* $value:ident = $word:literal,)+ }) => {
        $(#[$docs])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
        pub enum $name { $($(#[$doc])* #[serde(rename = $word)] $value,)+ }

        impl $name {
            /// All of them, in the order in which they are declared.
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$value),+];

            /// Returns its word.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$value => $word,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use worded;

/// How many workers there should be, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decision {
    /// Workers wanted, not counting draining ones.
    pub desired: u32,
    /// What bound the number.
    pub reason: Reason,
    /// One sentence with the numbers.
    pub explain: String,
    /// What the decision was made from.
    pub inputs: Inputs,
}

worded! {
    /// The rule or guard that bound a decision's number.
    pub enum Reason {
        /// The deadline policy's own number.
        Deadline = "deadline",
        /// The backlog policy's own number.
        Backlog = "backlog",
        /// The pool is already as large as it should be.
        Steady = "steady",
        /// The configured minimum.
        Min = "min",
        /// The configured maximum.
        Max = "max",
        /// A configured schedule has so many workers now.
        Schedule = "schedule",
        /// A flood is about to come, or has come, as each day or week.
        Foresight = "foresight",
        /// The first worker after none.
        Wake = "wake",
        /// One or two messages seen once, which may be phantoms.
        WakeUnconfirmed = "wake_unconfirmed",
        /// No larger size has been proven yet.
        GrowthGate = "growth_gate",
        /// The database takes no more.
        SinkCap = "sink_cap",
        /// The counters could not be read.
        StaleMetrics = "stale_metrics",
        /// More was wanted a short while ago.
        ShrinkWindow = "shrink_window",
        /// A worker is busy.
        Busy = "busy",
        /// The last workers stay until the queue is known to be empty.
        KeepWarm = "keep_warm",
        /// Messages are received and nothing gets done.
        NoProgress = "no_progress",
        /// Workers without a heartbeat are replaced, or starts keep failing.
        DeadWorker = "dead_worker",
        /// The promised time leaves no room for a cold start.
        Budget = "budget",
        /// Somebody holds the pool at a size for a while.
        Paused = "paused",
    }
}

/// What a decision was made from: the observation, and what the policy made of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Inputs {
    /// When it was made.
    pub now: DateTime<Utc>,
    /// The workers.
    pub pool: PoolSize,
    /// Why they could not be seen now; `pool` is then what was seen last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool_error: Option<String>,
    /// The counters that could be read; null when none could.
    pub queue: Option<QueueDepth>,
    /// Why they, or those of some queues, could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_error: Option<String>,
    /// Why the database could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_error: Option<String>,
    /// Objects finished since the decision before.
    pub completed: Option<u32>,
    /// Those of them that failed.
    pub completed_failed: Option<u32>,
    /// The slot time of all of them.
    pub completed_secs: Option<f64>,
    /// Messages received since the decision before.
    pub receives: Option<u64>,
    /// Consecutive empty long polls.
    pub last_worker_empty_polls: Option<u32>,
    /// The database's health.
    pub sink: Sink,
    /// The size somebody holds the pool at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// Workers the policy alone would have; null when the counters could not be read.
    pub want: Option<u32>,
    /// The largest such number of the shrink window.
    pub want_window_max: Option<u32>,
    /// One object's time in one slot, estimated.
    pub job_secs: f64,
    /// That part of it which is recorded as its duration; absent where that is all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recorded_job_secs: Option<f64>,
    /// Objects arriving per second, estimated.
    pub arrivals_per_sec: f64,
    /// Age of the oldest message that counts.
    pub age_secs: Option<f64>,
    /// The time in which everything is to be done; null where the policy promises none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub promised_secs: Option<f64>,
    /// Time left to finish everything in, with the safety margin taken off.
    pub slack_secs: Option<f64>,
    /// Work waiting and expected in that time, in slot-seconds.
    pub work_secs: Option<f64>,
    /// Objects at once in one worker.
    pub slots_per_worker: u32,
    /// Time from request to first receive, estimated.
    pub start_up_secs: f64,
    /// The largest size that has proven itself.
    pub proven: u32,
    /// The size the database was found to take.
    pub sink_cap: Option<u32>,
    /// For how long the counters could not be read.
    pub stale_secs: f64,
    /// What every guard that was asked would allow; the tightest of them is the number.
    pub bounds: Vec<Bound>,
}

impl Inputs {
    /// Starts from the observation; the policy fills in the rest.
    pub(crate) fn new(seen: &Observation, now: DateTime<Utc>) -> Self {
        let completions = seen.completions.as_deref();
        Self {
            now,
            pool: seen.pool,
            pool_error: seen.pool_unread.clone(),
            queue: seen.queue.as_ref().ok().copied(),
            queue_error: seen.queue.as_ref().err().or(seen.queue_unread.as_ref()).cloned(),
            database_error: seen.database_unread.clone(),
            completed: completions.map(|done| u32::try_from(done.len()).unwrap_or(u32::MAX)),
            completed_failed: completions
                .map(|done| u32::try_from(done.iter().filter(|c| !c.ok).count()).unwrap_or(u32::MAX)),
            completed_secs: completions.map(|done| done.iter().map(|c| c.duration_secs).sum()),
            receives: seen.receives,
            last_worker_empty_polls: seen.last_worker_empty_polls,
            sink: seen.sink,
            pause: seen.pause.clone().filter(|pause| pause.until > now),
            slots_per_worker: 1,
            ..Self::default()
        }
    }

    /// Adds what a guard allows; one that is asked again is heard with its last word.
    pub(crate) fn note(&mut self, bound: Bound) {
        self.bounds.retain(|earlier| earlier.guard != bound.guard);
        self.bounds.push(bound);
    }
}

/// What one guard allows, whether or not another allows less.
///
/// Applied to `want`, or to the size of a pause, the largest `at_least` and then the smallest `at_most` give the
/// decision's number; those of `min` and `max` come last, whatever the others say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bound {
    /// The guard.
    pub guard: Guard,
    /// The decision's reason when this is the tightest.
    pub reason: Reason,
    /// Fewest workers it allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_least: Option<u32>,
    /// Most workers it allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_most: Option<u32>,
    /// Why, as a clause of the decision's sentence.
    pub why: String,
}

impl Bound {
    pub(crate) fn at_least(n: u32, guard: Guard, reason: Reason, why: impl Into<String>) -> Self {
        Self { guard, reason, at_least: Some(n), at_most: None, why: why.into() }
    }

    pub(crate) fn at_most(n: u32, guard: Guard, reason: Reason, why: impl Into<String>) -> Self {
        Self { guard, reason, at_least: None, at_most: Some(n), why: why.into() }
    }

    pub(crate) fn exactly(n: u32, guard: Guard, reason: Reason, why: impl Into<String>) -> Self {
        Self { guard, reason, at_least: Some(n), at_most: Some(n), why: why.into() }
    }

    /// Returns the same bound where it would make a pool smaller than this, which it is not for.
    pub(crate) fn not_below(mut self, n: u32) -> Self {
        self.at_most = self.at_most.map(|most| most.max(n));
        self
    }

    /// Returns the allowed number nearest to one.
    pub fn allow(&self, n: u32) -> u32 {
        n.max(self.at_least.unwrap_or(0)).min(self.at_most.unwrap_or(u32::MAX))
    }
}

worded! {
    /// What may keep a pool from the size that its policy alone would give it.
    pub enum Guard {
        /// Somebody holds the pool at this size, whatever the policy wants.
        Pause = "pause",
        /// The pool's members cannot be seen.
        UnseenPool = "unseen_pool",
        /// Counters are missing.
        StaleMetrics = "stale_metrics",
        /// An empty pool sees no message, or one that may be a phantom.
        Wake = "wake",
        /// Beyond the proven size a pool doubles step by step.
        GrowthGate = "growth_gate",
        /// The server's connection limit.
        Connections = "connections",
        /// A larger pool was found to bring nothing.
        SinkCap = "sink_cap",
        /// Whether the last growth brought anything is not yet clear.
        SinkDoubt = "sink_doubt",
        /// The database is unhealthy: no growth, and after a while no more workers than it can serve.
        SinkHealth = "sink_health",
        /// The database takes nothing: messages in hand are not handed back.
        SinkOutage = "sink_outage",
        /// Nothing gets done: no growth, and after a while only a probe.
        NoProgress = "no_progress",
        /// Starts keep failing.
        FailedStarts = "failed_starts",
        /// More was wanted a short while ago, or the readings do not go back far enough.
        ShrinkWindow = "shrink_window",
        /// A large pool is not shrunk by less than a tenth.
        DeadBand = "dead_band",
        /// Busy workers whose objects take longer than a drain may.
        LongJobs = "long_jobs",
        /// The queue is not yet known to be empty, or a cold start would take too long.
        LastWorker = "last_worker",
        /// The configured maximum.
        Max = "max",
        /// The configured minimum.
        Min = "min",
        /// A configured schedule has so many workers now.
        Schedule = "schedule",
        /// A flood is about to come, or has come, as each day or week.
        Foresight = "foresight",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_reads_the_same_in_json_and_text() {
        for reason in Reason::ALL {
            assert_eq!(serde_json::to_string(&reason).unwrap(), format!("\"{reason}\""));
        }
    }
}
