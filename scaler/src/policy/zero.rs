//! When the last worker may go.

use super::{Policy, Target, elapsed_secs, wake::COUNTER_LAG_SECS};
use crate::{
    decision::Reason,
    observation::{Observation, QueueDepth},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Empty long polls in a row that prove the queue empty: a long poll asks all of SQS's servers, a counter does not.
const EMPTY_POLLS: u32 = 3;

/// Counters at zero for this long stand in for long polls where there is no ledger to read them from.
const EMPTY_COUNTERS_SECS: f64 = 300.0;

/// In-flight messages that may be phantoms, or a dead worker's.
const LEFTOVERS: u64 = 2;

/// Readings without a visible message that confirm each other.
const ZERO_READINGS: u32 = 2;

/// Share of the promised time a cold start must fit into.
const COLD_START_SHARE: f64 = 0.8;

/// Since when nothing has happened.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Quiet {
    /// When something was last done, or the pool was first seen.
    active_at: Option<DateTime<Utc>>,
    /// Consecutive readings without a visible message, and since when.
    zero_readings: u32,
    zero_since: Option<DateTime<Utc>>,
}

impl Quiet {
    /// Takes in what is going on.
    pub fn absorb(&mut self, seen: &Observation, now: DateTime<Utc>) {
        let active = seen.pool.busy > 0
            || seen.pool.starting > 0
            || seen.receives.is_some_and(|n| n > 0)
            || seen.completions.as_ref().is_some_and(|done| !done.is_empty());
        if active || self.active_at.is_none() {
            self.active_at = Some(now);
        }
        let is_whole = seen.queue_unread.is_none();
        match &seen.queue {
            Ok(depth) if depth.visible == 0 && is_whole => {
                self.zero_readings = self.zero_readings.saturating_add(1);
                self.zero_since.get_or_insert(now);
            }
            Ok(depth) if depth.visible > 0 => {
                self.zero_readings = 0;
                self.zero_since = None;
            }
            // A reading that failed neither confirms nor denies.
            _ => {}
        }
    }

    /// Returns why the queue is not known to be empty for good, if it is not.
    pub fn doubt(&self, seen: &Observation, start_up_secs: f64, now: DateTime<Utc>) -> Option<(Reason, String)> {
        match seen.last_worker_empty_polls {
            Some(polls) if polls < EMPTY_POLLS => {
                return Some((
                    Reason::KeepWarm,
                    format!("only {polls} of {EMPTY_POLLS} long polls in a row came back empty"),
                ));
            }
            Some(_) => {}
            None => {
                let zero_secs = self.zero_since.map_or(0.0, |since| elapsed_secs(since, now));
                if zero_secs < EMPTY_COUNTERS_SECS {
                    return Some((
                        Reason::KeepWarm,
                        format!(
                            "nobody's long polls are known and the counters have been at zero for \
                             {zero_secs:.0} of {EMPTY_COUNTERS_SECS:.0} s"
                        ),
                    ));
                }
            }
        }
        if self.zero_readings < ZERO_READINGS {
            return Some((Reason::KeepWarm, "only one reading has shown an empty queue".to_owned()));
        }
        let keep_warm = keep_warm_secs(start_up_secs);
        let idle = self.active_at.map_or(0.0, |at| elapsed_secs(at, now));
        if idle < keep_warm {
            return Some((Reason::KeepWarm, format!("the pool has been idle for {idle:.0} of {keep_warm:.0} s")));
        }
        None
    }
}

/// Returns what the last worker has to do, or is about to have, if anything.
pub fn work(seen: &Observation, depth: &QueueDepth) -> Option<(Reason, String)> {
    if seen.pool.busy > 0 {
        return Some((Reason::Busy, format!("{} still busy", workers_are(seen.pool.busy))));
    }
    if seen.pool.starting > 0 {
        return Some((Reason::KeepWarm, format!("{} still starting", workers_are(seen.pool.starting))));
    }
    let due = depth.delayed_due.unwrap_or(depth.delayed);
    (due > 0).then(|| (Reason::KeepWarm, format!("{due} delayed messages are about to become visible")))
}

/// Returns why a cold start would break the promise to drain the queue in time, if it would.
pub fn slow_start(policy: &Policy, start_up_secs: f64, job_secs: f64) -> Option<(Reason, String)> {
    let Target::Deadline { drain_within_secs } = policy.target else { return None };
    let cold = start_up_secs + COUNTER_LAG_SECS + job_secs;
    let room = COLD_START_SHARE * drain_within_secs;
    let why = || format!("a cold start takes {cold:.0} s and only {room:.0} s of the promised time are for it");
    (cold > room).then(|| (Reason::Budget, why()))
}

/// Whether the counters show nothing that is work for a worker.
///
/// With no worker busy, one or two messages in flight are phantoms or a dead
/// worker's, which cannot be received before they become visible.
pub fn looks_empty(seen: &Observation, depth: &QueueDepth) -> bool {
    depth.visible == 0
        && depth.delayed_due.unwrap_or(0) == 0
        && (depth.in_flight == 0 || (depth.in_flight <= LEFTOVERS && seen.pool.busy == 0))
}

/// Returns how long an idle pool is kept.
fn keep_warm_secs(start_up_secs: f64) -> f64 {
    (1.5 * start_up_secs).max(60.0)
}

fn workers_are(n: u32) -> String {
    if n == 1 { "1 worker is".to_owned() } else { format!("{n} workers are") }
}
