//! How a worker's memory is divided among the objects it has in hand.

use crate::config::Worker;
use decode::budget::{Budget, Pool};
use std::{env, os::unix::process::CommandExt, process};

/// Percent of the memory that are the pool's, for whoever needs more than a slot. More lets larger objects pass, with the default
/// memory a zstd window of 64 MiB; less leaves more for the rows of all others.
const POOL_PERCENT: usize = 45;
/// Part of a slot for bytes that are read ahead.
const AHEAD_SHARE: usize = 8;
/// Part of a slot for one of its two runs of rows.
const RUN_SHARE: usize = 5;
/// Part of a slot for digests of keys.
const DIGESTS_SHARE: usize = 10;
/// Part of a slot that the decoder plans its buffers by.
const BUFFERS_SHARE: usize = 3;

/// The variable that configures glibc's allocator, and the one tunable that is set.
const TUNABLES: &str = "GLIBC_TUNABLES";
const MMAP_THRESHOLD: &str = "glibc.malloc.mmap_threshold";
/// Bytes from which a block goes back to the system when it is freed. Less costs page faults where blocks are used
/// shortly; more lets every thread keep more of what it once needed.
const GOES_BACK_BYTES: usize = 4 * 1024 * 1024;

/// Has the C library give large blocks back to the system as soon as they are freed. It reads its tunables from the
/// environment at start, so the process executes itself again, under the same id; where that fails, or the tunable is
/// set already, nothing changes.
///
/// Left to itself glibc takes every block of up to 32 MiB that was freed for a sign that such blocks come and go, and
/// from then on keeps what is not larger, for each thread by itself (mallopt(3), `M_MMAP_THRESHOLD`): five objects with
/// rows of 15 MiB, one after the other in memory, were 231 MiB at the peak, and are 117.
pub fn give_large_blocks_back() {
    let others = match env::var(TUNABLES) {
        Ok(tunables) if tunables.contains(MMAP_THRESHOLD) => return,
        Ok(tunables) if !tunables.is_empty() => tunables + ":",
        Err(env::VarError::NotUnicode(_)) => return,
        _ => String::new(),
    };
    let Ok(program) = env::current_exe() else { return };
    let mut arguments = env::args_os();
    let mut anew = process::Command::new(program);
    if let Some(name) = arguments.next() {
        anew.arg0(name);
    }
    // It only returns where it failed.
    let _ = anew.args(arguments).env(TUNABLES, format!("{others}{MMAP_THRESHOLD}={GOES_BACK_BYTES}")).exec();
}

/// The memory of a worker, in bytes. All that is taken by what objects bring is in it:
///
/// | of all | | |
/// |---|---|---|
/// | 45 % | the pool | what objects take beyond their slots: an even part at first, one alone all of it |
/// | 55 % | the slots, all alike | one for each of `concurrency` objects and one for a newcomer |
///
/// | of a slot | |
/// |---|---|
/// | an eighth | bytes read ahead of the decoder |
/// | a tenth | digests of keys |
/// | the rest | what the decoder holds, and in what that leaves two runs of rows of a fifth each |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    all: usize,
    n_slots: usize,
}

impl Memory {
    /// Returns the memory that a worker may use.
    #[must_use]
    pub fn of(worker: &Worker) -> Self {
        Self { all: worker.memory_bytes(), n_slots: worker.concurrency.max(1) as usize + 1 }
    }

    /// Returns the pool that all slots share.
    #[must_use]
    pub fn pool(self) -> Pool {
        Pool::new(self.pool_bytes(), self.n_slots)
    }

    /// Returns what an object may take for its buffers and rows.
    #[must_use]
    pub fn budget(self, pool: &Pool) -> Budget {
        Budget::new(self.slot() - self.ahead() - self.digests(), pool.clone())
    }

    /// Returns what the decoder should plan its buffers by.
    #[must_use]
    pub fn buffers(self) -> usize {
        self.slot() / BUFFERS_SHARE
    }

    /// Returns how much may be read ahead of the decoder.
    #[must_use]
    pub fn ahead(self) -> usize {
        self.slot() / AHEAD_SHARE
    }

    /// Returns half of what encoded rows may take.
    #[must_use]
    pub fn run(self) -> usize {
        self.slot() / RUN_SHARE
    }

    /// Returns what digests of keys may take.
    #[must_use]
    pub fn digests(self) -> usize {
        self.slot() / DIGESTS_SHARE
    }

    fn pool_bytes(self) -> usize {
        self.all / 100 * POOL_PERCENT
    }

    fn slot(self) -> usize {
        (self.all - self.pool_bytes()) / self.n_slots
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_shares_together_are_no_more_than_the_memory() {
        for (memory_mib, concurrency) in [(16, 1), (16, 256), (128, 4), (512, 4), (1 << 20, 256)] {
            let memory = Memory::of(&Worker { memory_mib, concurrency, ..Worker::default() });
            let pool = memory.pool();
            let budget = memory.budget(&pool);
            let slot = budget.share() + memory.ahead() + memory.digests();
            let all = slot * (concurrency as usize + 1) + (budget.max_bytes() - budget.share());
            assert!(all <= (memory_mib as usize) << 20, "{memory:?}");
            assert!(2 * memory.run() + memory.buffers() <= budget.share(), "{memory:?}");
        }
    }
}
