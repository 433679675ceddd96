//! The brake: what to do when objects fail for a cause that may not be theirs. Pure: time is an argument.
//!
//! A right taken away, a table dropped or a disabled key makes every object of a dataset fail, one like the
//! other, and a queue would run empty into its dead letters within minutes. So an object that fails for such a
//! cause waits for [`Brake::patience`] first. What then happens is decided by its neighbours:
//!
//! - If another object of the dataset was started after this one first failed and was imported, the cause is the
//!   object's own: fail it.
//! - Else the cause is the dataset's: one object fails as a sample, and more of them at growing intervals, so
//!   that the trouble is noticed and no object waits forever.
//!
//! Where several objects failed in a row the gate of their place closes, and objects are tried one at a time,
//! with growing pauses, those longest that were tried longest ago, until one is imported.

use crate::{
    dataset::DatasetName,
    outcome::{Failure, Reason, Scope},
    route::Class,
};
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};
use tokio::time::Instant;

/// Objects that fail in a row before the gate of their directory, or of their table, closes.
/// Fewer would let one bad object stop its neighbours, more would try in vain more often.
const CLOSES_AFTER: u32 = 3;
/// The same for the whole dataset where the cause may be a directory's.
const CLOSES_DATASET_AFTER: u32 = 12;
/// The first pause between two tries, as a part of the patience, which is also the longest.
const FIRST_PAUSE: u32 = 60;
/// Gates of directories kept at most. Forgotten ones only close later.
const MAX_GATES: usize = 1000;
/// The longest time between two samples, in patiences; the first is two.
const MAX_SAMPLE_INTERVAL: u32 = 10;

/// What has failed lately, and who waits for it.
#[derive(Debug)]
pub struct Brake {
    patience: Duration,
    /// The run ends by itself, so nothing will be mended meanwhile: after the first sample the others fail, too.
    until_empty: bool,
    causes: HashMap<Cause, Course>,
    gates: HashMap<Place, Gate>,
    /// When the newest of each dataset's imports was started.
    imported: HashMap<DatasetName, Instant>,
    /// Objects waiting at gates, those first that were tried longest ago.
    waiting: BTreeMap<u64, Class>,
    n_tickets: u64,
}

/// Why objects of a dataset fail.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cause {
    /// Name of the dataset.
    pub dataset: DatasetName,
    /// The failures' word.
    pub reason: Reason,
}

impl Cause {
    /// Returns the cause of an object's failure.
    #[must_use]
    pub fn of(class: &Class, failure: &Failure) -> Self {
        Self { dataset: class.dataset.clone(), reason: failure.reason }
    }
}

#[derive(Debug)]
struct Course {
    error: String,
    /// The first failure since an import of the dataset.
    since: Option<Instant>,
    sample_at: Instant,
    sample_interval: Duration,
    sampled: bool,
    /// Objects that failed for it and wait.
    n_held: usize,
}

/// Where objects wait for one another: a dataset, or a directory of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    cause: Cause,
    prefix: Option<String>,
}

#[derive(Debug)]
struct Gate {
    closes_after: u32,
    /// Objects that failed, with none imported in between.
    n_failed: u32,
    since: Instant,
    pause: Duration,
    next_try: Instant,
    trying: bool,
    /// The object being tried failed as those before it.
    in_vain: bool,
}

/// One object's failures so far.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// When it first failed for this cause.
    pub first_failed: Instant,
    /// This is that first time.
    pub is_first: bool,
}

/// What becomes of an object that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It fails.
    Fail,
    /// It is tried again, at this moment at the latest unless it has to wait for others.
    Wait(Instant),
}

/// Whether an object may be tried.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing is in the way.
    Go,
    /// As the one that is tried at these places; [`Brake::tried`] says that it was.
    Try(Vec<Place>),
    /// Ask again then, or when something has changed.
    Wait(Instant),
}

impl Brake {
    /// Returns a brake that is not pulled. Without patience it never is.
    #[must_use]
    pub fn new(patience: Duration, until_empty: bool) -> Self {
        Self {
            patience,
            until_empty,
            causes: HashMap::new(),
            gates: HashMap::new(),
            imported: HashMap::new(),
            waiting: BTreeMap::new(),
            n_tickets: 0,
        }
    }

