//! What one object may take of the memory: every buffer that a file's own numbers size is reserved before it is there.
//!
//! A slot has a share of its own. What does not fit into it takes the pool, which all slots of a worker have together
//! and one at a time holds: so one large object passes, and several wait for each other instead of adding up.

use super::DecodeError;
use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// How long the pool is waited for. Shorter holds objects that had a chance, longer keeps slots and locks from others.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// The memory that a worker's slots have together, for one of them at a time.
#[derive(Debug, Clone)]
pub struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bytes: usize,
    is_taken: Mutex<bool>,
    given_back: Condvar,
    max_wait: Duration,
}

impl Pool {
    /// Returns a pool of so many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self::with_wait(bytes, MAX_WAIT)
    }

    fn with_wait(bytes: usize, max_wait: Duration) -> Self {
        Self(Arc::new(Shared { bytes, is_taken: Mutex::new(false), given_back: Condvar::new(), max_wait }))
    }

    /// Takes the pool when it is free, or becomes free within the wait.
    fn take(&self) -> bool {
        let is_taken = lock(&self.0.is_taken);
        let waited = self.0.given_back.wait_timeout_while(is_taken, self.0.max_wait, |is_taken| *is_taken);
        let (mut is_taken, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !std::mem::replace(&mut *is_taken, true)
    }

    fn give_back(&self) {
        *lock(&self.0.is_taken) = false;
        self.0.given_back.notify_one();
    }
}

/// What one object may take.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Slot>);

#[derive(Debug)]
struct Slot {
    share: usize,
    pool: Pool,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    bytes: usize,
    has_pool: bool,
}

impl Default for Budget {
    /// Returns a budget that everything fits into.
    fn default() -> Self {
        Self::new(usize::MAX, Pool::new(0))
    }
}

impl Budget {
    /// Returns a budget of a slot's own `share`, and of `pool` beyond it.
    #[must_use]
    pub fn new(share: usize, pool: Pool) -> Self {
        Self(Arc::new(Slot { share, pool, used: Mutex::default() }))
    }

    /// Returns the same budget for another object: nothing of it is used.
    #[must_use]
    pub fn afresh(&self) -> Self {
        Self::new(self.0.share, self.0.pool.clone())
    }

    /// Returns how many bytes an object may take at most.
    #[must_use]
    pub fn max_bytes(&self) -> usize {
        self.0.share.saturating_add(self.0.pool.0.bytes)
    }

    /// Reserves `bytes` for `what`, and waits for the pool where the share is too small for it.
    ///
    /// # Errors
    /// [`DecodeError::Limits`] where even the pool is too small; [`DecodeError::Source`], which is tried again, when
    /// another object has it all the time.
    pub fn reserve(&self, what: &str, bytes: usize) -> Result<Reservation, DecodeError> {
        let mut reservation = Reservation { budget: self.clone(), bytes: 0 };
        reservation.grow(what, bytes)?;
        Ok(reservation)
    }

    /// Reserves `bytes` where the share has room for them.
    pub fn reserve_of_share(&self, bytes: usize) -> Option<Reservation> {
        let mut used = lock(&self.0.used);
        let wanted = used.bytes.checked_add(bytes).filter(|&wanted| wanted <= self.0.share)?;
        used.bytes = wanted;
        Some(Reservation { budget: self.clone(), bytes })
    }

    fn take(&self, what: &str, bytes: usize) -> Result<(), DecodeError> {
        let slot = &*self.0;
        let mut used = lock(&slot.used);
        let wanted = used.bytes.saturating_add(bytes);
        if wanted > self.max_bytes() {
            return Err(DecodeError::Limits(format!(
                "{what} takes {bytes} bytes beside {} in use, of {} that one object may take (worker.memory_mib)",
                used.bytes,
                self.max_bytes()
            )));
        }
        if wanted > slot.share && !used.has_pool {
            if !slot.pool.take() {
                return Err(DecodeError::Source(anyhow::anyhow!(
                    "other large objects had the memory beyond a slot's share for {} s (worker.memory_mib)",
                    slot.pool.0.max_wait.as_secs()
                )));
            }
            used.has_pool = true;
        }
        used.bytes = wanted;
        Ok(())
    }

    fn give_back(&self, bytes: usize) {
        let mut used = lock(&self.0.used);
        used.bytes = used.bytes.saturating_sub(bytes);
        if used.has_pool && used.bytes <= self.0.share {
            used.has_pool = false;
            self.0.pool.give_back();
        }
    }
}

/// Bytes of a budget, given back when this is dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: Budget,
    bytes: usize,
}

impl Reservation {
    /// Reserves `more` bytes.
    ///
    /// # Errors
    /// Those of [`Budget::reserve`]; what was reserved stays so.
    pub fn grow(&mut self, what: &str, more: usize) -> Result<(), DecodeError> {
        self.budget.take(what, more)?;
        self.bytes += more;
        Ok(())
    }

    /// Gives back what is beyond `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        let surplus = self.bytes.saturating_sub(bytes);
        self.bytes -= surplus;
        self.budget.give_back(surplus);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_share_and_pool_is_a_limit_that_names_number_and_setting() {
        let budget = Budget::new(10, Pool::new(20));
        let held = budget.reserve("a page", 8).expect("fits the share");
        let error = budget.reserve("a page", 23).expect_err("too much");
        assert!(matches!(&error, DecodeError::Limits(limit)
            if limit.contains("a page takes 23 bytes") && limit.contains("worker.memory_mib")));
        drop(held);
        budget.reserve("a page", 30).expect("what was held is given back");
    }

    #[test]
    fn the_pool_is_for_one_at_a_time_and_waited_for_with_an_end() {
        let pool = Pool::with_wait(20, Duration::from_millis(1));
        let [one, other] = [(); 2].map(|()| Budget::new(10, pool.clone()));
        let mut held = one.reserve("a page", 11).expect("the pool is free");
        assert!(matches!(other.reserve("a page", 11), Err(DecodeError::Source(_))), "tried again later");
        other.reserve("a page", 10).expect("its own share");
        held.shrink_to(10);
        let others = other.reserve("a page", 11).expect("given back before the end");
        assert!(one.reserve("a page", 1).is_err());
        drop(others);
        one.reserve("a page", 1).expect("the pool again");
    }

    #[test]
    fn whoever_waits_for_the_pool_gets_it_when_it_is_given_back() {
        let pool = Pool::new(20);
        let held = Budget::new(0, pool.clone()).reserve("a page", 1).expect("free");
        let waiting = std::thread::spawn(move || Budget::new(0, pool).reserve("a page", 1).is_ok());
        drop(held);
        assert!(waiting.join().expect("no panic"));
    }
}
