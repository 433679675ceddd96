//! What one object may take of the memory: every buffer that a file's own numbers size is reserved before it is there.
//!
//! A slot has a share of its own. What does not fit into it comes from the pool, which all slots of a worker have
//! together: bytes that are free at once, or when others give theirs back. Of those that have some of it already one
//! at a time may wait for more, so that no two wait for each other: one large object passes, and several share.

use super::DecodeError;
use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

/// How long the pool is waited for. Shorter holds objects that had a chance, longer keeps slots from others.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// The memory that a worker's slots have together.
#[derive(Debug, Clone)]
pub struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bytes: usize,
    /// What an object takes at first where that much is free: what all can take without coming in each other's way.
    part: usize,
    free: Mutex<Free>,
    given_back: Condvar,
    max_wait: Duration,
}

#[derive(Debug)]
struct Free {
    bytes: usize,
    /// An object that has some waits for more: whoever has none comes after it.
    is_awaited: bool,
    /// Those that have none and wait for some, by when they came.
    line: BTreeSet<u64>,
    n_came: u64,
}

impl Free {
    /// Returns whether so many bytes are there for an object that has some already, or has this place in the line.
    fn is_there(&self, bytes: usize, has_some: bool, place: Option<u64>) -> bool {
        let is_next = || !self.is_awaited && self.line.first().is_none_or(|first| Some(*first) == place);
        self.bytes >= bytes && (has_some || is_next())
    }
}

impl Pool {
    /// Returns a pool of this many bytes for this many slots.
    #[must_use]
    pub fn new(bytes: usize, n_slots: usize) -> Self {
        Self::with_wait(bytes, n_slots, MAX_WAIT)
    }

    fn with_wait(bytes: usize, n_slots: usize, max_wait: Duration) -> Self {
        let free = Mutex::new(Free { bytes, is_awaited: false, line: BTreeSet::new(), n_came: 0 });
        Self(Arc::new(Shared { bytes, part: bytes / n_slots.max(1), free, given_back: Condvar::new(), max_wait }))
    }

    /// Takes so many bytes at least when they are free, or become free within the wait, for an object that `has_some`
    /// already; none when they are not to be had.
    fn take(&self, bytes: usize, has_some: bool, never_wait: &AtomicBool) -> Option<usize> {
        let mut free = lock(&self.0.free);
        if !free.is_there(bytes, has_some, None) {
            if has_some && std::mem::replace(&mut free.is_awaited, true) {
                return None;
            }
            let place = (!has_some).then_some(free.n_came);
            free.n_came += 1;
            free.line.extend(place);
            let waits = |free: &mut Free| !free.is_there(bytes, has_some, place) && !never_wait.load(Relaxed);
            let waited = self.0.given_back.wait_timeout_while(free, self.0.max_wait, waits);
            (free, _) = waited.unwrap_or_else(PoisonError::into_inner);
            let is_there = free.is_there(bytes, has_some, place);
            match place {
                Some(place) => _ = free.line.remove(&place),
                None => free.is_awaited = false,
            }
            // It may be the next one's turn.
            self.0.given_back.notify_all();
            if !is_there {
                return None;
            }
        }
        let taken = if has_some { bytes } else { bytes.max(self.0.part.min(free.bytes)) };
        free.bytes -= taken;
        Some(taken)
    }

    /// Returns whether so many bytes are there at once, and nobody waits for them.
    fn has(&self, bytes: usize) -> bool {
        let free = lock(&self.0.free);
        free.is_there(bytes, false, None)
    }

    fn give_back(&self, bytes: usize) {
        if bytes > 0 {
            lock(&self.0.free).bytes += bytes;
            self.0.given_back.notify_all();
        }
    }
}

/// What one object may take.
#[derive(Clone)]
pub struct Budget(Arc<Slot>);

struct Slot {
    share: usize,
    pool: Pool,
    used: Mutex<Used>,
    /// Set once the pool was others'.
    is_busy: Mutex<Option<String>>,
    /// Somebody else may be waiting for what the object has locked.
    holds_locks: AtomicBool,
    /// Who has what can be done without.
    spares: Mutex<Vec<Weak<dyn Spare>>>,
}

/// Whoever has memory that can be done without.
pub trait Spare: Send + Sync {
    /// Gives it back: it is wanted for what cannot.
    fn give_up(&self);
}

#[derive(Debug, Default)]
struct Used {
    bytes: usize,
    /// Of the pool. It is kept until the share is enough: what comes and goes would be another's when it comes again.
    borrowed: usize,
}

