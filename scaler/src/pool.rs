//! Pools of workers: listing their members and bringing them to a size.
//!
//! A backend only lists and acts. Which are busy is found by the census, which
//! joins its members with their heartbeats; what to do about a number is the
//! plan's, a pure function.

pub mod any;
pub mod asg;
pub mod census;
#[cfg(any(feature = "ecs", feature = "kubernetes"))]
mod count;
pub mod dry_run;
#[cfg(feature = "ecs")]
pub mod ecs;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
mod others;
pub mod plan;
pub mod processes;
pub mod track;

use chrono::{DateTime, Utc};
use service::words::chain;
use std::{future::Future, time::Duration};

pub use plan::Plan;

/// Workers that can be listed, started and ended.
///
/// Calls are level-triggered: a plan made from an older list is harmless,
/// since starting is bounded by the pool's own limit and ending a member that
/// is gone, or ending it twice, does nothing.
pub trait WorkerPool: Send {
    /// Returns every member that exists or has been asked for. An error never means that the pool is empty.
    ///
    /// # Errors
    /// When the members cannot be listed.
    fn members(&mut self) -> impl Future<Output = anyhow::Result<Members>> + Send;

    /// Carries out a plan as far as it goes. A step that fails does not keep the others back; a platform that does not
    /// answer does.
    ///
    /// What was done is noted as it is done, for a caller that stops waiting.
    fn carry_out(&mut self, plan: &Plan, applied: &mut Applied) -> impl Future<Output = ()> + Send;

    /// Carries out a plan, and says how far that was.
    fn apply(&mut self, plan: &Plan) -> impl Future<Output = Applied> + Send {
        async {
            let mut applied = Applied::default();
            self.carry_out(plan, &mut applied).await;
            applied
        }
    }

    /// What the backend can do.
    fn abilities(&self) -> Abilities;

    /// Lets go of what only this scaler could look after, because the leader runs on another host.
    fn hand_over(&mut self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Ends what only this scaler could look after, because it stops. Returns when that is done.
    fn close(&mut self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Checks that the backend can be reached and may do what it has to; returns what is worth knowing, at least a line.
    ///
    /// # Errors
    /// When the backend cannot be reached, or may not do what it has to.
    fn check(&mut self) -> impl Future<Output = anyhow::Result<Vec<Remark>>> + Send;
}

/// A line of a backend's check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remark {
    /// As it should be.
    Fine(String),
    /// Works, and is probably not meant.
    Doubt {
        /// What was found.
        what: String,
        /// What to do about it.
        next: String,
    },
    /// Has to be fixed before the pool can run.
    Wrong {
        /// What was found.
        what: String,
        /// How to fix it.
        next: String,
    },
}

impl Remark {
    /// Doubts something.
    pub fn doubt(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self::Doubt { what: what.into(), next: next.into() }
    }

    /// Finds something wrong.
    pub fn wrong(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self::Wrong { what: what.into(), next: next.into() }
    }
}

/// What a backend can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// A busy worker that is ended finishes what it has.
    pub drain_busy: bool,
    /// Its members are the machines or processes themselves, so a silent member can be ended.
    pub end_silent: bool,
}

/// The members of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Those that exist.
    pub members: Vec<Member>,
    /// Those asked for that cannot be seen yet.
    pub requested: u32,
    /// The most the backend allows.
    pub most: Option<u32>,
    /// The fewest the backend allows.
    pub fewest: u32,
    /// What the next decision's outcome should mention, such as another writer's change.
    pub note: Option<String>,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id in the backend.
    pub id: String,
    /// Where its heartbeats come from.
    pub key: Key,
    /// How far it is.
    pub phase: Phase,
    /// Whether it must not be ended.
    pub protected: bool,
    /// When it was asked for, where the backend knows.
    pub since: Option<DateTime<Utc>>,
}

/// What a heartbeat is recognised by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// The instance's id.
    Instance(String),
    /// The process's host and id.
    Process(String, i32),
    /// The worker's own id.
    Worker(String),
}

/// How far a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not up yet.
    Pending,
    /// Up.
    Running,
    /// Up, and to be ended by the platform as soon as it can; asking for more keeps it.
    Surplus,
    /// On its way out.
    Draining,
}

/// A platform that did not answer in time; what was asked may have been done.
#[derive(Debug, thiserror::Error)]
#[error("{peer} did not answer within {:.1} s", after.as_secs_f64())]
struct Silent {
    peer: String,
    after: Duration,
}

/// What came of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Members started whose ids are known.
    pub started_ids: Vec<String>,
    /// Members started or asked for.
    pub started: u32,
    /// Members taken back from draining.
    pub taken_back: u32,
    /// Members that were ended: they drain.
    pub ended: Vec<String>,
    /// What could not be done, and why.
    pub problems: Vec<String>,
}

impl Applied {
    /// Notes that a step failed; returns whether to go on with the next one. A platform that does not answer would cost
    /// each of them as much again.
    fn go_on_after(&mut self, error: &anyhow::Error) -> bool {
        self.problems.push(chain(error));
        !error.chain().any(|cause| cause.is::<Silent>() || service::aws::is_of_the_way(cause))
    }

    /// Notes that a member was ended, or why not.
    fn note_ended(&mut self, id: &str, told: anyhow::Result<()>) {
        match told {
            Ok(()) => self.ended.push(id.to_owned()),
            Err(error) => self.problems.push(chain(&error)),
        }
    }

    /// Returns what was done in words; `None` when there was nothing to do.
    pub fn outcome(&self) -> Option<String> {
        let mut parts = Vec::new();
        for (n, verb) in
            [(self.taken_back as usize, "took back"), (self.started as usize, "started"), (self.ended.len(), "ended")]
        {
            if n > 0 {
                parts.push(format!("{verb} {n}"));
            }
        }
        parts.extend(self.problems.iter().cloned());
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}
