//! What is broken outside, as the imports see it.

use crate::outcome::Outside;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The state of Postgres, the object store and the queue. While one is bad, intake pauses: what is in hand probes.
#[derive(Debug, Default)]
pub struct Weather {
    troubles: Mutex<Troubles>,
}

#[derive(Debug, Default)]
struct Troubles {
    postgres: Option<String>,
    store: Option<String>,
    queue: Option<String>,
}

impl Weather {
    /// Notes a failure; returns whether it is news.
    pub fn worsened(&self, outside: Outside, error: &str) -> bool {
        let mut troubles = self.lock();
        let place = match outside {
            Outside::Postgres => &mut troubles.postgres,
            Outside::Store => &mut troubles.store,
            // Another transaction in the way is nobody's outage.
            Outside::Contention => return false,
        };
        place.replace(error.to_owned()).is_none()
    }

    /// Notes that an object was settled, which takes Postgres and usually the store.
    pub fn improved(&self) {
        let mut troubles = self.lock();
        troubles.postgres = None;
        troubles.store = None;
    }

    /// Notes that the queue did not answer.
    pub fn queue_failed(&self, error: String) {
        self.lock().queue = Some(error);
    }

    /// Notes that the queue answered.
    pub fn queue_answered(&self) {
        self.lock().queue = None;
    }

    /// Returns whether Postgres or the store is out of reach.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        let troubles = self.lock();
        troubles.postgres.is_some() || troubles.store.is_some()
    }

    /// Returns what is missing, a sentence each; empty when all is well.
    #[must_use]
    pub fn report(&self) -> Vec<String> {
        let troubles = self.lock();
        let named = [("postgres", &troubles.postgres), ("object store", &troubles.store), ("queue", &troubles.queue)];
        named.into_iter().filter_map(|(name, trouble)| Some(format!("{name}: {}", trouble.as_ref()?))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Troubles> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
