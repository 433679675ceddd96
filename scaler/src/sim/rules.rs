//! The rules that size the simulated pool: ours, and those that most people use today.

use super::{TICK_SECS, at, workload::Load};
use crate::{
    decision::worded,
    observation::Observation,
    policy::{Policy, State, Target, decide},
};
use std::collections::VecDeque;

/// Share of the promised time that people leave as a margin when they work out a target by hand.
const MARGIN: f64 = 0.7;

/// A rule that sizes a pool.
pub trait Rule {
    /// Returns the size wanted now; asked every ten seconds.
    fn size(&mut self, seen: &Observation, secs: f64) -> Answer;

    /// Whether the pool under this rule knows which workers are busy.
    fn chooses_victims(&self) -> bool;

    /// Returns the smallest pool the rule can have.
    fn floor(&self) -> u32 {
        0
    }

    /// Returns the workers that may stay when there is nothing left to do.
    fn may_keep(&self) -> u32 {
        0
    }
}

/// What a rule answers.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Workers wanted.
    pub desired: u32,
    /// The reason's word.
    pub reason: String,
    /// The sentence.
    pub explain: String,
}

worded! {
    /// The rules, by their names on the command line.
    pub enum Kind {
        /// The deadline policy.
        Deadline = "deadline",
        /// The backlog policy with the guards.
        Backlog = "backlog",
        /// KEDA's SQS scaler driving a HorizontalPodAutoscaler.
        Keda = "keda",
        /// AWS target tracking on backlog per instance.
        Aws = "aws",
    }
}

impl Kind {
    /// Returns the rule, set up for a load as its user would.
    pub fn rule(self, load: &Load, base: Option<&Policy>) -> Box<dyn Rule> {
        let ours = |target| -> Box<dyn Rule> {
            let policy = Policy {
                target,
                min: base.map_or(0, |policy| policy.min),
                max: load.workload.max,
                slots_per_worker: load.workload.slots_per_worker,
                start_up_secs: load.workload.start_up,
                job_secs: load.workload.guess_secs(),
                shrink_window_secs: base.map_or(120.0, |policy| policy.shrink_window_secs),
                initial_proven: base.map_or(32, |policy| policy.initial_proven),
                connection_reserve: base.map_or(10, |policy| policy.connection_reserve),
                schedules: base.map_or_else(Vec::new, |policy| policy.schedules.clone()),
                foresight: base.map_or(load.workload.foresight, |policy| policy.foresight),
            };
            Box::new(Ours { policy, state: State::default() })
        };
        let per_worker = target_per_worker(load);
        match self {
            Self::Deadline => ours(Target::Deadline { drain_within_secs: load.workload.drain_within }),
            Self::Backlog => {
                let messages_per_worker = match base.map(|policy| policy.target) {
                    Some(Target::Backlog { messages_per_worker }) => messages_per_worker,
                    _ => per_worker as u64,
                };
                ours(Target::Backlog { messages_per_worker })
            }
            Self::Keda => Box::new(Keda::new(per_worker, load.workload.max)),
            Self::Aws => Box::new(AwsTracking::new(per_worker, load.workload.max, load.workload.start_up)),
        }
    }
}

/// Returns the messages per worker that the promise allows, as AWS's guide works it out: latency over job time.
fn target_per_worker(load: &Load) -> f64 {
    (MARGIN * load.workload.drain_within / load.workload.guess_secs() * f64::from(load.workload.slots_per_worker))
        .floor()
        .max(1.0)
}

/// The real decision.
struct Ours {
    policy: Policy,
    state: State,
}

impl Rule for Ours {
    fn size(&mut self, seen: &Observation, secs: f64) -> Answer {
        let (decision, state) = decide(&self.policy, seen, &self.state, at(secs));
        self.state = state;
        Answer { desired: decision.desired, reason: decision.reason.to_string(), explain: decision.explain }
    }

    fn chooses_victims(&self) -> bool {
        true
    }

    fn floor(&self) -> u32 {
        self.policy.min
    }

    fn may_keep(&self) -> u32 {
        // A promise too short for a cold start keeps one worker.
        let cold_start_fits = match self.policy.target {
            Target::Deadline { drain_within_secs } => drain_within_secs > 300.0,
            Target::Backlog { .. } => true,
        };
        u32::from(!cold_start_fits)
    }
}

