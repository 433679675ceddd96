//! What is kept of a tick in Postgres.

use super::{Controller, Decided, LEAST_TIME};
use crate::{
    decision::{Decision, Reason},
    pool::WorkerPool,
    store::{MOST_MOMENTS, Record},
};
use anyhow::anyhow;
use chrono::{DateTime, Utc};
use service::words::chain;
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tracing::debug;

/// How long decisions are kept.
const KEEP_DAYS: i32 = 90;

/// How often an unchanged, idle pool's decision is kept.
const KEEP_QUIET_SECS: i64 = 55;

/// How often decisions that are too old are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(3600);

/// The decision kept last.
pub(super) struct Kept {
    at: DateTime<Utc>,
    desired: u32,
    running: u32,
    reason: Reason,
}

impl<P: WorkerPool> Controller<P> {
    /// Keeps the state and the decision; without a database there is nothing to keep them in.
    pub(super) async fn keep(&mut self, decided: &Decided, begun: Instant, now: DateTime<Utc>) {
        let left = self.timeouts.tick.saturating_sub(begun.elapsed()).max(LEAST_TIME);
        let Some(store) = self.store() else { return };
        let decision = &decided.decision;
        let is_new = !self.is_kept(decided, now);
        self.carried.kept_at = Some(now);
        let state = serde_json::to_value(&self.carried).unwrap_or_default();
        let record = Record {
            pool: self.parts.pool.name.clone(),
            at: now,
            desired: i32::try_from(decision.desired).unwrap_or(i32::MAX),
            reason: decision.reason.to_string(),
            explain: decision.explain.clone(),
            inputs: serde_json::to_value(&decision.inputs).unwrap_or_default(),
            applied: decided.applied,
            outcome: decided.outcome.clone(),
        };
        let leader = format!("{} {}", self.parts.identity.host, self.parts.identity.pid);
        let keeping = store.keep(&self.parts.pool.name, &state, &leader, is_new.then_some(&record));
        let late = |_| Err(anyhow!("keep the decision: not done within {left:.1?}"));
        let kept = timeout(left, keeping).await.unwrap_or_else(late);
        match kept {
            Ok(took) => self.watch.committed(took),
            Err(error) => {
                drop(self.note::<()>("database", Err(error)));
                // There is no time left for more.
                return;
            }
        }
        if is_new {
            let running = decision.inputs.pool.live();
            self.last_kept = Some(Kept { at: now, desired: decision.desired, running, reason: decision.reason });
        }
        self.forget(begun).await;
    }

    /// Learns from decisions of before the state was kept, some at a time.
    pub(super) async fn recall(&mut self, begun: Instant, now: DateTime<Utc>) {
        let (Some(after), Some(store)) = (self.carried.policy.past_after(&self.policy, now), self.store()) else {
            return;
        };
        // The other half of what is left is for keeping the decision.
        let left = self.timeouts.tick.saturating_sub(begun.elapsed()) / 2;
        let late = |_| Err(anyhow!("read old decisions: not done within {left:.1?}"));
        match timeout(left, store.moments(&self.parts.pool.name, after)).await.unwrap_or_else(late) {
            Ok(moments) => self.carried.policy.recall(&self.policy, &moments, moments.len() < MOST_MOMENTS),
            Err(error) => self.fail("foresight", &error),
        }
    }

    /// Whether the same was kept a moment ago: an idle pool says the same thing all night.
    fn is_kept(&self, decided: &Decided, now: DateTime<Utc>) -> bool {
        let decision = &decided.decision;
        is_quiet(decision)
            && decided.outcome.is_none()
            && self.last_kept.as_ref().is_some_and(|kept| {
                (kept.desired, kept.running, kept.reason)
                    == (decision.desired, decision.inputs.pool.live(), decision.reason)
                    && (now - kept.at).num_seconds() < KEEP_QUIET_SECS
            })
    }

    /// Forgets what is too old to be asked for, now and then.
    async fn forget(&mut self, begun: Instant) {
        if self.forgotten_at.is_some_and(|at| at.elapsed() < FORGET_EVERY) {
            return;
        }
        self.forgotten_at = Some(Instant::now());
        let left = self.timeouts.tick.saturating_sub(begun.elapsed());
        let Some(store) = self.store() else { return };
        let forgetting = timeout(left, store.forget(&self.parts.pool.name, KEEP_DAYS));
        if let Ok(Err(error)) = forgetting.await {
            debug!(pool = self.parts.pool.name, error = chain(&error), "could not delete old decisions");
        }
    }
}

/// Whether there are no workers, nothing to do for any, and no doubt about it.
fn is_quiet(decision: &Decision) -> bool {
    decision.inputs.pool.live() == 0
        && decision.desired == 0
        && decision.inputs.queue_error.is_none()
        && decision.inputs.queue.is_some_and(|depth| depth.visible == 0 && depth.in_flight == 0)
}