impl Default for Budget {
    /// Returns a budget that everything fits into.
    fn default() -> Self {
        Self::new(usize::MAX, Pool::new(0, 1))
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
            spares: Mutex::default(),
        }))
    }

    /// Returns the same budget for another object: nothing of it is used.
    #[must_use]
    pub fn afresh(&self) -> Self {
        Self::new(self.0.share, self.0.pool.clone())
    }

    /// Ends all waiting for the pool: the object holds what another may need that has some of it. From here on bytes
    /// are there at once, or the object is [`DecodeError::Busy`]; and what it has it keeps to its end.
    pub fn never_wait(&self) {
        self.0.holds_locks.store(true, Relaxed);
        // Between their look at the flag and their wait nobody holds this.
        drop(lock(&self.0.pool.0.free));
        self.0.pool.0.given_back.notify_all();
    }

    /// Ends what [`Budget::never_wait`] began.
    pub fn may_wait(&self) {
        self.0.holds_locks.store(false, Relaxed);
    }

    /// Tells whether a reservation failed because others had the pool, whatever became of that error: some
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
    /// [`DecodeError::Limits`] where even the pool is too small; [`DecodeError::Busy`] when others have it all the
    /// time.
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

    /// Reserves what can be done without, as long as nothing else wants it: none where it takes more than the share and
    /// an even part of the pool, or that is not free. Who reserves it is to be among the [`Budget::spares`].
    #[must_use]
    pub fn reserve_spare(&self, bytes: usize) -> Option<Reservation> {
        let mut used = lock(&self.0.used);
        let wanted = used.bytes.saturating_add(bytes);
        let missing = self.missing(&used, bytes);
        if missing > 0 {
            if wanted > self.0.share.saturating_add(self.0.pool.0.part) || !self.0.pool.has(missing) {
                return None;
            }
            used.borrowed += self.0.pool.take(missing, used.borrowed > 0, &AtomicBool::new(true))?;
        }
        used.bytes = wanted;
        Some(Reservation { budget: self.clone(), bytes })
    }

    /// Has a holder of what can be done without asked for it before memory is waited for.
    pub fn spares(&self, holder: Weak<dyn Spare>) {
        let mut spares = lock(&self.0.spares);
        if spares.len() == spares.capacity() {
            spares.retain(|holder| holder.strong_count() > 0);
        }
        spares.push(holder);
    }

    /// Has everything given back that can be done without, where these bytes are not to be had otherwise.
    fn make_room(&self, bytes: usize) {
        let missing = self.missing(&lock(&self.0.used), bytes);
        if missing > 0 && !self.0.pool.has(missing) {
            let holders: Vec<_> = lock(&self.0.spares).iter().filter_map(Weak::upgrade).collect();
            holders.iter().for_each(|holder| holder.give_up());
        }
    }

    /// Returns how many bytes more than it has of the pool the object would need for these.
    fn missing(&self, used: &Used, bytes: usize) -> usize {
        used.bytes.saturating_add(bytes).saturating_sub(self.0.share).saturating_sub(used.borrowed)
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
        self.make_room(bytes);
        let slot = &*self.0;
        loop {
            let mut used = lock(&slot.used);
            let wanted = used.bytes.saturating_add(bytes);
            if wanted > self.max_bytes() {
                return Err(DecodeError::Limits(format!(
                    "{what} takes {bytes} bytes beside {} in use, of {} that one object may take (worker.memory_mib)",
                    used.bytes,
                    self.max_bytes()
                )));
            }
            let missing = self.missing(&used, bytes);
            if missing == 0 {
                used.bytes = wanted;
                return Ok(());
            }
            let has_some = used.borrowed > 0;
            // Whoever gives something back must not wait for this.
            drop(used);
            let Some(taken) = slot.pool.take(missing, has_some, &slot.holds_locks) else {
                if self.missing(&lock(&slot.used), bytes) < missing {
                    // Something of its own was given back meanwhile.
                    continue;
                }
                let problem = format!(
                    "{what} takes {bytes} bytes, and other large objects have the memory beyond a slot's share of {} \
                     (worker.memory_mib)",
                    slot.share
                );
                lock(&slot.is_busy).get_or_insert_with(|| problem.clone());
                return Err(DecodeError::Busy(problem));
            };
            lock(&slot.used).borrowed += taken;
        }
    }

    fn give_back(&self, bytes: usize) {
        let mut used = lock(&self.0.used);
        used.bytes = used.bytes.saturating_sub(bytes);
        if used.bytes <= self.0.share && !self.0.holds_locks.load(Relaxed) {
            self.0.pool.give_back(std::mem::take(&mut used.borrowed));
        }
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget").field("share", &self.0.share).field("used", &self.0.used).finish_non_exhaustive()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let used = self.used.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.pool.give_back(used.borrowed);
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
        let budget = Budget::new(10, Pool::new(20, 20));
        let held = budget.reserve("a page", 8).expect("fits the share");
        let error = budget.reserve("a page", 23).expect_err("too much");
        assert!(matches!(&error, DecodeError::Limits(limit)
            if limit.contains("a page takes 23 bytes") && limit.contains("worker.memory_mib")));
        drop(held);
        budget.reserve("a page", 30).expect("what was held is given back");
    }

    #[test]
    fn the_pool_is_shared_and_waited_for_with_an_end() {
        let pool = Pool::with_wait(20, 20, Duration::from_millis(1));
        let [one, other] = [(); 2].map(|()| Budget::new(10, pool.clone()));
        let mut held = one.reserve("a page", 22).expect("the pool is free");
        let others = other.reserve("a page", 18).expect("enough is left of it");
        assert!(matches!(other.reserve("a page", 1), Err(DecodeError::Busy(_))), "tried again later");
        held.shrink_to(11);
        assert!(other.reserve("a page", 1).is_err(), "kept until the share is enough");
        held.shrink_to(10);
        other.reserve("a page", 12).expect("given back before the end");
        drop(others);
        one.reserve("a page", 20).expect("the whole pool");
    }

    #[test]
    fn of_two_that_have_some_only_one_waits_for_more_and_newcomers_come_after_it() {
        let pool = Pool::with_wait(20, 20, Duration::from_secs(3600));
        let [one, other] = [(); 2].map(|()| Budget::new(0, pool.clone()));
        let held = [one.reserve("a page", 5).expect("free"), other.reserve("a page", 10).expect("free")];
        let waits = one.clone();
        let waiting = std::thread::spawn(move || waits.reserve("a page", 6).map(drop));
        while !lock(&pool.0.free).is_awaited {
            std::thread::yield_now();
        }
        assert!(matches!(other.reserve("a page", 6), Err(DecodeError::Busy(_))), "they would wait for each other");
        let newcomer = Budget::new(0, pool.clone());
        newcomer.never_wait();
        assert!(newcomer.reserve("a page", 1).is_err(), "what is free is waited for");
        let [_, others] = held;
        drop(others);
        waiting.join().expect("no panic").expect("given back");
        newcomer.reserve("a page", 1).expect("nobody waits");
    }

    #[test]
    fn those_who_have_none_get_some_in_the_order_they_came() {
        let pool = Pool::with_wait(20, 20, Duration::from_secs(3600));
        let held = Budget::new(0, pool.clone()).reserve("a page", 10).expect("free");
        let large = Budget::new(0, pool.clone());
        let waits = large.clone();
        let waiting = std::thread::spawn(move || waits.reserve("a page", 15));
        while lock(&pool.0.free).line.is_empty() {
            std::thread::yield_now();
        }
        let small = Budget::new(0, pool.clone());
        assert!(small.reserve_spare(1).is_none());
        small.never_wait();
        assert!(small.reserve("a page", 1).is_err(), "it came later");
        drop(held);
        let _held = waiting.join().expect("no panic").expect("its turn");
        small.reserve("a page", 5).expect("nobody waits");
        assert!(lock(&pool.0.free).line.is_empty());
    }

    #[test]
    fn what_is_its_own_and_comes_back_ends_a_wait_in_vain() {
        let pool = Pool::with_wait(20, 20, Duration::from_millis(200));
        let _others = Budget::new(0, pool.clone()).reserve("a page", 15).expect("free");
        let budget = Budget::new(10, pool.clone());
        let held = budget.reserve("rows", 12).expect("free");
        let waits = budget.clone();
        let waiting = std::thread::spawn(move || waits.reserve("a page", 6).map(drop));
        while !lock(&pool.0.free).is_awaited {
            std::thread::yield_now();
        }
        drop(held);
        waiting.join().expect("no panic").expect("its own");
    }

    #[test]
    fn a_first_taking_is_an_even_part_or_what_is_free() {
        let pool = Pool::with_wait(20, 2, Duration::from_millis(1));
        let [one, other, third] = [(); 3].map(|()| Budget::new(10, pool.clone()));
        let held = [&one, &other].map(|budget| budget.reserve("a page", 11).expect("free"));
        assert!(third.reserve("a page", 11).is_err());
        let grown = [&one, &other].map(|budget| budget.reserve("a page", 9).expect("taken at first"));
        assert!(one.reserve("a page", 1).is_err());
        drop((held, grown));
        let _large = one.reserve("a page", 25).expect("more than a part");
        let _others = other.reserve("a page", 11).expect("what is free");
        assert!(other.reserve("a page", 5).is_err());
    }

    #[test]
    fn who_holds_locks_does_not_wait_for_the_pool_and_keeps_what_it_has() {
        let pool = Pool::with_wait(20, 20, Duration::from_secs(3600));
        let held = Budget::new(0, pool.clone()).reserve("a page", 20).expect("free");
        let locked = Budget::new(0, pool.clone());
        locked.never_wait();
        locked.check_busy().expect("not yet");
        assert!(matches!(locked.reserve("a page", 1), Err(DecodeError::Busy(_))));
        assert!(matches!(locked.check_busy(), Err(DecodeError::Busy(_))));
        drop(held);
        drop(locked.reserve("a page", 11).expect("free again"));
        let other = Budget::new(0, pool);
        other.never_wait();
        assert!(other.reserve("a page", 10).is_err(), "it may come again");
        drop(locked);
        other.reserve("a page", 20).expect("its end");
    }

    #[test]
    fn a_wait_ends_when_locks_are_taken() {
        let pool = Pool::with_wait(20, 20, Duration::from_secs(3600));
        let held = Budget::new(0, pool.clone()).reserve("a page", 20).expect("free");
        let budget = Budget::new(0, pool);
        let waits = budget.clone();
        let waiting = std::thread::spawn(move || waits.reserve("a page", 1).map(drop));
        std::thread::sleep(Duration::from_millis(20));
        assert!(!waiting.is_finished(), "it waits");
        budget.never_wait();
        assert!(matches!(waiting.join().expect("no panic"), Err(DecodeError::Busy(_))));
        drop(held);
    }

    #[test]
    fn what_can_be_done_without_takes_no_more_than_an_even_part() {
        let pool = Pool::with_wait(20, 2, Duration::from_secs(3600));
        let [one, other] = [(); 2].map(|()| Budget::new(10, pool.clone()));
        assert!(one.reserve_spare(21).is_none());
        let held = one.reserve_spare(20).expect("share and part");
        assert!(one.reserve_spare(1).is_none());
        let _large = other.reserve("a page", 20).expect("the other part");
        drop(held);
        let _larger = other.reserve("a page", 5).expect("free");
        assert!(one.reserve_spare(16).is_none(), "not free, and not waited for");
        one.check_busy().expect("nothing is amiss");
    }

    #[test]
    fn what_can_be_done_without_is_given_up_before_memory_is_waited_for_or_lacking() {
        struct Holder(Mutex<Option<Reservation>>);
        impl Spare for Holder {
            fn give_up(&self) {
                *lock(&self.0) = None;
            }
        }
        let pool = Pool::with_wait(20, 2, Duration::from_secs(3600));
        let budget = Budget::new(10, pool.clone());
        let holder = Arc::new(Holder(Mutex::new(budget.reserve_spare(15))));
        budget.spares(Arc::downgrade(&holder) as Weak<dyn Spare>);
        let _held = budget.reserve("a page", 15).expect("beside it");
        assert!(lock(&holder.0).is_some());
        let _more = budget.reserve("a page", 15).expect("instead of it");
        assert!(lock(&holder.0).is_none());
    }

    #[test]
    fn rows_take_what_buffers_leave() {
        let budget = Budget::new(30, Pool::new(100, 1));
        let window = budget.reserve("a window", 15).expect("fits the share");
        let rows = budget.reserve_rows(20);
        assert_eq!(rows.bytes(), 10);
        drop((rows, window));
        assert_eq!(budget.reserve_rows(19).bytes(), 19);
    }

    #[test]
    fn whoever_waits_for_the_pool_gets_it_when_it_is_given_back() {
        let pool = Pool::new(20, 20);
        let held = Budget::new(0, pool.clone()).reserve("a page", 20).expect("free");
        let budget = Budget::new(0, pool);
        let waits = budget.clone();
        let waiting = std::thread::spawn(move || waits.reserve("a page", 1).is_ok());
        std::thread::sleep(Duration::from_millis(20));
        assert!(!waiting.is_finished(), "it waits");
        let begun = Instant::now();
        drop(held);
        assert!(waiting.join().expect("no panic") && begun.elapsed() < MAX_WAIT / 2, "{:?}", begun.elapsed());
    }
}
