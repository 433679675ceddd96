//! What is broken outside, as the imports see it.

use crate::{http::Health, metrics::Metrics, outcome::Outside};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// The state of Postgres, the object store and the queue. While one of the first two is bad, intake
/// pauses: what is in hand probes.
#[derive(Debug)]
pub struct Weather {
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    postgres: AtomicBool,
    store: AtomicBool,
}

impl Weather {
    /// Returns fair weather, reported to `health`.
    #[must_use]
    pub fn new(health: Arc<Health>, metrics: Arc<Metrics>) -> Self {
        Self { health, metrics, postgres: AtomicBool::new(false), store: AtomicBool::new(false) }
    }

    /// Notes a failure; returns whether it is news.
    pub fn worsened(&self, outside: Outside, error: &str) -> bool {
        let (bad, name) = match outside {
            Outside::Postgres => (&self.postgres, "postgres"),
            Outside::Store => (&self.store, "object store"),
            // Another transaction in the way is nobody's outage.
            Outside::Contention => return false,
        };
        self.health.set_missing(name, error);
        self.metrics.intake_paused.set(1);
        !bad.swap(true, Ordering::Relaxed)
    }

    /// Notes that an object was settled, which takes Postgres and usually the store; returns whether that is news.
    pub fn improved(&self) -> bool {
        let mut news = false;
        for (bad, name) in [(&self.postgres, "postgres"), (&self.store, "object store")] {
            if bad.swap(false, Ordering::Relaxed) {
                self.health.set_ready(name);
                news = true;
            }
        }
        if news {
            self.metrics.intake_paused.set(0);
        }
        news
    }

    /// Notes that the queue did not answer.
    pub fn queue_failed(&self, error: String) {
        self.health.set_missing("queue", error);
    }

    /// Notes that the queue answered.
    pub fn queue_answered(&self) {
        self.health.set_ready("queue");
    }

    /// Returns whether Postgres or the store is out of reach.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        self.postgres.load(Ordering::Relaxed) || self.store.load(Ordering::Relaxed)
    }
}
