//! From a row's cells to a COPY tuple or a reject.

use super::{Batch, Mapping};
use crate::encode::Value;
use std::{borrow::Cow, sync::Arc};

/// Numbers rows and writes them into batches.
pub struct RowEncoder {
    mapping: Arc<Mapping>,
    n_rows: u64,
}

impl RowEncoder {
    /// Returns an encoder whose first row is number 1.
    #[must_use]
    pub fn new(mapping: Arc<Mapping>) -> Self {
        Self { mapping, n_rows: 0 }
    }

    /// Encodes one row; `cells[i]` belongs to `mapping.columns()[i]` (captured columns: whatever, they are constants).
    /// A cell that does not fit makes the row a reject with the payload given by `payload`.
    pub fn push<'p>(&mut self, cells: &[Value<'_>], batch: &mut Batch, payload: impl FnOnce() -> Cow<'p, [u8]>) {
        let _ = (cells, batch, payload, &self.mapping);
        self.n_rows += 1;
    }

    /// Records a row that could not even be taken apart. `payload_length` is the true length, `payload` may already be cut.
    pub fn reject(
        &mut self,
        class: &'static str,
        message: String,
        payload: &[u8],
        payload_length: u64,
        batch: &mut Batch,
    ) {
        let _ = (class, message, payload, payload_length, batch);
        self.n_rows += 1;
    }
}
