//! How much more a batch takes.

use super::Batch;

/// What a reject takes besides its payload, roughly.
const REJECT_BYTES: usize = 256;

/// Watches a batch being filled: tuples and rejects both take memory.
pub struct Room {
    batch_bytes: usize,
    n_rejects: usize,
    reject_bytes: usize,
}

impl Room {
    /// Returns the room of a batch that is to hold about `batch_bytes`.
    pub fn new(batch_bytes: usize) -> Self {
        Self { batch_bytes, n_rejects: 0, reject_bytes: 0 }
    }

    /// Returns whether another row should go into `batch`, the same at each call.
    #[inline]
    pub fn is_left(&mut self, batch: &Batch) -> bool {
        while let Some(reject) = batch.rejects.get(self.n_rejects) {
            self.n_rejects += 1;
            self.reject_bytes += reject.payload.len() + reject.message.len() + REJECT_BYTES;
        }
        batch.data.len() + self.reject_bytes < self.batch_bytes
    }
}
