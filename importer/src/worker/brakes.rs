//! The brake at work: objects wait at it, `/readyz`, the log and the metrics say why.

use super::brake::{Answer, Brake, Cause, Decision, Place, Seen};
use crate::{
    metrics::Metrics,
    outcome::{Failure, Scope},
    route::Class,
};
use parking_lot::Mutex;
use service::http::Health;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

/// A [`Brake`] that many tasks share.
pub struct Brakes {
    brake: Mutex<Brake>,
    changed: Notify,
    patience: Duration,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
}

/// The right to try an object; given back when dropped.
pub struct Pass<'a> {
    brakes: &'a Brakes,
    places: Vec<Place>,
}

/// An object's failures for causes that may not be its own. It counts as one that waits for as long as it lives.
pub struct Stake<'a> {
    brakes: &'a Brakes,
    failed: Vec<(Cause, Instant)>,
}

impl Brakes {
    /// Returns a brake that nothing has pulled.
    pub fn new(patience: Duration, until_empty: bool, health: Arc<Health>, metrics: Arc<Metrics>) -> Self {
        let brake = Mutex::new(Brake::new(patience, until_empty));
        Self { brake, changed: Notify::new(), patience, health, metrics }
    }

    /// Says whether the run ends when the queue is empty, so that nothing will be mended meanwhile.
    pub fn until_empty(&self, until_empty: bool) {
        *self.brake.lock() = Brake::new(self.patience, until_empty);
    }

    /// Returns whether an object would have to wait before it is tried.
    pub fn is_closed(&self, class: &Class) -> bool {
        self.brake.lock().is_closed(class)
    }

    /// Waits until an object may be tried.
    pub async fn pass(&self, class: &Class) -> Pass<'_> {
        let ticket = Ticket { brakes: self, number: self.brake.lock().queue(class) };
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let answer = self.brake.lock().ask(ticket.number, Instant::now());
            let places = match answer {
                Answer::Go => Vec::new(),
                Answer::Try(places) => places,
                Answer::Wait(until) => {
                    tokio::select! {
                        () = changed => {}
                        () = sleep_until(until) => {}
                    }
                    continue;
                }
            };
            return Pass { brakes: self, places };
        }
    }

    /// Returns an object's stake: it has not failed yet.
    pub fn stake(&self) -> Stake<'_> {
        Stake { brakes: self, failed: Vec::new() }
    }

    /// Notes that an object was imported by an attempt started then.
    pub fn imported(&self, class: &Class, begun: Instant) {
        let over = self.brake.lock().imported(class, begun);
        if over.is_empty() {
            return;
        }
        for reason in over {
            info!(dataset = %class.dataset, reason = <&str>::from(reason), "cause of failures resolved");
        }
        self.tell();
        self.changed.notify_waiters();
    }

    /// Changes the brake and, where that ends a cause, says so.
    fn change(&self, change: impl FnOnce(&mut Brake)) {
        let mut brake = self.brake.lock();
        let n_causes = brake.causes().count();
        change(&mut brake);
        let is_news = brake.causes().count() != n_causes;
        drop(brake);
        if is_news {
            self.tell();
        }
    }

    /// Returns for what objects of which datasets are held, and an error of each.
    pub fn causes(&self) -> Vec<(Cause, String)> {
        self.brake.lock().causes().map(|(cause, error)| (cause.clone(), error.to_string())).collect()
    }

    /// Shows for what objects fail.
    fn tell(&self) {
        let mut lines = BTreeMap::new();
        for (cause, error) in self.brake.lock().causes() {
            let Cause { dataset, reason } = cause;
            lines.insert((dataset.clone(), <&str>::from(reason)), format!("{dataset}: {reason}: {error}"));
        }
        self.metrics.dataset_braked.clear();
        for (dataset, reason) in lines.keys() {
            let label = [("dataset", (**dataset).into()), ("reason", (*reason).into())];
            self.metrics.dataset_braked.get_or_create(&label).set(1);
        }
        if lines.is_empty() {
            self.health.note("dataset", Ok(()));
        } else {
            self.health.note("dataset", Err(lines.into_values().collect::<Vec<_>>().join("; ")));
        }
    }
}

