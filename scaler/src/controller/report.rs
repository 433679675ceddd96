//! What is logged and measured of a decision.

use super::{Controller, Decided};
use crate::{
    decision::{Decision, Reason},
    metrics::{OfReason, OfState},
    observation::Observation,
    policy::Target,
    pool::WorkerPool,
};
use tracing::{debug, info};

impl<P: WorkerPool> Controller<P> {
    /// Logs and counts a decision.
    pub(super) fn report(&mut self, decided: &Decided, seen: &Observation) {
        self.log(decided, seen);
        self.measure(&decided.decision, seen);
    }

    fn log(&mut self, decided: &Decided, seen: &Observation) {
        let decision = &decided.decision;
        let pool = self.parts.pool.name.as_str();
        let (visible, in_flight) =
            seen.queue.as_ref().map_or((-1, -1), |depth| (signed(depth.visible), signed(depth.in_flight)));
        let live = seen.pool.live();
        let changed = self.last_logged != Some(decision.desired) || decision.desired != live;
        self.last_logged = Some(decision.desired);
        let text = if changed { "pool resized" } else { "pool left as it is" };
        // Who waits for what a first file brings is told once why nothing happens.
        let looks_again = decision.reason == Reason::WakeUnconfirmed;
        let is_news = !std::mem::replace(&mut self.looks_again, looks_again) && looks_again;
        macro_rules! line {
            ($level:ident) => {
                $level!(
                    pool,
                    pool.desired = decision.desired,
                    pool.running = live,
                    queue.visible = visible,
                    queue.in_flight = in_flight,
                    reason = decision.reason.as_str(),
                    explain = decision.explain,
                    applied = decided.applied,
                    outcome = decided.outcome.as_deref().unwrap_or_default(),
                    "{text}"
                )
            };
        }
        if changed || is_news {
            line!(info);
        } else {
            line!(debug);
        }
    }

    /// Makes a notice due when the oldest message becomes older than was promised.
    pub(super) async fn tell_late(&mut self, decision: &Decision) {
        let Target::Deadline { drain_within_secs } = self.policy.target else { return };
        let age = decision.inputs.age_secs.unwrap_or(0.0);
        let is_late = age > drain_within_secs;
        let was_late = std::mem::replace(&mut self.carried.late, is_late);
        let is_news = is_late && !was_late;
        let Some(store) = self.store().filter(|_| is_news) else { return };
        let told = store.tell_late(&self.parts.pool.name, age, drain_within_secs).await;
        // Else the next tick tells.
        self.carried.late = self.note("database", told).is_ok();
    }

    fn measure(&self, decision: &Decision, seen: &Observation) {
        let metrics = &self.parts.metrics;
        let of_pool = self.of_pool();
        let reason = OfReason { pool: of_pool.pool.clone(), reason: decision.reason.as_str() };
        metrics.decisions.get_or_create(&reason).inc();
        metrics.paused.get_or_create(&of_pool).set(decision.inputs.pause.is_some().into());
        metrics.desired.get_or_create(&of_pool).set(decision.desired.into());
        let is_whole = seen.queue.is_ok() && seen.queue_unread.is_none();
        metrics.queue_readable.get_or_create(&of_pool).set(i64::from(is_whole));
        metrics.job.get_or_create(&of_pool).set(decision.inputs.job_secs);
        metrics.arrivals.get_or_create(&of_pool).set(decision.inputs.arrivals_per_sec);
        metrics.start_up.get_or_create(&of_pool).set(decision.inputs.start_up_secs);
        metrics.oldest_age.get_or_create(&of_pool).set(decision.inputs.age_secs.unwrap_or(0.0));
        metrics.failed_starts.get_or_create(&of_pool).set(seen.failed_starts.unwrap_or(0).into());
        if let Some(healthy) = seen.sink.healthy {
            metrics.sink_healthy.get_or_create(&of_pool).set(healthy.into());
        }
        let of_state = |state| OfState { pool: of_pool.pool.clone(), state };
        let size = seen.pool;
        for (state, n) in [
            ("starting", size.starting),
            ("idle", size.idle),
            ("busy", size.busy),
            ("draining", size.draining),
            ("dead", size.dead),
        ] {
            metrics.workers.get_or_create(&of_state(state)).set(n.into());
        }
        if let Ok(depth) = &seen.queue {
            for (state, n) in [("visible", depth.visible), ("in_flight", depth.in_flight), ("delayed", depth.delayed)] {
                metrics.messages.get_or_create(&of_state(state)).set(signed(n));
            }
        }
    }
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
