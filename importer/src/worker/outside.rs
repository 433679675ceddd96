//! What is broken outside, as the imports see it.

use crate::{http::Health, metrics::Metrics, outcome::Outside};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// How long a dataset that was settled counts as one that works.
/// Longer takes more messages in hand at the start of an outage; shorter lets the trouble of one dataset pause a rare other.
const WORKS_FOR: Duration = Duration::from_secs(60);
/// How long trouble is believed without being met again; what is held is tried at least every 30 s.
const BELIEVED_FOR: Duration = Duration::from_secs(120);

/// The state of Postgres and the object store, by dataset: what one cannot reach another may.
///
/// Intake pauses while something is bad and no dataset works; what is in hand probes.
#[derive(Debug)]
pub struct Weather {
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    datasets: Mutex<HashMap<String, Mood>>,
}

#[derive(Debug, Clone, Copy)]
enum Mood {
    Works(Instant),
    Bad(Outside, Instant),
}

/// Whether to receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intake {
    /// As much as can start soon.
    Open,
    /// Now and then one message, which may be of a dataset that works.
    Probing,
    /// Nothing: no message could be imported.
    Paused,
}

impl Weather {
    /// Returns fair weather, reported to `health`.
    #[must_use]
    pub fn new(health: Arc<Health>, metrics: Arc<Metrics>) -> Self {
        Self { health, metrics, datasets: Mutex::default() }
    }

    /// Notes a failure of a dataset's object; returns whether it is news.
    pub fn worsened(&self, outside: Outside, dataset: &str, error: &str) -> bool {
        // Another transaction in the way is nobody's outage.
        let Some(name) = name(outside) else { return false };
        let now = Instant::now();
        let mut datasets = self.lock();
        if outside == Outside::Postgres {
            // Nobody gets past a server that is out of reach.
            datasets.retain(|_, mood| !matches!(mood, Mood::Works(_)));
        }
        let news = !datasets.values().any(|mood| is_bad(mood, name, now));
        datasets.insert(dataset.to_owned(), Mood::Bad(outside, now));
        self.health.set_missing(name, error);
        self.metrics.intake_paused.set((intake(&datasets, now) != Intake::Open).into());
        news
    }

    /// Notes that an object of a dataset was settled, which takes Postgres and usually the store; returns
    /// whether that is news.
    pub fn improved(&self, dataset: &str) -> bool {
        let now = Instant::now();
        let mut datasets = self.lock();
        let was_bad = datasets.values().any(|mood| matches!(mood, Mood::Bad(..)));
        datasets.insert(dataset.to_owned(), Mood::Works(now));
        // The server is there again for all.
        datasets.retain(|_, mood| !matches!(mood, Mood::Bad(Outside::Postgres, _)));
        for known in ["postgres", "object store"] {
            if was_bad && !datasets.values().any(|mood| is_bad(mood, known, now)) {
                self.health.set_ready(known);
            }
        }
        self.metrics.intake_paused.set((intake(&datasets, now) != Intake::Open).into());
        was_bad && !datasets.values().any(|mood| matches!(mood, Mood::Bad(..)))
    }

    /// Notes that the queue did not answer.
    pub fn queue_failed(&self, error: String) {
        self.health.set_missing("queue", error);
    }

    /// Notes that the queue answered.
    pub fn queue_answered(&self) {
        self.health.set_ready("queue");
    }

    /// Returns whether to receive.
    #[must_use]
    pub fn intake(&self) -> Intake {
        intake(&self.lock(), Instant::now())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Mood>> {
        self.datasets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns what `/readyz` calls it.
fn name(outside: Outside) -> Option<&'static str> {
    match outside {
        Outside::Postgres | Outside::Statement => Some("postgres"),
        Outside::Store => Some("object store"),
        Outside::Contention | Outside::Missing => None,
    }
}

fn is_bad(mood: &Mood, wanted: &str, now: Instant) -> bool {
    matches!(mood, Mood::Bad(outside, at) if name(*outside) == Some(wanted) && now.duration_since(*at) < BELIEVED_FOR)
}

fn intake(datasets: &HashMap<String, Mood>, now: Instant) -> Intake {
    let is_within = |at: &Instant, limit| now.duration_since(*at) < limit;
    let works = |mood: &Mood| matches!(mood, Mood::Works(at) if is_within(at, WORKS_FOR));
    let bad = |mood: &&Mood| matches!(mood, Mood::Bad(_, at) if is_within(at, BELIEVED_FOR));
    if datasets.values().any(works) {
        return Intake::Open;
    }
    let bad: Vec<&Mood> = datasets.values().filter(bad).collect();
    if bad.is_empty() {
        return Intake::Open;
    }
    let out_of_reach = bad.iter().any(|mood| matches!(mood, Mood::Bad(Outside::Postgres, _)));
    if out_of_reach { Intake::Paused } else { Intake::Probing }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weather() -> (Weather, Arc<Health>) {
        let health = Arc::new(Health::default());
        (Weather::new(Arc::clone(&health), Arc::new(Metrics::new(&[]))), health)
    }

    #[tokio::test]
    async fn a_server_out_of_reach_pauses_intake_whoever_worked_before() {
        let (weather, health) = weather();
        weather.improved("a");
        assert!(weather.worsened(Outside::Postgres, "b", "refused"));
        assert!(!weather.worsened(Outside::Postgres, "a", "refused"), "no news");
        assert_eq!(weather.intake(), Intake::Paused);
        assert_eq!(health.missing(), "postgres: refused\n");
        assert!(weather.improved("b"));
        assert_eq!(weather.intake(), Intake::Open);
        assert!(health.is_ready());
    }

    #[tokio::test]
    async fn one_datasets_store_does_not_pause_another() {
        let (weather, health) = weather();
        weather.worsened(Outside::Store, "a", "slow down");
        assert_eq!(weather.intake(), Intake::Probing, "nobody is known to work");
        weather.improved("b");
        assert_eq!(weather.intake(), Intake::Open);
        weather.worsened(Outside::Store, "a", "slow down");
        assert_eq!(weather.intake(), Intake::Open);
        assert_eq!(health.missing(), "object store: slow down\n", "and still it is said");
        weather.worsened(Outside::Store, "b", "slow down");
        assert_eq!(weather.intake(), Intake::Probing, "nobody works any more");
        assert!(!weather.improved("a"), "one is still in trouble");
        assert!(weather.improved("b"));
        assert!(health.is_ready());
    }

    #[tokio::test]
    async fn contention_is_nobodys_outage() {
        let (weather, health) = weather();
        assert!(!weather.worsened(Outside::Contention, "a", "lock timeout"));
        assert_eq!(weather.intake(), Intake::Open);
        assert!(health.is_ready());
    }
}
