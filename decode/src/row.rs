//! From a row's cells to a COPY tuple or a reject.

use super::budget::{Budget, Reservation};
use super::mapping::Requirement;
use super::{Batch, Column, DecodeError, Limits, Mapping, Reject, Unstaged};
use crate::encode::{CellError, DEFAULT_DEPTH, PgType, RejectClass, Value, encode_within};
use std::{borrow::Cow, sync::Arc};

/// A reject keeps this much of its row.
pub const MAX_PAYLOAD_BYTES: usize = 64 * 1024;

/// A row up to this length is part of the memory for rows; a longer one is reserved by itself.
pub const FREE_ROW_BYTES: usize = 256 * 1024;
/// How often an encoded row is in memory at most: handed from one holder to the next, or with a copy on its way out.
const COPIES: usize = 2;
/// What an array's element of two bytes takes, as a multiple: a digit becomes a numeric of fourteen bytes.
const ARRAY_FACTOR: usize = 7;
/// What comes before an array's elements: its type, and six dimensions at most.
const ARRAY_HEADER_BYTES: usize = 64;

/// What a reject takes beside its texts: itself, in a list that grows by doubling, and what the allocator adds to each
/// of its three texts.
const REJECT_BYTES: usize = 2 * size_of::<Reject>() + 3 * 32;

/// A field that is NULL.
pub const NULL: [u8; 4] = (-1i32).to_be_bytes();
/// The encoded boolean field `true`, `false`.
const FLAGS: [[u8; 5]; 2] = [[0, 0, 0, 1, 0], [0, 0, 0, 1, 1]];

/// Numbers rows and writes them into batches.
pub struct RowEncoder {
    mapping: Arc<Mapping>,
    n_rows: u64,
    max_depth: usize,
    columns: Vec<Sent>,
    budget: Budget,
    /// Where the row in hand begins.
    start: usize,
    /// For the row in hand, once it is long.
    reserved: Option<Reservation>,
}

/// A column that is sent.
#[derive(Debug)]
struct Sent {
    pg_type: PgType,
    /// Its cells may go the short way: they are as its type says, and not a constant.
    may_be_short: bool,
    /// They may be NULL.
    is_nullable: bool,
    /// Some row had a cell for it.
    is_seen: bool,
    /// The row in hand has none.
    is_absent: bool,
}

/// How a column comes by its fields.
#[derive(Debug)]
pub enum Planned {
    /// They are the same for all rows.
    Constant(Box<[u8]>),
    /// They are cells of the file that may go the short way.
    Field {
        /// The file's field.
        field: usize,
        /// The column's type.
        pg_type: PgType,
        /// It may be NULL.
        is_nullable: bool,
    },
    /// They have to go the long way.
    Other,
}

/// What became of a cell on the short way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Short {
    /// Its field was written.
    Written,
    /// Nothing was written: it is NULL.
    Null,
    /// Nothing was written: the row does not have it.
    Absent,
    /// Nothing was written: it has to go the long way.
    No,
}

impl Short {
    /// Returns what became of a cell whose field was written, or not.
    #[inline]
    pub fn of(is_written: bool) -> Self {
        if is_written { Self::Written } else { Self::No }
    }
}

impl RowEncoder {
    /// Returns an encoder whose first row is number 1.
    #[must_use]
    pub fn new(mapping: Arc<Mapping>) -> Self {
        let sent = |(column, target): (usize, &Column)| Sent {
            pg_type: target.pg_type.clone(),
            may_be_short: mapping.notation(column).is_none() && !mapping.is_captured(column),
            is_nullable: mapping.requirement(column) == Requirement::Nullable,
            is_seen: mapping.is_captured(column),
            is_absent: false,
        };
        Self {
            columns: mapping.columns().iter().enumerate().map(sent).collect(),
            n_rows: mapping.n_rows_before(),
            mapping,
            max_depth: DEFAULT_DEPTH,
            budget: Budget::default(),
            start: 0,
            reserved: None,
        }
    }

    /// Sets how deep JSON in a cell may nest, and what memory for long rows is reserved from.
    #[must_use]
    pub fn with_limits(mut self, limits: &Limits) -> Self {
        self.max_depth = limits.depth;
        self.budget = limits.budget.clone();
        self
    }

