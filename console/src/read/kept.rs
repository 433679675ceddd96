//! What was read last, for all who look at once, and for when it cannot be read any more.

use super::Failure;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::{sync::Mutex, time::Instant};

/// What was read last, and why it is not newer.
#[derive(Debug)]
pub struct Seen<T> {
    /// What was read.
    pub value: Option<Arc<T>>,
    /// When.
    pub at: Option<DateTime<Utc>>,
    /// Why the last try failed, if it did.
    pub failure: Option<Failure>,
}

impl<T> Default for Seen<T> {
    fn default() -> Self {
        Self { value: None, at: None, failure: None }
    }
}

impl<T> Clone for Seen<T> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), at: self.at, failure: self.failure.clone() }
    }
}

impl<T> Seen<T> {
    /// Takes what was read for this occasion only.
    #[must_use]
    pub fn once(read: Result<T, Failure>) -> Self {
        let mut seen = Self::default();
        seen.take(read);
        seen
    }

    fn take(&mut self, read: Result<T, Failure>) {
        match read {
            Ok(value) => *self = Self { value: Some(Arc::new(value)), at: Some(Utc::now()), failure: None },
            Err(failure) => self.failure = Some(failure),
        }
    }
}

impl<T: Serialize> Seen<T> {
    /// Returns it as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({ "value": self.value.as_deref(), "seen_at": self.at, "failure": self.failure })
    }
}

/// For how many times as long as it took to read a thing is not read again, so that looking costs a server little.
const REST: u32 = 50;

/// The longest such rest.
const LONGEST_REST: Duration = Duration::from_secs(20);

/// How long what could not be read is not tried again.
const TRIED: Duration = Duration::from_secs(10);

/// One thing that is read now and then: at most once in a while, however many look.
#[derive(Debug)]
pub struct Kept<T> {
    fresh: Duration,
    /// Until when it is fresh, and what was seen.
    slot: Mutex<(Option<Instant>, Seen<T>)>,
}

impl<T> Kept<T> {
    /// Keeps what is read for as long.
    #[must_use]
    pub fn new(fresh: Duration) -> Self {
        Self { fresh, slot: Mutex::default() }
    }

    /// Returns what there is, read anew unless it is fresh. Whoever comes while it is read waits for that.
    pub async fn get(&self, read: impl AsyncFnOnce() -> Result<T, Failure>) -> Seen<T> {
        let mut slot = self.slot.lock().await;
        let begun = Instant::now();
        if slot.0.is_none_or(|until| until <= begun) {
            let read = read().await;
            let rest = (begun.elapsed() * REST).min(LONGEST_REST);
            let fresh = if read.is_ok() { self.fresh.max(rest) } else { self.fresh.min(TRIED) };
            slot.1.take(read);
            slot.0 = Some(Instant::now() + fresh);
        }
        slot.1.clone()
    }

    /// Returns what there is, however old; nothing while it is read.
    pub fn last(&self) -> Seen<T> {
        self.slot.try_lock().map(|slot| slot.1.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_seen_last_stays_when_it_cannot_be_read() {
        let kept = Kept::new(Duration::ZERO);
        assert_eq!(kept.get(async || Ok(1)).await.value.as_deref(), Some(&1));
        tokio::time::sleep(Duration::from_millis(50)).await;
        let seen = kept.get(async || Err(Failure::Slow)).await;
        assert_eq!((seen.value.as_deref(), &seen.failure), (Some(&1), &Some(Failure::Slow)));
        assert!(seen.at.is_some());
        let seen = kept.get(async || Ok(3)).await;
        assert_eq!((seen.value.as_deref(), &seen.failure), (Some(&3), &None));
    }

    #[tokio::test]
    async fn what_is_fresh_is_not_read_again() {
        let kept = Kept::new(Duration::from_secs(3600));
        for read in [1, 2] {
            assert_eq!(kept.get(async || Ok(read)).await.value.as_deref(), Some(&1));
        }
    }
}
