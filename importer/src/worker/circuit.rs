//! The circuit breaker: whether to receive while something outside is broken, as the imports see it.

use crate::{dataset::DatasetName, http::Health, metrics::Metrics, outcome::Outside};
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

/// The health of Postgres and the object store, by dataset: what one cannot reach another may.
///
/// The circuit opens while something is broken and no dataset works; what is in hand probes.
#[derive(Debug)]
pub struct Circuit {
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    datasets: Mutex<HashMap<DatasetName, Seen>>,
}

#[derive(Debug, Clone, Copy)]
enum Seen {
    Working(Instant),
    Broken(Outside, Instant),
}

/// Whether to receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// As much as can start soon.
    Closed,
    /// Now and then one message, which may be of a dataset that works.
    HalfOpen,
    /// Nothing: no message could be imported.
    Open,
}

impl Circuit {
    /// Returns a closed circuit, reported to `health`.
    #[must_use]
    pub fn new(health: Arc<Health>, metrics: Arc<Metrics>) -> Self {
        Self { health, metrics, datasets: Mutex::default() }
    }

    /// Notes a failure of a dataset's object; returns whether it is news.
    pub fn worsened(&self, outside: Outside, dataset: &DatasetName, error: &str) -> bool {
        // Another transaction in the way is no outage.
        let Some(name) = name(outside) else { return false };
        let now = Instant::now();
        let mut datasets = self.lock();
        if outside == Outside::Postgres {
            // No dataset gets past a server that is out of reach.
            datasets.retain(|_, seen| !matches!(seen, Seen::Working(_)));
        }
        let news = !datasets.values().any(|seen| is_broken(seen, name, now));
        datasets.insert(dataset.clone(), Seen::Broken(outside, now));
        self.health.set_missing(name, error);
        self.metrics.intake_paused.set((state(&datasets, now) != State::Closed).into());
        news
    }

    /// Notes that an object of a dataset was settled, which takes Postgres and usually the store; returns
    /// whether that is news.
    pub fn improved(&self, dataset: &DatasetName) -> bool {
        let now = Instant::now();
        let mut datasets = self.lock();
        let was_broken = datasets.values().any(|seen| matches!(seen, Seen::Broken(..)));
        datasets.insert(dataset.clone(), Seen::Working(now));
        // The server is there again for all.
        datasets.retain(|_, seen| !matches!(seen, Seen::Broken(Outside::Postgres, _)));
        for known in ["postgres", "object store"] {
            if was_broken && !datasets.values().any(|seen| is_broken(seen, known, now)) {
                self.health.set_ready(known);
            }
        }
        self.metrics.intake_paused.set((state(&datasets, now) != State::Closed).into());
        was_broken && !datasets.values().any(|seen| matches!(seen, Seen::Broken(..)))
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
    pub fn state(&self) -> State {
        state(&self.lock(), Instant::now())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DatasetName, Seen>> {
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

fn is_broken(seen: &Seen, wanted: &str, now: Instant) -> bool {
    matches!(seen, Seen::Broken(outside, at) if name(*outside) == Some(wanted) && now.duration_since(*at) < BELIEVED_FOR)
}

fn state(datasets: &HashMap<DatasetName, Seen>, now: Instant) -> State {
    let is_within = |at: &Instant, limit| now.duration_since(*at) < limit;
    let is_working = |seen: &Seen| matches!(seen, Seen::Working(at) if is_within(at, WORKS_FOR));
    let is_broken = |seen: &&Seen| matches!(seen, Seen::Broken(_, at) if is_within(at, BELIEVED_FOR));
    if datasets.values().any(is_working) {
        return State::Closed;
    }
    let broken: Vec<&Seen> = datasets.values().filter(is_broken).collect();
    if broken.is_empty() {
        return State::Closed;
    }
    let out_of_reach = broken.iter().any(|seen| matches!(seen, Seen::Broken(Outside::Postgres, _)));
    if out_of_reach { State::Open } else { State::HalfOpen }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circuit() -> (Circuit, Arc<Health>) {
        let health = Arc::new(Health::default());
        (Circuit::new(Arc::clone(&health), Arc::new(Metrics::new(&[]))), health)
    }

    #[tokio::test]
    async fn a_server_out_of_reach_opens_the_circuit_whatever_worked_before() {
        let (circuit, health) = circuit();
        circuit.improved(&"a".into());
        assert!(circuit.worsened(Outside::Postgres, &"b".into(), "refused"));
        assert!(!circuit.worsened(Outside::Postgres, &"a".into(), "refused"), "no news");
        assert_eq!(circuit.state(), State::Open);
        assert_eq!(health.missing(), "postgres: refused\n");
        assert!(circuit.improved(&"b".into()));
        assert_eq!(circuit.state(), State::Closed);
        assert!(health.is_ready());
    }

    #[tokio::test]
    async fn one_datasets_store_does_not_pause_another() {
        let (circuit, health) = circuit();
        circuit.worsened(Outside::Store, &"a".into(), "slow down");
        assert_eq!(circuit.state(), State::HalfOpen, "nobody is known to work");
        circuit.improved(&"b".into());
        assert_eq!(circuit.state(), State::Closed);
        circuit.worsened(Outside::Store, &"a".into(), "slow down");
        assert_eq!(circuit.state(), State::Closed);
        assert_eq!(health.missing(), "object store: slow down\n", "and still it is said");
        circuit.worsened(Outside::Store, &"b".into(), "slow down");
        assert_eq!(circuit.state(), State::HalfOpen, "nobody works any more");
        assert!(!circuit.improved(&"a".into()), "one is still in trouble");
        assert!(circuit.improved(&"b".into()));
        assert!(health.is_ready());
    }

    #[tokio::test]
    async fn contention_is_nobodys_outage() {
        let (circuit, health) = circuit();
        assert!(!circuit.worsened(Outside::Contention, &"a".into(), "lock timeout"));
        assert_eq!(circuit.state(), State::Closed);
        assert!(health.is_ready());
    }
}
