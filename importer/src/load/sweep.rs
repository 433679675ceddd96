//! Rows on their way from the decoder to COPY, kept by ranges of their key so that runs are longer than memory.
//!
//! A run that is sorted as a whole is as long as the memory it takes, and while it is sent another one needs as
//! much. Here the ranges are taken one after the other, round and round, and rows that are decoded meanwhile join
//! those whose turn is still to come: once round is about twice what is in memory. It is replacement selection
//! (Knuth, The Art of Computer Programming 3, 5.4.1) by ranges instead of by rows, which costs a copy of each row
//! in place of a heap's comparisons.

use super::run::{Bound, RowOrder, Run};
use decode::{Batch, budget::Reservation};
use std::collections::VecDeque;

/// Ranges, as many as make one of them shorter than what is taken at once, also where they are uneven.
const N_RANGES: usize = 48;
/// What is taken at once, as a share of the memory.
const TAKEN_SHARE: usize = 16;
/// What is worth being taken, as a share of what is taken at once.
const READY_SHARE: usize = 16;
/// A chunk, as a share of what is taken at once.
const CHUNK_SHARE: usize = 32;
/// Rows looked at for each range when bounds are drawn again.
const SAMPLED_PER_RANGE: usize = 32;

/// The rows of an object that are decoded and not yet taken.
#[derive(Debug)]
pub struct Sweep {
    order: RowOrder,
    /// The lowest key of each range but the first.
    bounds: Vec<Bound>,
    piles: Vec<Pile>,
    /// The range whose turn it is.
    turn: usize,
    /// Chunks in all piles.
    bytes: usize,
    /// Rows for which memory was reserved.
    n_long_rows: usize,
    /// Bytes taken since bounds were drawn.
    taken_bytes: usize,
    slab: Vec<u8>,
    /// Where chunks begin in the slab that hold nothing.
    free: Vec<usize>,
    /// What was refused, and how many rows were read, since the last run was taken.
    besides: Batch,
    limits: Limits,
}

/// Sizes in bytes.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Of all chunks.
    held: usize,
    /// Of a run that is taken, at most, but for a chunk.
    taken: usize,
    /// Of a run that is taken, where there are so many, at least.
    ready: usize,
    /// Of a chunk; a longer row has one of its own.
    chunk: usize,
}

/// The rows of one range, in the order they came.
#[derive(Debug, Default)]
struct Pile {
    chunks: VecDeque<Chunk>,
    bytes: usize,
}

/// Tuples back to back, never moved while they are held.
#[derive(Debug)]
struct Chunk {
    place: Place,
    /// Bytes of the tuples.
    used: usize,
    n_rows: usize,
}

#[derive(Debug)]
enum Place {
    /// In the slab from here on: tuples from the front, where each ends from the back.
    Slab(usize),
    /// A single tuple that is too long for that, and what was reserved for it.
    Own(Vec<u8>, Option<Reservation>),
}

/// A block of memory above this size is always returned to the system when it is dropped (glibc's
/// `DEFAULT_MMAP_THRESHOLD_MAX`, see mallopt(3)); smaller ones stay with the allocator, thread by thread.
const RETURNED_BYTES: usize = 32 * 1024 * 1024 + 1;
/// Bytes that say where a tuple ends.
const END_BYTES: usize = 4;

impl Sweep {
    /// Returns a sweep whose ranges hold about as many rows each as they do of the sorted run `first`.
    ///
    /// It takes `memory_bytes`, of which two runs that were taken and not yet given back are a part.
    #[must_use]
    pub fn new(order: RowOrder, first: &Run, memory_bytes: usize) -> Self {
        let taken = (memory_bytes / TAKEN_SHARE).max(1);
        let limits = Limits {
            // Not 0, where all the memory is taken: a sweep that holds nothing would be full forever.
            held: memory_bytes.saturating_sub(2 * taken).max(1),
            taken,
            ready: (taken / READY_SHARE).max(1),
            chunk: (taken / CHUNK_SHARE).clamp(1024, 64 * 1024),
        };
        // Reserved only; what is not written to takes no memory.
        let slab_bytes =
            if memory_bytes < RETURNED_BYTES / 8 { memory_bytes } else { memory_bytes.max(RETURNED_BYTES) };
        let n_rows = first.n_ordered();
        let bounds = spread(n_rows).map(|index| order.bound(first.row(index))).collect();
        let mut sweep = Self {
            order,
            bounds: Vec::new(),
            piles: Vec::new(),
            turn: 0,
            bytes: 0,
            n_long_rows: 0,
            taken_bytes: 0,
            slab: Vec::with_capacity(slab_bytes),
            free: Vec::new(),
            besides: Batch::default(),
            limits,
        };
        sweep.set_bounds(bounds);
        sweep
    }

