//! The circuit breaker: whether to receive while something outside is broken, as the imports see it.

use crate::{dataset::DatasetName, metrics::Metrics, outcome::Outside};
use parking_lot::Mutex;
use service::http::Health;
use std::{collections::HashMap, sync::Arc, time::Duration};
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
    pub health: Arc<Health>,
    metrics: Arc<Metrics>,
    datasets: Mutex<HashMap<DatasetName, Condition>>,
}

#[derive(Debug, Clone, Copy)]
enum Condition {
    Working(Instant),
    Broken(Outside, Instant),
}

/// Whether to receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircuitState {
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
        let mut datasets = self.datasets.lock();
        if outside == Outside::Postgres {
            // No dataset gets past a server that is out of reach.
            datasets.retain(|_, condition| !matches!(condition, Condition::Working(_)));
        }
        let news = !datasets.values().any(|condition| is_broken(condition, name, now));
        datasets.insert(dataset.clone(), Condition::Broken(outside, now));
        self.health.note(name, Err(error.to_owned()));
        self.metrics.intake_paused.set((state(&datasets, now) != CircuitState::Closed).into());
        news
    }

    /// Notes that an object of a dataset was settled, which takes Postgres and usually the store; returns
    /// whether that is news.
    pub fn improved(&self, dataset: &DatasetName) -> bool {
        let now = Instant::now();
        let mut datasets = self.datasets.lock();
        let was_broken = datasets.values().any(|condition| matches!(condition, Condition::Broken(..)));
        datasets.insert(dataset.clone(), Condition::Working(now));
        // The server is there again for all.
        datasets.retain(|_, condition| !matches!(condition, Condition::Broken(Outside::Postgres, _)));
        for known in ["postgres", "object store"] {
            if was_broken && !datasets.values().any(|condition| is_broken(condition, known, now)) {
                self.health.note(known, Ok(()));
            }
        }
        self.metrics.intake_paused.set((state(&datasets, now) != CircuitState::Closed).into());
        was_broken && !datasets.values().any(|condition| matches!(condition, Condition::Broken(..)))
    }

    /// Returns whether to receive.
    #[must_use]
    pub fn state(&self) -> CircuitState {
        state(&self.datasets.lock(), Instant::now())
    }
}

/// Returns what `/readyz` calls it.
fn name(outside: Outside) -> Option<&'static str> {
    match outside {
        Outside::Postgres | Outside::Statement => Some("postgres"),
        Outside::Store => Some("object store"),
        Outside::Contention | Outside::Missing | Outside::Elsewhere => None,
    }
}

fn is_broken(condition: &Condition, wanted: &str, now: Instant) -> bool {
    match condition {
        Condition::Working(_) => false,
        Condition::Broken(outside, at) => name(*outside) == Some(wanted) && now.duration_since(*at) < BELIEVED_FOR,
    }
}

fn state(datasets: &HashMap<DatasetName, Condition>, now: Instant) -> CircuitState {
    let is_within = |at: &Instant, limit| now.duration_since(*at) < limit;
    let is_working = |condition: &Condition| matches!(condition, Condition::Working(at) if is_within(at, WORKS_FOR));
    let is_broken =
        |condition: &&Condition| matches!(condition, Condition::Broken(_, at) if is_within(at, BELIEVED_FOR));
    if datasets.values().any(is_working) {
        return CircuitState::Closed;
    }
    let broken: Vec<&Condition> = datasets.values().filter(is_broken).collect();
    if broken.is_empty() {
        return CircuitState::Closed;
    }
    let out_of_reach = broken.iter().any(|condition| matches!(condition, Condition::Broken(Outside::Postgres, _)));
    if out_of_reach { CircuitState::Open } else { CircuitState::HalfOpen }
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
        assert_eq!(circuit.state(), CircuitState::Open);
        assert_eq!(health.missing(), "postgres: refused\n");
        assert!(circuit.improved(&"b".into()));
        assert_eq!(circuit.state(), CircuitState::Closed);
        assert!(health.is_ready());
    }

    #[tokio::test]
    async fn one_datasets_store_does_not_pause_another() {
        let (circuit, health) = circuit();
        circuit.worsened(Outside::Store, &"a".into(), "slow down");
        assert_eq!(circuit.state(), CircuitState::HalfOpen, "nobody is known to work");
        circuit.improved(&"b".into());
        assert_eq!(circuit.state(), CircuitState::Closed);
        circuit.worsened(Outside::Store, &"a".into(), "slow down");
        assert_eq!(circuit.state(), CircuitState::Closed);
        assert_eq!(health.missing(), "object store: slow down\n", "and still it is said");
        circuit.worsened(Outside::Store, &"b".into(), "slow down");
        assert_eq!(circuit.state(), CircuitState::HalfOpen, "nobody works any more");
        assert!(!circuit.improved(&"a".into()), "one is still in trouble");
        assert!(circuit.improved(&"b".into()));
        assert!(health.is_ready());
    }

    #[tokio::test]
    async fn contention_is_nobodys_outage() {
        let (circuit, health) = circuit();
        assert!(!circuit.worsened(Outside::Contention, &"a".into(), "lock timeout"));
        assert_eq!(circuit.state(), CircuitState::Closed);
        assert!(health.is_ready());
    }
}
