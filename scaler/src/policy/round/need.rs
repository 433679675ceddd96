//! What the counters call for, in words.

use super::Round;
use crate::{
    observation::QueueDepth,
    policy::{Target, demand::Demand, words},
};

impl Round<'_> {
    /// Says what the counters call for.
    pub(super) fn need(&self, depth: &QueueDepth, demand: &Demand) -> String {
        let want = words::workers(demand.workers);
        let due = depth.delayed_due.filter(|due| *due > 0).map(|due| format!(", {due} due")).unwrap_or_default();
        let counters = format!("{} visible{due} and {} in flight", depth.visible, depth.in_flight);
        if self.state.foresight.is_just_done(self.now) {
            let (busy, up) = (self.seen.pool.busy, words::workers(self.seen.pool.up()));
            return format!("the foreseen flood is done, whatever the counters show: {busy} of {up} are busy");
        }
        match self.policy.target {
            Target::Backlog { messages_per_worker } => {
                format!("{counters} at {messages_per_worker} per worker need {want}")
            }
            Target::Deadline { .. } if demand.workers == 0 => format!("{counters} need no worker"),
            Target::Deadline { .. } if demand.by_arrivals => format!(
                "{:.1} arriving a second at {} keep {want} occupied, with {counters}",
                self.arrivals_per_sec,
                self.each()
            ),
            Target::Deadline { .. } => {
                let arriving = if self.arrivals_per_sec >= 0.05 {
                    format!(" with {:.1} arriving a second", self.arrivals_per_sec)
                } else {
                    String::new()
                };
                let age = demand
                    .age_secs
                    .filter(|age| *age >= 1.0)
                    .map(|age| format!(", the oldest {} old,", words::secs(age)));
                format!(
                    "{counters} at {}{arriving}{} need {want} to be done within {}",
                    self.each(),
                    age.unwrap_or_default(),
                    words::secs(demand.slack_secs.unwrap_or(0.0))
                )
            }
        }
    }
    /// Says what one object takes in its slot.
    fn each(&self) -> String {
        let job = words::secs(self.job_secs);
        if self.job_secs > self.recorded_secs {
            format!("{job} each (recorded: {})", words::secs(self.recorded_secs))
        } else {
            format!("{job} each")
        }
    }
}