impl Stake<'_> {
    /// Decides what becomes of the object after it failed.
    pub fn judge(&mut self, class: &Class, failure: &Failure) -> Decision {
        if failure.scope == Scope::Object {
            return Decision::Fail;
        }
        let now = Instant::now();
        let cause = Cause::of(class, failure);
        let before = self.failed.iter().find(|(failed, _)| *failed == cause).map(|(_, at)| *at);
        let seen = Seen { first_failed: before.unwrap_or(now), is_first: before.is_none() };
        let (decision, news) = self.brakes.brake.lock().failed(class, failure, seen, now);
        if let Decision::Wait(_) = decision {
            if before.is_none() {
                self.failed.push((cause, now));
            }
            if news {
                warn!(
                    dataset = %class.dataset,
                    reason = <&str>::from(failure.reason),
                    error = failure.error,
                    brake_secs = self.brakes.patience.as_secs_f64(),
                    "objects fail for a cause that may be external; holding them"
                );
            }
        }
        self.brakes.tell();
        self.brakes.changed.notify_waiters();
        decision
    }
}

impl Drop for Stake<'_> {
    fn drop(&mut self) {
        if self.failed.is_empty() {
            return;
        }
        for (cause, _) in &self.failed {
            self.brakes.brake.lock().let_go(cause);
        }
        self.brakes.tell();
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if !self.places.is_empty() {
            self.brakes.change(|brake| brake.tried(&self.places, Instant::now()));
            self.brakes.changed.notify_waiters();
        }
    }
}

struct Ticket<'a> {
    brakes: &'a Brakes,
    number: u64,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.brakes.change(|brake| brake.leave(self.number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Reason;

    fn brakes(patience: Duration) -> (Brakes, Arc<Health>) {
        let (health, metrics) = (Arc::new(Health::default()), Arc::new(Metrics::new(&["d".to_owned()])));
        (Brakes::new(patience, false, Arc::clone(&health), metrics), health)
    }

    fn class() -> Class {
        Class { dataset: "d".into(), prefix: String::new() }
    }

    fn failure() -> Failure {
        Failure { scope: Scope::Dataset, ..Failure::new(Reason::Access, "no right".to_owned()) }
    }

    /// Closes the gate: three objects fail, which wait for as long as they live.
    fn failed(brakes: &Brakes) -> Vec<Stake<'_>> {
        let mut stakes: Vec<_> = (0..3).map(|_| brakes.stake()).collect();
        for stake in &mut stakes {
            assert!(matches!(stake.judge(&class(), &failure()), Decision::Wait(_)));
        }
        stakes
    }

    #[tokio::test]
    async fn who_waits_is_told_when_the_object_tried_is_done_and_when_one_is_imported() {
        // The first is tried after a sixtieth of that, and the next after all of it, unless something is noted.
        let patience = Duration::from_secs(24);
        let limit = patience / 2;
        for is_imported in [false, true] {
            let (brakes, _) = brakes(patience);
            let _stakes = failed(&brakes);
            let class = class();
            let tried = brakes.pass(&class).await;
            let mut next = Box::pin(brakes.pass(&class));
            assert!(tokio::time::timeout(Duration::from_millis(20), &mut next).await.is_err(), "one at a time");
            if is_imported {
                brakes.imported(&class, Instant::now());
            } else {
                drop(tried);
            }
            assert!(tokio::time::timeout(limit, next).await.is_ok(), "imported: {is_imported}");
        }
    }

    #[tokio::test]
    async fn who_waits_goes_on_at_once_when_a_run_that_ends_by_itself_has_its_sample() {
        let patience = Duration::from_millis(200);
        let (brakes, _) = brakes(patience);
        brakes.until_empty(true);
        let mut stakes = failed(&brakes);
        let class = class();
        let _tried = brakes.pass(&class).await;
        sleep_until(Instant::now() + patience).await;
        let mut next = Box::pin(brakes.pass(&class));
        assert!(tokio::time::timeout(Duration::ZERO, &mut next).await.is_err(), "one at a time");
        assert_eq!(stakes[0].judge(&class, &failure()), Decision::Fail);
        assert!(tokio::time::timeout(patience / 2, next).await.is_ok(), "nothing will be mended");
    }

    #[tokio::test]
    async fn a_cause_that_ends_with_the_last_who_was_held_is_shown_no_longer() {
        let (brakes, health) = brakes(Duration::from_secs(60));
        let mut stakes = failed(&brakes);
        let last = stakes.pop();
        drop(stakes);
        assert!(health.missing().contains("access"), "one is still held");
        drop(last);
        assert_eq!(health.missing(), "");
    }

    #[tokio::test]
    async fn a_cause_that_ends_with_the_last_who_waited_is_shown_no_longer() {
        let (brakes, health) = brakes(Duration::from_secs(60));
        let stakes = failed(&brakes);
        let class = class();
        let mut waiting = Box::pin(brakes.pass(&class));
        let passed = tokio::time::timeout(Duration::from_millis(20), &mut waiting).await;
        assert!(passed.is_err(), "the gate is closed");
        drop(stakes);
        assert!(health.missing().contains("access"), "somebody still waits");
        drop(waiting);
        assert_eq!(health.missing(), "");
    }
}
