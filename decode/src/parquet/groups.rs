//! A file's row groups as record batches of bounded size.

use super::{
    object::Object,
    pages::{Meter, RowGroup},
    read_ahead::Window,
    schema::{Projection, Schema},
};
use crate::{DecodeError, budget::Reservation, contain::contained, failure};
use arrow_array::RecordBatch;
use parquet::{
    arrow::arrow_reader::{ParquetRecordBatchReader, RowSelection, RowSelector},
    errors::ParquetError,
    file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData},
};
use std::sync::Arc;

/// Larger batches save little once a batch has this many rows, and take memory.
const MAX_BATCH_ROWS: usize = 2048;
/// A batch that turns out too large is tried again with this fraction of its rows.
const SHRINK: usize = 8;
/// Smaller reads cost a request each for nothing, larger ones only memory.
const READ_AHEAD_BYTES: std::ops::RangeInclusive<usize> = 64 * 1024..=4 * 1024 * 1024;
/// What reading a column takes beside its pages: decoders, and numbers they have unpacked.
const COLUMN_BYTES: usize = 16 * 1024;
/// What a batch of rows is to take.
const BATCH_BYTES: std::ops::RangeInclusive<usize> = 1024 * 1024..=32 * 1024 * 1024;

/// How the columns of a row group divide the memory for their bytes: what is read at once of each is as many rows, so
/// that the longest column does not wait for the store more often than the others.
#[derive(Debug, Clone, Copy)]
pub struct Windows {
    /// For all columns.
    pub buffer_bytes: usize,
    /// Columns that are read.
    pub n_leaves: usize,
    /// What they take in the file.
    pub group_bytes: u64,
}

impl Windows {
    /// Returns how far to read ahead in a column that takes this many bytes in the file; where there are so many columns
    /// that reads ahead would be too small they are not planned for.
    pub fn of(self, chunk_bytes: u64) -> Window {
        let least = *READ_AHEAD_BYTES.start() * self.n_leaves.max(1);
        let ahead = self.buffer_bytes / Window::reads(true) >= least;
        let shared = (self.buffer_bytes / Window::reads(ahead)).saturating_sub(least);
        let part = shared as u128 * u128::from(chunk_bytes) / u128::from(self.group_bytes.max(1));
        let bytes = READ_AHEAD_BYTES.start().saturating_add(usize::try_from(part).unwrap_or(usize::MAX));
        Window { bytes: bytes.min(*READ_AHEAD_BYTES.end()), ahead }
    }
}

/// Reads a file's row groups one after another.
pub struct RowGroups {
    object: Arc<Object>,
    metadata: Arc<ParquetMetaData>,
    projection: Projection,
    buffer_bytes: usize,
    batch_bytes: usize,
    /// What batches take of each row, whatever is in it.
    row_bytes: usize,
    meter: Arc<Meter>,
    next: usize,
    current: Option<Reading>,
    /// Groups that are not read, by number.
    without: Vec<bool>,
}

/// What comes next of a file.
pub enum Next {
    /// A record batch.
    Records(RecordBatch),
    /// A group of this many rows, which is not read.
    LeftOut(u64),
    /// Nothing.
    End,
}

/// The row group in hand.
struct Reading {
    reader: ParquetRecordBatchReader,
    batch_rows: usize,
    rows_done: usize,
    n_rows: usize,
    /// For the columns and the batches in hand.
    _reserved: Reservation,
}

impl RowGroups {
    /// Returns the row groups of a file, of whose root fields the `wanted` ones are read.
    pub fn new(
        object: Arc<Object>,
        metadata: Arc<ParquetMetaData>,
        schema: &Schema,
        mut wanted: Vec<bool>,
        buffer_bytes: usize,
    ) -> Result<Self, DecodeError> {
        if !wanted.contains(&true) {
            // Rows are counted as they are read: the number the file states is not proof of any.
            wanted.iter_mut().take(1).for_each(|first| *first = true);
        }
        let projection = schema.project(&wanted).map_err(|error| failure::of_chain(&error))?;
        let n_leaves = projection.leaves.len();
        if n_leaves == 0 && metadata.row_groups().iter().any(|group| group.num_rows() != 0) {
            return Err(DecodeError::Corrupt("rows without columns".into()));
        }
        let batch_bytes = (buffer_bytes / 2).clamp(*BATCH_BYTES.start(), *BATCH_BYTES.end());
        Ok(Self {
            buffer_bytes,
            batch_bytes,
            row_bytes: schema.row_bytes(&projection.leaves),
            meter: Arc::new(Meter::new(2 * batch_bytes as u64, &object.budget)),
            object,
            metadata,
            projection,
            next: 0,
            current: None,
            without: Vec::new(),
        })
    }

