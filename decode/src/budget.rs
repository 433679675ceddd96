//! What one object may take of the memory: every buffer that a file's own numbers size is reserved before it is there.
//!
//! A slot has a share of its own. What does not fit into it takes the pool, which all slots of a worker have together
//! and one at a time holds: so one large object passes, and several wait for each other instead of adding up.

use super::DecodeError;
use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

/// How long the pool is waited for. Shorter holds objects that had a chance, longer keeps slots from others.
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
    /// Returns a pool of this many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self::with_wait(bytes, MAX_WAIT)
    }

    fn with_wait(bytes: usize, max_wait: Duration) -> Self {
        Self(Arc::new(Shared { bytes, is_taken: Mutex::new(false), given_back: Condvar::new(), max_wait }))
    }

    /// Takes the pool when it is free, or becomes free within the wait.
    fn take(&self, may_wait: bool) -> bool {
        let is_taken = lock(&self.0.is_taken);
        let max_wait = if may_wait { self.0.max_wait } else { Duration::ZERO };
        let waited = self.0.given_back.wait_timeout_while(is_taken, max_wait, |is_taken| *is_taken);
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
    /// Set once the pool was another's.
    is_busy: Mutex<Option<String>>,
    /// Somebody else may be waiting for what the object has locked.
    holds_locks: AtomicBool,
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
        Self(Arc::new(Slot {
            share,
            pool,
            used: Mutex::default(),
            is_busy: Mutex::default(),
            holds_locks: AtomicBool::new(false),
        }))
    }

    /// Returns the same budget for another object: nothing of it is used.
    #[must_use]
    pub fn afresh(&self) -> Self {
        Self::new(self.0.share, self.0.pool.clone())
    }

    /// Ends all waiting for the pool: the object holds what another may need that has the pool. From here on the pool
    /// is there at once, or the object is [`DecodeError::Busy`].
    pub fn never_wait(&self) {
        self.0.holds_locks.store(true, Relaxed);
    }

    /// Tells whether a reservation failed because another object had the pool, whatever became of that error: some
    /// libraries pass errors on as text, and a row that is refused is a reject.
    ///
    /// # Errors
    /// [`DecodeError::Busy`].
    pub fn check_busy(&self) -> Result<(), DecodeError> {
        lock(&self.0.is_busy).clone().map_or(Ok(()), |problem| Err(DecodeError::Busy(problem)))
    }

    /// Returns how many bytes are the slot's own.
    #[must_use]
    pub fn share(&self) -> usize {
        self.0.share
    }

    /// Returns how many bytes an object may take at most.
    #[must_use]
    pub fn max_bytes(&self) -> usize {
        self.0.share.saturating_add(self.0.pool.0.bytes)
    }

    /// Reserves `bytes` for `what`, and waits for the pool where the share is too small for it.
    ///
    /// # Errors
    /// [`DecodeError::Limits`] where even the pool is too small; [`DecodeError::Busy`] when another object has it all
    /// the time.
    pub fn reserve(&self, what: &str, bytes: usize) -> Result<Reservation, DecodeError> {
        let mut reservation = self.nothing();
        reservation.grow(what, bytes)?;
        Ok(reservation)
    }

    /// Returns a reservation of no bytes, to be grown.
    #[must_use]
    pub fn nothing(&self) -> Reservation {
        Reservation { budget: self.clone(), bytes: 0 }
    }

    /// Reserves for rows what is wanted, but no more than two thirds of what is left of the share.
    #[must_use]
    pub fn reserve_rows(&self, wanted: usize) -> Reservation {
        let mut used = lock(&self.0.used);
        let bytes = wanted.min(self.0.share.saturating_sub(used.bytes) / 3 * 2);
        used.bytes += bytes;
        Reservation { budget: self.clone(), bytes }
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
            if !slot.pool.take(!slot.holds_locks.load(Relaxed)) {
                let problem = format!(
                    "{what} takes {bytes} bytes, and another large object has the memory beyond a slot's share of {} \
                     (worker.memory_mib)",
                    slot.share
                );
                lock(&slot.is_busy).get_or_insert_with(|| problem.clone());
                return Err(DecodeError::Busy(problem));
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

    /// Reserves what `bytes` are more than is reserved.
    ///
    /// # Errors
    /// Those of [`Budget::reserve`]; what was reserved stays so.
    pub fn grow_to(&mut self, what: &str, bytes: usize) -> Result<(), DecodeError> {
        self.grow(what, bytes.saturating_sub(self.bytes))
    }

    /// Returns how many bytes are reserved.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
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
    use std::time::Instant;

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
        assert!(matches!(other.reserve("a page", 11), Err(DecodeError::Busy(_))), "tried again later");
        other.reserve("a page", 10).expect("its own share");
        held.shrink_to(10);
        let others = other.reserve("a page", 11).expect("given back before the end");
        assert!(one.reserve("a page", 1).is_err());
        drop(others);
        one.reserve("a page", 1).expect("the pool again");
    }

    #[test]
    fn who_holds_locks_does_not_wait_for_the_pool() {
        let pool = Pool::with_wait(20, Duration::from_secs(3600));
        let held = Budget::new(0, pool.clone()).reserve("a page", 1).expect("free");
        let locked = Budget::new(0, pool);
        locked.never_wait();
        locked.check_busy().expect("not yet");
        assert!(matches!(locked.reserve("a page", 1), Err(DecodeError::Busy(_))));
        assert!(matches!(locked.check_busy(), Err(DecodeError::Busy(_))));
        drop(held);
        locked.reserve("a page", 1).expect("free again");
    }

    #[test]
    fn rows_take_what_buffers_leave() {
        let budget = Budget::new(30, Pool::new(100));
        let window = budget.reserve("a window", 15).expect("fits the share");
        let rows = budget.reserve_rows(20);
        assert_eq!(rows.bytes(), 10);
        drop((rows, window));
        assert_eq!(budget.reserve_rows(19).bytes(), 19);
    }

    #[test]
    fn whoever_waits_for_the_pool_gets_it_when_it_is_given_back() {
        let pool = Pool::new(20);
        let held = Budget::new(0, pool.clone()).reserve("a page", 1).expect("free");
        let budget = Budget::new(0, pool);
        let waits = budget.clone();
        let waiting = std::thread::spawn(move || waits.reserve("a page", 1).is_ok());
        // It is locked while its object waits.
        while budget.0.used.try_lock().is_ok() && !waiting.is_finished() {
            std::thread::yield_now();
        }
        let begun = Instant::now();
        drop(held);
        assert!(waiting.join().expect("no panic") && begun.elapsed() < MAX_WAIT / 2, "{:?}", begun.elapsed());
    }
}