    /// Encodes one row; `cells[i]` belongs to `mapping.columns()[i]` (captured columns: whatever, they are constants).
    /// A cell that does not fit makes the row a reject with the payload given by `payload`.
    pub fn push<'p>(&mut self, cells: &[Value<'_>], batch: &mut Batch, payload: impl FnOnce() -> Cow<'p, [u8]>) {
        self.push_with(batch, |column| Ok(cells.get(column).cloned().unwrap_or(Value::Absent)), payload);
    }

    /// Encodes one row whose cells are made one by one: those of conditions, then all in the order of `mapping.columns()`;
    /// captured columns are not asked for. A cell that cannot be made is a reject like one that does not fit.
    pub fn push_with<'c, 'p>(
        &mut self,
        batch: &mut Batch,
        cell: impl FnMut(usize) -> Result<Value<'c>, CellError>,
        payload: impl FnOnce() -> Cow<'p, [u8]>,
    ) {
        self.push_shortly(batch, |_| 0, |_, _, _| Short::No, cell, payload);
    }

    /// Does what [`Self::push_with`] does, and has cells written by `first` and `short` where they can. The one is given
    /// where all fields go, writes some of the first ones, no more than [`FREE_ROW_BYTES`] of them, and returns how many;
    /// the other is given a column, its type and where its field goes.
    #[inline]
    pub fn push_shortly<'c, 'p>(
        &mut self,
        batch: &mut Batch,
        first: impl FnOnce(&mut Vec<u8>) -> usize,
        short: impl Fn(usize, &PgType, &mut Vec<u8>) -> Short,
        mut cell: impl FnMut(usize) -> Result<Value<'c>, CellError>,
        payload: impl FnOnce() -> Cow<'p, [u8]>,
    ) {
        let encoded = match self.asked(batch, &mut cell) {
            Ok(true) => self.tuple(batch, first, short, cell),
            Ok(false) => return self.leave_out(1, batch),
            Err(error) => Err(error),
        };
        self.finish(encoded, batch, payload);
    }

    /// Counts rows that are read and left out.
    pub fn leave_out(&mut self, n_rows: u64, batch: &mut Batch) {
        self.n_rows += n_rows;
        batch.n_read += n_rows;
        batch.n_filtered += n_rows;
    }

    /// Notes for which columns a row has a cell that was not encoded.
    pub fn note_seen(&mut self, has: impl Fn(usize) -> bool) {
        self.columns.iter_mut().enumerate().for_each(|(index, column)| column.is_seen |= has(index));
    }

    /// Returns whether a row passes the mapping's conditions, as far as its cells can be read. One that does not pass is
    /// enough, whatever the others are.
    ///
    /// # Errors
    /// Where a cell cannot be read, and nothing else drops the row: the column, and why.
    #[inline]
    pub fn asked<'c>(
        &mut self,
        batch: &mut Batch,
        cell: &mut impl FnMut(usize) -> Result<Value<'c>, CellError>,
    ) -> Result<bool, (usize, CellError)> {
        if self.mapping.conditions().is_empty() { Ok(true) } else { self.asked_all(batch, cell) }
    }

    #[inline(never)]
    fn asked_all<'c>(
        &mut self,
        batch: &mut Batch,
        cell: &mut impl FnMut(usize) -> Result<Value<'c>, CellError>,
    ) -> Result<bool, (usize, CellError)> {
        let mapping = Arc::clone(&self.mapping);
        let mut unread = None;
        let out = &mut batch.data;
        self.start = out.len();
        for asked in mapping.conditions() {
            let passes = match asked.column.map(|column| (column, mapping.constant(column))) {
                None => asked.test.null || asked.passes_absent,
                Some((_, Some(constant))) => asked.test.takes(constant),
                Some((column, None)) => {
                    let read = cell(column).and_then(|value| {
                        self.field(column, &value, out)?;
                        Ok(asked.passes_absent && value == Value::Absent || asked.test.takes(&out[self.start..]))
                    });
                    out.truncate(self.start);
                    if self.reserved.take().is_some() {
                        out.shrink_to(self.start);
                    }
                    read.unwrap_or_else(|error| {
                        unread.get_or_insert((column, error));
                        true
                    })
                }
            };
            if !passes {
                return Ok(false);
            }
        }
        unread.map_or(Ok(true), Err)
    }

    /// Records a row that could not even be taken apart. `payload_length` is the true length, `payload` may already be cut.
    pub fn reject(&mut self, why: CellError, payload: &[u8], payload_length: u64, batch: &mut Batch) {
        self.record(why, None, payload, payload_length, batch);
    }

    /// Sets the number of the next row, which is at least 1.
    pub fn number_next(&mut self, row_number: u64) {
        self.n_rows = row_number - 1;
    }

    /// Returns how each column that is sent comes by its fields, given the file's field that it takes; none where it is asked
    /// of rows whether they have cells.
    pub fn planned(&self, source: impl Fn(usize) -> Option<usize>) -> Vec<Planned> {
        let planned = |(index, column): (usize, &Sent)| match (self.mapping.constant(index), source(index)) {
            (Some(constant), _) => Planned::Constant(constant.into()),
            (None, Some(field)) if column.may_be_short => {
                Planned::Field { field, pg_type: column.pg_type.clone(), is_nullable: column.is_nullable }
            }
            _ => Planned::Other,
        };
        if self.mapping.absent_flags().is_empty() {
            self.columns.iter().enumerate().map(planned).collect()
        } else {
            Vec::new()
        }
    }

    /// Returns how many rows there were so far, rejects included.
    #[must_use]
    pub fn n_rows(&self) -> u64 {
        self.n_rows
    }

    /// Returns for each of `mapping.columns()` whether any row had a cell for it, be it null.
    #[must_use]
    pub fn seen_columns(&self) -> Vec<bool> {
        self.columns.iter().map(|column| column.is_seen).collect()
    }

    /// Writes a tuple; on error the batch is as it was, and the column that refused is named.
    #[inline]
    fn tuple<'c>(
        &mut self,
        batch: &mut Batch,
        first: impl FnOnce(&mut Vec<u8>) -> usize,
        short: impl Fn(usize, &PgType, &mut Vec<u8>) -> Short,
        cell: impl FnMut(usize) -> Result<Value<'c>, CellError>,
    ) -> Result<(), (usize, CellError)> {
        let out = &mut batch.data;
        self.start = out.len();
        let n_fields = 1 + self.columns.len() + self.mapping.absent_flags().len();
        let mut head = [0; 14];
        head[..2].copy_from_slice(&(n_fields as u16).to_be_bytes());
        head[2..6].copy_from_slice(&8i32.to_be_bytes());
        head[6..].copy_from_slice(&(self.n_rows + 1).to_be_bytes());
        out.extend_from_slice(&head);
        let n_written = first(out);
        if n_written < self.columns.len() {
            let mut columns = std::mem::take(&mut self.columns);
            let written = self.fields(&mut columns, n_written, short, cell, out);
            self.columns = columns;
            if written.is_err() {
                out.truncate(self.start);
                if self.reserved.take().is_some() {
                    out.shrink_to(self.start);
                }
                return written;
            }
        }
        for column in self.mapping.absent_flags() {
            out.extend_from_slice(&FLAGS[usize::from(self.columns[*column].is_absent)]);
        }
        if let Some(reserved) = self.reserved.take() {
            batch.long_rows.push((batch.ends.len(), reserved));
        }
        batch.ends.push(out.len());
        Ok(())
    }

    /// Writes the fields of all columns but some first ones.
    #[inline]
    fn fields<'c>(
        &mut self,
        columns: &mut [Sent],
        n_written: usize,
        short: impl Fn(usize, &PgType, &mut Vec<u8>) -> Short,
        mut cell: impl FnMut(usize) -> Result<Value<'c>, CellError>,
        out: &mut Vec<u8>,
    ) -> Result<(), (usize, CellError)> {
        for (index, column) in columns.iter_mut().enumerate().skip(n_written) {
            let field_start = out.len();
            let came = if column.may_be_short { short(index, &column.pg_type, out) } else { Short::No };
            match came {
                Short::Written if out.len() - self.start <= FREE_ROW_BYTES => {
                    column.is_absent = false;
                    column.is_seen = true;
                }
                Short::Null | Short::Absent if column.is_nullable => {
                    out.extend_from_slice(&NULL);
                    column.is_absent = came == Short::Absent;
                    column.is_seen |= came == Short::Null;
                }
                _ => {
                    out.truncate(field_start);
                    self.long(index, column, &mut cell, out).map_err(|error| (index, error))?;
                }
            }
        }
        Ok(())
    }

    /// Writes the field of a column, a constant or whatever the cell is.
    #[inline(never)]
    fn long<'c>(
        &mut self,
        index: usize,
        column: &mut Sent,
        cell: &mut impl FnMut(usize) -> Result<Value<'c>, CellError>,
        out: &mut Vec<u8>,
    ) -> Result<(), CellError> {
        if let Some(constant) = self.mapping.constant(index) {
            out.extend_from_slice(constant);
            return Ok(());
        }
        let value = cell(index)?;
        let is_absent = matches!(value, Value::Absent);
        column.is_absent = is_absent;
        column.is_seen |= !is_absent;
        let start = out.len();
        self.field(index, &value, out)?;
        let required = match self.mapping.requirement(index) {
            Requirement::Nullable => false,
            Requirement::NotNull => !(is_absent && self.mapping.columns()[index].has_default),
            Requirement::Key => true,
        };
        // Asked of the field, not of the value: a JSON null is one only once it is encoded.
        if required && out[start..].starts_with(&NULL) {
            let message = if is_absent { "the row does not have this field" } else { "NULL is not allowed here" };
            return Err(CellError::new(RejectClass::NotNull, message));
        }
        Ok(())
    }

    /// Reserves memory for the row in hand, which is about to be at least this long.
    #[cold]
    fn reserve(&mut self, n_bytes: usize) -> Result<(), DecodeError> {
        self.reserved.get_or_insert_with(|| self.budget.nothing()).grow_to("a row", n_bytes * COPIES)
    }

    /// Encodes a field as its column's type has it.
    #[inline]
    fn field(&mut self, column: usize, value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), CellError> {
        let read;
        let value = match self.mapping.notation(column) {
            None => value,
            Some(notation) => {
                read = notation.read(value)?;
                read.as_ref().unwrap_or(value)
            }
        };
        let length = out.len() - self.start + longest(value, &self.mapping.all_columns()[column].pg_type);
        if length > FREE_ROW_BYTES {
            self.reserve(length)?;
        }
        encode_within(value, &self.mapping.all_columns()[column].pg_type, self.max_depth, out)
    }

    #[inline]
    fn finish<'p>(
        &mut self,
        encoded: Result<(), (usize, CellError)>,
        batch: &mut Batch,
        payload: impl FnOnce() -> Cow<'p, [u8]>,
    ) {
        match encoded {
            Ok(()) if self.mapping.has_all_staged() => {
                self.n_rows += 1;
                batch.n_read += 1;
            }
            other => self.finish_other(other, batch, payload),
        }
    }

    #[inline(never)]
    fn finish_other<'p>(
        &mut self,
        encoded: Result<(), (usize, CellError)>,
        batch: &mut Batch,
        payload: impl FnOnce() -> Cow<'p, [u8]>,
    ) {
        match encoded {
            Ok(()) => {
                if let Some(Unstaged { class, column, message }) = self.mapping.unstaged(self.n_rows + 1).cloned() {
                    batch.ends.pop();
                    batch.data.truncate(batch.ends.last().copied().unwrap_or(0));
                    let payload = payload();
                    return self.record(CellError { class, message }, column, &payload, payload.len() as u64, batch);
                }
                self.n_rows += 1;
                batch.n_read += 1;
            }
            Err((column, error)) => {
                let payload = payload();
                let name = self.mapping.all_columns()[column].name.clone();
                self.record(error, Some(name), &payload, payload.len() as u64, batch);
            }
        }
    }

    fn record(
        &mut self,
        CellError { class, message }: CellError,
        column: Option<String>,
        payload: &[u8],
        payload_length: u64,
        batch: &mut Batch,
    ) {
        self.n_rows += 1;
        batch.n_read += 1;
        let payload = payload[..payload.len().min(MAX_PAYLOAD_BYTES)].to_vec();
        batch.reject_bytes += payload.len() + message.len() + REJECT_BYTES;
        let member = self.mapping.member().cloned();
        batch.rejects.push(Reject { row_number: self.n_rows, class, column, message, payload, payload_length, member });
    }
}

/// Returns what a value may take at most, but for what is always short.
#[inline]
fn longest(value: &Value<'_>, pg_type: &PgType) -> usize {
    let n_bytes = match value {
        Value::Text(text) | Value::Json(text) | Value::Number(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        _ => return 0,
    };
    if matches!(pg_type, PgType::Array(..)) { n_bytes * ARRAY_FACTOR + ARRAY_HEADER_BYTES } else { n_bytes }
}

/// A row that does not fit into memory is rejected; the budget reports memory that is only busy.
impl From<DecodeError> for CellError {
    fn from(error: DecodeError) -> Self {
        Self::new(RejectClass::RowSize, error.to_string())
    }
}

#[cfg(test)]
mod tests;
