//! The guards on growth.

use super::{Round, Verdict};
use crate::{
    decision::{Bound, Reason},
    policy::{sink, words},
};

impl Round<'_> {
    /// Passes a want above the pool's size through the guards on growth.
    pub(super) fn grow(&mut self, want: u32, need: &str, own_reason: Reason) -> Verdict {
        let mut verdict = Verdict::new(want, own_reason, need);
        for bound in self.ceilings(want) {
            if bound.allow(verdict.desired) < verdict.desired {
                verdict = Verdict::bound(&bound, verdict.desired, need, "and");
            }
            self.inputs.note(bound);
        }
        // A guard that stops growth is named even where another one allows no more than it does.
        let stops = self.stops();
        if let Some(stop) = stops.first() {
            verdict = Verdict::bound(stop, self.base(), need, "and");
        }
        stops.into_iter().for_each(|stop| self.inputs.note(stop));
        self.limit_starts(verdict, need)
    }

    /// Returns what the guards that let the pool grow to some size would have it grow to.
    fn ceilings(&mut self, want: u32) -> Vec<Bound> {
        let (base, policy) = (self.base(), self.policy);
        let allowed = want.min(policy.max);
        let gate = self.state.gate.bound(allowed, &self.seen.pool, policy.initial_proven, self.settle_secs, self.now);
        let connections =
            sink::connection_bound(&self.seen.sink, policy.connection_reserve, self.slots_per_worker, base);
        let mut bounds = vec![self.max(), gate.not_below(base)];
        bounds.extend(connections);
        bounds.extend(self.state.sink.cap_bound().map(|cap| cap.not_below(base)));
        bounds
    }

    /// Returns what speaks against any growth at all.
    fn stops(&self) -> Vec<Bound> {
        let base = self.base();
        let health = self.state.sink.health_bound(base);
        let doubt = self.state.sink.doubt_bound(base, self.now);
        let progress = self.stuck.as_ref().map(|stuck| stuck.bound(base));
        [health, doubt, progress].into_iter().flatten().collect()
    }

    /// Returns the size that no guard on growth goes below: a pool below its minimum is brought there at once.
    pub(super) fn base(&self) -> u32 {
        self.live.max(self.least())
    }

    /// Limits growth while starts keep failing, and says so when it only replaces dead workers.
    fn limit_starts(&mut self, verdict: Verdict, need: &str) -> Verdict {
        let failed = self.seen.failed_starts.unwrap_or(0);
        let bound = self.state.starts.bound(failed, &self.seen.pool, self.now);
        if let Some(bound) = &bound {
            self.inputs.note(bound.clone());
        }
        if verdict.desired <= self.live {
            return verdict;
        }
        if let Some(bound) = bound {
            if bound.allow(self.live + 1) > self.live {
                self.state.starts.tried(self.now);
            }
            return Verdict::bound(&bound, verdict.desired, need, "and");
        }
        let dead = self.seen.pool.dead;
        if dead > 0 && verdict.desired <= self.live.saturating_add(dead) {
            let why = format!("{need}, and {} without a heartbeat", words::workers(dead));
            return Verdict::new(verdict.desired, Reason::DeadWorker, why);
        }
        verdict
    }
}