    /// Notes that an object failed and decides what becomes of it. After [`Decision::Wait`] the object counts as
    /// held until [`Self::let_go`], which is called once for each object and cause.
    ///
    /// Returns with it whether the cause is news.
    pub fn failed(&mut self, class: &Class, failure: &Failure, seen: Seen, now: Instant) -> (Decision, bool) {
        if self.patience.is_zero() || failure.scope == Scope::Object {
            return (Decision::Fail, false);
        }
        let cause = Cause::of(class, failure);
        let news = !self.causes.contains_key(&cause);
        let course = self.causes.entry(cause.clone()).or_insert_with(|| Course {
            error: String::new(),
            since: None,
            sample_at: now,
            sample_interval: Duration::ZERO,
            sampled: false,
            n_held: 0,
        });
        course.error.clone_from(&failure.error);
        if course.since.is_none() {
            course.since = Some(now);
            course.sample_at = now + self.patience;
            course.sample_interval = self.patience * 2;
        }
        let is_own = self.imported.get(&class.dataset).is_some_and(|begun| *begun > seen.first_failed);
        let decided_at = if is_own {
            seen.first_failed + self.patience
        } else if self.until_empty && course.sampled {
            now
        } else {
            course.sample_at
        };
        let decision = if now < decided_at { Decision::Wait(decided_at) } else { Decision::Fail };
        if decision == Decision::Fail && !is_own {
            course.sampled = true;
            course.sample_at = now + course.sample_interval;
            course.sample_interval = (course.sample_interval * 2).min(self.patience * MAX_SAMPLE_INTERVAL);
        } else if decision != Decision::Fail && seen.is_first {
            course.n_held += 1;
        }
        let (sample_at, sampled) = (course.sample_at, course.sampled);
        self.note_at_gates(class, failure, seen, sample_at, now);
        if self.until_empty && sampled {
            self.gates.retain(|place, _| place.cause != cause);
        }
        self.forget(&cause);
        (decision, news)
    }

    fn note_at_gates(&mut self, class: &Class, failure: &Failure, seen: Seen, sample_at: Instant, now: Instant) {
        if self.gates.len() >= MAX_GATES {
            self.gates.retain(|place, gate| place.prefix.is_none() || gate.trying);
        }
        let first_pause = self.patience / FIRST_PAUSE;
        let is_of_prefix = failure.scope == Scope::Prefix;
        let of_dataset = if is_of_prefix { CLOSES_DATASET_AFTER } else { CLOSES_AFTER };
        let of_prefix = is_of_prefix.then(|| (Some(class.prefix.clone()), CLOSES_AFTER));
        for (prefix, closes_after) in [(None, of_dataset)].into_iter().chain(of_prefix) {
            let gate = self.gates.entry(Place { cause: Cause::of(class, failure), prefix }).or_insert_with(|| Gate {
                closes_after,
                n_failed: 0,
                since: now,
                pause: first_pause,
                next_try: now,
                trying: false,
                in_vain: false,
            });
            if seen.is_first {
                gate.n_failed = gate.n_failed.saturating_add(1);
                if gate.n_failed == gate.closes_after {
                    gate.next_try = now + gate.pause;
                }
            }
            if gate.trying {
                gate.in_vain = true;
                gate.pause = (gate.pause * 2).min(self.patience);
                gate.next_try = now + gate.pause;
                // The sample is due when it is due.
                if (now..gate.next_try).contains(&sample_at) {
                    gate.next_try = sample_at;
                }
            }
        }
    }

    /// Notes an import that was started then; returns the causes that are over by it.
    pub fn imported(&mut self, class: &Class, begun: Instant) -> Vec<Reason> {
        let newest = self.imported.entry(class.dataset.clone()).or_insert(begun);
        *newest = begun.max(*newest);
        // What was started before the first failure may have got through by that.
        self.gates.retain(|place, gate| !place.takes(class) || gate.since >= begun);
        let mut over = Vec::new();
        for (cause, course) in &mut self.causes {
            if cause.dataset == class.dataset && course.since.take_if(|since| *since < begun).is_some() {
                over.push(cause.reason);
            }
        }
        over
    }

