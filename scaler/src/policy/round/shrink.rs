//! The guards on shrinking.

use super::{Round, Verdict};
use crate::{
    decision::{Bound, Guard, Reason},
    observation::QueueDepth,
    policy::{words, zero},
};

impl Round<'_> {
    /// Passes a want below the pool's size through the guards on shrinking.
    pub(super) fn shrink(&mut self, want: u32, need: &str, own_reason: Reason, depth: &QueueDepth) -> Verdict {
        let window_max = self.state.window.max();
        let last_worker = if want == 0 { self.last_worker(depth) } else { None };
        let proven_empty = want == 0 && last_worker.is_none() && window_max == 0;
        let mut verdict = if proven_empty {
            let polls = self.seen.last_worker_empty_polls.unwrap_or(0);
            Verdict::new(0, own_reason, format!("{need} and {polls} long polls came back empty"))
        } else {
            Verdict::new(
                want,
                own_reason,
                format!("{need}, and {}", self.state.window.said(self.policy.shrink_window_secs, self.now)),
            )
        };
        // Of two guards that allow the same, the first is named.
        let mut floors = Vec::new();
        if !proven_empty {
            floors.extend(self.state.window.bounds(self.live, self.policy.shrink_window_secs, self.now));
        }
        floors.extend(self.long_jobs().map(|bound| ("but", bound)));
        if let Some(bound) = last_worker {
            let place = if bound.at_least == Some(self.live) { 0 } else { floors.len() };
            floors.insert(place, ("but", bound));
        }
        for (joint, bound) in floors {
            if bound.allow(verdict.desired) > verdict.desired {
                verdict = Verdict::bound(&bound, verdict.desired, need, joint);
            }
            self.inputs.note(bound);
        }
        verdict
    }

    /// Returns what keeps the last worker, or all of them where they know better than the counters that there is work.
    fn last_worker(&self, depth: &QueueDepth) -> Option<Bound> {
        let (reason, why) = zero::work(self.seen, depth)
            .or_else(|| zero::slow_start(self.policy, self.start_up_secs, self.job_secs))
            .or_else(|| self.state.quiet.doubt(self.seen, self.start_up_secs, self.now))?;
        let have_work = self.seen.pool.busy > 0 || self.seen.last_worker_empty_polls == Some(0);
        let stay = if have_work { self.live } else { 1 };
        Some(Bound::at_least(stay, Guard::LastWorker, reason, why))
    }

    pub(super) fn long_jobs(&self) -> Option<Bound> {
        let busy = self.seen.pool.busy.min(self.live);
        if !self.state.job_time.is_long(self.policy.job_secs) || busy == 0 {
            return None;
        }
        let job = words::secs(self.job_secs);
        let some = if self.state.job_time.has_long_ones() { ", some of them far longer," } else { "" };
        let why = format!("{busy} are busy with objects of {job}{some} that a drain might cut short");
        Some(Bound::at_least(busy, Guard::LongJobs, Reason::Busy, why))
    }
}