    /// Leaves out the groups that are marked.
    pub fn without(self, without: Vec<bool>) -> Self {
        Self { without, ..self }
    }

    /// Returns what the columns of the record batches are.
    pub fn projection(&self) -> &Projection {
        &self.projection
    }

    /// Returns how many nested values were read so far.
    pub fn nested_values(&self) -> u64 {
        self.meter.nested_values()
    }

    /// Returns the next record batch, or what is left out before it.
    ///
    /// # Errors
    /// [`DecodeError::Corrupt`] where pages are broken or rows are missing.
    pub fn next(&mut self) -> Result<Next, DecodeError> {
        loop {
            let Some(reading) = &mut self.current else {
                if self.next == self.metadata.num_row_groups() {
                    return Ok(Next::End);
                }
                if self.without.get(self.next) == Some(&true) {
                    let n_rows = self.metadata.row_group(self.next).num_rows();
                    self.next += 1;
                    return Ok(Next::LeftOut(u64::try_from(n_rows).unwrap_or(0)));
                }
                self.current = Some(self.open(0, MAX_BATCH_ROWS)?);
                continue;
            };
            self.meter.start_batch(reading.batch_rows > 1);
            let result = contained(|| reading.reader.next().transpose().map_err(|error| self.object.explain(&error)));
            match result {
                Ok(Some(records)) => {
                    reading.rows_done += records.num_rows();
                    return Ok(Next::Records(records));
                }
                Ok(None) if reading.rows_done == reading.n_rows => {
                    self.current = None;
                    self.next += 1;
                }
                Ok(None) => {
                    let (found, stated) = (reading.rows_done, reading.n_rows);
                    return Err(DecodeError::Corrupt(format!(
                        "row group has {found} rows, its metadata says {stated}"
                    )));
                }
                Err(_) if self.meter.has_stopped() => {
                    let (rows_done, batch_rows) = (reading.rows_done, reading.batch_rows / SHRINK);
                    self.current = None;
                    self.current = Some(self.open(rows_done, batch_rows)?);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Starts to read the next row group after `rows_done` rows, at most `max_rows` at a time.
    fn open(&self, rows_done: usize, max_rows: usize) -> Result<Reading, DecodeError> {
        let group = self.metadata.row_group(self.next);
        let n_rows = usize::try_from(group.num_rows());
        let n_rows = n_rows.map_err(|_| DecodeError::Corrupt("row group has a negative row count".into()))?;
        let batch_rows = self.batch_rows(group, n_rows).min(max_rows).max(1);
        let n_leaves = self.projection.leaves.len();
        let batch_bytes = batch_rows.saturating_mul(self.row_bytes);
        let what = format!("{batch_rows} rows of {n_leaves} Parquet columns");
        let reserved = self.object.budget.reserve(&what, n_leaves * COLUMN_BYTES + batch_bytes)?;
        let group_bytes = self.sum(group, ColumnChunkMetaData::compressed_size);
        let windows = Windows { buffer_bytes: self.buffer_bytes, n_leaves, group_bytes };
        let pages = RowGroup {
            object: Arc::clone(&self.object),
            metadata: Arc::clone(&self.metadata),
            index: self.next,
            windows,
            meter: Arc::clone(&self.meter),
        };
        let selection = (rows_done > 0).then(|| {
            RowSelection::from(vec![
                RowSelector::skip(rows_done),
                RowSelector::select(n_rows.saturating_sub(rows_done)),
            ])
        });
        let reader = contained(|| {
            let levels = &self.projection.levels;
            let reader = ParquetRecordBatchReader::try_new_with_row_groups(levels, &pages, batch_rows, selection);
            reader.map_err(|error: ParquetError| self.object.explain(&error))
        })?;
        Ok(Reading { reader, batch_rows, rows_done, n_rows, _reserved: reserved })
    }

    /// Returns how many rows of average size make a batch.
    fn batch_rows(&self, group: &RowGroupMetaData, n_rows: usize) -> usize {
        let group_bytes = self.sum(group, ColumnChunkMetaData::uncompressed_size);
        let average = usize::try_from(group_bytes / (n_rows as u64).max(1)).unwrap_or(usize::MAX);
        (self.batch_bytes / average.max(self.row_bytes).max(1)).min(MAX_BATCH_ROWS)
    }

    /// Returns what the columns that are read take of a group, by this measure.
    fn sum(&self, group: &RowGroupMetaData, of: impl Fn(&ColumnChunkMetaData) -> i64) -> u64 {
        let chunks = self.projection.leaves.iter().filter_map(|&leaf| group.columns().get(leaf));
        chunks.map(|chunk| u64::try_from(of(chunk)).unwrap_or(0)).fold(0, u64::saturating_add)
    }
}