    /// Notes that an object that was told to wait for this cause waits no longer.
    pub fn let_go(&mut self, cause: &Cause) {
        if let Some(course) = self.causes.get_mut(cause) {
            course.n_held = course.n_held.saturating_sub(1);
        }
        self.forget(cause);
    }

    /// Forgets a cause without waiting objects.
    fn forget(&mut self, cause: &Cause) {
        let awaited = self.waiting.values().any(|class| class.dataset == cause.dataset);
        if !awaited && self.causes.get(cause).is_some_and(|course| course.n_held == 0) {
            self.causes.remove(cause);
            self.gates.retain(|place, gate| place.cause != *cause || gate.trying);
        }
    }

    /// Returns whether an object of this class would have to wait.
    #[must_use]
    pub fn is_closed(&self, class: &Class) -> bool {
        self.gates.iter().any(|(place, gate)| gate.is_closed() && place.takes(class))
    }

    /// Lets an object wait its turn to be tried, behind those that wait already.
    pub fn queue(&mut self, class: &Class) -> u64 {
        self.n_tickets += 1;
        self.waiting.insert(self.n_tickets, class.clone());
        self.n_tickets
    }

    /// Takes an object out of the queue.
    pub fn leave(&mut self, ticket: u64) {
        let Some(class) = self.waiting.remove(&ticket) else { return };
        let causes: Vec<Cause> = self.causes.keys().filter(|cause| cause.dataset == class.dataset).cloned().collect();
        causes.iter().for_each(|cause| self.forget(cause));
    }

    /// Returns whether a queued object may be tried now.
    pub fn ask(&mut self, ticket: u64, now: Instant) -> Answer {
        let Some(class) = self.waiting.get(&ticket) else { return Answer::Go };
        let Some(due) = self.due(class, now) else { return Answer::Go };
        if due > now {
            return Answer::Wait(due);
        }
        let may_try = |class: &Class| self.due(class, now).is_some_and(|due| due <= now);
        let first = self.waiting.iter().find(|(_, class)| may_try(class)).map(|(ticket, _)| *ticket);
        if first != Some(ticket) {
            // The first of them asks at this very moment.
            return Answer::Wait(now + self.patience / FIRST_PAUSE);
        }
        let mut places = Vec::new();
        for (place, gate) in self.gates.iter_mut().filter(|(place, gate)| gate.is_closed() && place.takes(class)) {
            (gate.trying, gate.in_vain) = (true, false);
            places.push(place.clone());
        }
        Answer::Try(places)
    }

    /// Returns when one of a class may be tried; None when no gate is closed to it.
    fn due(&self, class: &Class, now: Instant) -> Option<Instant> {
        let closed = self.gates.iter().filter(|(place, gate)| gate.is_closed() && place.takes(class));
        closed.map(|(_, gate)| if gate.trying { now + self.patience } else { gate.next_try }).max()
    }

    /// Notes that the object tried at these places was tried; where it did not fail the next may be at once.
    pub fn tried(&mut self, places: &[Place], now: Instant) {
        for place in places {
            let Some(gate) = self.gates.get_mut(place) else { continue };
            gate.trying = false;
            if !gate.in_vain {
                gate.next_try = now;
            }
            if self.causes.contains_key(&place.cause) {
                self.forget(&place.cause);
            } else {
                self.gates.remove(place);
            }
        }
    }

    /// Returns the causes for which a dataset's objects fail, with the newest error.
    pub fn causes(&self) -> impl Iterator<Item = (&Cause, &str)> {
        let lasting = self.causes.iter().filter(|(_, course)| course.since.is_some());
        lasting.map(|(cause, course)| (cause, course.error.as_str()))
    }
}

impl Place {
    fn takes(&self, class: &Class) -> bool {
        self.cause.dataset == class.dataset && self.prefix.as_ref().is_none_or(|prefix| *prefix == class.prefix)
    }
}

impl Gate {
    fn is_closed(&self) -> bool {
        self.n_failed >= self.closes_after
    }
}

#[cfg(test)]
mod tests;
