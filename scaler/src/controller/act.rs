//! Bringing the pool to the number.

use super::{Controller, LEAST_TIME, look::Seen};
use crate::{
    decision::Decision,
    leader::Lead,
    pool::{Applied, Plan, WorkerPool},
};
use chrono::{DateTime, Utc};
use std::time::Instant;
use tokio::time::timeout;

impl<P: WorkerPool> Controller<P> {
    /// Brings the pool to the number, and says whether it is on its way there and what came of it.
    pub(super) async fn act(
        &mut self,
        decision: &Decision,
        seen: &Seen,
        begun: Instant,
        now: DateTime<Utc>,
    ) -> (bool, Option<String>) {
        let Some(census) = &seen.census else {
            return (false, Some("the pool could not be listed, so nothing was done".to_owned()));
        };
        let plan = Plan::new(decision.desired, census, self.parts.workers.abilities());
        let mut applied = Applied::default();
        if !plan.is_empty() || plan.fewer > 0 {
            // Between the look and now another may have become the leader.
            let why = match self.confirm_lead().await {
                Lead::Ours => None,
                Lead::Theirs => Some("no longer leading, nothing done".to_owned()),
                Lead::Unknown(why) => Some(format!("the leader is unknown ({why}), nothing done")),
            };
            if why.is_some() {
                self.leads = false;
                return (false, why);
            }
            applied = self.carry_out(&plan, begun).await;
            self.carried.track.note(&applied, now);
        }
        let of_pool = self.of_pool();
        self.parts.metrics.started.get_or_create(&of_pool).inc_by(u64::from(applied.started));
        self.parts.metrics.ended.get_or_create(&of_pool).inc_by(applied.ended.len() as u64);
        let reached = applied.problems.is_empty() && plan.kept.is_none();
        let parts: Vec<String> = seen.note.iter().cloned().chain(applied.outcome()).chain(plan.kept).collect();
        (reached, (!parts.is_empty()).then(|| parts.join("; ")))
    }

    /// Carries out a plan for as long as there is time for it and this scaler leads.
    async fn carry_out(&mut self, plan: &Plan, begun: Instant) -> Applied {
        let left = self.timeouts.act_until().saturating_sub(begun.elapsed()).max(LEAST_TIME);
        let lost = async {
            match &self.parts.leadership {
                Some(leadership) => leadership.lost(&self.parts.pool.name).await,
                None => std::future::pending().await,
            }
        };
        let mut applied = Applied::default();
        // What is started and not done is seen at the next look.
        let stopped = tokio::select! {
            carried_out = timeout(left, self.parts.workers.carry_out(plan, &mut applied)) => {
                carried_out.err().map(|_| format!("not all was done within {left:.1?}, the rest is the next tick's"))
            }
            () = lost => Some("not leading any more, so no more was done".to_owned()),
        };
        applied.problems.extend(stopped);
        applied
    }
}