    /// Returns how many bytes of rows to decode between two calls of [`Self::add`].
    #[must_use]
    pub fn step_bytes(&self) -> usize {
        self.limits.taken.min(256 * 1024)
    }

    /// Takes over what was decoded, and empties the batch.
    pub fn add(&mut self, batch: &mut Batch) {
        let mut start = 0;
        let mut long_rows = std::mem::take(&mut batch.long_rows).into_iter().peekable();
        let has_long_rows = long_rows.peek().is_some();
        for (row, end) in batch.ends.iter().enumerate() {
            let reserved = long_rows.next_if(|(long, _)| *long == row).map(|(_, reserved)| reserved);
            self.push(&batch.data[start..*end], reserved);
            start = *end;
        }
        if has_long_rows {
            batch.data = Vec::new();
        }
        self.besides.rejects.append(&mut batch.rejects);
        self.besides.reject_bytes += batch.reject_bytes;
        self.besides.n_read += batch.n_read;
        self.besides.n_filtered += batch.n_filtered;
        self.besides.n_added += batch.n_added;
        batch.clear();
    }

    /// Returns whether a run has to be taken before more is added.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.bytes + self.besides.reject_bytes >= self.limits.held
    }

    /// Returns whether it holds rows for which memory was reserved.
    #[must_use]
    pub fn has_long_rows(&self) -> bool {
        self.n_long_rows > 0
    }

    /// Returns whether the range whose turn it is has rows enough for a run, though there is room for more.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        self.piles[self.turn].bytes >= self.limits.ready
    }

    /// Fills `run` with the next range, sorted, and what was refused meanwhile. False when nothing is left.
    pub fn take(&mut self, run: &mut Run) -> bool {
        run.clear();
        std::mem::swap(&mut run.batch.rejects, &mut self.besides.rejects);
        run.batch.reject_bytes = std::mem::take(&mut self.besides.reject_bytes);
        run.batch.n_read = std::mem::take(&mut self.besides.n_read);
        run.batch.n_filtered = std::mem::take(&mut self.besides.n_filtered);
        run.batch.n_added = std::mem::take(&mut self.besides.n_added);
        // Keys that come in an order of their own fill the ranges unevenly.
        if self.piles[self.turn].bytes > self.limits.taken && self.taken_bytes >= self.limits.held / 2 {
            self.draw_bounds();
        }
        run.batch.data.reserve_exact(self.bytes.min(self.limits.taken + self.limits.chunk));
        // Ranges that are next to each other make one run, but not the last and the first.
        while self.bytes > 0 && run.batch.data.len() < self.limits.ready {
            self.take_from(self.turn, run);
            if self.piles[self.turn].chunks.is_empty() {
                self.turn = (self.turn + 1) % self.piles.len();
            }
            if self.turn == 0 && !run.batch.data.is_empty() {
                break;
            }
        }
        self.taken_bytes += run.batch.data.len();
        run.sort(&self.order);
        run.n_rows() > 0 || run.batch.n_read > 0 || !run.batch.rejects.is_empty()
    }

    /// Moves rows of a range into the run, up to what is taken at once.
    fn take_from(&mut self, range: usize, run: &mut Run) {
        while run.batch.data.len() < self.limits.taken
            && let Some(chunk) = self.piles[range].chunks.pop_front()
        {
            self.piles[range].bytes -= chunk.used;
            let base = run.batch.data.len();
            match chunk.place {
                Place::Slab(at) => {
                    run.batch.data.extend_from_slice(&self.slab[at..at + chunk.used]);
                    run.batch.ends.extend(self.ends(at, chunk.n_rows).map(|end| base + end));
                    self.bytes -= self.limits.chunk;
                    self.free.push(at);
                }
                Place::Own(tuple, reserved) => {
                    run.batch.data.extend_from_slice(&tuple);
                    self.n_long_rows -= usize::from(reserved.is_some());
                    run.batch.long_rows.extend(reserved.map(|reserved| (run.batch.ends.len(), reserved)));
                    run.batch.ends.push(base + tuple.len());
                    self.bytes -= tuple.len();
                }
            }
        }
    }

    fn push(&mut self, tuple: &[u8], reserved: Option<Reservation>) {
        let range = self.order.range(&self.bounds, tuple);
        match self.make_room(range, tuple.len()) {
            Some(at) => self.slab[at..at + tuple.len()].copy_from_slice(tuple),
            None => {
                self.n_long_rows += usize::from(reserved.is_some());
                self.push_own(range, tuple.to_vec(), reserved);
            }
        }
    }

    fn push_own(&mut self, range: usize, tuple: Vec<u8>, reserved: Option<Reservation>) {
        let used = tuple.len();
        self.bytes += used;
        self.piles[range].bytes += used;
        self.piles[range].chunks.push_back(Chunk { used, n_rows: 1, place: Place::Own(tuple, reserved) });
    }

    /// Makes room for a tuple of a range and returns where; none when it is too long for a chunk.
    fn make_room(&mut self, range: usize, length: usize) -> Option<usize> {
        let size = self.limits.chunk;
        if length + END_BYTES > size {
            return None;
        }
        let has_room = |chunk: &Chunk| {
            matches!(chunk.place, Place::Slab(_)) && chunk.used + length + (chunk.n_rows + 1) * END_BYTES <= size
        };
        if !self.piles[range].chunks.back().is_some_and(has_room) {
            let at = self.free.pop().unwrap_or_else(|| {
                let at = self.slab.len();
                self.slab.resize(at + size, 0);
                at
            });
            self.bytes += size;
            self.piles[range].chunks.push_back(Chunk { place: Place::Slab(at), used: 0, n_rows: 0 });
        }
        let pile = &mut self.piles[range];
        pile.bytes += length;
        let chunk = pile.chunks.back_mut().expect("there is one with room");
        let Place::Slab(at) = chunk.place else { unreachable!("only such have room") };
        let start = at + chunk.used;
        chunk.used += length;
        chunk.n_rows += 1;
        let end_at = at + size - chunk.n_rows * END_BYTES;
        // A chunk is much shorter than 4 GiB.
        let end = u32::try_from(chunk.used).expect("the length of a chunk");
        self.slab[end_at..end_at + END_BYTES].copy_from_slice(&end.to_ne_bytes());
        Some(start)
    }

    /// Returns where the tuples of the chunk that begins at `at` in the slab end, counted from there.
    fn ends(&self, at: usize, n_rows: usize) -> impl Iterator<Item = usize> {
        let ends = &self.slab[at + self.limits.chunk - n_rows * END_BYTES..at + self.limits.chunk];
        ends.rchunks_exact(END_BYTES).map(|end| u32::from_ne_bytes(end.try_into().expect("four bytes")) as usize)
    }

    /// Returns the tuples of a chunk.
    fn tuples<'s>(&'s self, chunk: &'s Chunk) -> Box<dyn Iterator<Item = &'s [u8]> + 's> {
        match &chunk.place {
            Place::Own(tuple, _) => Box::new(std::iter::once(tuple.as_slice())),
            Place::Slab(at) => {
                let mut start = *at;
                Box::new(self.ends(*at, chunk.n_rows).map(move |end| {
                    let tuple = &self.slab[start..at + end];
                    start = at + end;
                    tuple
                }))
            }
        }
    }

    /// Divides what is held into even ranges, and begins with the lowest.
    fn draw_bounds(&mut self) {
        let chunks = || self.piles.iter().flat_map(|pile| &pile.chunks);
        let n_rows: usize = chunks().map(|chunk| chunk.n_rows).sum();
        let step = (n_rows / (N_RANGES * SAMPLED_PER_RANGE)).max(1);
        let tuples = chunks().flat_map(|chunk| self.tuples(chunk));
        let mut sample: Vec<Bound> = tuples.step_by(step).map(|tuple| self.order.bound(tuple)).collect();
        sample.sort_unstable_by(|a, b| self.order.compare_bounds(a, b));
        let bounds = spread(sample.len()).map(|index| sample[index].clone()).collect();

        let piles = self.set_bounds(bounds);
        self.bytes = 0;
        // Rows with one key are in one range before and after, and stay in the order they came.
        for chunk in piles.into_iter().flat_map(|pile| pile.chunks) {
            match chunk.place {
                Place::Own(tuple, reserved) => {
                    let range = self.order.range(&self.bounds, &tuple);
                    self.push_own(range, tuple, reserved);
                }
                Place::Slab(at) => {
                    let ends: Vec<usize> = self.ends(at, chunk.n_rows).collect();
                    let mut start = at;
                    for end in ends {
                        let tuple = start..at + end;
                        let range = self.order.range(&self.bounds, &self.slab[tuple.clone()]);
                        let to = self.make_room(range, tuple.len()).expect("it had room in a chunk before");
                        self.slab.copy_within(tuple, to);
                        start = at + end;
                    }
                    self.free.push(at);
                }
            }
        }
    }

    /// Replaces the bounds, and returns the piles as they were.
    fn set_bounds(&mut self, mut bounds: Vec<Bound>) -> Vec<Pile> {
        bounds.dedup_by(|a, b| self.order.compare_bounds(a, b).is_eq());
        let piles = (0..=bounds.len()).map(|_| Pile::default()).collect();
        self.bounds = bounds;
        self.turn = 0;
        self.taken_bytes = 0;
        std::mem::replace(&mut self.piles, piles)
    }
}

/// Returns where, among `n` sorted rows, ranges of one size begin, but for the first range.
fn spread(n: usize) -> impl Iterator<Item = usize> {
    (1..N_RANGES.min(n)).map(move |range| range * n / N_RANGES.min(n))
}

#[cfg(test)]
mod tests;