/// KEDA's `aws-sqs-queue` trigger with its defaults: a look every 30 s wakes and, after 300 s of
/// nothing, ends the pool; in between a HorizontalPodAutoscaler acts every 15 s.
struct Keda {
    per_worker: f64,
    max: u32,
    desired: u32,
    active_at: f64,
    recent: VecDeque<(f64, u32)>,
}

impl Keda {
    const POLLING_SECS: f64 = 30.0;
    const COOLDOWN_SECS: f64 = 300.0;
    const STABILIZATION_SECS: f64 = 300.0;
    const TOLERANCE: f64 = 0.1;

    fn new(per_worker: f64, max: u32) -> Self {
        Self { per_worker, max, desired: 0, active_at: f64::NEG_INFINITY, recent: VecDeque::new() }
    }
}

impl Rule for Keda {
    fn size(&mut self, seen: &Observation, secs: f64) -> Answer {
        let depth = seen.queue.as_ref().ok().map(|depth| (depth.visible + depth.in_flight) as f64);
        if secs % Self::POLLING_SECS < f64::from(TICK_SECS)
            && let Some(depth) = depth
        {
            if depth > 0.0 {
                self.active_at = secs;
                self.desired = self.desired.max(1);
            } else if secs - self.active_at >= Self::COOLDOWN_SECS {
                self.desired = 0;
            }
        }
        // The autoscaler's own period of 15 s, as near as ticks of 10 s allow.
        if self.desired > 0
            && secs % 20.0 < f64::from(TICK_SECS)
            && let Some(depth) = depth
        {
            let now = self.desired;
            let ratio = depth / (self.per_worker * f64::from(now));
            let wanted = if (ratio - 1.0).abs() <= Self::TOLERANCE {
                now
            } else {
                ((depth / self.per_worker).ceil() as u32).clamp(1, self.max)
            };
            self.recent.push_back((secs, wanted));
            while self.recent.front().is_some_and(|(at, _)| secs - at > Self::STABILIZATION_SECS) {
                self.recent.pop_front();
            }
            let stable = self.recent.iter().map(|(_, wanted)| *wanted).max().unwrap_or(wanted);
            self.desired = if wanted > now { wanted.min((now * 2).max(now + 4)) } else { now.min(stable) };
        }
        Answer { desired: self.desired.min(self.max), reason: "keda".to_owned(), explain: "KEDA".to_owned() }
    }

    fn chooses_victims(&self) -> bool {
        false
    }
}

/// AWS's guide: target tracking on visible messages per instance in service, published every minute.
/// Out after three such minutes, in after fifteen; never from or to zero, since the metric divides by the pool.
struct AwsTracking {
    per_worker: f64,
    max: u32,
    warm_up_secs: f64,
    desired: u32,
    points: VecDeque<f64>,
    scaled_out_at: f64,
}

impl AwsTracking {
    const OUT_POINTS: usize = 3;
    const IN_POINTS: usize = 15;

    fn new(per_worker: f64, max: u32, warm_up_secs: f64) -> Self {
        Self { per_worker, max, warm_up_secs, desired: 1, points: VecDeque::new(), scaled_out_at: f64::NEG_INFINITY }
    }
}

impl Rule for AwsTracking {
    fn size(&mut self, seen: &Observation, secs: f64) -> Answer {
        if secs % 60.0 < f64::from(TICK_SECS)
            && let Ok(depth) = &seen.queue
        {
            let in_service = f64::from(seen.pool.up().max(1));
            self.points.push_back(depth.visible as f64 / in_service);
            while self.points.len() > Self::IN_POINTS {
                self.points.pop_front();
            }
            let last = self.points.back().copied().unwrap_or(0.0);
            let high = self.points.len() >= Self::OUT_POINTS
                && self.points.iter().rev().take(Self::OUT_POINTS).all(|point| *point > self.per_worker);
            let low =
                self.points.len() >= Self::IN_POINTS && self.points.iter().all(|point| *point < 0.9 * self.per_worker);
            let wanted = (in_service * last / self.per_worker).ceil().max(1.0) as u32;
            if high && secs - self.scaled_out_at >= self.warm_up_secs {
                self.desired = self.desired.max(wanted.min(self.max));
                self.scaled_out_at = secs;
            } else if low {
                self.desired = wanted.min(self.desired);
            }
        }
        Answer { desired: self.desired, reason: "aws".to_owned(), explain: "AWS target tracking".to_owned() }
    }

    fn chooses_victims(&self) -> bool {
        false
    }

    fn floor(&self) -> u32 {
        1
    }
}
